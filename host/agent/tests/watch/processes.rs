//! Who ran what: execs, their ancestors, marks, and what a process may not do to itself or to us.

use lanner_agent::watch::{Order, Role};
use lanner_proto::agent::gap;

use crate::harness::{SECRET, Scan};

#[test]
fn what_ran_is_reported_with_its_ancestors_and_what_did_not_run_is_not() {
    let scan = Scan::new();
    std::fs::create_dir_all(scan.path("home/app/node_modules/@s/bad")).unwrap();
    let package = scan.text("package");
    let script =
        format!("cd node_modules/@s/bad && sh -c 'no-such-program; {package} read $HOME/.npmrc; true'");
    let said = scan.run_program(&["/bin/sh", "-c", &script]);
    said.must("exec", &format!("{package} {package} read"));
    said.must_not("exec", "no-such-program memfd");
    let alert = said.alerts.iter().find(|a| a.rule == "decoy").unwrap();
    assert_eq!(
        (alert.package_name.as_slice(), alert.package_folder.as_slice()),
        (&b"@s/bad"[..], &b"node_modules/@s/bad"[..])
    );
    let names: Vec<_> =
        alert.ancestry.iter().map(|p| String::from_utf8_lossy(&p.name).into_owned()).collect();
    assert_eq!(names, ["package", "sh", "sh"]);
    assert!(alert.ancestry[2].cmdline.starts_with(b"/bin/sh -c cd node_modules"), "{:?}", alert.ancestry[2]);
    assert!(alert.ancestry[0].cwd.ends_with(b"/home/app/node_modules/@s/bad"));
    assert_eq!(said.exit, Some((Some(0), None)));
}

#[test]
fn a_mark_is_ours_alone() {
    let scan = Scan::new();
    let package = scan.text("package");
    let mut running = scan.start();
    running.launch(Role::Mark, &[&package, "mark", "00a1ff"]);
    running.until_exit();
    assert_eq!(running.said.marks, [vec![0, 0xa1, 0xff]]);
    // A package that does the same makes none, be it the leader itself.
    running.launch(Role::Phase, &[&package, "mark", "00a1ff"]);
    running.until_exit();
    running.launch(
        Role::Phase,
        &["/bin/sh", "-c", &format!("{package} mark 00a1ff; exec {package} mark 00a1ff")],
    );
    running.until_exit();
    running.launch(Role::Mark, &[&package, "mark", "02"]);
    running.until_exit();
    let said = running.finish(1000);
    assert_eq!(said.marks, [vec![0, 0xa1, 0xff], vec![2]]);
}

#[test]
fn a_program_from_memory_or_from_the_installation_is_known() {
    let scan = Scan::new();
    let said = scan.run(&["memfd"]);
    said.printed("from memory\n");
    said.must("exec", "memfd=true");
    said.must("other", "memfd_create");
    let said = scan.run(&["drop", &scan.text("tmp/dropped")]);
    said.printed("dropped\n");
    said.must("exec", &format!("{} dropped say dropped memfd=false dropped=true", scan.text("tmp/dropped")));
    let said = scan.run(&["exec", "/bin/true"]);
    said.must("exec", "dropped=false");
}

#[test]
fn a_process_that_hides_its_memory_is_refused_and_leaves_a_gap() {
    let scan = Scan::new();
    let said = scan.run(&["undumpable", &scan.text("home/.npmrc")]);
    // It did not become unreadable, so what it does next is seen as ever.
    said.printed(&format!("prctl EPERM\n{SECRET}\n"));
    said.must("own", "unreadable");
    said.must("decoy", ".npmrc");
    assert!(said.has_gap(gap::Kind::Unreadable), "{:?}", said.gaps);
}

#[test]
fn a_program_without_read_permission_does_not_run() {
    use std::os::unix::fs::PermissionsExt;
    let scan = Scan::new();
    scan.copy(&scan.path("package"), "home/secretive", 0o111);
    let said = scan.run(&["exec", &scan.text("home/secretive"), "read", &scan.text("home/.npmrc")]);
    said.printed("exec EPERM\n");
    said.must("own", "unreadable");
    assert!(said.has_gap(gap::Kind::Unreadable), "{:?}", said.gaps);
    // Neither does a script whose interpreter is such a program get anything done.
    scan.write("home/script", &format!("#!{} read\n{SECRET}", scan.text("home/secretive")));
    std::fs::set_permissions(scan.path("home/script"), PermissionsExt::from_mode(0o755)).unwrap();
    let said = scan.run(&["exec", &scan.text("home/script")]);
    assert!(!said.output.contains(SECRET), "{}", said.output);
    said.must("own", "unreadable");
    assert!(said.has_gap(gap::Kind::Unreadable), "{:?}", said.gaps);
}

#[test]
fn what_no_installation_needs_is_refused_by_the_filter() {
    let said = Scan::new().run(&["refused"]);
    said.printed(
        "io_uring_setup ENOSYS\nmount EPERM\nunshare EPERM\nbpf EPERM\nkeyctl EPERM\nuserfaultfd ENOSYS\n\
         clone3 ENOSYS\nsetns EPERM\nopen_by_handle_at ENOSYS\nunshare files ok\nmemfd_create ok\nsocketpair ok\n",
    );
    // Making sure of the user that one is already is no attempt.
    let said = Scan::new().run(&["setuid", "-1"]);
    said.printed("setuid ok\n");
    said.must_not("other", "setuid");
    let said = Scan::new().run(&["setuid", "12345"]);
    said.printed("setuid EPERM\n");
    said.must("other", "setuid");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn other_abis_are_killed() {
    for verb in ["int80", "x32"] {
        let said = Scan::new().run(&[verb]);
        assert_eq!((said.output.as_str(), said.exit), ("", Some((None, Some(libc::SIGSYS)))), "{verb}");
    }
}

#[test]
fn neither_watcher_nor_supervisor_takes_signals_from_the_package() {
    let said = Scan::new().run(&["signals"]);
    for line in said.output.lines() {
        assert!(line.ends_with("EPERM"), "{}", said.output);
    }
    said.must("own", "watcher_attacked");
}

#[test]
fn ordinary_tools_run_as_ever() {
    let tools: [(&[&str], &str); 4] = [
        (&["npm", "--version"], "."),
        (
            &[
                "node",
                "-e",
                "require('fs').readdirSync('/');require('child_process').execSync('true');console.log('fine')",
            ],
            "fine",
        ),
        (
            &[
                "python3",
                "-c",
                "import socket, subprocess, threading; subprocess.check_call(['true']); print('fine')",
            ],
            "fine",
        ),
        (&["perl", "-e", "system('true') == 0 or die; print 'fine'"], "fine"),
    ];
    let path = ["/usr/local/bin", "/usr/bin", "/bin"].map(std::path::PathBuf::from);
    for (argv, expected) in tools {
        if !path.iter().any(|p| p.join(argv[0]).exists()) {
            eprintln!("skipped: {} is not on this machine", argv[0]);
            continue;
        }
        let said = Scan::new().run_program(argv);
        assert!(said.output.contains(expected) && said.exit == Some((Some(0), None)), "{argv:?}: {said:#?}");
        assert!(said.gaps.is_empty(), "{:?}", said.gaps);
    }
}

#[test]
fn repeats_are_one_alert_with_a_count_and_too_many_alerts_are_a_gap() {
    let mut scan = Scan::new();
    let plain = scan.text("home/plain");
    let said = scan.run_program(&["/bin/sh", "-c", &format!("for i in 1 2 3 4 5; do read x <{plain}; done")]);
    let alerts: Vec<_> = said.alerts.iter().filter(|a| a.output.windows(6).any(|w| w == b"/plain")).collect();
    assert_eq!(alerts.len(), 1);
    assert_eq!(said.repeats.iter().rfind(|(id, _)| *id == alerts[0].id), Some(&(alerts[0].id, 5)));
    scan.max_alerts = 3;
    let script = "for i in 1 2 3 4 5 6; do : >$HOME/file$i; done";
    let said = scan.run_program(&["/bin/sh", "-c", script]);
    assert_eq!(said.alerts.len(), 3);
    assert_eq!(said.gaps.iter().filter(|g| g.kind == i32::from(gap::Kind::Limit)).count(), 1);
}

#[test]
fn a_program_that_is_not_there_is_said_and_the_watcher_goes_on() {
    let scan = Scan::new();
    let mut running = scan.start();
    running.launch(Role::Phase, &["no-such-program"]);
    running.until_exit();
    assert_eq!(running.said.exit, Some((Some(127), None)));
    running.launch(Role::Phase, &["true"]);
    running.until_exit();
    assert_eq!(running.said.exit, Some((Some(0), None)));
    running.order(&Order::ProxyRequest {
        peer_port: 1,
        host: "unknown.invalid".into(),
        port: 443,
        allowed: false,
    });
    running.until_alert("way out", "unknown.invalid allowed=false");
    running.finish(0);
}

#[test]
fn unwatched_means_unwatched() {
    let mut scan = Scan::new();
    scan.unwatched = true;
    let said = scan.run(&["read", &scan.text("home/.npmrc")]);
    said.printed(&format!("{SECRET}\n"));
    assert!(said.alerts.is_empty());
}
