//! Functions from a real registry: pushed, served, updated under load without a failed request, refused where they are bad,
//! signed, and started from disk when the registry is gone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lanner_tests::registry::{Registry, signing_key};
use lanner_tests::serve::{Serve, curl_json};
use lanner_tests::{lanner, root, run, skipped};
use serde_json::Value;

const QUICK: &str = "canary_percent = 50\ncanary_seconds = 1\ncanary_requests = 20\npoll = 0\n";

fn wasm(name: &str) -> PathBuf {
    root().join("target/guests").join(format!("{name}.wasm"))
}

/// The same function under another digest: a custom section with a number at its end.
fn variant(folder: &Path, number: u8) -> PathBuf {
    let path = folder.join(format!("status-{number}.wasm"));
    let bytes = [std::fs::read(wasm("status")).unwrap(), vec![0, 3, 1, b'n', number]].concat();
    std::fs::write(&path, bytes).unwrap();
    path
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Where the registry keeps these bytes.
fn blob(folder: &Path, bytes: &[u8]) -> PathBuf {
    let blobs = folder.join("registry/docker/registry/v2/blobs/sha256");
    let length = u64::try_from(bytes.len()).unwrap();
    let named =
        std::fs::read_dir(&blobs).unwrap().flat_map(|two| std::fs::read_dir(two.unwrap().path()).unwrap());
    let mut files = named.map(|blob| blob.unwrap().path().join("data"));
    let is_it = |f: &PathBuf| {
        f.metadata().is_ok_and(|m| m.len() == length) && std::fs::read(f).is_ok_and(|b| b == bytes)
    };
    files.find(is_it).unwrap()
}

fn function(args: &[&str]) -> Output {
    run(Command::new(lanner().unwrap()).arg("function").args(args)).unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// Pushes, and returns the digest behind the tag.
fn push(at: &str, file: &Path) -> String {
    let pushed = function(&["push", "--plain-http", at, file.to_str().unwrap()]);
    assert!(pushed.status.success(), "{}", text(&pushed));
    text(&pushed).trim().rsplit_once('@').unwrap().1.to_owned()
}

fn config(folder: &Path, host: &str, more: &str) -> PathBuf {
    let path = folder.join("lanner.toml");
    let text = format!(
        "[functions]\n{QUICK}[registry]\nplain_http = true\n[functions.source]\n\
         status = {{ registry = {host:?}, package = \"team:status\", version = \"1\" }}\n{more}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn served(folder: &Path, config: &Path) -> Serve {
    Serve::start(&folder.join("data"), &["--config", config.to_str().unwrap()]).unwrap()
}

fn shown(serve: &Serve) -> Value {
    curl_json(&[&format!("{}/v1/functions/status", serve.url)]).unwrap().1
}

/// Asks for a scan that is not there, until `over`: what is answered with anything but 404 is a failure.
fn load(url: &str, over: &AtomicBool, asked: &AtomicU64) -> u64 {
    let address = url.trim_start_matches("http://");
    let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
    let request = format!("GET /v1/scans/none HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut failed = 0;
    while !over.load(Ordering::Relaxed) {
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut line, mut status, mut length, mut chunked) = (String::new(), String::new(), 0, false);
        loop {
            line.clear();
            assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the connection was closed");
            let lower = line.trim().to_ascii_lowercase();
            if status.is_empty() {
                status = lower;
                continue;
            }
            if lower.is_empty() {
                break;
            }
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            chunked |= lower == "transfer-encoding: chunked";
        }
        loop {
            if chunked {
                line.clear();
                stream.read_line(&mut line).unwrap();
                length = usize::from_str_radix(line.trim(), 16).unwrap() + 2;
            }
            stream.read_exact(&mut vec![0; length]).unwrap();
            if !chunked || length == 2 {
                break;
            }
        }
        failed += u64::from(!status.contains(" 404 "));
        asked.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    failed
}

#[test]
fn a_function_is_updated_from_a_registry_under_load_and_outlives_it() {
    let test = "a_function_is_updated_from_a_registry_under_load_and_outlives_it";
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(folder.path()).unwrap() else {
        return skipped(test, "docker-registry is not on this machine");
    };
    let at = format!("{}/team/status:1", registry.host);
    let first = push(&at, &wasm("status"));
    let config = config(folder.path(), &registry.host, "");
    let serve = served(folder.path(), &config);
    let view = shown(&serve);
    assert_eq!((&view["active"]["resolved"], &view["source"]), (&first.as_str().into(), &at.as_str().into()));

    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let refresh = |args: &[&str]| function(&[&["refresh", "status", "--url", &serve.url], args].concat());
    let failed: u64 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| load(&serve.url, &over, &asked))).collect();
        // Whatever fails here ends the load, too.
        let end = End(&over);
        for number in 2..5 {
            let pushed = push(&at, &variant(folder.path(), number));
            let came = refresh(&[]);
            assert!(text(&came).contains(&format!("status: active: revision {number}")), "{}", text(&came));
            assert_eq!(shown(&serve)["active"]["resolved"], pushed.as_str());
        }
        // It asks for what `status` is not granted: the one before serves on.
        push(&at, &wasm("submit"));
        let came = refresh(&[]);
        assert_eq!(came.status.code(), Some(1));
        let why = "status: failed: revision 5: imports: component status imports lanner:platform/sources";
        assert!(text(&came).contains(why), "{}", text(&came));
        assert!(text(&refresh(&[])).contains("refused-before"), "it is not tried again");
        // What lies in the registry is not what its digest says: one byte is another, or the end is missing.
        let spoil = |number, spoiled: fn(&mut Vec<u8>)| {
            let file = variant(folder.path(), number);
            push(&at, &file);
            let blob = blob(folder.path(), &std::fs::read(file).unwrap());
            let mut bytes = std::fs::read(&blob).unwrap();
            spoiled(&mut bytes);
            std::fs::write(blob, bytes).unwrap();
            text(&refresh(&[]))
        };
        let flipped = spoil(6, |bytes| *bytes.last_mut().unwrap() ^= 0x80);
        assert!(flipped.starts_with("status: failed: revision 6: pull: "), "{flipped}");
        let truncated = spoil(7, |bytes| bytes.truncate(1000));
        assert!(truncated.contains(": pull: ") || truncated.contains("unreachable: pull: "), "{truncated}");
        println!("{flipped}{truncated}");
        drop(end);
        clients.into_iter().map(|c| c.join().unwrap()).sum()
    });
    assert_eq!(failed, 0, "of {} requests", asked.load(Ordering::Relaxed));
    println!("{} requests during 3 updates and a refused one, 0 failed", asked.load(Ordering::Relaxed));
    let back = function(&["rollback", "status", "--revision", "2", "--url", &serve.url]);
    assert_eq!(text(&back).trim(), "status: revision 2 is active");
    let digest = shown(&serve)["active"]["digest"].clone();
    let audit = curl_json(&[&format!("{}/v1/audit?limit=2", serve.url)]).unwrap().1;
    assert_eq!(audit["changes"][0]["action"], "rollback", "{audit}");
    assert_eq!(
        (&audit["changes"][0]["kind"], &audit["changes"][1]["action"]),
        (&"function".into(), &"refuse".into())
    );
    assert_eq!(serve.stop().unwrap(), Some(0));

    drop(registry);
    let serve = served(folder.path(), &config);
    assert_eq!(shown(&serve)["active"]["digest"], digest, "the registry is gone");
    let list = function(&["list", "--url", &serve.url]);
    assert!(text(&list).contains(&at), "{}", text(&list));
    let away = function(&["refresh", "status", "--url", &serve.url]);
    assert!(text(&away).contains("status: unreachable: 127.0.0.1"), "{}", text(&away));
    assert_eq!(serve.stop().unwrap(), Some(0));
}

#[test]
fn where_a_signature_is_required_an_unsigned_function_is_refused_and_a_signed_one_taken() {
    let test = "where_a_signature_is_required_an_unsigned_function_is_refused_and_a_signed_one_taken";
    let folder = tempfile::tempdir().unwrap();
    let Some((key, public)) = signing_key(folder.path()) else {
        return skipped(test, "openssl, which makes the keys, is not on this machine");
    };
    let (key, public) = (key.to_str().unwrap(), public.to_str().unwrap());
    let Some(registry) = Registry::start(folder.path()).unwrap() else {
        return skipped(test, "docker-registry is not on this machine");
    };
    let at = format!("{}/team/status:1", registry.host);
    push(&at, &wasm("status"));
    let more = format!("[verify]\nkeys = [{public:?}]\nrequired-for = [\"*\"]\n");
    let config = config(folder.path(), &registry.host, &more);
    let mut unsigned = Command::new(lanner().unwrap());
    unsigned
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
        .arg(&config);
    let refused = run(unsigned.arg("--data-dir").arg(folder.path().join("data"))).unwrap();
    assert!(
        !refused.status.success() && text(&refused).contains("is refused by its signature"),
        "{}",
        text(&refused)
    );
    assert!(text(&refused).contains("is not signed; keys tried:"), "{}", text(&refused));

    let sign = || {
        let signed = function(&["sign", "--plain-http", "--key", key, &at]);
        assert!(signed.status.success() && text(&signed).contains("is signed by"), "{}", text(&signed));
    };
    sign();
    let verified = function(&["verify", "--plain-http", "--key", public, &at]);
    assert!(verified.status.success(), "{}", text(&verified));
    let serve = served(folder.path(), &config);
    push(&at, &variant(folder.path(), 2));
    let refresh =
        |args: &[&str]| text(&function(&[&["refresh", "status", "--url", &serve.url], args].concat()));
    let why = refresh(&[]);
    assert!(why.contains("signature: ") && why.contains("is not signed; keys tried:"), "{why}");
    sign();
    assert!(refresh(&[]).contains("refused-before"));
    assert!(refresh(&["--again"]).contains("status: active: revision"));
    assert_eq!(serve.stop().unwrap(), Some(0));
}

/// The same filter under another digest.
fn filter(folder: &Path, number: u8) -> PathBuf {
    let path = folder.join(format!("filter-{number}.wasm"));
    let bytes = [std::fs::read(wasm("filter-baseline")).unwrap(), vec![0, 3, 1, b'n', number]].concat();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn policy(args: &[&str]) -> Output {
    run(Command::new(lanner().unwrap()).arg("policy").args(args)).unwrap()
}

#[test]
fn a_filter_comes_from_a_registry_is_updated_and_outlives_it() {
    let test = "a_filter_comes_from_a_registry_is_updated_and_outlives_it";
    let folder = tempfile::tempdir().unwrap();
    let Some((key, public)) = signing_key(folder.path()) else {
        return skipped(test, "openssl, which makes the keys, is not on this machine");
    };
    let Some((registry, secured)) = Registry::start_secured(folder.path()).unwrap() else {
        return skipped(test, "docker-registry is not on this machine");
    };
    let (at, config) = (format!("{}/filters/quiet:1", registry.host), folder.path().join("lanner.toml"));
    let words = format!(
        "[[filters]]\nname = \"quiet\"\nsource = {{ registry = {:?}, package = \"filters:quiet\", version = \"1\" }}\n\
         [policy]\npoll = 0\n[registry]\nca_files = [{:?}]\ndocker_config = {:?}\n\
         [verify]\nkeys = [{public:?}]\nrequired-for = [\"*\"]\n",
        registry.host, secured.ca_file, secured.docker_config
    );
    std::fs::write(&config, words).unwrap();
    let with = |args: &[&str]| {
        let done = function(&[args, &["--config", config.to_str().unwrap()]].concat());
        assert!(done.status.success(), "{}", text(&done));
    };
    let push = |number| with(&["push", &at, filter(folder.path(), number).to_str().unwrap()]);
    let sign = || with(&["sign", "--key", key.to_str().unwrap(), &at]);
    push(1);
    sign();
    let serve = served(folder.path(), &config);
    let told = |args: &[&str]| text(&policy(&[args, &["--url", &serve.url]].concat()));
    let listed = told(&["show", "quiet"]);
    assert!(listed.contains(&format!("source: {at}")) && listed.contains("active"), "{listed}");

    push(2);
    let unsigned = told(&["refresh", "quiet"]);
    assert!(unsigned.starts_with("quiet: failed: its signature is not as it has to be:"), "{unsigned}");
    assert!(unsigned.contains("is not signed; keys tried:"), "{unsigned}");
    sign();
    assert!(told(&["refresh"]).starts_with("quiet: refused-before"));
    assert_eq!(told(&["refresh", "--again"]).trim(), "quiet: active: revision 3");
    let once = told(&["push", "once", &format!("oci://{at}")]);
    assert!(once.starts_with("once: revision 1 "), "{once}");
    let nowhere = told(&["push", "once", &format!("oci://{}/filters/none:1", registry.host)]);
    assert!(nowhere.contains("(filter-pull)"), "{nowhere}");
    assert!(told(&["push", "once", "oci://here"]).contains("is no artifact"));
    let away = told(&["push", "once", "oci://127.0.0.1:1/a:1"]);
    assert!(away.contains("(source-unavailable)"), "{away}");
    let notified = r#"{"events":[{"action":"push","target":{"repository":"filters/quiet","tag":"1"}}]}"#;
    let url = format!("{}/v1/policies/refresh", serve.url);
    let kind = "content-type: application/vnd.docker.distribution.events.v1+json";
    let (status, asked) = curl_json(&["-X", "POST", "-H", kind, "-d", notified, &url]).unwrap();
    assert_eq!((status, &asked["policies"]), (202, &serde_json::json!(["quiet"])));
    assert_eq!(serve.stop().unwrap(), Some(0));

    drop(registry);
    let serve = served(folder.path(), &config);
    let (_, quiet) = curl_json(&[&format!("{}/v1/policies/quiet", serve.url)]).unwrap();
    assert_eq!((&quiet["active"]["number"], &quiet["source"]), (&3.into(), &at.as_str().into()), "{quiet}");
    let away = text(&policy(&["refresh", "quiet", "--url", &serve.url]));
    assert!(away.starts_with("quiet: unreachable: 127.0.0.1"), "{away}");
    assert_eq!(serve.stop().unwrap(), Some(0));
}

#[test]
fn an_app_is_pushed_and_pulled_and_served() {
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(folder.path()).unwrap() else {
        return skipped("an_app_is_pushed_and_pulled_and_served", "docker-registry is not on this machine");
    };
    let (at, pulled) = (format!("{}/team/app:1", registry.host), folder.path().join("app"));
    let app = |args: &[&str]| {
        let done = run(Command::new(lanner().unwrap()).arg("app").args(args)).unwrap();
        assert!(done.status.success(), "{}", text(&done));
    };
    app(&["push", "--plain-http", &at, root().join("spin.toml").to_str().unwrap()]);
    app(&["pull", "--plain-http", &at, pulled.to_str().unwrap()]);
    let manifest = pulled.join("spin.toml");
    let serve = Serve::start(&folder.path().join("data"), &["--app", manifest.to_str().unwrap()]).unwrap();
    let (status, _) = curl_json(&[&format!("{}/v1/scans", serve.url)]).unwrap();
    assert_eq!(status, 200);
    assert_eq!(serve.stop().unwrap(), Some(0));
}
