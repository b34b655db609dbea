//! The order of one scan: start mark, go, phases, quiet, end mark, done.
//!
//! Straight-line code over events. A limit does not stop it: the package is killed, the gap is sent, and the marks
//! still show that everything up to then was seen. The watcher's death does: nothing after it can be vouched for.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lanner_proto::agent::{Phase, PhaseEnded, PhaseStarted, Quiet, agent_message::Body, gap};

use super::PATIENCE;
use super::event::Event;
use super::meter::Meter;
use super::tail::Tail;
use super::watcher::Watcher;
use crate::sandbox::Plan;
use crate::stream::{Sender, StreamError};
use crate::watch::{self, Order, Role};

/// How long children may go on after their phase's leader has ended.
const GRACE: Duration = Duration::from_secs(2);
/// How long the host may take for its part of a fence. It waits for other sensors meanwhile.
const HOST_PATIENCE: Duration = Duration::from_secs(600);

/// One scan, ready to go.
#[derive(Debug)]
pub(super) struct Flow {
    plan: Plan,
    place: Place,
    sender: Arc<Sender>,
    events: mpsc::Receiver<Event>,
    watcher: Watcher,
    tail: Arc<Tail>,
    meter: Meter,
    limited: bool,
    /// Events that nothing has waited for yet.
    early: Vec<Event>,
}

/// Where and as what phases run.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) program: PathBuf,
    pub(super) project: PathBuf,
    pub(super) env: Vec<(String, String)>,
}

/// Why the flow did not get to its end.
#[derive(Debug)]
enum Stopped {
    /// The host wants no more of it, or is gone.
    Unwanted,
    SensorLost(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exit {
    exit_code: Option<i32>,
    signal: Option<i32>,
}

impl From<StreamError> for Stopped {
    fn from(_: StreamError) -> Self {
        Self::Unwanted
    }
}

impl Flow {
    pub(super) fn new(
        plan: Plan,
        place: Place,
        sender: Arc<Sender>,
        events: mpsc::Receiver<Event>,
        watcher: Watcher,
        tail: Arc<Tail>,
        meter: Meter,
    ) -> Self {
        Self { plan, place, sender, events, watcher, tail, meter, limited: false, early: Vec::new() }
    }

    /// Runs to the end; says whether the host is still there to hear that it is done. Afterwards the watcher is dead
    /// or dying.
    pub(super) fn run(mut self) -> bool {
        let heard = match self.steps() {
            Ok(()) => {
                // The watcher is killed anyway, should it not obey.
                let _ = self.order(&Order::Stop);
                true
            }
            Err(Stopped::Unwanted) => false,
            Err(Stopped::SensorLost(why)) => {
                crate::process::kill_descendants(rustix::process::getpid().as_raw_nonzero().get());
                self.sender.gap(gap::Kind::SensorLost, why).is_ok()
            }
        };
        self.meter.stop();
        self.watcher.kill();
        heard
    }

    fn steps(&mut self) -> Result<(), Stopped> {
        if self.plan.unwatched {
            let why = "the sensor was switched off: such a run measures and proves nothing";
            self.sender.gap(gap::Kind::SensorLost, why)?;
        } else {
            self.mark(&self.plan.start_nonce.clone())?;
            self.expect("the host's go", HOST_PATIENCE, |event| (*event == Event::Go).then_some(()))?;
        }
        self.meter
            .start()
            .map_err(|error| Stopped::SensorLost(format!("no thread to keep the limits: {error}")))?;
        for phase in self.plan.phases.clone() {
            let exit = self.phase(&phase)?;
            if self.limited || exit.exit_code != Some(0) {
                break;
            }
        }
        let (events, processes) = self.quiet()?;
        self.meter.stop();
        self.sender.send(Body::Quiet(Quiet { events, processes }))?;
        if !self.plan.unwatched {
            let nonce =
                |event: &Event| if let Event::EndMark(nonce) = event { Some(nonce.clone()) } else { None };
            let nonce = self.expect("the host's end mark", HOST_PATIENCE, nonce)?;
            self.mark(&nonce)?;
        }
        Ok(())
    }

    /// Executes a mark and waits until the watcher has seen it and it has ended.
    fn mark(&mut self, nonce: &[u8]) -> Result<(), Stopped> {
        let hex = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        let argv = vec![self.place.program.to_string_lossy().into_owned(), "mark".to_owned(), hex];
        self.launch(Role::Mark, argv)?;
        self.expect("the sight of a mark", PATIENCE, |event| (*event == Event::MarkSeen).then_some(()))?;
        self.expect("the end of a mark", PATIENCE, |event| {
            matches!(event, Event::LeaderExited { .. }).then_some(())
        })
    }

    fn phase(&mut self, phase: &Phase) -> Result<Exit, Stopped> {
        self.sender.send(Body::PhaseStarted(PhaseStarted { name: phase.name.clone(), time_ns: now() }))?;
        // What was printed before belongs to no phase.
        drop(self.tail.take());
        self.launch(Role::Phase, phase.argv.clone())?;
        // The meter ends what takes too long; this is for a leader that cannot be killed.
        let patience = self.meter.wall() + PATIENCE;
        let exit = self.expect("the end of a phase", patience, |event| match event {
            &Event::LeaderExited { exit_code, signal } => Some(Exit { exit_code, signal }),
            _ => None,
        })?;
        self.sender.send(Body::PhaseEnded(PhaseEnded {
            name: phase.name.clone(),
            time_ns: now(),
            exit_code: exit.exit_code,
            signal: exit.signal,
            output_tail: self.tail.take(),
        }))?;
        Ok(exit)
    }

    /// Ends what the phases left behind; returns how many calls and processes the watcher saw.
    fn quiet(&mut self) -> Result<(u64, u64), Stopped> {
        let grace = if self.limited { Duration::ZERO } else { GRACE };
        self.order(&Order::End { grace_ms: u64::try_from(grace.as_millis()).unwrap_or(0) })?;
        self.expect("the end of all processes", grace + PATIENCE, |event| match event {
            &Event::AllGone { events, processes } => Some((events, processes)),
            _ => None,
        })
    }

    fn launch(&self, role: Role, argv: Vec<String>) -> Result<(), Stopped> {
        let env = if role == Role::Phase { self.place.env.clone() } else { Vec::new() };
        self.order(&Order::Launch { role, argv, env, cwd: self.place.project.clone() })
    }

    fn order(&self, order: &Order) -> Result<(), Stopped> {
        use std::os::fd::AsFd;
        let sent = watch::send_order(self.watcher.socket.as_fd(), order);
        sent.map_err(|error| Stopped::SensorLost(format!("the watcher takes no orders: {error}")))
    }

    /// Waits for the event that `wanted` takes. An end comes before it; what comes too early is kept for later: the
    /// host's go may overtake the end of the mark that it answers.
    fn expect<T>(
        &mut self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Event) -> Option<T>,
    ) -> Result<T, Stopped> {
        let deadline = Instant::now() + patience;
        if let Some((index, found)) =
            self.early.iter().enumerate().find_map(|(i, event)| Some((i, wanted(event)?)))
        {
            self.early.remove(index);
            return Ok(found);
        }
        loop {
            let event = match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => event,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(Stopped::SensorLost(format!(
                        "{what} did not come within {} s",
                        patience.as_secs()
                    )));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Stopped::Unwanted),
            };
            match event {
                Event::Cancelled | Event::HostGone => return Err(Stopped::Unwanted),
                Event::WatcherGone(why) => return Err(Stopped::SensorLost(why)),
                Event::Limit(what) => {
                    self.limited = true;
                    self.sender.gap(gap::Kind::Limit, what)?;
                }
                event => match wanted(&event) {
                    Some(found) => return Ok(found),
                    None => self.early.push(event),
                },
            }
        }
    }
}

/// Wall-clock time in nanoseconds, as the host's sensors tell it.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
