//! Recycle: forgets final scans beyond a count or an age, and the sources that no scan names any more.

use std::time::Duration;

use lanner_core::SourceRef;
use tokio_util::sync::CancellationToken;

use super::ports::StoreError;
use super::{Scans, now};

const EVERY: Duration = Duration::from_secs(60);
const PAGE: usize = 200;

impl Scans {
    /// Recycles now and then until `stop`.
    pub async fn recycle_regularly(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Err(error) = self.recycle().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "old scans could not be recycled");
            }
        }
    }

    pub async fn recycle(&self) -> Result<(), StoreError> {
        let age = i64::try_from(self.inner.settings.max_age.as_nanos()).unwrap_or(i64::MAX);
        let expired = self.store().expired(self.inner.settings.keep, now().saturating_sub(age)).await?;
        for id in expired {
            tracing::info!(scan = %id, "recycled");
            let source = self.store().get(id.clone()).await?.and_then(|s| s.source);
            self.store().delete(id).await?;
            self.drop_source(source.as_ref()).await;
        }
        let used = self.sources_in_use().await?;
        self.inner.ports.blob.sweep(used).await
    }

    async fn sources_in_use(&self) -> Result<Vec<SourceRef>, StoreError> {
        let mut used = Vec::new();
        let mut before = None;
        loop {
            let page = self.store().list(None, before, PAGE).await?;
            let Some(last) = page.last() else { return Ok(used) };
            before = Some(last.id.clone());
            used.extend(page.into_iter().filter_map(|s| s.source));
        }
    }
}
