//! Looking at the sources, and ending what outlived its deadline.

use std::time::{Duration, Instant};

use lanner_core::Name;
use tokio_util::sync::CancellationToken;

use super::Functions;
use crate::lifecycle::Rounds;

/// How often replaced revisions are looked after, while there are any.
const LOOK_AFTER: Duration = Duration::from_secs(1);

impl Functions {
    /// For one function, until `stop`.
    pub async fn watch(self, name: Name, stop: CancellationToken) {
        let Some(slot) = self.inner.slots.get(&name) else { return };
        let mut rounds = Rounds::new(self.inner.settings.poll.filter(|_| slot.source.may_change()));
        loop {
            let within = (slot.end_due(Instant::now()) > 0).then_some(LOOK_AFTER);
            let next = stop.run_until_cancelled(rounds.next(&slot.lookout, within)).await;
            let Some(asked) = next else { return };
            let Some(asked) = asked else { continue };
            let check = self.check(&name, asked.again, &asked.by);
            if let Some(Err(error)) = stop.run_until_cancelled(check).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(function = %name, error, "an update could not be stored");
                slot.lookout.note("failed", "it could not be stored: the log says why".to_owned());
            }
        }
    }
}
