//! Bad input at the desk: each with its message and exit code 2 (or 3 where only the installation can know).

use std::path::Path;

use lanner_tests::{Entry, archive_of, archive_with, scan};

fn refused(args: &[&str]) -> String {
    let scanned = scan(args).unwrap();
    assert_eq!(scanned.exit, Some(2), "{scanned:?}");
    scanned.stderr.trim_start_matches("error: ").trim().to_owned()
}

fn file(folder: &Path, bytes: &[u8]) -> String {
    let path = folder.join("project.tgz");
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_cannot_be_scanned_is_refused_with_a_sentence() {
    assert_eq!(
        refused(&["no/such/thing"]),
        "no/such/thing cannot be read: No such file or directory (os error 2)"
    );
    assert!(refused(&["npm:a;b"]).starts_with("a package name may hold letters"));
    assert!(refused(&["npm:../x"]).starts_with("a package name may hold letters"));
    assert!(refused(&["cpan:x"]).starts_with("this package manager is not known"));
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("README"), "x").unwrap();
    assert!(refused(&[empty]).starts_with("no file of a known package manager"), "{}", refused(&[empty]));
    assert_eq!(refused(&["--manager", "npm", empty]), "the project has no package.json at its root");
    assert!(refused(&["--manager", "cargo-cult", empty]).starts_with("this package manager is not known"));
}

#[test]
fn bad_archives_are_refused_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    assert_eq!(refused(&[&file(at, b"plain text")]), "the body is not a gzip file");
    let good = archive_of("package.json", b"{}").unwrap();
    assert!(refused(&[&file(at, &good[..good.len() / 2])]).contains("truncated"));
    // The rest of what an archive can be guilty of is the archive crate's to test; here, that it is said at the desk.
    let text = |entry| refused(&[&file(at, &archive_with(entry).unwrap())]);
    assert_eq!(text(Entry::File("/etc/passwd")), "the path /etc/passwd in the archive is absolute");
    assert_eq!(text(Entry::File("a/../../x")), "the path a/../../x in the archive has a part `..`");
    assert_eq!(text(Entry::Link("l", "../../x")), "the link l in the archive leads out of the project");
    let device =
        "the entry disk in the archive is a device, a pipe or of another kind than file, folder or link";
    assert_eq!(text(Entry::Device("disk")), device);
    let bomb = "the archive unpacks to more than 200 times its size: a tar bomb";
    assert_eq!(text(Entry::Zeros("zeros", 40 << 20)), bomb);
}

#[test]
fn a_version_that_does_not_exist_is_a_failed_installation() {
    let scanned = scan(["npm:left-pad@99.99.99"]).unwrap();
    assert_eq!((scanned.exit, scanned.state()), (Some(3), "failed"), "{scanned:?}");
}

#[test]
fn a_time_limit_that_is_hit_is_no_clean_scan() {
    let folder = tempfile::tempdir().unwrap();
    let package = r#"{"name":"slow","version":"1.0.0","scripts":{"install":"sleep 30"}}"#;
    std::fs::write(folder.path().join("package.json"), package).unwrap();
    let scanned = scan(["--timeout", "3", folder.path().to_str().unwrap()]).unwrap();
    assert_eq!((scanned.exit, scanned.state()), (Some(3), "incomplete"), "{scanned:?}");
    let reason = scanned.json["scan"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("a limit was hit"), "{reason}");
}

#[test]
fn nothing_is_left_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("package.json"), r#"{"name":"a","version":"1.0.0"}"#).unwrap();
    let status = std::process::Command::new(lanner_tests::lanner().unwrap())
        .args(["scan", "--format", "json"])
        .arg(folder.path())
        .env("TMPDIR", temporary.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
