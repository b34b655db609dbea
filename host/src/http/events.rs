//! `GET /v1/scans/{id}/events`: what happens to a scan as server-sent events.
//!
//! First its state and the alerts so far, then everything as it comes, until its final state. An alert may come more than
//! once: its count grows, or it was raised while the listener joined; its id tells. A stream that ends without a final
//! state was cut (the listener lagged behind, or the host stops): ask again.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use lanner_core::{JudgedAlert, Scan, ScanId};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::native::of_query;
use super::{Body, BoxError, Caller};
use crate::capability::view;
use crate::scan::{ScanEvent, Scans};

/// So often a comment is sent when nothing happens: proxies cut silent connections.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The stream; `place` is given back when it ends.
pub(super) async fn events(
    scans: &Scans,
    caller: &Caller,
    id: &ScanId,
    place: OwnedSemaphorePermit,
    stop: CancellationToken,
) -> Response<Body> {
    let (scan, live) = match scans.listen(&caller.reach, id).await {
        Ok(found) => found,
        Err(error) => return of_query(&error),
    };
    // Read after the listener joined, so that none falls between.
    let alerts = match scans.alerts(&caller.reach, id).await {
        Ok(alerts) => alerts,
        Err(error) => return of_query(&error),
    };
    let body = StreamBody::new(texts(&scan, &alerts, live, stop, KEEP_ALIVE).map(move |text| {
        let _held = &place;
        Ok::<_, BoxError>(Frame::data(Bytes::from(text)))
    }));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn texts(
    scan: &Scan,
    alerts: &[JudgedAlert],
    live: BoxStream<'static, ScanEvent>,
    stop: CancellationToken,
    keep_alive: Duration,
) -> BoxStream<'static, String> {
    let state = json!({ "scan": scan.id, "state": scan.state, "reason": scan.reason });
    let earlier: Vec<String> = alerts.iter().map(|a| alert(&scan.id, a)).collect();
    if scan.state.is_final() {
        // The state last: whoever has seen a final state has seen all.
        return stream::iter(earlier.into_iter().chain([text("state", &state)])).boxed();
    }
    let first = stream::iter([text("state", &state)].into_iter().chain(earlier));
    let rest = stream::unfold((live, stop, false), move |(mut live, stop, over)| async move {
        if over {
            return None;
        }
        let next = stop.run_until_cancelled(tokio::time::timeout(keep_alive, live.next())).await?;
        Some(match next {
            Err(_) => (": still there\n\n".to_owned(), (live, stop, false)),
            Ok(event) => {
                let event = event?;
                (of_event(&event), (live, stop, is_last(&event)))
            }
        })
    });
    first.chain(rest).boxed()
}

fn is_last(event: &ScanEvent) -> bool {
    matches!(event, ScanEvent::State { state, .. } if state.is_final())
}

fn of_event(event: &ScanEvent) -> String {
    match event {
        ScanEvent::State { scan, state, reason } => {
            text("state", &json!({ "scan": scan, "state": state, "reason": reason }))
        }
        ScanEvent::Phase { scan, name, started, ended, exit_code } => {
            let phase = json!({
                "scan": scan, "name": name, "started_ns": started, "ended_ns": ended, "exit_code": exit_code,
            });
            text("phase", &phase)
        }
        ScanEvent::Alert { scan, alert: judged } => alert(scan, judged),
    }
}

fn alert(scan: &ScanId, judged: &JudgedAlert) -> String {
    text("alert", &json!({ "scan": scan, "alert": view::alert(judged) }))
}

/// JSON has no line ends of its own, so a package's text cannot forge an event.
fn text(event: &str, data: &Value) -> String {
    format!("event: {event}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use lanner_core::ScanState;

    use super::*;
    use crate::store::conformance::{id, scan};

    #[tokio::test]
    async fn silence_is_broken_by_comments_and_the_end_of_a_lagging_stream_is_no_state() {
        let queued = scan(1, "me", ScanState::Queued);
        let live = stream::once(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            ScanEvent::State { scan: id(1), state: ScanState::Running, reason: String::new() }
        });
        let texts = texts(&queued, &[], live.boxed(), CancellationToken::new(), Duration::from_millis(5));
        let all: Vec<String> = texts.collect().await;
        assert!(all.iter().any(|t| t.starts_with(": ")), "{all:?}");
        assert!(all.last().unwrap().contains(r#""state":"running""#), "{all:?}");
    }
}
