//! `lanner serve` from outside, by curl: Package Hunter's way, many at once, restarts, refusals.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lanner_tests::samples::Sample;
use lanner_tests::serve::{Serve, curl, curl_json};
use lanner_tests::{archive_of, lanner, run};
use serde_json::Value;

const SMALL: &[u8] = br#"{"name":"a","version":"1.0.0"}"#;

pub(crate) fn archive(folder: &Path) -> PathBuf {
    let path = folder.join("project.tgz");
    std::fs::write(&path, archive_of("package.json", SMALL).unwrap()).unwrap();
    path
}

pub(crate) fn packed(sample: &str, folder: &Path) -> PathBuf {
    let project = Sample::named(sample).unwrap().project().unwrap();
    let path = folder.join(format!("{sample}.tgz"));
    run(Command::new("tar").arg("-czf").arg(&path).arg("-C").arg(project.path()).arg(".")).unwrap();
    path
}

pub(crate) fn submit(url: &str, archive: &Path) -> (u16, Value) {
    let body = format!("@{}", archive.display());
    curl_json(&["-X", "POST", "--data-binary", &body, "-H", "content-type: application/gzip", url]).unwrap()
}

/// Polls as Package Hunter's clients do.
pub(crate) fn poll(serve: &Serve, id: &str) -> Value {
    let begun = Instant::now();
    loop {
        let (status, answer) = curl_json(&[&format!("{}/?id={id}", serve.url)]).unwrap();
        assert_eq!(status, 200, "{answer}");
        if answer["status"] != "pending" {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "{id} is still pending");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn package_hunters_clients_submit_and_poll_as_ever() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(&folder.path().join("data"), &[]).unwrap();
    let sample = packed("npmrc-token", folder.path());
    let (status, answer) = submit(&format!("{}/monitor/project/npm", serve.url), &sample);
    assert_eq!((status, &answer["status"]), (200, &Value::from("ok")), "{answer}");
    let id = answer["id"].as_str().unwrap();
    let result = poll(&serve, id);
    assert_eq!(result["status"], "finished", "{result}");
    let alert =
        result["result"].as_array().unwrap().iter().find(|a| a["rule"] == "Read decoy credentials").unwrap();
    assert!(
        alert["time"]["seconds"].is_string()
            && alert["source"] == "SYSCALL"
            && alert["priority"] == "CRITICAL"
    );

    let (_, alerts) =
        curl_json(&[&format!("{}/v1/scans/{id}/alerts?include=suppressed", serve.url)]).unwrap();
    assert!(
        alerts["alerts"].as_array().unwrap().iter().any(|a| a["package"]["name"] == "left-padding"),
        "{alerts}"
    );
    let (_, events) = curl(&["-N", &format!("{}/v1/scans/{id}/events", serve.url)]).unwrap();
    assert!(events.contains("\"state\":\"finished\""), "{events}");
    let (status, page) = curl_json(&[&format!("{}/v1/scans?limit=1", serve.url)]).unwrap();
    assert_eq!((status, page["scans"][0]["id"].as_str()), (200, Some(id)));
    assert_eq!(curl(&[&format!("{}/healthz", serve.admin)]).unwrap().0, 200);
    assert!(curl(&[&format!("{}/metrics", serve.admin)]).unwrap().1.contains("lanner_scan_running"));
    let (status, gone) = curl_json(&["-X", "DELETE", &format!("{}/v1/scans/{id}", serve.url)]).unwrap();
    assert_eq!((status, &gone["was"]), (200, &Value::from("finished")));
    assert_eq!(curl(&[&format!("{}/v1/scans/{id}", serve.url)]).unwrap().0, 404);
    assert_eq!(serve.stop().unwrap(), Some(0));
}

#[test]
fn bad_submissions_are_told_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let serve = Serve::start(&data, &[]).unwrap();
    let scans = format!("{}/v1/scans", serve.url);
    let post = |body: &[u8], kind: &str, url: &str| {
        let path = folder.path().join("body");
        std::fs::write(&path, body).unwrap();
        let (data, kind) = (format!("@{}", path.display()), format!("content-type: {kind}"));
        let (status, answer) = curl_json(&["-X", "POST", "--data-binary", &data, "-H", &kind, url]).unwrap();
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    let good = archive_of("package.json", SMALL).unwrap();
    let gzip = "application/gzip";
    assert_eq!(post(b"no gzip", gzip, &scans), is(400, "bad-archive"));
    assert_eq!(post(&good[..good.len() / 2], gzip, &scans), is(400, "bad-archive"));
    assert_eq!(post(&archive_of("README", b"x").unwrap(), gzip, &scans), is(422, "no-manifest"));
    assert_eq!(post(&good, gzip, &format!("{scans}?manager=cpan")), is(422, "unknown-manager"));
    assert_eq!(post(&good, gzip, &format!("{}/monitor/project/cpan", serve.url)), is(422, "unknown-manager"));
    assert_eq!(post(&good, "text/html", &scans), is(415, "unsupported-media-type"));
    assert_eq!(post(b"{\"package\":\"npm:a;b\"}", "application/json", &scans), is(400, "bad-package"));
    assert_eq!(post(b"{", "application/json", &scans), is(400, "bad-package"));
    let unknown = format!("{}/v1/scans/{}", serve.url, "0".repeat(32));
    assert_eq!(curl_json(&[&unknown]).unwrap().0, 404);
    assert_eq!(curl_json(&[&format!("{}/v1/scans/../../etc", serve.url)]).unwrap().0, 404);
    assert_eq!(curl_json(&["-X", "PUT", &scans]).unwrap().0, 405);
    assert_eq!(serve.stop().unwrap(), Some(0));
}

#[test]
fn without_credentials_only_loopback_is_listened_on_and_with_them_roles_count() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let open = run(Command::new(lanner().unwrap())
        .args(["serve", "--listen", "0.0.0.0:0", "--data-dir"])
        .arg(&data))
    .unwrap();
    let said = String::from_utf8_lossy(&open.stderr).into_owned();
    assert!(!open.status.success() && said.contains("credentials"), "{said}");

    let secret = folder.path().join("secret");
    std::fs::write(&secret, "open sesame, and the door\n").unwrap();
    let config = folder.path().join("lanner.toml");
    let text = format!(
        "[[credentials]]\nname = \"ci\"\nroles = [\"read\"]\nsecret_file = \"{}\"\n",
        secret.display()
    );
    std::fs::write(&config, text).unwrap();
    let serve = Serve::start(&data, &["--config", config.to_str().unwrap()]).unwrap();
    let scans = format!("{}/v1/scans", serve.url);
    assert_eq!(curl_json(&[&scans]).unwrap().0, 401);
    assert_eq!(curl_json(&["-H", "authorization: Bearer wrong", &scans]).unwrap().0, 401);
    assert_eq!(curl_json(&["-H", "authorization: Bearer open sesame, and the door", &scans]).unwrap().0, 200);
    assert_eq!(curl_json(&["-u", "ci:open sesame, and the door", &scans]).unwrap().0, 200);
    let submit = [
        "-X",
        "POST",
        "-u",
        "ci:open sesame, and the door",
        "-H",
        "content-type: application/json",
        "-d",
        "{}",
        &scans,
    ];
    assert_eq!(curl_json(&submit).unwrap().0, 403);
    assert_eq!(serve.stop().unwrap(), Some(0));
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let output = run(Command::new(lanner().unwrap())
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(&file))
    .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("--data-dir"), "{said}");
}

#[test]
fn two_hundred_submissions_at_once_are_all_taken_or_told_429() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("lanner.toml");
    std::fs::write(&config, "[scan]\nqueue = 150\n").unwrap();
    let serve = Serve::start(&folder.path().join("data"), &["--config", config.to_str().unwrap()]).unwrap();
    let body = format!("@{}", archive(folder.path()).display());
    let url = format!("{}/v1/scans", serve.url);
    let clients: Vec<_> = (0..200)
        .map(|_| {
            Command::new("curl")
                .args([
                    "-sS",
                    "--max-time",
                    "60",
                    "-w",
                    "\n%{http_code}",
                    "-X",
                    "POST",
                    "--data-binary",
                    &body,
                    "-H",
                    "content-type: application/gzip",
                    &url,
                ])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    let mut ids = Vec::new();
    for client in clients {
        let text = String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
        let (body, code) = text.rsplit_once('\n').unwrap();
        *told.entry(code.to_owned()).or_default() += 1;
        if code == "202" {
            ids.push(serde_json::from_str::<Value>(body).unwrap()["id"].as_str().unwrap().to_owned());
        }
    }
    let peak = serve.peak_mib().unwrap();
    eprintln!("200 submissions: {told:?}, peak {peak} MiB");
    assert!(told.keys().all(|code| code == "202" || code == "429"), "{told:?}");
    assert!(ids.len() >= 150 && told.get("429").copied().unwrap_or(0) + ids.len() == 200, "{told:?}");
    assert!(peak < 300, "the host held {peak} MiB");
    for id in &ids {
        let (status, _) = curl(&[&format!("{}/v1/scans/{id}", serve.url)]).unwrap();
        assert_eq!(status, 200, "{id} is lost");
    }
}

/// Speaks HTTP by hand: what curl would never do.
#[test]
fn a_body_that_stops_half_way_or_comes_drop_by_drop_is_cut_and_nothing_of_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("lanner.toml"));
    std::fs::write(&config, "[http]\nbody_pause = 2\n").unwrap();
    let serve = Serve::start(&data, &["--config", config.to_str().unwrap()]).unwrap();
    let body = archive_of("package.json", SMALL).unwrap();
    let head = format!(
        "POST /v1/scans HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let connect = || TcpStream::connect(serve.url.trim_start_matches("http://")).unwrap();
    let answer = |mut client: TcpStream| {
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut text = String::new();
        // An answer may be followed by a reset: the rest of the body is not wanted.
        let _ = client.read_to_string(&mut text);
        text
    };

    let mut gone = connect();
    gone.write_all(&[head.as_bytes(), &body[..body.len() / 2]].concat()).unwrap();
    gone.shutdown(Shutdown::Write).unwrap();
    // Whoever has closed may not be answered any more; but if so, then with what was wrong.
    let text = answer(gone);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");

    let mut stalled = connect();
    stalled.write_all(&[head.as_bytes(), &body[..body.len() / 2]].concat()).unwrap();
    let text = answer(stalled);
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("the body came too slowly"), "{text}");

    let mut slow = connect();
    slow.write_all(head.as_bytes()).unwrap();
    let begun = Instant::now();
    let cut = body.iter().any(|byte| {
        std::thread::sleep(Duration::from_millis(500));
        slow.write_all(&[*byte]).is_err() || begun.elapsed() > Duration::from_secs(20)
    });
    assert!(cut && begun.elapsed() < Duration::from_secs(20), "it was let go on for {:?}", begun.elapsed());

    assert_eq!(curl_json(&[&format!("{}/v1/scans", serve.url)]).unwrap().1["scans"], Value::Array(vec![]));
    let left = || std::fs::read_dir(data.join("sources")).unwrap().count();
    for _ in 0..100 {
        if left() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(left(), 0, "something of a broken body was kept");
    assert_eq!(serve.stop().unwrap(), Some(0));
}
