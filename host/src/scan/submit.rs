//! Submit: a source, then a scan. When this answers with an id, the scan is on disk.

use futures::stream::BoxStream;
use lanner_core::{Scan, ScanId, SourceRef};

use super::ports::{BlobError, Created, StoredSource};
use super::{Scans, Submission, SubmitError, now};

impl Scans {
    /// Streams a project into the source store. Nothing is kept if it is refused; a source that no submission
    /// follows is swept after a grace time.
    pub async fn store_source(
        &self,
        body: BoxStream<'static, Result<bytes::Bytes, std::io::Error>>,
    ) -> Result<StoredSource, BlobError> {
        self.inner.ports.blob.put(body).await
    }

    /// Makes a scan: on disk when this returns. Its source is kept only if the scan is a new one.
    pub async fn submit(&self, submission: Submission) -> Result<ScanId, SubmitError> {
        let source = submission.source.as_ref().map(|s| s.source.clone());
        let made = self.make(submission).await;
        if !matches!(made, Ok((_, Created::New))) {
            self.drop_source(source.as_ref()).await;
        }
        made.map(|(id, _)| id)
    }

    /// A source that no scan needs any more. Should that fail, the sweep finds it later.
    pub(super) async fn drop_source(&self, source: Option<&SourceRef>) {
        if let Some(source) = source
            && let Err(error) = self.inner.ports.blob.delete(source).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a source could not be deleted");
        }
    }

    async fn make(&self, submission: Submission) -> Result<(ScanId, Created), SubmitError> {
        submission.spec.check()?;
        let place = Place::reserve(self)?;
        let scan = queued(submission.owner, submission.spec, submission.source);
        let (id, owner) = (scan.id.clone(), scan.owner.clone());
        match self.store().create(scan, submission.key).await? {
            Created::Earlier(earlier) => Ok((earlier.clone(), Created::Earlier(earlier))),
            Created::New => {
                tracing::info!(scan = %id, "queued");
                place.take(owner, id.clone());
                Ok((id, Created::New))
            }
        }
    }
}

/// A place in the queue that is given back unless it is taken, also when the client goes away in between.
struct Place<'a> {
    scans: &'a Scans,
}

impl<'a> Place<'a> {
    fn reserve(scans: &'a Scans) -> Result<Self, SubmitError> {
        let mut state = scans.state();
        if state.stopping {
            return Err(SubmitError::Stopping);
        }
        let waiting = state.queue.len() + state.reserved;
        if waiting >= scans.inner.settings.queue {
            return Err(SubmitError::QueueFull(waiting));
        }
        state.reserved += 1;
        Ok(Self { scans })
    }

    fn take(self, owner: lanner_core::Owner, id: ScanId) {
        let mut state = self.scans.state();
        state.queue.push(owner, id.clone());
        state.listeners.insert(id, None);
        drop(state);
        self.scans.inner.wake.notify_one();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.scans.state();
        state.reserved = state.reserved.saturating_sub(1);
    }
}

fn queued(owner: lanner_core::Owner, spec: lanner_core::JobSpec, source: Option<StoredSource>) -> Scan {
    let created = now();
    let source = source.map(|s| s.source);
    Scan { source, ..Scan::queued(new_id(created), owner, created, spec) }
}

fn new_id(created: lanner_core::Nanos) -> ScanId {
    let mut random = [0; 10];
    // Without a random source the id would still be unique by time; the kernel's does not fail once it is seeded.
    let _ = getrandom::fill(&mut random);
    ScanId::new(u64::try_from(created / 1_000_000).unwrap_or_default(), random)
}
