//! A function's place: the revision that answers, the one that is on its way in, and those that end.
//!
//! What answers is never changed, only replaced: a request takes the whole once and stays with it to its end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use lanner_core::canary::Sample;

use super::instance::Handler;
use super::recent::Recent;
use crate::lifecycle::Lookout;
use crate::manifest::Function;
use crate::source::Source;

/// Beyond a function's own time until it answers: for those who read slowly.
const GRACE: Duration = Duration::from_secs(60);
/// Times that are kept of one revision during a canary; the latest count.
const TIMES: usize = 4096;

pub(super) struct Slot {
    pub(super) function: Function,
    pub(super) source: Source,
    serving: RwLock<Arc<Serving>>,
    pub(super) recent: Recent,
    ending: Mutex<Vec<(Instant, Weak<Handler>)>>,
    pub(super) lookout: Lookout,
}

pub(super) struct Serving {
    pub(super) active: Arc<Handler>,
    pub(super) canary: Option<Canary>,
}

/// A new revision that answers a part of the requests.
pub(super) struct Canary {
    pub(super) handler: Arc<Handler>,
    percent: u64,
    requests: AtomicU64,
    pub(super) old: Tally,
    pub(super) new: Tally,
}

/// How one revision did.
#[derive(Default)]
pub(super) struct Tally {
    inner: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    errors: u64,
    times: VecDeque<Duration>,
}

impl Slot {
    pub(super) fn new(function: Function, source: Source, active: Arc<Handler>) -> Self {
        Self {
            function,
            source,
            serving: RwLock::new(Arc::new(Serving { active, canary: None })),
            recent: Recent::default(),
            ending: Mutex::default(),
            lookout: Lookout::default(),
        }
    }

    pub(super) fn serving(&self) -> Arc<Serving> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that begin from now on are answered by this one alone.
    pub(super) fn replace(&self, active: Arc<Handler>) {
        self.swap(Serving { active, canary: None });
    }

    /// So many requests in a hundred are answered by this one.
    pub(super) fn begin_canary(&self, handler: Arc<Handler>, percent: u8) {
        let active = self.serving().active.clone();
        let canary = Canary {
            handler,
            percent: percent.into(),
            requests: AtomicU64::new(0),
            old: Tally::default(),
            new: Tally::default(),
        };
        self.swap(Serving { active, canary: Some(canary) });
    }

    /// The new one answers no more, if it still did.
    pub(super) fn end_canary(&self, number: u64) {
        let serving = self.serving();
        if serving.canary.as_ref().is_some_and(|c| c.handler.number() == number) {
            self.swap(Serving { active: serving.active.clone(), canary: None });
        }
    }

    fn swap(&self, new: Serving) {
        let new = Arc::new(new);
        let old = {
            let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *serving, new.clone())
        };
        let stays = |handler: &Arc<Handler>| new.handlers().any(|h| Arc::ptr_eq(h, handler));
        for handler in old.handlers().filter(|h| !stays(h)) {
            handler.retire();
            let deadline = Instant::now() + handler.timeout() + GRACE;
            lock(&self.ending).push((deadline, Arc::downgrade(handler)));
        }
    }

    /// Cuts what outlived its deadline, and forgets what has ended; how many still end.
    pub(super) fn end_due(&self, now: Instant) -> usize {
        let mut ending = lock(&self.ending);
        ending.retain(|(deadline, handler)| match handler.upgrade() {
            Some(handler) if *deadline <= now => {
                let (function, revision) = (self.function.name.as_str(), handler.number());
                tracing::warn!(function, revision, "a replaced revision still answered at its deadline");
                handler.end();
                false
            }
            Some(_) => true,
            None => false,
        });
        ending.len()
    }

    pub(super) fn ending(&self) -> usize {
        lock(&self.ending).iter().filter(|(_, handler)| handler.strong_count() > 0).count()
    }
}

impl Serving {
    fn handlers(&self) -> impl Iterator<Item = &Arc<Handler>> {
        std::iter::once(&self.active).chain(self.canary.as_ref().map(|c| &c.handler))
    }
}

impl Canary {
    /// Whether the next request is the new one's: evenly spread, not the first so many of each hundred.
    pub(super) fn takes_next(&self) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) % 100;
        number * self.percent % 100 < self.percent
    }
}

impl Tally {
    pub(super) fn note(&self, took: Duration, failed: bool) {
        let mut counts = lock(&self.inner);
        counts.requests += 1;
        counts.errors += u64::from(failed);
        if counts.times.len() >= TIMES {
            counts.times.pop_front();
        }
        counts.times.push_back(took);
    }

    pub(super) fn sample(&self) -> Sample {
        let (requests, errors, times) = {
            let counts = lock(&self.inner);
            (counts.requests, counts.errors, counts.times.iter().copied().collect())
        };
        Sample { requests, ..Sample::of(times, errors) }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_keeps_the_latest_times_and_all_counts() {
        let tally = Tally::default();
        for number in 0..TIMES as u64 + 1000 {
            tally.note(Duration::from_millis(if number < 1000 { 900 } else { 2 }), number % 100 == 0);
        }
        let sample = tally.sample();
        assert_eq!((sample.requests, sample.errors), (5096, 51));
        assert_eq!((sample.median, sample.p95), (Duration::from_millis(2), Duration::from_millis(2)));
    }
}
