//! A request's body under guard: so many bytes at most, no long pause, not too slow a pace.
//!
//! Only time spent waiting for the client counts; when we are the slow ones, nobody is cut. Why a body was cut is kept
//! for the router, because all that the reader of the body sees is an end that came too early.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::BoxError;

#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    pub max_bytes: u64,
    /// The longest wait for the next piece.
    pub pause: Duration,
    /// Bytes a second, after the first `pause` of waiting.
    pub pace: u64,
}

/// Why a body was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cut {
    #[error("the body has more than {0} bytes")]
    TooLarge(u64),
    #[error("the client sends its body too slowly")]
    Slow,
}

pub(super) type CutFlag = Arc<OnceLock<Cut>>;

pub(super) struct Guarded<B> {
    body: B,
    limits: BodyLimits,
    taken: u64,
    /// The wait that is going on, and all that are over.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    waited: Duration,
    cut: CutFlag,
}

impl<B> Guarded<B> {
    pub(super) fn new(body: B, limits: BodyLimits) -> (Self, CutFlag) {
        let cut = CutFlag::default();
        (Self { body, limits, taken: 0, waiting: None, waited: Duration::ZERO, cut: cut.clone() }, cut)
    }

    fn cut<T>(&self, why: Cut) -> Poll<Option<Result<T, BoxError>>> {
        let _ = self.cut.set(why);
        Poll::Ready(Some(Err(why.into())))
    }

    fn verdict(&self) -> Option<Cut> {
        let due = u128::from(self.limits.pace).saturating_mul(self.waited.as_millis()) / 1000;
        if self.taken > self.limits.max_bytes {
            Some(Cut::TooLarge(self.limits.max_bytes))
        } else if self.waited > self.limits.pause && u128::from(self.taken) < due {
            Some(Cut::Slow)
        } else {
            None
        }
    }
}

impl<B> Body for Guarded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(why) = self.cut.get().copied() {
            return self.cut(why);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let pause = self.limits.pause;
            let start = || (Instant::now(), Box::pin(tokio::time::sleep(pause)));
            let (_, timer) = self.waiting.get_or_insert_with(start);
            return match timer.as_mut().poll(cx) {
                Poll::Ready(()) => self.cut(Cut::Slow),
                Poll::Pending => Poll::Pending,
            };
        };
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame.map(|f| f.map_err(Into::into))) };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.taken = self.taken.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        match self.verdict() {
            Some(why) => self.cut(why),
            None => Poll::Ready(Some(Ok(frame))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const PATIENT: Duration = Duration::from_secs(30);
    const STRICT: Duration = Duration::from_millis(60);

    async fn read(pieces: usize, bytes: usize, every: Duration, pause: Duration) -> (bool, Option<Cut>) {
        let stream = futures::stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(every).await;
            Ok::<_, BoxError>(Frame::data(Bytes::from(vec![b'x'; bytes])))
        });
        let (body, cut) =
            Guarded::new(StreamBody::new(Box::pin(stream)), BodyLimits { max_bytes: 100, pause, pace: 1000 });
        (body.collect().await.is_ok(), cut.get().copied())
    }

    #[tokio::test]
    async fn a_body_within_its_limits_passes() {
        assert_eq!(read(10, 10, Duration::ZERO, PATIENT).await, (true, None));
        assert_eq!(read(3, 1, Duration::from_millis(20), PATIENT).await, (true, None), "slow, but soon over");
    }

    #[tokio::test]
    async fn one_byte_too_many_cuts_it() {
        assert_eq!(read(101, 1, Duration::ZERO, PATIENT).await, (false, Some(Cut::TooLarge(100))));
    }

    #[tokio::test]
    async fn a_slow_pace_and_a_long_pause_cut_it() {
        assert_eq!(read(60, 1, Duration::from_millis(10), STRICT).await, (false, Some(Cut::Slow)));
        assert_eq!(read(1, 50, PATIENT, STRICT).await, (false, Some(Cut::Slow)));
    }
}
