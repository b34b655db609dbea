//! What is said of an object: three conditions, whose times change only when they do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use lanner_core::Revision;
use lanner_core::text::{bounded, escaped};

use crate::filter::{AlertFilter, AlertFilterStatus};

/// What is known of an object's filter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Known {
    /// The object cannot be acted on.
    Refused {
        reason: &'static str,
        why: String,
    },
    /// It is acted on now, or again when what is in the way is gone.
    Pending {
        why: Option<String>,
    },
    /// The host refused its component, or its settings.
    Failed {
        why: String,
    },
    Judges(Seen),
    /// It judges beside the active ones.
    Shadow(Seen),
    /// It failed too often in a row: its place is kept, its alerts too, and it is tried again by the host.
    TakenOut(Seen, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    revision: u64,
    digest: String,
}

pub(crate) const TRIED: &str = "Tried";
const ACCEPTED: &str = "Accepted";
const ACTIVE: &str = "Active";
pub(crate) const REFUSED: &str = "Refused";
pub(crate) const PENDING: &str = "Pending";
/// Kubernetes takes 32 KiB; nobody reads them.
const MAX_MESSAGE: usize = 1000;

type Said = (&'static str, &'static str, String);

impl From<&Revision> for Seen {
    fn from(revision: &Revision) -> Self {
        Self { revision: revision.number, digest: revision.digest.clone() }
    }
}

impl Known {
    pub(crate) fn status(&self, of: &AlertFilter, now: &Time) -> AlertFilterStatus {
        let seen = match self {
            Self::Refused { .. } | Self::Pending { .. } | Self::Failed { .. } => None,
            Self::Judges(seen) | Self::Shadow(seen) | Self::TakenOut(seen, _) => Some(seen),
        };
        let before = of.status.as_ref();
        let generation = of.metadata.generation;
        let condition = |kind: &str, (status, reason, message): Said| Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: escaped(&bounded(&message, MAX_MESSAGE)),
            observed_generation: generation,
            last_transition_time: before
                .and_then(|s| s.conditions.iter().find(|c| c.type_ == kind && c.status == status))
                .map_or_else(|| now.clone(), |same| same.last_transition_time.clone()),
        };
        let [accepted, tried, active] = self.said();
        AlertFilterStatus {
            conditions: vec![
                condition(ACCEPTED, accepted),
                condition(TRIED, tried),
                condition(ACTIVE, active),
            ],
            observed_generation: generation,
            revision: seen.map(|s| s.revision),
            digest: seen.map(|s| s.digest.clone()),
        }
    }

    /// `Accepted`, `Tried`, `Active`.
    fn said(&self) -> [Said; 3] {
        let valid = || ("True", "Valid", "the object can be acted on".to_owned());
        let passed = || ("True", "Passed", "it compiled, took its settings and passed its trial".to_owned());
        match self {
            Self::Refused { reason, why } => [
                ("False", reason, why.clone()),
                ("Unknown", "NotAccepted", "it is not tried".into()),
                ("False", "NotAccepted", "it does not judge".into()),
            ],
            Self::Pending { why } => [
                valid(),
                ("Unknown", PENDING, why.clone().unwrap_or_else(|| "it is fetched and tried".into())),
                ("False", PENDING, "it does not judge yet".into()),
            ],
            Self::Failed { why } => [
                valid(),
                ("False", REFUSED, why.clone()),
                ("False", REFUSED, "it does not judge; what judged before it still does".into()),
            ],
            Self::Judges(_) => [valid(), passed(), ("True", "Judges", "it judges".into())],
            Self::Shadow(_) => [
                valid(),
                passed(),
                ("False", "Shadow", "it judges beside the active filters and changes nothing".into()),
            ],
            Self::TakenOut(_, why) => [
                valid(),
                passed(),
                ("False", "TakenOut", format!("it failed too often and is tried again by itself: {why}")),
            ],
        }
    }
}
