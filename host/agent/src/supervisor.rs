//! The supervisor: the first process of the sandbox, and the order of things.
//!
//! It builds the sandbox, starts the watcher, runs the phases through it, and ends everything: start mark, go,
//! phases, quiet, end mark, done. It sends what the watcher reports on to the host in order, holds the way out open
//! and keeps the limits. It judges no call and knows no rule; whatever it cannot vouch for becomes a gap.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use lanner_core::Isolation;
use lanner_proto::agent::{self as proto, Done, Hello, Refused, agent_message::Body, host_message};
use lanner_rules::{RuleSet, Source};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::doctor::has_sync_wake_up;
use crate::forward::{self, Reporter};
use crate::guard::{reap_all, sentence};
use crate::sandbox::{Outside, Plan, Sandbox, SandboxError, die_with_parent};
use crate::stream::{Receiver, Sender};
use crate::watch::{self, Order, Report};

use event::Event;
use flow::Flow;
use meter::Meter;
use tail::Tail;
use watcher::Watcher;

mod event;
mod flow;
mod held;
mod meter;
mod tail;
mod watcher;

/// More diagnostics of the rules say nothing new.
const MAX_DIAGNOSTICS: usize = 10;

/// Why nothing of the package ran.
#[derive(Debug, thiserror::Error)]
enum RefusedError {
    #[error("the rules are wrong: {0}")]
    Rules(String),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("the watcher could not be started")]
    Watcher(#[source] io::Error),
    #[error("the supervisor could not be started")]
    Supervisor(#[source] io::Error),
    #[error("the host is gone")]
    HostGone,
}

/// The supervisor's whole life, in the child of the guard. Returns its exit code.
/// `shelter` is a folder that is to be gone when the host hears that all is done.
pub(crate) fn run(
    plan: Plan,
    sender: Arc<Sender>,
    receiver: Receiver,
    lifeline: OwnedFd,
    shelter: Option<PathBuf>,
) -> i32 {
    let isolation = plan.isolation;
    let flow = match prepare(plan, &sender, receiver, lifeline) {
        Ok(flow) => flow,
        Err(error) => {
            let refused = sender.send(Body::Refused(Refused { reason: sentence(&error) }));
            return if refused.is_ok() { 0 } else { 1 };
        }
    };
    let complete = flow.run();
    if isolation == Isolation::Container {
        // There is no pid namespace whose end would end them all.
        reap_all();
    }
    if let Some(shelter) = shelter {
        let _ = std::fs::remove_dir_all(shelter);
    }
    // The host may end this process as soon as it hears this.
    let done = complete && sender.send(Body::Done(Done {})).is_ok();
    i32::from(!done)
}

/// Everything up to the point where only the flow is left.
fn prepare(
    plan: Plan,
    sender: &Arc<Sender>,
    receiver: Receiver,
    lifeline: OwnedFd,
) -> Result<Flow, RefusedError> {
    // Without a session of its own, the package could type into the user's terminal.
    rustix::process::setsid().map_err(|error| RefusedError::Supervisor(error.into()))?;
    bind_to_guard(&plan, &lifeline)?;
    let rules = compile(&plan.rules)?;
    let mut sandbox = Sandbox::enter(&plan, Outside::open(&plan)?)?;
    // The change of user made the kernel forget whose death is this process's.
    bind_to_guard(&plan, &lifeline)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| RefusedError::Supervisor(error.into()))?;
    let hello = Hello {
        protocol: crate::PROTOCOL,
        isolation: match plan.isolation {
            Isolation::Namespaces => proto::Isolation::Namespaces,
            Isolation::Container => proto::Isolation::Container,
        }
        .into(),
        landlock_abi: sandbox.confinement.landlock_abi(),
        sync_wake_up: has_sync_wake_up(),
    };
    let (watcher, output) = Watcher::start(&plan, &mut sandbox, rules).map_err(RefusedError::Watcher)?;
    sender.send(Body::Hello(hello)).map_err(|_| RefusedError::HostGone)?;
    threads(plan, sandbox, sender, Ends { receiver, lifeline, output }, watcher)
        .map_err(RefusedError::Supervisor)
}

/// What the threads read from.
struct Ends {
    receiver: Receiver,
    lifeline: OwnedFd,
    output: OwnedFd,
}

/// Starts the threads. From here on this process must not fork.
fn threads(
    plan: Plan,
    sandbox: Sandbox,
    sender: &Arc<Sender>,
    ends: Ends,
    watcher: Watcher,
) -> io::Result<Flow> {
    let (events, received) = mpsc::channel();
    let Ends { receiver, lifeline, output } = ends;
    let (to, heard) = (Arc::clone(sender), events.clone());
    spawn("host", move || listen_to_host(receiver, &lifeline, &to, &heard))?;
    let (to, heard, socket) = (Arc::clone(sender), events.clone(), Arc::clone(&watcher.socket));
    spawn("reports", move || listen_to_watcher(&socket, &to, &heard))?;
    let tail = Arc::new(Tail::new(output));
    let filled = Arc::clone(&tail);
    spawn("output", move || filled.fill())?;
    if let Some(way_out) = sandbox.way_out {
        let report = reporter(Arc::clone(&watcher.socket));
        spawn("way-out", move || forward::serve(&way_out.listener, &way_out.proxy, &report))?;
    }
    let meter = Meter::new(plan.limits, sandbox.disk, &watcher, events);
    let place = flow::Place { program: sandbox.program, project: sandbox.project, env: sandbox.env };
    Ok(Flow::new(plan, place, Arc::clone(sender), received, watcher, tail, meter))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// Makes the guard's death this process's. With namespaces the kernel does it; without, this process must live on
/// for the moment that it takes to end the package, so it watches the lifeline instead.
fn bind_to_guard(plan: &Plan, lifeline: &OwnedFd) -> Result<(), RefusedError> {
    if plan.isolation == Isolation::Namespaces {
        die_with_parent().map_err(RefusedError::Supervisor)?;
    }
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::new(lifeline, PollFlags::IN)], Some(&now)) {
        Ok(0) => Ok(()),
        _ => Err(RefusedError::HostGone),
    }
}

fn compile(files: &[proto::RulesFile]) -> Result<RuleSet, RefusedError> {
    let sources: Vec<_> = files.iter().map(|file| Source { name: &file.name, text: &file.text }).collect();
    RuleSet::compile(&sources, &watch::known_field).map_err(|diagnostics| {
        let mut lines: Vec<_> = diagnostics.iter().take(MAX_DIAGNOSTICS).map(ToString::to_string).collect();
        if diagnostics.len() > MAX_DIAGNOSTICS {
            lines.push(format!("and {} more", diagnostics.len() - MAX_DIAGNOSTICS));
        }
        RefusedError::Rules(lines.join("; "))
    })
}

/// Reads what the host says until it is gone. Never waits for anything else, so acknowledgements always get through.
fn listen_to_host(mut receiver: Receiver, lifeline: &OwnedFd, sender: &Sender, events: &mpsc::Sender<Event>) {
    let event = loop {
        let mut fds =
            [PollFd::from_borrowed_fd(receiver.as_fd(), PollFlags::IN), PollFd::new(lifeline, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break Event::HostGone,
            Ok(_) => {}
        }
        if fds.last().is_some_and(|fd| !fd.revents().is_empty()) {
            break Event::HostGone;
        }
        match receiver.receive() {
            Ok(host_message::Body::Ack(ack)) => sender.acknowledge(ack.seq),
            Ok(host_message::Body::Go(_)) => drop(events.send(Event::Go)),
            Ok(host_message::Body::EndMark(mark)) => drop(events.send(Event::EndMark(mark.nonce))),
            Ok(host_message::Body::Cancel(_)) => break Event::Cancelled,
            Ok(host_message::Body::Start(_)) | Err(_) => break Event::HostGone,
        }
    };
    // Frees whoever waits for an acknowledgement that will not come.
    sender.close();
    let _ = events.send(event);
}

/// Passes on what the watcher saw. Waits with it when the host is slow: then the watcher waits too, and the package.
fn listen_to_watcher(socket: &OwnedFd, sender: &Sender, events: &mpsc::Sender<Event>) {
    let reason = loop {
        let event = match watch::recv_report(socket.as_fd()) {
            Ok(Some(Report::Message(body))) => {
                let mark = matches!(body, Body::Mark(_));
                if sender.send(body).is_err() {
                    return;
                }
                if !mark {
                    continue;
                }
                Event::MarkSeen
            }
            Ok(Some(Report::Launched { .. })) => continue,
            Ok(Some(Report::LeaderExited { exit_code, signal })) => Event::LeaderExited { exit_code, signal },
            Ok(Some(Report::AllGone { events, processes })) => Event::AllGone { events, processes },
            Ok(None) => break "the watcher died".to_owned(),
            Err(error) => break format!("the watcher's reports could not be read: {error}"),
        };
        if events.send(event).is_err() {
            return;
        }
    };
    let _ = events.send(Event::WatcherGone(reason));
}

/// Tells the watcher of requests. The process that made one waits for its answer meanwhile, so it is still there.
fn reporter(socket: Arc<OwnedFd>) -> Reporter {
    Arc::new(move |request| {
        let forward::Request { peer_port, target, allowed } = request;
        let order = Order::ProxyRequest { peer_port, host: target.host, port: target.port, allowed };
        // A watcher that is gone is noticed by the thread that reads its reports.
        let _ = watch::send_order(socket.as_fd(), &order);
    })
}

/// How long the ends of a scan may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
