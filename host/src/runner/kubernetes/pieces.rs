//! What is read, sent on in pieces that a message holds: both ends of a pod's connection do it, in each direction.

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// The longest.
pub(super) const PIECE: usize = 32 * 1024;

/// Until nothing more comes, or nobody takes it any more. The end of `to` is the end for whoever reads there.
pub(super) async fn pieces<T>(
    mut from: impl AsyncRead + Unpin,
    to: mpsc::Sender<T>,
    message: impl Fn(Vec<u8>) -> T,
) {
    let mut buffer = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        if to.send(message(bytes)).await.is_err() {
            return;
        }
    }
}
