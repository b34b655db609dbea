//! `sources`: a guest's stream of bytes into the source store, chunk by chunk.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, HasSelf, Source, StreamConsumer, StreamReader, StreamResult};

use super::State;
use super::generated::lanner::platform::sources::{Host, HostWithStore, SourceError, SourceInfo};
use crate::scan::ports::{BlobError, StoreError};

/// Chunks between the guest and the disk.
const WAITING: usize = 4;
const CHUNK: usize = 256 * 1024;
/// Sources that one request may store.
const MAX_SOURCES: usize = 4;

impl Host for State {}

impl<T: Send> HostWithStore<T> for HasSelf<State> {
    async fn store(accessor: &Accessor<T, Self>, body: StreamReader<u8>) -> Result<SourceInfo, SourceError> {
        let (chunks, received) = mpsc::channel(WAITING);
        let begun = accessor.with(|mut access| {
            let state = access.get();
            // A trial changes nothing.
            let scans = (!state.dry && state.sources.len() < MAX_SOURCES).then(|| state.scans.clone());
            body.pipe(access, Consumer { chunks: PollSender::new(chunks) }).map(|()| scans)
        });
        let Ok(Some(scans)) = begun else { return Err(SourceError::Failed) };
        let body = tokio_stream::wrappers::ReceiverStream::new(received).map(Ok).boxed();
        let stored = scans.store_source(body).await.map_err(convert)?;
        let info = SourceInfo {
            handle: 0,
            digest: stored.source.digest.clone(),
            bytes: stored.source.bytes,
            entries: stored.entries,
            top_level: stored.top_level.clone(),
        };
        Ok(accessor.with(|mut access| {
            let sources = &mut access.get().sources;
            let handle = sources.len() as u64 + 1;
            sources.insert(handle, stored);
            SourceInfo { handle, ..info }
        }))
    }
}

/// Takes what the guest's stream holds as fast as the store takes it.
struct Consumer {
    chunks: PollSender<Bytes>,
}

impl<D> StreamConsumer<D> for Consumer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let available = source.remaining();
        if available.is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        match self.chunks.poll_reserve(cx) {
            Poll::Ready(Ok(())) => {
                let chunk = Bytes::copy_from_slice(available.get(..CHUNK).unwrap_or(available));
                source.mark_read(chunk.len());
                // The place was reserved one line above; a store that has given up takes no more.
                let sent = self.chunks.send_item(chunk);
                Poll::Ready(Ok(if sent.is_ok() { StreamResult::Completed } else { StreamResult::Dropped }))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn convert(error: BlobError) -> SourceError {
    match error {
        BlobError::Archive(error) => SourceError::Archive(error.to_string()),
        BlobError::Interrupted(_) => SourceError::Interrupted,
        BlobError::TooLarge(max) => SourceError::TooLarge(max),
        BlobError::Store(StoreError::Full) => SourceError::DiskFull,
        BlobError::Store(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a source could not be stored");
            SourceError::Failed
        }
    }
}
