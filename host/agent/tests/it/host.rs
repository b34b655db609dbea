//! A host for one scan: starts the agent, speaks its protocol, and keeps what it said.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use lanner_proto::agent::agent_message::Body;
use lanner_proto::agent::{self as proto, AgentMessage, HostMessage, host_message};
use prost::Message;
use tempfile::TempDir;

pub(crate) const START_NONCE: &[u8] = &[0xa1; 16];
pub(crate) const END_NONCE: &[u8] = &[0xe2; 16];
/// An ordinary user that owns nothing on this machine.
pub(crate) const ORDINARY: u32 = 54321;

/// Whom the agent is started by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Root,
    Ordinary,
}

/// Everyone that these tests can be: both as root, otherwise oneself.
pub(crate) fn everyone() -> Vec<By> {
    if rustix::process::geteuid().is_root() {
        return vec![By::Root, By::Ordinary];
    }
    eprintln!("skipped: the agent started by root, because these tests do not run as root");
    vec![By::Ordinary]
}

/// A scan to be made.
pub(crate) struct Scan {
    pub(crate) start: proto::Start,
    pub(crate) by: By,
    /// Holds the agent's program, the work folder and whatever a test puts there.
    pub(crate) folder: TempDir,
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) stream: UnixStream,
    pub(crate) messages: Vec<AgentMessage>,
    folder: TempDir,
}

/// All that an agent said.
pub(crate) struct Said {
    pub(crate) messages: Vec<AgentMessage>,
    /// Lives as long as what was said is looked at, for the paths in it.
    _folder: TempDir,
}

impl Scan {
    pub(crate) fn new(isolation: proto::Isolation, by: By) -> Self {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let program = folder.path().join("lanner-agent");
        std::fs::copy(env!("CARGO_BIN_EXE_lanner-agent"), &program).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let work_dir = folder.path().join("work");
        std::fs::create_dir(&work_dir).unwrap();
        if by == By::Ordinary && rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&work_dir, Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
        let start = proto::Start {
            scan_id: "test".into(),
            start_nonce: START_NONCE.into(),
            isolation: isolation.into(),
            limits: Some(proto::Limits {
                wall_ms: 30_000,
                cpu_seconds: 60,
                memory_bytes: 512 << 20,
                disk_bytes: 64 << 20,
                processes: 64,
                open_files: 256,
                alerts: 1000,
            }),
            persona: Some(proto::Persona {
                hostname: "dev-17".into(),
                user: "alex".into(),
                seed: b"seed".into(),
            }),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            work_dir: work_dir.to_str().unwrap().into(),
            ..proto::Start::default()
        };
        Self { start, by, folder }
    }

    /// Adds a phase that runs a shell script.
    pub(crate) fn phase(mut self, name: &str, script: &str) -> Self {
        let argv = ["sh", "-c", script].map(String::from).to_vec();
        self.start.phases.push(proto::Phase { name: name.into(), argv });
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut proto::Start)) -> Self {
        change(&mut self.start);
        self
    }

    pub(crate) fn limit(self, change: impl FnOnce(&mut proto::Limits)) -> Self {
        self.with(|start| change(start.limits.as_mut().unwrap()))
    }

    pub(crate) fn begin(self) -> Agent {
        let start = self.start.clone();
        self.begin_with(host_message::Body::Start(start))
    }

    #[expect(clippy::disallowed_methods, reason = "the test is the host that starts the agent")]
    pub(crate) fn begin_with(self, first: host_message::Body) -> Agent {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(self.folder.path().join("lanner-agent"));
        command.arg("agent").stdin(OwnedFd::from(theirs)).env("AGENT_SECRET", "of-the-host").current_dir("/");
        if self.by == By::Ordinary && rustix::process::geteuid().is_root() {
            command.uid(ORDINARY).gid(ORDINARY);
        }
        let child = spawn(&mut command);
        drop(command);
        ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut agent = Agent { child, stream: ours, messages: Vec::new(), folder: self.folder };
        agent.send(first);
        agent
    }

    /// Plays the whole protocol to its end.
    pub(crate) fn run(self) -> Said {
        self.begin().finish()
    }
}

impl Agent {
    pub(crate) fn send(&mut self, body: host_message::Body) {
        let bytes = HostMessage { body: Some(body) }.encode_to_vec();
        let mut frame = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(bytes);
        // An agent that is gone is seen when reading.
        let _ = self.stream.write_all(&frame);
    }

    /// The next message, acknowledged; `None` when the agent has closed the stream.
    pub(crate) fn next(&mut self) -> Option<Body> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(error) => panic!("the agent fell silent: {error}; so far {:#?}", self.messages),
        }
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut bytes).unwrap();
        let message = AgentMessage::decode(bytes.as_slice()).unwrap();
        self.send(host_message::Body::Ack(proto::Ack { seq: message.seq }));
        self.messages.push(message.clone());
        message.body
    }

    /// Reads until a message of this kind came.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Body) -> bool) -> Body {
        loop {
            match self.next() {
                Some(body) if wanted(&body) => return body,
                Some(_) => {}
                None => panic!("the agent left; it said {:#?}", self.messages),
            }
        }
    }

    pub(crate) fn until_go(&mut self) {
        self.until(|body| matches!(body, Body::Mark(_)));
        self.send(host_message::Body::Go(proto::Go {}));
    }

    /// Answers marks as a host does, until the agent closes the stream.
    pub(crate) fn finish(mut self) -> Said {
        while let Some(body) = self.next() {
            match body {
                Body::Mark(mark) if mark.nonce == START_NONCE => {
                    self.send(host_message::Body::Go(proto::Go {}));
                }
                Body::Quiet(_) => {
                    let nonce = END_NONCE.into();
                    self.send(host_message::Body::EndMark(proto::EndMark { nonce }));
                }
                _ => {}
            }
        }
        self.child.wait().unwrap();
        Said { messages: self.messages, _folder: self.folder }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }
}

impl Said {
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &Body> {
        self.messages.iter().filter_map(|message| message.body.as_ref())
    }

    /// What a phase printed, after checking that it ended well.
    pub(crate) fn output(&self, phase: &str) -> String {
        let ended = self.ended(phase);
        let text = String::from_utf8_lossy(&ended.output_tail).into_owned();
        assert_eq!(ended.exit_code, Some(0), "the phase {phase} failed, signal {:?}: {text}", ended.signal);
        text
    }

    pub(crate) fn ended(&self, phase: &str) -> &proto::PhaseEnded {
        let ended = self.bodies().find_map(|body| match body {
            Body::PhaseEnded(ended) if ended.name == phase => Some(ended),
            _ => None,
        });
        ended.unwrap_or_else(|| panic!("the phase {phase} did not end: {:#?}", self.messages))
    }

    pub(crate) fn gaps(&self) -> Vec<(proto::gap::Kind, &str)> {
        let gaps = self.bodies().filter_map(|body| if let Body::Gap(gap) = body { Some(gap) } else { None });
        gaps.map(|gap| (gap.kind(), gap.detail.as_str())).collect()
    }

    /// The reason of a refusal, after checking that nothing else was said.
    pub(crate) fn refusal(&self) -> &str {
        match self.messages.as_slice() {
            [AgentMessage { body: Some(Body::Refused(refused)), .. }] => &refused.reason,
            other => panic!("not a refusal: {other:#?}"),
        }
    }

    /// The kinds of all messages but alerts, in order: the skeleton of a scan.
    pub(crate) fn skeleton(&self) -> Vec<&'static str> {
        let kind = |body: &Body| match body {
            Body::Hello(_) => Some("hello"),
            Body::Mark(mark) if mark.nonce == START_NONCE => Some("start mark"),
            Body::Mark(mark) if mark.nonce == END_NONCE => Some("end mark"),
            Body::Mark(_) => Some("foreign mark"),
            Body::PhaseStarted(_) => Some("phase started"),
            Body::PhaseEnded(_) => Some("phase ended"),
            Body::Alert(_) | Body::AlertRepeated(_) => None,
            Body::Gap(_) => Some("gap"),
            Body::Quiet(_) => Some("quiet"),
            Body::Done(_) => Some("done"),
            Body::Refused(_) => Some("refused"),
        };
        self.bodies().filter_map(kind).collect()
    }
}

/// A program that was copied a moment ago may still be open for writing: another test's fork between open and exec has
/// inherited the descriptor.
fn spawn(command: &mut Command) -> Child {
    for _ in 0..100 {
        match command.spawn() {
            Ok(child) => return child,
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("the agent cannot be started: {error}"),
        }
    }
    panic!("the agent's program stays busy");
}

/// Another user must get to the agent's program, whatever folder the tests use.
fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// A file with this content in a scan's folder, readable for all.
pub(crate) fn put(scan: &Scan, name: &str, content: &str) -> PathBuf {
    let path = scan.folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

/// A gzipped tar of a folder's content.
#[expect(clippy::disallowed_methods, reason = "the machine's own tar makes the input of a test")]
pub(crate) fn tar(folder: &Path, to: &Path) {
    let done = Command::new("tar").arg("-czf").arg(to).arg("-C").arg(folder).arg(".").status().unwrap();
    assert!(done.success());
}
