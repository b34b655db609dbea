//! Looking at the sources: at intervals that differ a little, so that a fleet of hosts does not come all at once, and when
//! somebody asks. It also ends what outlived its deadline.

use std::time::{Duration, Instant};

use lanner_core::Name;
use tokio_util::sync::CancellationToken;

use super::Functions;
use crate::lifecycle::HOST;

/// How often replaced revisions are looked after, while there are any.
const LOOK_AFTER: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(24 * 3600);

impl Functions {
    /// For one function, until `stop`.
    pub async fn watch(self, name: Name, stop: CancellationToken) {
        let Some(slot) = self.inner.slots.get(&name) else { return };
        let poll = self.inner.settings.poll.filter(|_| slot.source.may_change());
        let mut due = poll.map(|every| Instant::now() + varied(every));
        loop {
            let ending = slot.end_due(Instant::now()) > 0;
            let until = due.map_or(LONG, |due| due.saturating_duration_since(Instant::now()));
            let wait = if ending { until.min(LOOK_AFTER) } else { until };
            tokio::select! {
                () = stop.cancelled() => return,
                () = slot.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            let asked = slot.take_asked();
            let is_due = due.is_some_and(|due| due <= Instant::now());
            if asked.is_none() && !is_due {
                continue;
            }
            let (by, again) = asked.map_or((HOST.to_owned(), false), |a| (a.by, a.again));
            if let Some(Err(error)) = stop.run_until_cancelled(self.check(&name, again, &by)).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(function = %name, error, "an update could not be stored");
                slot.note("failed", "it could not be stored: the log says why".to_owned());
            }
            due = poll.map(|every| Instant::now() + varied(every));
        }
    }
}

/// A tenth more or less.
fn varied(every: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness all come at the same time, and come all the same.
    let _ = getrandom::fill(&mut random);
    every.mul_f64(0.9 + 0.2 * f64::from(random[0]) / 255.0)
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
}
