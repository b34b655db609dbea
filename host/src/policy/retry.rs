//! Trying again what was taken out: on known alerts, after a pause that doubles each time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Policy;
use super::member::Member;

const EVERY: Duration = Duration::from_secs(1);

impl Policy {
    /// Until `stop`.
    pub async fn retry_regularly(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            self.retry_due(Instant::now()).await;
        }
    }

    /// Tries whatever's pause is over at `now`.
    pub async fn retry_due(&self, now: Instant) {
        let due: Vec<Arc<Member>> =
            self.set().active.iter().filter(|m| m.health().due(now)).cloned().collect();
        for member in due {
            let filter = member.revision.name.as_str();
            match self.trial(&member).await {
                Ok(_) => {
                    tracing::info!(filter, "a filter that was taken out is well again");
                    if let Err(error) = self.taken_back(&member).await {
                        tracing::error!(error = &error as &dyn std::error::Error, "that could not be stored");
                    }
                }
                Err(error) => {
                    tracing::warn!(filter, %error, "a filter that was taken out fails still");
                    member.health().postpone(now);
                }
            }
        }
    }
}
