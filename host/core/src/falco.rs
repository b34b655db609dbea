//! Falco's alerts as ours: from its JSON (`http_output`, file output, Falcosidekick) and from its gRPC responses.
//!
//! Every byte of an alert may have been chosen by the package that it is about, so texts and lists are bounded and
//! nothing is refused for a byte that is not UTF-8. What cannot be read at all is an error that names the key of
//! `falco.yaml` to set. Whose alert it is, and what a mark means for a scan, is not known here.

use crate::alert::{Alert, Priority};

mod fields;
mod json;
mod rpc;

pub use json::{DecodeError, Decoded, MAX_ALERTS, decode};
pub use rpc::{Response, from_rpc};

/// The rule whose alerts are marks: it fires when `lanner mark HEX` is executed.
pub const MARK_RULE: &str = "Lanner mark";

/// How Falco's own messages begin, in the rule's place.
const INTERNAL: &str = "Falco internal: ";
const METRICS: &str = "Falco internal: metrics snapshot";

/// One alert that Falco raised, not yet anybody's.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// `id` and `sensor` are left for whoever takes it in.
    pub alert: Alert,
    pub origin: Origin,
    pub kind: Kind,
}

/// What says in which container it happened. Late or lost names are `None`; `container.id` is there for every container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub pod: Option<String>,
    pub pod_uid: Option<String>,
    pub container: Option<String>,
    /// The first 12 hex digits.
    pub container_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Alert,
    /// Somebody executed a mark with this nonce; whether we gave it out is for the fence to know.
    Mark(String),
    /// Falco says of itself that it did not see everything.
    Blind,
    /// Falco's account of itself: no alert.
    Metrics,
}

impl Kind {
    fn of(alert: &Alert) -> Self {
        if alert.source == "internal" && alert.rule.starts_with(INTERNAL) {
            // Whatever Falco reports of itself beyond its numbers is a trouble: drops, no events for too long, a failed reload.
            return if alert.rule == METRICS { Self::Metrics } else { Self::Blind };
        }
        if alert.rule == MARK_RULE
            && let Some(nonce) = ["proc.args", "proc.cmdline"].iter().find_map(|name| nonce(alert, name))
        {
            return Self::Mark(nonce);
        }
        Self::Alert
    }
}

/// `… mark HEX`, HEX being 32 lower-case hex digits, at the end of a command line.
fn nonce(alert: &Alert, field: &str) -> Option<String> {
    let text = alert.output_fields.get(field)?.as_str()?;
    let mut words = text.split(' ').rev();
    let (last, before) = (words.next()?, words.next()?);
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (before == "mark" && last.len() == 32 && last.bytes().all(hex)).then(|| last.to_owned())
}

/// A word that is no priority counts as the most urgent: better a false alarm than a quiet one.
fn priority(word: &str) -> Priority {
    word.parse().unwrap_or(Priority::Emergency)
}

#[cfg(test)]
mod tests;
