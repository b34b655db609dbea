//! The host's end of `lanner relay`: numbered lines come in order, what is dealt with is acknowledged, and nothing is taken
//! twice.
//!
//! A request says who sends (`x-lanner-relay`, `x-lanner-spool`), up to where the sender has been acknowledged and with
//! which number the body begins; the answer says up to where lines were received and dealt with. A host that has started
//! anew knows nothing of a sender and begins where that was acknowledged; the sender follows the answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use lanner_core::Nanos;
use lanner_core::falco::decode;

use super::ledger::Ledger;
use super::webhook::{json, problem};
use super::{Door, Intake, board};
use crate::scan::witness::Stretch;

pub const NAME: &str = "x-lanner-relay";
pub const SPOOL: &str = "x-lanner-spool";
pub const FIRST: &str = "x-lanner-first";
pub const ACKNOWLEDGED: &str = "x-lanner-acknowledged";
/// How a relay tells that its own source broke: a line that no Falco writes.
pub const BROKEN_LINE: &str = "{\"lanner-relay\":\"broken\"}";

/// Lines received and not yet dealt with, of one relay.
const MAX_OPEN: u64 = 65_536;
const MAX_RELAYS: usize = 256;

pub(super) struct Relays {
    intake: Intake,
    known: Mutex<HashMap<(String, String), Relay>>,
}

#[derive(Clone)]
struct Relay {
    ledger: Arc<Ledger>,
    stretch: Arc<Stretch>,
    /// Requests of one relay are taken one after the other, also if it should send two at once.
    turn: Arc<Mutex<()>>,
}

/// What the headers say.
struct Head {
    name: String,
    spool: String,
    first: u64,
    acknowledged: u64,
}

impl Relays {
    pub(super) fn new(intake: Intake) -> Self {
        Self { intake, known: Mutex::default() }
    }

    pub(super) fn answer(&self, headers: &HeaderMap, body: &[u8], received: Nanos) -> Response<Full<Bytes>> {
        let Some(head) = head(headers) else {
            let detail = "this path is for lanner relay: a header of its protocol is missing";
            return problem(StatusCode::BAD_REQUEST, detail);
        };
        let Some(relay) = self.relay(&head) else {
            return problem(StatusCode::SERVICE_UNAVAILABLE, "too many relays are known already");
        };
        let turn = relay.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stretch = relay.stretch.clone();
        for (number, line) in (head.first..).zip(body.split(|b| *b == b'\n').filter(|l| !l.is_empty())) {
            let (taken, acknowledged) = relay.ledger.levels();
            if self.intake.is_crowded() || taken - acknowledged >= MAX_OPEN {
                break;
            }
            // Before the next one: it was taken already. Behind it: the sender goes back when it reads the answer.
            let Some(ticket) = relay.ledger.receive(number) else { continue };
            if line == BROKEN_LINE.as_bytes() {
                self.intake.broken(Door::Relay, &stretch, "its relay lost track of its source");
                stretch = self.renew(&head, &stretch);
                ticket.done();
                continue;
            }
            self.intake.accept_line(&stretch, decode(line, received), received, ticket);
        }
        drop(turn);
        let (taken, acknowledged) = relay.ledger.levels();
        let levels = serde_json::json!({ "received": taken, "acknowledged": acknowledged });
        json(StatusCode::OK, "application/json", &levels)
    }

    fn relay(&self, head: &Head) -> Option<Relay> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (head.name.clone(), head.spool.clone());
        if let Some(relay) = known.get(&key) {
            return Some(relay.clone());
        }
        if known.len() >= MAX_RELAYS {
            return None;
        }
        let relay = Relay {
            ledger: Ledger::new(head.acknowledged),
            stretch: self.intake.stretch(Door::Relay, head.name.clone(), true),
            turn: Arc::default(),
        };
        known.insert(key, relay.clone());
        Some(relay)
    }

    /// The lines behind a break are another stretch.
    fn renew(&self, head: &Head, broken: &Stretch) -> Arc<Stretch> {
        let stretch = self.intake.stretch(Door::Relay, broken.sensor.clone(), true);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(relay) = known.get_mut(&(head.name.clone(), head.spool.clone())) {
            relay.stretch = stretch.clone();
        }
        stretch
    }
}

fn head(headers: &HeaderMap) -> Option<Head> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    // Sequence numbers have room to grow: one that is near the end was made up.
    let number = |name: &str| text(name).and_then(|t| t.parse().ok()).filter(|n: &u64| *n < u64::MAX / 2);
    Some(Head {
        name: text(NAME).and_then(board::name)?,
        spool: text(SPOOL).and_then(board::name)?,
        first: number(FIRST)?,
        acknowledged: number(ACKNOWLEDGED)?,
    })
}
