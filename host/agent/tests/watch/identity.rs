//! Who a call is put down to, when the package does what it can to be taken for somebody else.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use lanner_core::Isolation;

use crate::harness::{SECRET, Scan};
use crate::races::count;

/// What the rules that trust a process go by.
const TRUST: &str = r#"
- rule: trust
  desc: what a process is taken for
  condition: evt.type in (open, openat) and fd.name endswith /plain
  output: "%proc.name cmdline=%proc.cmdline at_start=%lanner.args_at_start script=%lanner.script"
  priority: INFORMATIONAL
"#;

fn trusting() -> Scan {
    let mut scan = Scan::new();
    scan.rules += TRUST;
    scan
}

#[test]
fn arguments_are_those_that_a_program_was_started_with() {
    let scan = trusting();
    let (package, plain) = (scan.text("package"), scan.text("home/plain"));
    std::fs::set_permissions(scan.path("home/plain"), PermissionsExt::from_mode(0o755)).unwrap();
    let script = format!("{package} forge {plain}; true");
    let said = scan.run_program(&["/bin/sh", "-c", &script]);
    said.printed("move EPERM\nmove EPERM\npersonality EPERM\nquery ok\nplain\nplain\n");
    // The process itself, and a child that has the forged arguments from its birth.
    let expected = format!("package cmdline={package} forge {plain} at_start=true");
    said.must("trust", &expected);
    assert_eq!(count(&said, "trust", &expected), 2, "{:?}", said.of("trust"));
    said.must_not("trust", "trusted");
}

#[test]
fn what_has_lost_its_parents_is_no_tool_of_the_package_manager() {
    let scan = trusting();
    let script = format!("{} orphan {}; sleep 0.3", scan.text("package"), scan.text("home/plain"));
    let said = scan.run_program(&["/bin/sh", "-c", &script]);
    said.must("trust", "git cmdline=");
    assert!(said.of("trust").iter().all(|line| line.ends_with("script=true")), "{:?}", said.of("trust"));
}

#[test]
fn the_interpreter_of_a_script_is_an_exec_too() {
    let scan = Scan::new();
    let dropped = scan.text("tmp/dropped");
    scan.write("home/script", &format!("#!{dropped} say\n"));
    std::fs::set_permissions(scan.path("home/script"), PermissionsExt::from_mode(0o755)).unwrap();
    let script = format!("{} interpreter {dropped} {}; true", scan.text("package"), scan.text("home/script"));
    let said = scan.run_program(&["/bin/sh", "-c", &script]);
    assert!(said.output.contains("/home/script"), "{}", said.output);
    said.must(
        "exec",
        &format!("{dropped} {dropped} say {} memfd=false dropped=true", scan.text("home/script")),
    );
}

#[test]
fn a_program_put_in_the_place_of_another_is_told_by_its_own_name() {
    let scan = Scan::new();
    scan.copy(std::path::Path::new("/bin/true"), "home/prog1", 0o755);
    scan.copy(std::path::Path::new("/bin/false"), "home/prog2", 0o755);
    let second = scan.text("home/prog2");
    let said = scan.run(&["race exec", &scan.text("home/prog1"), &second, "2000"]);
    let ran: u64 = said.output.trim().parse().unwrap();
    assert!(ran > 0, "the race was never won");
    let told = count(&said, "exec", &format!("{second} "));
    assert!(told >= ran, "it ran {ran} times and was told {told} times");
}

#[test]
fn a_package_does_not_put_its_doings_down_to_another() {
    let scan = Scan::new();
    for package in ["evil", "victim"] {
        std::fs::create_dir_all(scan.path(&format!("home/app/node_modules/{package}"))).unwrap();
    }
    let read = format!("{} read {}", scan.text("package"), scan.text("home/.npmrc"));
    for inner in [
        format!("cd ../victim && {read}; true"),
        format!("cd ../victim && exec {read}"),
        format!("cd / && {read}"),
    ] {
        let script = format!("cd node_modules/evil && /bin/sh -c '{inner}'; true");
        let said = scan.run_program(&["/bin/sh", "-c", &script]);
        let alert = said.alerts.iter().find(|a| a.rule == "decoy").unwrap();
        assert_eq!(
            (alert.package_name.as_slice(), alert.package_folder.as_slice()),
            (&b"evil"[..], &b"node_modules/evil"[..])
        );
    }
}

#[test]
fn long_names_of_many_ancestors_do_not_silence_an_alert() {
    let scan = Scan::new();
    let folder = format!("home/{}", vec!["d".repeat(200); 17].join("/"));
    std::fs::create_dir_all(scan.path(&folder)).unwrap();
    let script = format!(
        "cd {0} && cp {1} ./package && ./package deep 26 {2} {3}",
        scan.text(&folder),
        scan.text("package"),
        scan.text("home/.npmrc"),
        "p".repeat(2000)
    );
    for part in folder.match_indices('/').map(|(at, _)| &folder[..at]).chain([folder.as_str()]) {
        scan.give_away(part);
    }
    let said = scan.run_program(&["/bin/sh", "-c", &script]);
    said.printed(&format!("{SECRET}\n"));
    said.must("decoy", ".npmrc");
    let alert = said.alerts.iter().find(|a| a.rule == "decoy").unwrap();
    assert!(alert.ancestry.len() > 20);
}

#[test]
fn names_change_as_the_kernel_would_change_them() {
    let scan = Scan::new();
    let expected = "mkdir ok\nlink ok\nlinkat ok\ntmpfile ok\nsymlink ok\nlink to link ok\nstill a link ok\nrename ok\n\
        exchange ok\nno replace EEXIST\nfolder ok\nof a file ENOTDIR\ndot EBUSY\nmissing ENOENT\nempty ENOENT\n\
        unlink folder EISDIR\nrmdir full ENOTEMPTY\nunlinkat ok\nunlink ok\nrmdir ok\nthrough file ENOTDIR\nbad pointer EFAULT\n";
    let said = scan.run(&["names", &scan.text("tmp")]);
    said.printed(expected);
    let tmp = scan.text("tmp");
    said.must("files", &format!("linkat {tmp}/d/b {tmp}/c"));
    said.must("files", &format!("rename {tmp}/c {tmp}/d/c"));
    let mut scan = Scan::new();
    scan.unwatched = true;
    scan.run(&["names", &scan.text("tmp")]).printed(expected);
}

#[test]
fn a_rewritten_target_of_a_rename_is_told_by_its_name() {
    let scan = Scan::new();
    let (source, first, second) =
        (scan.text("tmp/source"), scan.text("home/.nothin"), scan.text("home/.bashrc"));
    let said = scan.run(&["race rename", &source, &first, &second, "5000"]);
    let put: u64 = said.output.trim().parse().unwrap();
    assert!(put > 0, "the race was never won");
    assert_eq!(count(&said, "files", &format!("rename {source} {second}")), put);
}

#[test]
fn in_a_container_no_unix_socket_but_the_packages_own_is_reached() {
    let mut scan = Scan::new();
    scan.isolation = Isolation::Container;
    std::fs::create_dir(scan.path("outer")).unwrap();
    // As long as the one inside, so that each mixture of both is one of both or nothing.
    let (own, outside) = (scan.text("home/server"), scan.text("outer/serve"));
    let server = UnixListener::bind(&outside).unwrap();
    std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o777)).unwrap();
    server.set_nonblocking(true).unwrap();
    let said = scan.run(&["unix", &own, &outside]);
    said.printed(
        "bind ok\nlisten ok\nown ok\ninside\noutside ECONNREFUSED\ndatagram EPERM\nraw EPERM\ndatagram pair EPERM\n\
         stream pair ok\npair outside ECONNREFUSED\n",
    );
    said.must("net", &format!("connect {outside} ECONNREFUSED"));
    assert!(server.accept().is_err(), "it was reached all the same");
}

#[test]
fn each_of_many_datagrams_is_seen() {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port().to_string();
    let said = Scan::new().run(&["many datagrams", &port(&one), &port(&other)]);
    said.printed("sendmmsg ok\n");
    said.must("net", &format!("sendmmsg 127.0.0.1:{}", port(&other)));
}

#[test]
fn a_name_is_put_down_to_whose_socket_asked_and_not_to_who_asked_last() {
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = dns.local_addr().unwrap().port().to_string();
    let mut scan = Scan::new();
    scan.dns = Some(dns.into());
    let said = scan.run(&["ask late", &port]);
    let by = |name: &str| said.of("asked").into_iter().find(|line| line.starts_with(name)).unwrap();
    assert!(by("honest.name").contains("by honest ask"), "{:?}", said.of("asked"));
    assert!(by("evil").contains(" ask late "), "{:?}", said.of("asked"));
}
