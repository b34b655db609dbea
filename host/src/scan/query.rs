//! Query: what callers may see. Somebody else's scan is an unknown one.

use futures::StreamExt;
use futures::stream::BoxStream;
use lanner_core::{JudgedAlert, Owner, Priority, Scan, ScanId, ScanState};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::ports::StoreError;
use super::{LISTENER_LAG, QueryError, Reach, ScanEvent, Scans, now};

impl Scans {
    pub async fn get(&self, reach: &Reach, id: &ScanId) -> Result<Scan, QueryError> {
        let scan = self.store().get(id.clone()).await?.ok_or(QueryError::Unknown)?;
        if reach.sees(&scan.owner) { Ok(scan) } else { Err(QueryError::Unknown) }
    }

    /// Newest first; `before` is the last id of the page before.
    pub async fn list(
        &self,
        reach: &Reach,
        before: Option<ScanId>,
        limit: usize,
    ) -> Result<Vec<Scan>, QueryError> {
        let owner = match reach {
            Reach::Own(owner) => Some(owner.clone()),
            Reach::All => None,
        };
        Ok(self.store().list(owner, before, limit).await?)
    }

    /// All alerts of a scan with what was decided about each, by alert id.
    pub async fn alerts(&self, reach: &Reach, id: &ScanId) -> Result<Vec<JudgedAlert>, QueryError> {
        self.get(reach, id).await?;
        Ok(self.store().alerts(id.clone()).await?)
    }

    /// The most urgent priority among the kept alerts.
    pub async fn worst(&self, reach: &Reach, id: &ScanId) -> Result<Option<Priority>, QueryError> {
        let alerts = self.alerts(reach, id).await?;
        Ok(alerts.iter().filter(|a| !a.suppressed()).map(JudgedAlert::priority).min())
    }

    /// Cancels a queued or running scan; forgets a final one. Returns what it was.
    pub async fn delete(&self, reach: &Reach, id: &ScanId) -> Result<Scan, QueryError> {
        let scan = self.get(reach, id).await?;
        if scan.state.is_final() {
            self.store().delete(id.clone()).await?;
            self.drop_source(scan.source.as_ref()).await;
            return Ok(scan);
        }
        if self.leaves_queue_or_ends(id) {
            self.cancel_queued(scan.clone()).await?;
        }
        Ok(scan)
    }

    /// Whether it was in the queue; one that has left it is told to end. One look at both: it may go back at any moment.
    fn leaves_queue_or_ends(&self, id: &ScanId) -> bool {
        let mut state = self.state();
        if state.queue.remove(id) {
            return true;
        }
        if let Some(running) = state.running.get_mut(id) {
            running.by_user = true;
            running.cancel.cancel();
        }
        false
    }

    pub(super) async fn cancel_queued(&self, scan: Scan) -> Result<(), StoreError> {
        let reason = "cancelled before it started".into();
        let cancelled = Scan { state: ScanState::Cancelled, ended: Some(now()), reason, ..scan };
        self.put_patiently(&cancelled).await?;
        self.tell_state(&cancelled);
        Ok(())
    }

    /// What happens to this scan from now on; ends after its final state. The stream of a listener that lags too
    /// far behind ends early, so that nobody takes a part for the whole.
    pub async fn listen(
        &self,
        reach: &Reach,
        id: &ScanId,
    ) -> Result<(Scan, BoxStream<'static, ScanEvent>), QueryError> {
        // Subscribed before the scan is read: an event in between is then seen twice rather than never.
        let events = self.state().listeners.get_mut(id).map(|listeners| {
            listeners.get_or_insert_with(|| broadcast::Sender::new(LISTENER_LAG)).subscribe()
        });
        let scan = self.get(reach, id).await?;
        let stream = match events {
            Some(receiver) => BroadcastStream::new(receiver)
                .take_while(|event| std::future::ready(event.is_ok()))
                .filter_map(|event| std::future::ready(event.ok()))
                .boxed(),
            None => futures::stream::empty().boxed(),
        };
        Ok((scan, stream))
    }
}

impl Reach {
    fn sees(&self, owner: &Owner) -> bool {
        match self {
            Self::Own(own) => own == owner,
            Self::All => true,
        }
    }
}
