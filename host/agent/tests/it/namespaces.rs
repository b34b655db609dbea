//! Isolation by namespaces, seen from inside.

use lanner_proto::agent::Isolation;

use crate::host::{By, Scan, everyone, put};

fn scan(by: By) -> Scan {
    Scan::new(Isolation::Namespaces, by)
}

fn inside(by: By, script: &str) -> String {
    scan(by).phase("look", script).run().output("look")
}

#[test]
fn a_phase_runs_as_an_ordinary_user_in_its_project() {
    for by in everyone() {
        let output = inside(by, "id; pwd; hostname; echo $HOME $USER $HOSTNAME; echo $$");
        let lines: Vec<_> = output.lines().collect();
        assert!(lines[0].starts_with("uid=1000(alex) gid=1000(alex)"), "{output}");
        assert!(lines[1].starts_with("/home/alex/"), "{output}");
        assert_eq!(lines[2..4], ["dev-17", "/home/alex alex dev-17"], "{output}");
        assert!(lines[4].parse::<u32>().unwrap() < 50, "a pid space of its own: {output}");
    }
}

#[test]
fn no_file_of_the_machine_is_visible_but_programs() {
    for by in everyone() {
        let scan = scan(by);
        let secret = put(&scan, "secret", "of the machine");
        let script = format!("cat {} 2>&1; ls / /home /tmp /var/tmp /root", secret.display());
        let output = scan.phase("look", &format!("{script}; true")).run().output("look");
        assert!(output.contains("No such file"), "{output}");
        assert!(!output.contains("of the machine"), "{output}");
        let home: Vec<_> = output.lines().skip_while(|line| *line != "/home:").skip(1).take(2).collect();
        assert_eq!(home, ["alex", ""], "{output}");
        let tmp: Vec<_> = output.lines().skip_while(|line| *line != "/tmp:").skip(1).take(1).collect();
        assert_eq!(tmp, [""], "{output}");
    }
}

#[test]
fn only_home_and_temporary_folders_can_be_written() {
    for by in everyone() {
        let script = "for d in / /usr /usr/bin /etc /run /var /opt /dev /proc /proc/sys /sys /home; do
            if touch $d/x 2>/dev/null; then echo wrote $d; fi
            if chmod 777 $d 2>/dev/null; then echo changed $d; fi
        done
        for d in . $HOME $TMPDIR /tmp /var/tmp /dev/shm; do touch $d/x && echo ok; done
        echo 1 > /proc/sys/kernel/hostname && echo sysctl; echo b > /proc/sysrq-trigger && echo sysrq
        wc -c < /proc/kcore; cat /proc/keys";
        let output = inside(by, script);
        assert!(!output.contains("wrote") && !output.contains("changed"), "{output}");
        assert!(!output.contains("sysctl\n") && !output.contains("sysrq\n"), "{output}");
        assert_eq!(output.matches("ok\n").count(), 6, "{output}");
    }
}

#[test]
fn there_is_no_privilege_and_no_way_to_one() {
    for by in everyone() {
        let script = "grep -E '^(Cap|NoNewPrivs)' /proc/self/status
            unshare -r true 2>/dev/null && echo namespace
            mount -t tmpfs none /tmp 2>/dev/null && echo mounted
            mount -o remount,rw / 2>/dev/null && echo remounted
            umount /home/alex 2>/dev/null && echo unmounted
            mknod /tmp/disk b 8 0 2>/dev/null && echo device
            chroot / true 2>/dev/null && echo chroot
            find / -xdev -perm /6000 -newer /nothing 2>/dev/null | head -1
            exit 0";
        let output = inside(by, script);
        let expected = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
                        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";
        assert_eq!(output, expected);
    }
}

#[test]
fn every_scan_finds_decoys_of_its_own() {
    let script =
        "cat ~/.npmrc ~/.ssh/id_rsa ~/.aws/credentials; stat -c '%a %U' ~/.ssh/id_rsa; echo $NPM_TOKEN";
    for by in everyone() {
        let (one, two) = (inside(by, script), {
            let other = scan(by).with(|start| start.persona.as_mut().unwrap().seed = b"other".into());
            other.phase("look", script).run().output("look")
        });
        for output in [&one, &two] {
            assert!(output.contains(":_authToken=npm_"), "{output}");
            assert!(output.contains("BEGIN OPENSSH PRIVATE KEY"), "{output}");
            assert!(output.contains("aws_access_key_id = AKIA"), "{output}");
            assert!(output.contains("\n600 alex\nnpm_"), "{output}");
        }
        assert_ne!(one, two);
    }
}

#[test]
fn nothing_of_the_host_is_in_the_environment_or_in_descriptors() {
    for by in everyone() {
        let script = "env; ls -l /proc/self/fd; for p in 1 2; do cat /proc/$p/environ; ls /proc/$p/fd; done 2>&1; true";
        let output = inside(by, script);
        assert!(!output.contains("AGENT_SECRET") && !output.contains("of-the-host"), "{output}");
        assert!(output.contains("Permission denied"), "{output}");
        assert!(!output.contains("socket:"), "{output}");
        assert!(output.contains("0 -> /dev/null"), "{output}");
    }
}

#[test]
fn the_source_and_the_hosts_files_are_the_project() {
    for by in everyone() {
        let scan = scan(by);
        let project = put(&scan, "p/package/package.json", "{}");
        let tgz = scan.folder.path().join("source.tgz");
        let folder = project.parent().unwrap().parent().unwrap();
        crate::host::tar(folder, &tgz);
        let output = scan
            .with(|start| {
                start.source_path = tgz.to_str().unwrap().into();
                start.files =
                    vec![lanner_proto::agent::File { path: "a/b.txt".into(), content: b"host's".into() }];
            })
            .phase("look", "ls; stat -c %U package.json; cat a/b.txt")
            .run()
            .output("look");
        assert_eq!(output, "a\npackage.json\nalex\nhost's");
    }
}

#[test]
fn toolchains_and_single_files_are_readable_at_their_path() {
    for by in everyone() {
        let scan = scan(by);
        let tool = put(&scan, "tools/bin/tool", "#!/bin/sh\necho from the toolchain\n");
        std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let certificate = put(&scan, "ca/root.pem", "a certificate");
        let tools = tool.parent().unwrap().parent().unwrap().to_owned();
        let (text, ca) = (tools.to_str().unwrap().to_owned(), certificate.to_str().unwrap().to_owned());
        let script =
            format!("{text}/bin/tool; cat {ca}; touch {text}/x 2>&1 || ls {text}/.. $(dirname {ca})");
        let output = scan
            .with(|start| {
                start.toolchain_dirs = vec![text, "/usr/bin".into()];
                start.extra_files = vec![ca];
            })
            .phase("look", &script)
            .run()
            .output("look");
        assert!(output.starts_with("from the toolchain\na certificate"), "{output}");
        assert!(output.contains("Read-only file system"), "{output}");
        assert!(!output.contains("lanner-agent") && !output.contains("work"), "{output}");
    }
}

#[test]
fn programs_start_with_default_signals_and_no_terminal() {
    for by in everyone() {
        let script = "awk '/^Sig(Blk|Ign)/ {print $2}' /proc/self/status
            (exec 3< /dev/tty) 2>/dev/null && echo terminal
            yes | head -1";
        let output = inside(by, script);
        let lines: Vec<_> = output.lines().collect();
        // The C library keeps two signals above these for itself and lets nobody change them.
        let common = |line: &str| u64::from_str_radix(line, 16).unwrap() & 0x7fff_ffff;
        assert_eq!((common(lines[0]), common(lines[1])), (0, 0), "{output}");
        assert_eq!(lines[2..], ["y"], "{output}");
    }
}
