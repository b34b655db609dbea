//! The machine under it: other users, a full disk, a folder that is not ours, a kernel that forbids namespaces.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lanner_tests::samples::Sample;
use lanner_tests::serve::{Serve, curl_json};
use lanner_tests::{lanner, run, skipped};
use serde_json::Value;
use tempfile::TempDir;

use crate::service::{archive, packed, poll, submit};

const NOBODY: u32 = 65534;

/// What an ordinary user needs: the program where he can run it, a home and a temporary folder of his own.
struct Ordinary {
    folder: TempDir,
    program: PathBuf,
}

impl Ordinary {
    /// Nothing if we cannot become one; then every other test here has run as one.
    fn new(test: &str) -> Option<Self> {
        // SAFETY: no pointers are involved.
        if unsafe { libc::geteuid() } != 0 {
            skipped(test, "only root can become another user; all other tests ran as an ordinary one");
            return None;
        }
        if run(Command::new("setpriv").arg("--version")).is_err() {
            skipped(test, "setpriv is not on this machine");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        open(folder.path());
        let program = folder.path().join("lanner");
        std::fs::copy(lanner().unwrap(), &program).unwrap();
        for own in ["home", "tmp"] {
            std::fs::create_dir(folder.path().join(own)).unwrap();
            std::os::unix::fs::chown(folder.path().join(own), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Some(Self { folder, program })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"])
            .arg(&self.program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.env("HOME", self.folder.path().join("home")).env("TMPDIR", self.folder.path().join("tmp"));
        command.current_dir(self.folder.path());
        command
    }
}

fn open(folder: &Path) {
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{:?}: {text}", output.status))
}

#[test]
fn an_ordinary_user_scans_as_root_does() {
    let Some(user) = Ordinary::new("an_ordinary_user_scans_as_root_does") else { return };
    for (sample, isolation, exit) in [
        ("funding-message", "namespaces", 0),
        ("npmrc-token", "namespaces", 1),
        ("npmrc-token", "container", 1),
    ] {
        let project = Sample::named(sample).unwrap().project().unwrap();
        open(project.path());
        let mut scan = user.command();
        scan.args(["scan", "--format", "json", "--isolation", isolation]).arg(project.path());
        let output = run(&mut scan).unwrap();
        let answer = json(&output);
        assert_eq!(output.status.code(), Some(exit), "{sample} {isolation}: {answer}");
        assert_eq!(
            (&answer["scan"]["state"], &answer["scan"]["isolation"]),
            (&"finished".into(), &isolation.into())
        );
    }
    let left = std::fs::read_dir(user.folder.path().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "something was left behind");
}

#[test]
fn a_data_directory_of_somebody_else_is_named() {
    let Some(user) = Ordinary::new("a_data_directory_of_somebody_else_is_named") else { return };
    let data = user.folder.path().join("of-root");
    std::fs::create_dir(&data).unwrap();
    let mut serve = user.command();
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data);
    let output = run(&mut serve).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("--data-dir") && said.contains("of-root"), "{said}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
}

#[test]
fn where_user_namespaces_are_forbidden_the_scan_is_refused_and_the_choice_named() {
    let test = "where_user_namespaces_are_forbidden_the_scan_is_refused_and_the_choice_named";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("package.json"), r#"{"name":"a","version":"1.0.0"}"#).unwrap();
    // A user namespace of our own, in which no further one can be made.
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let within = |program: &Path, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", forbid, "sh"]).arg(program).args(args);
        run(&mut command).unwrap()
    };
    if !within(Path::new("true"), &[]).status.success() {
        return skipped(test, "this machine does not let us make the namespace that forbids others");
    }
    let path = folder.path().to_str().unwrap();
    let output = within(&lanner().unwrap(), &["scan", "--format", "json", path]);
    let answer = json(&output);
    assert_eq!((output.status.code(), &answer["scan"]["state"]), (Some(3), &"incomplete".into()), "{answer}");
    let reason = answer["scan"]["reason"].as_str().unwrap();
    assert!(reason.contains("--isolation container") && reason.contains("lanner doctor"), "{reason}");
    let table = within(&lanner().unwrap(), &["scan", path]);
    let text = [table.stdout, table.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("--isolation container"), "{text}");
}

#[test]
fn a_full_disk_is_told_and_what_was_taken_before_still_answers() {
    let test = "a_full_disk_is_told_and_what_was_taken_before_still_answers";
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(&disk).output();
    if !mount.is_ok_and(|m| m.status.success()) {
        return skipped(test, "only root can mount a small disk");
    }
    let unmounted = Unmount(&disk);
    let serve = Serve::start(&disk.join("data"), &[]).unwrap();
    let scans = format!("{}/v1/scans", serve.url);
    let good = archive(folder.path());
    let before = submit(&scans, &good);
    assert_eq!(before.0, 202, "{}", before.1);
    poll(&serve, before.1["id"].as_str().unwrap());

    let filler = disk.join("filler");
    let _ = std::fs::write(&filler, vec![1; 8 << 20]);
    let (status, problem) = submit(&scans, &packed("npmrc-token", folder.path()));
    assert_eq!((status, &problem["code"]), (507, &"disk-full".into()), "{problem}");
    assert_eq!(problem["detail"], "the disk that holds the data directory is full");
    let id = before.1["id"].as_str().unwrap();
    assert_eq!(curl_json(&[&format!("{scans}/{id}")]).unwrap().1["state"], "finished");
    let kept = std::fs::read_dir(disk.join("data/sources")).unwrap().count();
    assert!(kept <= 2, "{kept} files of a refused body");

    std::fs::remove_file(&filler).unwrap();
    let (status, after) = submit(&scans, &good);
    assert_eq!(status, 202, "{after}");
    poll(&serve, after["id"].as_str().unwrap());
    assert_eq!(serve.stop().unwrap(), Some(0));
    drop(unmounted);
}

struct Unmount<'p>(&'p Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}
