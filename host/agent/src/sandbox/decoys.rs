//! Decoys: credentials that open nothing, so that what steals finds something and is seen taking it.
//!
//! Every scan has its own, made from its seed: a value that turns up elsewhere names the scan that it came from.
//! They look right down to the checksum, because malware checks before it acts; every host in them is under
//! `.invalid`, which no resolver answers (RFC 2606). Which program may read which file is the rules' knowledge.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::seed::{Stream, with_checksum};

/// A file of the home that only its owner program has business with.
#[derive(Debug)]
pub(crate) struct Decoy {
    /// Relative to the home.
    pub(crate) path: &'static str,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

/// The decoy files of one scan.
pub(crate) fn files(seed: &[u8], user: &str, hostname: &str) -> Vec<Decoy> {
    let value = |label: &str| Stream::new(seed, label);
    let org = organisation(seed);
    let key = SshKey::new(seed, &format!("{user}@{hostname}"));
    let file = |path, mode, content: String| Decoy { path, mode, content: content.into_bytes() };
    vec![
        file(".npmrc", 0o600, format!("//npm.{org}.invalid/:_authToken={}\n", npm_token(seed))),
        file(".ssh/id_rsa", 0o600, key.private),
        file(".ssh/known_hosts", 0o600, known_hosts(seed, &org)),
        file(".aws/credentials", 0o600, aws(seed)),
        file(".git-credentials", 0o600, format!("https://{user}:{}@git.{org}.invalid\n", github_token(seed))),
        file(".docker/config.json", 0o600, docker(seed, user, &org)),
        file(".kube/config", 0o600, kube(seed, &org)),
        file(".config/gh/hosts.yml", 0o600, gh(seed, user, &org)),
        file(".bash_history", 0o600, history(&org, &value("history").base62(18))),
    ]
}

/// Ordinary companions of the decoys: their reading means nothing.
pub(crate) fn companions(seed: &[u8], user: &str, hostname: &str) -> Vec<Decoy> {
    let key = SshKey::new(seed, &format!("{user}@{hostname}"));
    let config = "[default]\nregion = eu-central-1\noutput = json\n";
    vec![
        Decoy { path: ".ssh/id_rsa.pub", mode: 0o644, content: key.public.into_bytes() },
        Decoy { path: ".aws/config", mode: 0o600, content: config.into() },
    ]
}

/// Decoys in the environment. Nobody can see them being read, but they can be seen leaving.
pub(crate) fn variables(seed: &[u8]) -> Vec<(String, String)> {
    let (id, secret) = aws_key(seed, "env");
    let pairs = [
        ("NPM_TOKEN", npm_token(seed)),
        ("GITHUB_TOKEN", github_token(seed)),
        ("AWS_ACCESS_KEY_ID", id),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn organisation(seed: &[u8]) -> String {
    let mut stream = Stream::new(seed, "organisation");
    let first = ["north", "blue", "river", "stone", "bright", "open", "field", "oak", "clear", "red"];
    let second = ["works", "bank", "soft", "labs", "line", "point", "media", "health", "cargo", "grid"];
    let pick = |stream: &mut Stream, from: &[&'static str]| stream.pick(from).copied().unwrap_or("acme");
    format!("{}{}", pick(&mut stream, &first), pick(&mut stream, &second))
}

fn npm_token(seed: &[u8]) -> String {
    with_checksum("npm_", &Stream::new(seed, "npm").base62(30))
}

fn github_token(seed: &[u8]) -> String {
    with_checksum("ghp_", &Stream::new(seed, "github").base62(30))
}

fn aws_key(seed: &[u8], label: &str) -> (String, String) {
    let mut stream = Stream::new(seed, &format!("aws {label}"));
    let id = stream.text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16);
    (format!("AKIA{id}"), BASE64.encode(stream.bytes(30)))
}

fn aws(seed: &[u8]) -> String {
    let profile = |name: &str| {
        let (id, secret) = aws_key(seed, name);
        format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
    };
    format!("{}\n{}", profile("default"), profile("production"))
}

fn docker(seed: &[u8], user: &str, org: &str) -> String {
    let auth = BASE64.encode(format!("{user}:{}", Stream::new(seed, "docker").base62(24)));
    let auths = serde_json::json!({ format!("containers.{org}.invalid"): { "auth": auth } });
    format!("{:#}\n", serde_json::json!({ "auths": auths }))
}

fn kube(seed: &[u8], org: &str) -> String {
    let mut stream = Stream::new(seed, "kube");
    let token = format!("{}.{}", stream.text(b"abcdefghijklmnopqrstuvwxyz0123456789", 6), stream.base62(48));
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: production\nclusters:\n- name: production\n  cluster:\n    \
         server: https://k8s.{org}.invalid:6443\ncontexts:\n- name: production\n  context:\n    cluster: \
         production\n    user: deployer\nusers:\n- name: deployer\n  user:\n    token: {token}\n"
    )
}

fn gh(seed: &[u8], user: &str, org: &str) -> String {
    let token = with_checksum("gho_", &Stream::new(seed, "gh").base62(30));
    format!("git.{org}.invalid:\n    user: {user}\n    oauth_token: {token}\n    git_protocol: https\n")
}

fn known_hosts(seed: &[u8], org: &str) -> String {
    let mut blob = ssh_string(b"ssh-ed25519");
    blob.extend(ssh_string(&Stream::new(seed, "known host").bytes(32)));
    format!("git.{org}.invalid ssh-ed25519 {}\n", BASE64.encode(blob))
}

fn history(org: &str, password: &str) -> String {
    format!(
        "git pull\nnpm ci\nnpm test\nexport DB_PASSWORD={password}\npsql -h db.{org}.invalid -U app production\nssh \
         deploy@build.{org}.invalid\nkubectl get pods\ndocker compose up -d\ngit status\n"
    )
}

/// An RSA key in OpenSSH's format. Its numbers have the right sizes and are not a key: nobody can log in with it.
struct SshKey {
    private: String,
    public: String,
}

impl SshKey {
    fn new(seed: &[u8], comment: &str) -> Self {
        let mut stream = Stream::new(seed, "ssh");
        let mut number = |bytes: usize| {
            let mut number = stream.bytes(bytes);
            // Full length and odd, as a modulus and its primes are.
            if let Some(first) = number.first_mut() {
                *first |= 0x80;
            }
            if let Some(last) = number.last_mut() {
                *last |= 1;
            }
            ssh_number(&number)
        };
        let (n, d, inverse, p, q) = (number(384), number(383), number(191), number(192), number(192));
        let exponent = ssh_number(&[1, 0, 1]);
        let public = [ssh_string(b"ssh-rsa"), exponent.clone(), n.clone()].concat();
        let check = stream.bytes(4);
        let mut secret =
            [check.clone(), check, ssh_string(b"ssh-rsa"), n, exponent, d, inverse, p, q].concat();
        secret.extend(ssh_string(comment.as_bytes()));
        secret.extend((1..=8).take((8 - secret.len() % 8) % 8));
        let mut file = b"openssh-key-v1\0".to_vec();
        for part in [&b"none"[..], b"none", b""] {
            file.extend(ssh_string(part));
        }
        file.extend([0, 0, 0, 1]);
        file.extend(ssh_string(&public));
        file.extend(ssh_string(&secret));
        Self {
            private: pem("OPENSSH PRIVATE KEY", &file),
            public: format!("ssh-rsa {} {comment}\n", BASE64.encode(public)),
        }
    }
}

/// RFC 4251: length and bytes.
fn ssh_string(bytes: &[u8]) -> Vec<u8> {
    let mut string = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    string.extend(bytes);
    string
}

/// RFC 4251: a leading zero keeps a number positive.
fn ssh_number(bytes: &[u8]) -> Vec<u8> {
    let mut number = Vec::with_capacity(bytes.len() + 1);
    if bytes.first().is_some_and(|b| b & 0x80 != 0) {
        number.push(0);
    }
    number.extend(bytes);
    ssh_string(&number)
}

fn pem(label: &str, bytes: &[u8]) -> String {
    let text = BASE64.encode(bytes);
    let lines = text.as_bytes().chunks(70).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(decoys: &[Decoy], path: &str) -> String {
        String::from_utf8(decoys.iter().find(|d| d.path == path).unwrap().content.clone()).unwrap()
    }

    #[test]
    fn every_scan_has_decoys_of_its_own() {
        let (one, again, two) =
            (files(b"1", "alex", "dev"), files(b"1", "alex", "dev"), files(b"2", "alex", "dev"));
        for (a, (b, c)) in one.iter().zip(again.iter().zip(&two)) {
            assert_eq!(a.content, b.content);
            assert_ne!(a.content, c.content, "{}", a.path);
        }
        assert_ne!(variables(b"1"), variables(b"2"));
    }

    #[test]
    fn the_rules_for_falco_know_every_decoy() {
        for decoy in files(b"seed", "alex", "dev") {
            let known = format!("fd.name endswith \"/{}\"", decoy.path);
            assert!(
                lanner_rules::falco::DIALECT.contains(&known),
                "falco_dialect.yaml lacks {}: add it to the macro `decoy_opened`",
                decoy.path
            );
        }
    }

    #[test]
    fn structured_decoys_parse() {
        let decoys = files(b"seed", "alex", "dev");
        let docker: serde_json::Value = serde_json::from_str(&text(&decoys, ".docker/config.json")).unwrap();
        assert_eq!(docker["auths"].as_object().unwrap().len(), 1);
        let key = text(&decoys, ".ssh/id_rsa");
        let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        let bytes = BASE64.decode(body).unwrap();
        assert!(bytes.starts_with(b"openssh-key-v1\0"));
        let companions = companions(b"seed", "alex", "dev");
        let public = text(&companions, ".ssh/id_rsa.pub");
        let blob = BASE64.decode(public.split(' ').nth(1).unwrap()).unwrap();
        assert!(bytes.windows(blob.len()).any(|window| window == blob), "the two halves of the key differ");
    }

    #[test]
    fn every_host_in_a_decoy_is_invalid() {
        for decoy in files(b"seed", "alex", "dev") {
            let text = String::from_utf8(decoy.content).unwrap();
            let real =
                |word: &&str| [".com", ".org", ".net", ".io", ".dev"].iter().any(|top| word.contains(top));
            let named = text.split(['/', '@', ' ', ':', '"', '\n']).find(real);
            assert_eq!(named, None, "{} names a host", decoy.path);
        }
    }
}
