//! Isolation by the container: what Landlock and the rest keep from the package where there are no namespaces.

use lanner_proto::agent::Isolation;

use crate::host::{By, Scan, everyone, put};

fn scan(by: By) -> Scan {
    Scan::new(Isolation::Container, by)
}

#[test]
fn a_phase_runs_in_the_work_folder() {
    for by in everyone() {
        let scan = scan(by);
        let work = scan.start.work_dir.clone();
        let output =
            scan.phase("look", "pwd; echo $HOME; touch x $HOME/y $TMPDIR/z && id -u").run().output("look");
        let lines: Vec<_> = output.lines().collect();
        assert!(lines[0].starts_with(&format!("{work}/home/alex/")), "{output}");
        assert_eq!(lines[1], format!("{work}/home/alex"));
        assert_ne!(lines[2], "0", "the package is never root");
    }
}

#[test]
fn what_lies_outside_can_be_neither_read_nor_written() {
    for by in everyone() {
        let scan = scan(by);
        let secret = put(&scan, "secret", "of the machine");
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let script = format!(
            "cat {0}; ls $(dirname {0}); echo x >> {0}; rm -f {0}; ln {0} ~/link; mv {0} ~/moved
             ls / /tmp /home /root /var; cat /etc/shadow; cat /etc/machine-id; echo x > /dev/shm/lanner-test
             touch /tmp/lanner-test; exit 0",
            secret.display()
        );
        let output = scan.phase("look", &script).run();
        let text = output.output("look");
        assert!(!text.contains("of the machine"), "{text}");
        assert_eq!(
            text.lines().filter(|line| !line.contains("denied") && !line.contains("Invalid cross")).count(),
            0,
            "{text}"
        );
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the machine");
    }
}

#[test]
fn the_agent_and_all_other_processes_are_out_of_reach() {
    for by in everyone() {
        // With the shell's own commands: a thousand processes would take their time.
        let script = "for d in /proc/$PPID /proc/[0-9]*; do
                p=${d#/proc/}; [ $p = $$ ] && continue
                for f in environ maps; do
                    x=; read -r x 2>/dev/null < $d/$f; [ -z \"$x\" ] || echo read $p $f
                done
                [ -e $d/root/usr ] && echo entered $p
                kill -0 $p 2>/dev/null && echo can signal $p
            done 2>/dev/null
            ls /proc/$PPID/fd > /dev/null 2>&1 && echo listed
            (exec 3< /proc/$PPID/mem) 2>/dev/null && echo opened
            kill -9 $PPID 2>/dev/null && echo killed
            echo alive";
        let said = scan(by).phase("attack", script).run();
        assert_eq!(said.output("attack"), "alive\n");
        assert!(said.gaps().is_empty(), "{:?}", said.gaps());
    }
}

#[test]
fn no_port_but_the_way_out_can_be_connected_or_listened_on() {
    if landlock_abi() < 4 {
        eprintln!("skipped: this kernel's Landlock knows no ports");
        return;
    }
    for by in everyone() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!(
            "node -e '
                const net = require(\"net\");
                const s = net.connect({port}, \"127.0.0.1\"); s.on(\"connect\", () => console.log(\"connected\"));
                s.on(\"error\", e => console.log(e.code));
                const l = net.createServer(); l.on(\"error\", e => console.log(e.code)); l.listen(0, () => console.log(\"listening\"));
                setTimeout(() => process.exit(0), 300);'"
        );
        let output = scan(by).phase("look", &script).run().output("look");
        let mut lines: Vec<_> = output.lines().collect();
        lines.sort_unstable();
        // Landlock says EACCES; the watcher, which may be asked first, that nobody listens.
        assert!(matches!(lines[..], ["EACCES", "EACCES" | "ECONNREFUSED"]), "{output}");
    }
}

#[test]
fn a_work_folder_out_of_the_packages_reach_is_replaced() {
    if !everyone().contains(&By::Root) {
        return;
    }
    let scan = scan(By::Root);
    std::fs::set_permissions(scan.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    let said = scan.phase("look", "touch x && pwd").run();
    let home = said.output("look");
    let shelter = home.split("/home/").next().unwrap();
    assert!(shelter.starts_with("/tmp/"), "{home}");
    assert!(!std::path::Path::new(shelter).exists(), "{shelter} was left behind");
}

fn landlock_abi() -> i64 {
    // SAFETY: with the flag that asks for the version, the call takes no attributes.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, 1_u32) }
}
