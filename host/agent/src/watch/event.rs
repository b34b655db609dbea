//! One call as rules see it: Falco's fields where Falco has them, `lanner.*` for what only we know.
//!
//! Fields are looked up by a number that was fixed when the rules were compiled, and computed only when a rule asks.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use lanner_rules::{FieldName, Value};

use super::process::Process;
use super::resolve::is_below;

/// What a call was about.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    /// `fd.name`, or the program of an exec: absolute, without links.
    pub(super) path: Option<Vec<u8>>,
    /// The path as the caller gave it.
    pub(super) raw: Option<Vec<u8>>,
    pub(super) write: bool,
    pub(super) read: bool,
    pub(super) folder: bool,
    pub(super) decoy: bool,
    pub(super) dropped: bool,
    pub(super) memfd: bool,
    /// Arguments of an exec, each ended by a NUL byte.
    pub(super) arguments: Option<Vec<u8>>,
    pub(super) address: Option<SocketAddr>,
    /// `tcp` or `udp`.
    pub(super) protocol: Option<&'static str>,
    /// `ipv4`, `unix`, …
    pub(super) kind: Option<&'static str>,
    /// A host name: of a proxy request, or of a query.
    pub(super) host: Option<String>,
    pub(super) allowed: Option<bool>,
    pub(super) source: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) number: Option<i64>,
    pub(super) flags: Option<String>,
    /// 0, or an errno.
    pub(super) errno: i32,
}

/// Paths that mean something to the rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) home: Vec<u8>,
    pub(super) project: Vec<u8>,
    pub(super) tmp: Vec<u8>,
    pub(super) user: String,
    pub(super) phase: String,
    /// Our own program, so that a process started by us is told apart from the package's.
    pub(super) time: i64,
    pub(super) number: u64,
}

pub(super) struct CallEvent<'a> {
    pub(super) kind: &'a str,
    pub(super) fields: &'a [Field],
    pub(super) subject: &'a Subject,
    /// The caller, then its ancestors.
    pub(super) line: &'a [Rc<Process>],
    pub(super) known: &'a Known,
}

/// A field that we can fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    EventType,
    EventNumber,
    EventTime,
    Result,
    RawResult,
    OpenRead,
    OpenWrite,
    OpenExec,
    Flags,
    Pid,
    ParentPid,
    Name(usize),
    AnyName,
    Exe(usize),
    ExePath(usize),
    Cmdline(usize),
    Arguments,
    Cwd,
    Env(String),
    UpperLayer,
    StdType(u8),
    StdName(u8),
    FdName,
    FdNameRaw,
    FdDirectory,
    FdFilename,
    FdType,
    FdNumber,
    Protocol,
    Address,
    Port,
    Host,
    FsName,
    FsSource,
    FsTarget,
    User,
    Uid,
    ContainerId,
    Decoy,
    Leader,
    Phase,
    Package,
    PackageFolder,
    InProject,
    InHome,
    InTmp,
    InPackage,
    Dropped,
    Memfd,
    Script,
    Allowed,
    ArgvUtf8,
    ArgumentsAtStart,
}

impl Field {
    pub(super) fn parse(field: &FieldName) -> Option<Self> {
        let argument = field.argument.as_deref();
        let nth = || argument.and_then(|a| a.parse().ok()).filter(|n| *n < 16);
        Some(match (field.name.as_str(), argument) {
            ("evt.type", None) => Self::EventType,
            ("evt.num", None) => Self::EventNumber,
            ("evt.time" | "evt.rawtime", None) => Self::EventTime,
            ("evt.res", None) => Self::Result,
            ("evt.rawres", None) => Self::RawResult,
            ("evt.is_open_read", None) => Self::OpenRead,
            ("evt.is_open_write", None) => Self::OpenWrite,
            ("evt.is_open_exec", None) => Self::OpenExec,
            ("evt.arg.flags" | "evt.args", None) | ("evt.arg", Some("flags")) => Self::Flags,
            ("proc.pid" | "proc.vpid", None) => Self::Pid,
            ("proc.ppid" | "proc.pvpid", None) => Self::ParentPid,
            ("proc.name", None) => Self::Name(0),
            ("proc.pname", None) => Self::Name(1),
            ("proc.aname", None) => Self::AnyName,
            ("proc.aname", Some(_)) => Self::Name(nth()?),
            ("proc.exe", None) => Self::Exe(0),
            ("proc.pexe", None) => Self::Exe(1),
            ("proc.aexe", Some(_)) => Self::Exe(nth()?),
            ("proc.exepath", None) => Self::ExePath(0),
            ("proc.pexepath", None) => Self::ExePath(1),
            ("proc.aexepath", Some(_)) => Self::ExePath(nth()?),
            ("proc.cmdline", None) => Self::Cmdline(0),
            ("proc.pcmdline", None) => Self::Cmdline(1),
            ("proc.acmdline", Some(_)) => Self::Cmdline(nth()?),
            ("proc.args", None) => Self::Arguments,
            ("proc.cwd", None) => Self::Cwd,
            ("proc.env", Some(name)) => Self::Env(name.to_owned()),
            ("proc.is_exe_upper_layer", None) => Self::UpperLayer,
            ("proc.stdin.type", None) => Self::StdType(0),
            ("proc.stdout.type", None) => Self::StdType(1),
            ("proc.stderr.type", None) => Self::StdType(2),
            ("proc.stdin.name", None) => Self::StdName(0),
            ("proc.stdout.name", None) => Self::StdName(1),
            ("proc.stderr.name", None) => Self::StdName(2),
            ("proc.tty", None) => Self::FdNumber,
            ("fd.name", None) => Self::FdName,
            ("fd.nameraw", None) => Self::FdNameRaw,
            ("fd.directory", None) => Self::FdDirectory,
            ("fd.filename", None) => Self::FdFilename,
            ("fd.type" | "fd.typechar", None) => Self::FdType,
            ("fd.num", None) => Self::FdNumber,
            ("fd.l4proto", None) => Self::Protocol,
            ("fd.sip" | "fd.rip", None) => Self::Address,
            ("fd.cip" | "fd.lip" | "fd.cport" | "fd.lport", None) => Self::FdNumber,
            ("fd.sport" | "fd.rport", None) => Self::Port,
            ("fd.sip.name" | "fd.rip.name" | "dns.name", None) => Self::Host,
            ("fs.path.name" | "fs.path.nameraw", None) => Self::FsName,
            ("fs.path.source" | "fs.path.sourceraw", None) => Self::FsSource,
            ("fs.path.target" | "fs.path.targetraw", None) => Self::FsTarget,
            ("user.name", None) => Self::User,
            ("user.uid", None) => Self::Uid,
            ("container.id", None) => Self::ContainerId,
            ("lanner.decoy", None) => Self::Decoy,
            ("lanner.leader", None) => Self::Leader,
            ("lanner.phase", None) => Self::Phase,
            ("lanner.package", None) => Self::Package,
            ("lanner.package_folder", None) => Self::PackageFolder,
            ("lanner.in_project", None) => Self::InProject,
            ("lanner.in_home", None) => Self::InHome,
            ("lanner.in_tmp", None) => Self::InTmp,
            ("lanner.in_package", None) => Self::InPackage,
            ("lanner.dropped", None) => Self::Dropped,
            ("lanner.memfd", None) => Self::Memfd,
            ("lanner.script", None) => Self::Script,
            ("lanner.proxy_allowed", None) => Self::Allowed,
            ("lanner.argv_utf8", None) => Self::ArgvUtf8,
            ("lanner.args_at_start", None) => Self::ArgumentsAtStart,
            _ => return None,
        })
    }
}

impl lanner_rules::Event for CallEvent<'_> {
    fn event_type(&self) -> &str {
        self.kind
    }

    fn field(&self, index: usize) -> Value<'_> {
        self.fields.get(index).map_or(Value::Missing, |f| self.value(f))
    }
}

impl CallEvent<'_> {
    fn value(&self, field: &Field) -> Value<'_> {
        match field {
            Field::EventType => text(self.kind.as_bytes()),
            Field::EventNumber => Value::Number(i64::try_from(self.known.number).unwrap_or(i64::MAX)),
            Field::EventTime => Value::Number(self.known.time),
            Field::Result => text(errno_name(self.subject.errno).as_bytes()),
            Field::RawResult => Value::Number(-i64::from(self.subject.errno)),
            Field::User => text(self.known.user.as_bytes()),
            Field::Phase => text(self.known.phase.as_bytes()),
            Field::Uid => Value::Number(i64::from(rustix::process::getuid().as_raw())),
            Field::FdNumber | Field::ContainerId | Field::UpperLayer => Value::Missing,
            Field::Pid
            | Field::ParentPid
            | Field::Name(_)
            | Field::AnyName
            | Field::Exe(_)
            | Field::ExePath(_)
            | Field::Cmdline(_)
            | Field::Arguments
            | Field::Cwd
            | Field::Env(_)
            | Field::StdType(_)
            | Field::StdName(_)
            | Field::Leader
            | Field::Package
            | Field::PackageFolder
            | Field::Script
            | Field::ArgvUtf8
            | Field::ArgumentsAtStart => self.process_value(field),
            _ => self.subject_value(field),
        }
    }

    fn process_value(&self, field: &Field) -> Value<'_> {
        let Some(own) = self.line.first() else { return Value::Missing };
        let nth = |n: &usize| self.line.get(*n);
        let or_missing = |value: Option<Value<'_>>| -> Value<'_> { owned(value.unwrap_or(Value::Missing)) };
        match field {
            Field::Pid => Value::Number(own.pid.into()),
            Field::ParentPid => Value::Number(own.parent.into()),
            // After an exec Falco shows what the process has become.
            Field::Name(0) if self.is_exec() => {
                owned_text(file_name(self.subject.path.as_deref().unwrap_or_default()))
            }
            Field::ExePath(0) if self.is_exec() => {
                owned_text(self.subject.path.as_deref().unwrap_or_default())
            }
            Field::Cmdline(0) | Field::Arguments | Field::Exe(0) => self.argument_value(own, field),
            Field::Name(n) => or_missing(nth(n).map(|p| text(&p.name))),
            Field::AnyName => {
                Value::List(self.line.iter().skip(1).map(|p| Cow::Borrowed(p.name.as_slice())).collect())
            }
            Field::ExePath(n) => or_missing(nth(n).map(|p| text(&p.exe))),
            Field::Exe(n) => or_missing(nth(n).map(|p| text(first(&p.arguments)))),
            Field::Cmdline(n) => or_missing(nth(n).map(|p| owned_text(&spaced(&p.arguments)))),
            Field::Cwd => text(&own.cwd),
            Field::Env(name) => {
                let found = own.variables.iter().find(|(known, _)| known == name);
                or_missing(found.and_then(|(_, value)| value.as_deref()).map(text))
            }
            Field::StdType(fd) => {
                standard(own.pid, *fd).map_or(Value::Missing, |(kind, _)| owned_text(kind.as_bytes()))
            }
            Field::StdName(fd) => {
                standard(own.pid, *fd).map_or(Value::Missing, |(_, name)| Value::Text(name.into()))
            }
            Field::Leader => Value::Flag(own.leader),
            Field::Script => Value::Flag(own.script),
            Field::ArgumentsAtStart => Value::Flag(own.at_start),
            Field::Package => own.package.as_ref().map_or(Value::Missing, |p| text(&p.name)),
            Field::PackageFolder => own.package.as_ref().map_or(Value::Missing, |p| text(&p.folder)),
            Field::ArgvUtf8 => {
                let arguments = self.subject.arguments.as_ref().unwrap_or(&own.arguments);
                Value::Flag(std::str::from_utf8(arguments).is_ok())
            }
            _ => Value::Missing,
        }
    }

    fn argument_value(&self, own: &Process, field: &Field) -> Value<'_> {
        let arguments = self.subject.arguments.as_ref().unwrap_or(&own.arguments);
        match field {
            Field::Exe(_) => owned_text(first(arguments)),
            Field::Arguments => {
                let rest = arguments.iter().position(|b| *b == 0).and_then(|at| arguments.get(at + 1..));
                Value::Text(spaced(rest.unwrap_or_default()).into())
            }
            _ => Value::Text(spaced(arguments).into()),
        }
    }

    fn subject_value(&self, field: &Field) -> Value<'_> {
        let subject = self.subject;
        let path = subject.path.as_deref();
        let maybe =
            |value: Option<&[u8]>| value.map_or(Value::Missing, |v| Value::Text(Cow::Owned(v.to_vec())));
        let below =
            |folder: &[u8]| Value::Flag(self.paths().any(|p| !folder.is_empty() && is_below(p, folder)));
        match field {
            Field::OpenRead => Value::Flag(subject.read),
            Field::OpenWrite => Value::Flag(subject.write),
            Field::OpenExec => Value::Flag(false),
            Field::Flags => subject.flags.as_ref().map_or(Value::Missing, |f| text(f.as_bytes())),
            Field::FdName => match (path, subject.address) {
                (Some(path), _) => text(path),
                (None, Some(address)) => Value::Text(address.to_string().into_bytes().into()),
                (None, None) => Value::Missing,
            },
            Field::FdNameRaw => maybe(subject.raw.as_deref().or(path)),
            Field::FdDirectory => maybe(path.map(directory)),
            Field::FdFilename => maybe(path.map(file_name)),
            Field::FdType => {
                let of_path = path.map(|_| if subject.folder { "directory" } else { "file" });
                subject.kind.or(of_path).map_or(Value::Missing, |k| text(k.as_bytes()))
            }
            Field::Protocol => subject.protocol.map_or(Value::Missing, |p| text(p.as_bytes())),
            Field::Address => subject.address.map_or(Value::Missing, |a| Value::Address(plain(a.ip()))),
            Field::Port => match (subject.address, subject.number) {
                (Some(address), _) => Value::Number(address.port().into()),
                (None, Some(port)) if subject.host.is_some() => Value::Number(port),
                _ => Value::Missing,
            },
            Field::Host => subject.host.as_ref().map_or(Value::Missing, |h| text(h.as_bytes())),
            Field::FsName => maybe(path),
            Field::FsSource => maybe(subject.source.as_deref()),
            Field::FsTarget => maybe(subject.target.as_deref()),
            Field::Decoy => Value::Flag(subject.decoy),
            Field::Dropped => Value::Flag(subject.dropped),
            Field::Memfd => Value::Flag(subject.memfd),
            Field::Allowed => subject.allowed.map_or(Value::Missing, Value::Flag),
            Field::InProject => below(&self.known.project),
            Field::InHome => below(&self.known.home),
            Field::InTmp => {
                let places: [&[u8]; 4] = [b"/tmp", b"/var/tmp", b"/dev/shm", &self.known.tmp];
                Value::Flag(self.paths().any(|p| places.iter().any(|t| is_below(p, t))))
            }
            Field::InPackage => {
                let package = self.line.first().and_then(|p| p.package.as_ref());
                package.map_or(Value::Flag(false), |p| below(&p.absolute))
            }
            _ => Value::Missing,
        }
    }

    /// Every path that the call names.
    fn paths(&self) -> impl Iterator<Item = &[u8]> {
        [&self.subject.path, &self.subject.target].into_iter().filter_map(|p| p.as_deref())
    }

    fn is_exec(&self) -> bool {
        self.subject.arguments.is_some()
    }
}

fn text(bytes: &[u8]) -> Value<'_> {
    Value::Text(Cow::Borrowed(bytes))
}

fn owned_text(bytes: &[u8]) -> Value<'static> {
    Value::Text(Cow::Owned(bytes.to_vec()))
}

fn owned(value: Value<'_>) -> Value<'static> {
    match value {
        Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
        Value::Number(n) => Value::Number(n),
        Value::Flag(f) => Value::Flag(f),
        Value::Address(a) => Value::Address(a),
        Value::List(list) => Value::List(list.into_iter().map(|i| Cow::Owned(i.into_owned())).collect()),
        Value::Missing => Value::Missing,
    }
}

/// `::ffff:127.0.0.1` is 127.0.0.1.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn first(arguments: &[u8]) -> &[u8] {
    arguments.split(|b| *b == 0).next().unwrap_or_default()
}

fn spaced(arguments: &[u8]) -> Vec<u8> {
    let trimmed = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    trimmed.iter().map(|b| if *b == 0 { b' ' } else { *b }).collect()
}

pub(super) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

fn directory(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) | None => b"/",
        Some(at) => path.get(..at).unwrap_or_default(),
    }
}

/// What a standard descriptor is: `ipv4`, `ipv6`, `unix`, `pipe` or `file`. Pipes between Node and its children are unix
/// sockets, so the kind of a socket matters.
fn standard(pid: i32, fd: u8) -> Option<(&'static str, Vec<u8>)> {
    let name = super::resolve::descriptor(pid, fd.into())?;
    let inode = std::str::from_utf8(&name).ok().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']'));
    let kind = match inode {
        Some(inode) => socket_kind(pid, inode),
        None if name.starts_with(b"pipe:") => "pipe",
        None => "file",
    };
    Some((kind, name))
}

/// Looked up in the caller's own network, by inode.
fn socket_kind(pid: i32, inode: &str) -> &'static str {
    let listed = |table: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().skip(1).any(|line| line.split_ascii_whitespace().nth(9) == Some(inode))
    };
    if listed("tcp") || listed("udp") {
        "ipv4"
    } else if listed("tcp6") || listed("udp6") {
        "ipv6"
    } else {
        "unix"
    }
}

fn errno_name(errno: i32) -> &'static str {
    match errno {
        0 => "SUCCESS",
        libc::ENOENT => "ENOENT",
        libc::EACCES => "EACCES",
        libc::EPERM => "EPERM",
        libc::EEXIST => "EEXIST",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::ELOOP => "ELOOP",
        libc::EROFS => "EROFS",
        libc::ENOSPC => "ENOSPC",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::EINPROGRESS => "EINPROGRESS",
        libc::EMFILE => "EMFILE",
        _ => "EOTHER",
    }
}

#[cfg(test)]
mod tests {
    use lanner_rules::Event;

    use super::*;

    #[test]
    fn an_exec_shows_what_the_process_becomes() {
        let field = |name: &str, argument: Option<&str>| {
            Field::parse(&FieldName { name: name.into(), argument: argument.map(Into::into) }).unwrap()
        };
        let fields = [
            field("proc.name", None),
            field("proc.cmdline", None),
            field("proc.args", None),
            field("proc.pname", None),
            field("proc.aname", Some("1")),
            field("lanner.in_tmp", None),
        ];
        let process = |name: &str| {
            Rc::new(Process { name: name.into(), arguments: b"x\0".to_vec(), ..Process::default() })
        };
        let subject = Subject {
            path: Some(b"/tmp/drop".to_vec()),
            arguments: Some(b"drop\0-v\0\xff\0".to_vec()),
            ..Subject::default()
        };
        let line = [process("sh"), process("node")];
        let known = Known::default();
        let event =
            CallEvent { kind: "execve", fields: &fields, subject: &subject, line: &line, known: &known };
        let text = |t: &[u8]| Value::Text(Cow::Owned(t.to_vec()));
        let values: Vec<_> = (0..fields.len()).map(|i| event.field(i)).collect();
        assert_eq!(
            values,
            [
                text(b"drop"),
                text(b"drop -v \xff"),
                text(b"-v \xff"),
                text(b"node"),
                text(b"node"),
                Value::Flag(true)
            ]
        );
        assert_eq!(event.field(99), Value::Missing);
        assert_eq!(Field::parse(&FieldName { name: "proc.nonsense".into(), argument: None }), None);
    }

    #[test]
    fn names_and_folders_of_paths() {
        assert_eq!(
            (file_name(b"/a/b"), directory(b"/a/b"), directory(b"/a")),
            (&b"b"[..], &b"/a"[..], &b"/"[..])
        );
    }
}
