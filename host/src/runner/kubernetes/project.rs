//! How a pod comes to its project: from the host's door, from a bucket by a signed address, or it lies there already; and
//! whether it is the one that was submitted, before which nothing of it is used.
//!
//! A signed address is shown without its query: whoever has that has the project.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lanner_core::text::chain;
use lanner_proto::pod::{Asked, SourceRequest};
use sha2::{Digest, Sha256};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::inside::{AGAIN, Client, PATIENCE, PodError, refused, with};

/// Of one try.
const FETCH: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(10);

/// Where it lies, or why the scan cannot start.
pub(super) async fn project(
    client: &mut Client,
    key: &str,
    asked: &Asked,
    to: PathBuf,
) -> Result<PathBuf, String> {
    let path = if !asked.source_at.is_empty() {
        asked.source_at.clone().into()
    } else if asked.source_url.is_empty() {
        from_host(client, key, &to).await.map_err(|e| format!("the project did not come: {}", chain(&e)))?;
        to
    } else {
        from_bucket(asked, &to).await.map_err(|why| {
            let shown = asked.source_url.split('?').next().unwrap_or_default();
            format!("the project did not come from the bucket, at {shown}: {why}")
        })?;
        to
    };
    let (file, digest, bytes) = (path.clone(), asked.source_digest.clone(), asked.source_bytes);
    let checked = tokio::task::spawn_blocking(move || check(&file, &digest, bytes)).await;
    checked.map_err(|e| format!("the project was not looked at: {e}"))??;
    Ok(path)
}

async fn from_host(client: &mut Client, key: &str, to: &Path) -> Result<(), PodError> {
    let failed = |e| PodError::Io("it cannot be written", e);
    let mut file = create(to).map_err(failed)?;
    let mut pieces = client.source(with(SourceRequest {}, key)).await.map_err(refused)?.into_inner();
    while let Some(piece) = pieces.message().await.map_err(refused)? {
        file.write_all(&piece.bytes).map_err(failed)?;
    }
    Ok(())
}

/// A network policy may still be on its way to a new pod, so it is tried again for a while.
async fn from_bucket(asked: &Asked, to: &Path) -> Result<(), String> {
    let begun = tokio::time::Instant::now();
    loop {
        let (again, to) = (asked.clone(), to.to_owned());
        let fetched = tokio::task::spawn_blocking(move || fetched(&again, &to)).await;
        let why = match fetched.map_err(|e| e.to_string())? {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        if !why.passes() || begun.elapsed() > PATIENCE {
            return Err(why.text());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Why nothing was had from a signed address, which none of it shows.
pub(super) enum No {
    Written(std::io::Error),
    Read(std::io::Error),
    Status(u16),
    Asked(ureq::Error),
}

impl No {
    fn passes(&self) -> bool {
        match self {
            Self::Written(_) => false,
            Self::Read(_) => true,
            Self::Status(status) => *status >= 500,
            Self::Asked(error) => {
                matches!(error, ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::HostNotFound)
            }
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Written(error) => format!("it cannot be written: {error}"),
            Self::Read(error) => format!("it broke off: {error}"),
            Self::Status(status) => format!("the answer is {status}"),
            // These two would show the address.
            Self::Asked(ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_)) => {
                "it is no address".into()
            }
            Self::Asked(error) => error.to_string(),
        }
    }
}

/// Asks at an address and nowhere else: who answers leads nobody on.
pub(super) fn agent(
    authority: &str,
    within: Duration,
    proxy: Option<ureq::Proxy>,
) -> Result<ureq::Agent, No> {
    let roots = roots(authority).map_err(No::Asked)?;
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(within))
        .timeout_connect(Some(CONNECT))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(proxy)
        .tls_config(TlsConfig::builder().root_certs(roots).build());
    Ok(config.build().new_agent())
}

/// Not by a proxy that the image happens to name.
fn fetched(asked: &Asked, to: &Path) -> Result<(), No> {
    let agent = agent(&asked.source_authority, FETCH, None)?;
    let mut answer = agent.get(&asked.source_url).call().map_err(No::Asked)?;
    if answer.status() != http::StatusCode::OK {
        return Err(No::Status(answer.status().as_u16()));
    }
    let mut file = create(to).map_err(No::Written)?;
    // One byte too many is enough to see that it is another.
    let mut body = answer.body_mut().as_reader().take(asked.source_bytes.saturating_add(1));
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = body.read(&mut piece).map_err(No::Read)?;
        match piece.get(..count) {
            Some(read) if !read.is_empty() => file.write_all(read).map_err(No::Written)?,
            _ => return Ok(()),
        }
    }
}

fn roots(authority: &str) -> Result<RootCerts, ureq::Error> {
    if authority.is_empty() {
        return Ok(RootCerts::PlatformVerifier);
    }
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    };
    let all: Vec<Certificate<'static>> =
        parse_pem(authority.as_bytes()).filter_map(certificate).collect::<Result<_, _>>()?;
    Ok(RootCerts::new_with_certs(&all))
}

fn create(to: &Path) -> std::io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(to)
}

/// However it came: what is scanned is what was submitted, or nothing.
fn check(path: &Path, digest: &str, bytes: u64) -> Result<(), String> {
    let unread = |e: std::io::Error| format!("the project that came cannot be read: {e}");
    let mut file = File::open(path).map_err(unread)?.take(bytes.saturating_add(1));
    let (mut hash, mut length, mut piece) = (Sha256::new(), 0_u64, vec![0; 64 * 1024]);
    loop {
        let count = file.read(&mut piece).map_err(unread)?;
        match piece.get(..count) {
            Some(read) if !read.is_empty() => hash.update(read),
            _ => break,
        }
        length += count as u64;
    }
    if length > bytes {
        return Err(format!("{OTHER}: it is longer than {bytes} bytes"));
    }
    if length < bytes {
        return Err(format!("{OTHER}: it has {length} bytes in place of {bytes}"));
    }
    let came = hash.finalize().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    if came != digest {
        return Err(format!("{OTHER}: it is {came} in place of {digest}"));
    }
    Ok(())
}

const OTHER: &str = "the project that came is not the one that was submitted";

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    const PROJECT: &[u8] = b"a project";

    fn digest(content: &[u8]) -> String {
        Sha256::digest(content).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    #[test]
    fn what_is_scanned_is_what_was_submitted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source.tgz");
        let came = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            check(&path, &digest(PROJECT), PROJECT.len() as u64)
        };
        assert_eq!(came(PROJECT), Ok(()));
        let other = digest(b"a Project");
        assert_eq!(
            came(b"a Project"),
            Err(format!("{OTHER}: it is {other} in place of {}", digest(PROJECT)))
        );
        assert_eq!(came(b"a proj"), Err(format!("{OTHER}: it has 6 bytes in place of 9")));
        assert_eq!(came(b""), Err(format!("{OTHER}: it has 0 bytes in place of 9")));
        assert_eq!(came(b"a project and more"), Err(format!("{OTHER}: it is longer than 9 bytes")));
        // A host that does not say what was submitted is not believed.
        assert!(check(&path, "", 18).unwrap_err().starts_with(OTHER));
        assert!(check(&folder.path().join("none"), "", 0).unwrap_err().contains("cannot be read"));
    }

    /// Each answer serves one request; what was asked comes back.
    fn server(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let serve = move |answer: Vec<u8>| {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert_ne!(stream.read_line(&mut head).unwrap(), 0);
            }
            stream.get_mut().write_all(&answer).unwrap();
            head
        };
        let served = std::thread::spawn(move || answers.into_iter().map(serve).collect());
        (format!("http://{at}/b/scan.tgz?X-Amz-Signature=feedface"), served)
    }

    fn answer(status: &str, content: &[u8]) -> Vec<u8> {
        let head =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", content.len());
        [head.as_bytes(), content].concat()
    }

    /// By the bucket alone: the host is not there.
    async fn brought(url: &str) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let channel = tonic::transport::Channel::from_static("https://127.0.0.1:1").connect_lazy();
        let asked = Asked {
            source: true,
            source_url: url.to_owned(),
            source_digest: digest(PROJECT),
            source_bytes: PROJECT.len() as u64,
            ..Asked::default()
        };
        let to = folder.path().join("source.tgz");
        let path = project(&mut Client::new(channel), "key", &asked, to).await?;
        Ok(std::fs::read(path).unwrap())
    }

    #[tokio::test]
    async fn a_project_comes_from_a_bucket() {
        let (url, served) = server(vec![answer("503 Slow Down", b""), answer("200 OK", PROJECT)]);
        assert_eq!(brought(&url).await.unwrap(), PROJECT);
        for head in served.join().unwrap() {
            assert!(head.starts_with("GET /b/scan.tgz?X-Amz-Signature=feedface HTTP/1.1"), "{head}");
        }
    }

    #[tokio::test]
    async fn a_bucket_that_gives_something_else_is_refused_and_what_is_signed_is_not_shown() {
        for (answered, why) in [
            (answer("200 OK", b"a project and more"), "it is longer than 9 bytes"),
            (answer("200 OK", b"another!!"), "in place of sha256:"),
            (answer("403 Forbidden", b""), "/b/scan.tgz: the answer is 403"),
            (
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec(),
                "/b/scan.tgz: the answer is 302",
            ),
        ] {
            let (url, served) = server(vec![answered]);
            let refused = brought(&url).await.unwrap_err();
            served.join().unwrap();
            assert!(refused.contains(why) && refused.starts_with("the project "), "{refused}");
            assert!(!refused.contains("feedface"), "{refused}");
        }
        let refused = brought("no address?X-Amz-Signature=feedface").await.unwrap_err();
        assert!(!refused.contains("feedface"), "{refused}");
    }

    #[test]
    fn an_authority_is_all_its_certificates_or_none() {
        let certificate = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem();
        let RootCerts::Specific(both) = roots(&format!("{certificate}{certificate}")).unwrap() else {
            panic!()
        };
        assert_eq!(both.len(), 2);
        assert!(matches!(roots("").unwrap(), RootCerts::PlatformVerifier));
        assert!(roots("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").is_err());
    }
}
