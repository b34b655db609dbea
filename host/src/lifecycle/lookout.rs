//! When the source of something replaceable is looked at: at intervals that differ a little, so that a fleet of hosts does not
//! come all at once, and when somebody asks. What came of the last look is kept to be shown.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lanner_core::Nanos;
use serde::Serialize;
use tokio::sync::Notify;

use super::HOST;
use crate::scan::now;

/// One source, as those who ask for a look and those who look see it.
#[derive(Default)]
pub struct Lookout {
    looked: Mutex<Option<Looked>>,
    asked: Mutex<Option<Asked>>,
    /// Somebody asked for a look.
    wake: Notify,
    /// Held by whoever looks: one at a time.
    pub looking: tokio::sync::Mutex<()>,
}

/// A look at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub by: String,
    /// Also what was refused before.
    pub again: bool,
}

/// When the source was looked at last, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Looked {
    pub at_ns: Nanos,
    /// `up-to-date`, `refused-before`, `active`, `shadow`, `failed` or `unreachable`.
    pub outcome: &'static str,
    pub detail: String,
}

/// The looks of one watcher.
#[derive(Debug)]
pub struct Rounds {
    poll: Option<Duration>,
    due: Option<Instant>,
}

impl Lookout {
    pub fn note(&self, outcome: &'static str, detail: String) {
        *lock(&self.looked) = Some(Looked { at_ns: now(), outcome, detail });
    }

    pub fn looked(&self) -> Option<Looked> {
        lock(&self.looked).clone()
    }

    pub fn ask(&self, asked: Asked) {
        let mut waiting = lock(&self.asked);
        let again = asked.again || waiting.as_ref().is_some_and(|waiting| waiting.again);
        *waiting = Some(Asked { again, ..asked });
        drop(waiting);
        self.wake.notify_one();
    }
}

impl Rounds {
    /// Without `poll` only when asked.
    pub fn new(poll: Option<Duration>) -> Self {
        Self { poll, due: poll.map(|every| Instant::now() + varied(every)) }
    }

    /// The next look; nothing if none came `within` the time. An interval begins when this is called again after a look.
    pub async fn next(&mut self, lookout: &Lookout, within: Option<Duration>) -> Option<Asked> {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.due = self.poll.map(|every| Instant::now() + varied(every));
        }
        let until_due = self.due.map(|due| due.saturating_duration_since(Instant::now()));
        let wait = async {
            match [until_due, within].into_iter().flatten().min() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = lookout.wake.notified() => {}
            () = wait => {}
        }
        let asked = lock(&lookout.asked).take();
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        asked.or_else(|| is_due.then(|| Asked { by: HOST.to_owned(), again: false }))
    }
}

/// A tenth more or less.
fn varied(every: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness all come at the same time, and come all the same.
    let _ = getrandom::fill(&mut random);
    every.mul_f64(0.9 + 0.2 * f64::from(random[0]) / 255.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_varied_by_a_tenth() {
        let all: Vec<_> = (0..200).map(|_| varied(Duration::from_secs(100)).as_secs()).collect();
        assert!(all.iter().all(|s| (90..=110).contains(s)), "{all:?}");
        assert!(all.iter().any(|s| *s != all[0]));
    }

    #[tokio::test]
    async fn a_look_comes_when_it_is_asked_for_and_when_it_is_due() {
        let lookout = Lookout::default();
        let mut asked_only = Rounds::new(None);
        assert_eq!(asked_only.next(&lookout, Some(Duration::ZERO)).await, None);
        let asked = Asked { by: "eve".into(), again: true };
        lookout.ask(asked.clone());
        assert_eq!(asked_only.next(&lookout, None).await, Some(asked));
        let mut often = Rounds::new(Some(Duration::from_millis(1)));
        let by_itself = Some(Asked { by: HOST.into(), again: false });
        for _ in 0..2 {
            assert_eq!(often.next(&lookout, None).await, by_itself);
        }
    }
}
