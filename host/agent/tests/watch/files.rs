//! Opens behave as the kernel's own, and what is reported is what was opened.

use std::os::unix::fs::symlink;

use lanner_proto::agent::gap;

use crate::harness::{SECRET, Scan};

#[test]
fn a_file_is_read_and_reported_by_every_way_to_name_it() {
    let scan = Scan::new();
    let (home, plain) = (scan.text("home"), scan.text("home/plain"));
    symlink("plain", scan.path("home/relative")).unwrap();
    symlink(scan.path("home"), scan.path("home/app/up")).unwrap();
    let ways = [
        plain.clone(),
        "../plain".into(),
        "./.././plain".into(),
        "../relative".into(),
        "up/relative".into(),
        format!("{home}/app/up/app/up/plain"),
        "/proc/self/cwd/../plain".into(),
        format!("/proc/self/root{plain}"),
        format!("/../..{plain}"),
    ];
    for way in ways {
        let said = scan.run(&["read", &way]);
        said.printed("plain\n");
        let expected = format!("{plain} SUCCESS write=false decoy=false type=file");
        assert!(said.saw("open", &expected), "{way}: {:#?}", said.of("open"));
    }
    let said = scan.run(&["openat", &home, "app/../relative"]);
    said.printed("plain\n");
    said.must("open", &format!("{plain} SUCCESS"));
    said.must("open", &format!("{home} SUCCESS write=false decoy=false type=directory"));
}

#[test]
fn failed_opens_fail_as_they_do_without_a_watcher() {
    let scan = Scan::new();
    scan.write("home/locked", "x");
    std::fs::set_permissions(scan.path("home/locked"), std::os::unix::fs::PermissionsExt::from_mode(0o200))
        .unwrap();
    symlink("loop", scan.path("home/loop")).unwrap();
    symlink("plain", scan.path("home/link")).unwrap();
    symlink("nowhere", scan.path("home/dangling")).unwrap();
    let of = |name: &str| scan.text(&format!("home/{name}"));
    let cases = [
        (of("missing"), "0", "ENOENT"),
        (of("plain/below"), "0", "ENOTDIR"),
        (of("plain/"), "0", "ENOTDIR"),
        (of("link/"), "0", "ENOTDIR"),
        (of("locked"), "0", "EACCES"),
        (of("loop"), "0", "ELOOP"),
        (of("link"), "0400000", "ELOOP"),    // O_NOFOLLOW
        (of("plain"), "0200000", "ENOTDIR"), // O_DIRECTORY
        (of("app"), "01", "EISDIR"),         // O_WRONLY
        (of("plain"), "0301", "EEXIST"),     // O_CREAT | O_EXCL
        (of("dangling"), "0301", "EEXIST"),
        (of("dangling"), "0", "ENOENT"),
        (of(&"x".repeat(300)), "0", "ENAMETOOLONG"),
        (String::new(), "0", "ENOENT"),
        ("/x/".repeat(2000), "0", "ENAMETOOLONG"),
    ];
    for (path, flags, errno) in cases {
        let said = scan.run(&["open", &path, flags, "0", "022"]);
        assert_eq!(said.output, format!("open {errno}\n"), "{path} {flags}");
    }
    let said = scan.run(&["open", &of("missing"), "0", "0", "022"]);
    said.must("open", &format!("{} ENOENT", of("missing")));
    scan.run(&["bad pointer"]).printed("open EFAULT\n");
    scan.run(&["page end", &of("plain")]).printed("plain\nunended EFAULT\n");
}

#[test]
fn created_files_get_the_modes_flags_and_owner_that_the_package_asked_for() {
    let scan = Scan::new();
    let new = |n: u8| scan.text(&format!("home/new{n}"));
    let cases = [
        (new(1), "0102", "0666", "0", "mode 666 size 0 cloexec 0 flags 2\n"),
        (new(2), "02000101", "0777", "022", "mode 755 size 0 cloexec 1 flags 1\n"),
        (new(3), "02102", "0640", "077", "mode 600 size 0 cloexec 0 flags 2002\n"),
        (scan.text("home"), "020200002", "0600", "0", "mode 600 size 0 cloexec 0 flags 20200002\n"), // O_TMPFILE
        (scan.text("home/plain"), "01001", "0", "0", "mode 644 size 0 cloexec 0 flags 1\n"), // O_TRUNC
    ];
    for (path, flags, mode, umask, expected) in cases {
        let said = scan.run(&["open", &path, flags, mode, umask]);
        said.printed(expected);
        said.must("open", &path);
        said.must("open", "write=true");
    }
    // A link in front of a new file: made where the link leads.
    symlink("made", scan.path("home/to-new")).unwrap();
    scan.run(&["open", &scan.text("home/to-new"), "0101", "0600", "0"])
        .printed("mode 600 size 0 cloexec 0 flags 1\n");
    assert!(scan.path("home/made").exists());
}

#[test]
fn reading_a_folder_is_not_writing() {
    let scan = Scan::new();
    let said = scan.run(&["list", &scan.text("home")]);
    said.printed("opendir ok\n");
    said.must("open", "write=false decoy=false type=directory");
    // A folder's open carries garbage where others have a mode.
    let said = scan.run(&["open", &scan.text("home"), "0200000", "0777", "0"]);
    assert!(said.output.starts_with("mode 755"), "{}", said.output);
    said.must_not("open", "write=true");
}

#[test]
fn a_decoy_is_known_by_every_name() {
    let scan = Scan::new();
    let decoy = scan.text("home/.npmrc");
    symlink(".npmrc", scan.path("home/harmless")).unwrap();
    let read = format!("{SECRET}\n");
    for path in [&decoy, &scan.text("home/harmless"), "../.npmrc"] {
        let said = scan.run(&["read", path]);
        said.printed(&read);
        said.must("decoy", &format!("{decoy} by "));
    }
    let said = scan.run(&["opath", &decoy]);
    said.printed(&format!("read EBADF\n{SECRET}\n"));
    said.must("decoy", &decoy);
    let said = scan.run(&["link", &decoy, &scan.text("tmp/innocent")]);
    said.printed(&format!("link ok\n{SECRET}\n"));
    said.must("decoy", &scan.text("tmp/innocent"));
    said.must("files", &format!("link {decoy} {}", scan.text("tmp/innocent")));
    let said = scan.run(&["rename", &decoy, &scan.text("tmp/moved")]);
    said.printed("rename ok\nunlink ok\n");
    said.must("files", &format!("rename {decoy} {}", scan.text("tmp/moved")));
    said.must("files", &scan.text("tmp/moved"));
}

#[test]
fn the_special_files_of_a_process_are_its_own() {
    let scan = Scan::new();
    let script = "cat /proc/self/comm; cat /proc/self/cmdline; echo; echo in | cat /dev/stdin; \
        echo to-fd | cat /dev/fd/0; cat /proc/thread-self/comm; echo out >/dev/stdout; readlink -f /proc/self/exe; \
        cd /proc/self && cat comm; cd /proc && cat self/comm; exec 7<$HOME/plain; cat /proc/self/fd/7";
    let said = scan.run_program(&["/bin/sh", "-c", script]);
    let readlink = std::fs::canonicalize("/usr/bin/readlink").unwrap();
    let expected = format!(
        "cat\ncat\0/proc/self/cmdline\0\nin\nto-fd\ncat\nout\n{}\nsh\ncat\nplain",
        readlink.display()
    );
    // The shell itself is asked for its own name after `cd`, where `cat` stands in the shell's folder.
    assert_eq!(said.output, expected);
    assert!(said.gaps.is_empty(), "{:?}", said.gaps);
}

#[test]
fn a_pipe_with_a_name_blocks_its_opener_and_nobody_else() {
    let scan = Scan::new();
    let said = scan.run(&["fifo", &scan.text("tmp/pipe"), &scan.text("home/plain")]);
    said.printed("mkfifo ok\nplain\nthrough the pipe\n");
}

#[test]
fn a_lease_that_would_hold_up_the_watcher_is_refused() {
    let scan = Scan::new();
    let output = scan.run(&["lease", &scan.text("home/plain")]).output;
    assert_ne!(output, "lease ok\n");
}

#[test]
fn what_may_not_be_touched_is_the_watcher_and_the_supervisor() {
    let scan = Scan::new();
    let said = scan.run(&["attack", &scan.text("home/app")]);
    for line in said.output.lines() {
        assert!(line.ends_with(" EACCES") || line.ends_with(" EPERM"), "{}", said.output);
    }
    assert_eq!(said.output.lines().count(), 7, "{}", said.output);
    said.must("own", "watcher_attacked");
    let said = scan.run(&["read", &format!("/proc/{}/environ", std::process::id())]);
    said.printed("open EACCES\n");
    said.must("own", "watcher_attacked");
    assert!(!said.has_gap(gap::Kind::Unreadable));
}
