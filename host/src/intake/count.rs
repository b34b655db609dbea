//! What the intake counts. Every label is one of a closed set.

use lanner_core::correlate::Way;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How alerts come in.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// Falco's `http_output`.
    Http,
    Falcosidekick,
    Relay,
    Grpc,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DoorLabel {
    door: Door,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WayLabel {
    way: WayValue,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
enum WayValue {
    Name,
    PodUid,
    ContainerId,
    Parked,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    received: Family<DoorLabel, Counter>,
    refused: Family<DoorLabel, Counter>,
    overflowed: Family<DoorLabel, Counter>,
    correlated: Family<WayLabel, Counter>,
    pub(super) unmatched: Counter,
    pub(super) late: Counter,
    pub(super) marks: Counter,
    pub(super) forged: Counter,
    pub(super) blind: Counter,
    pub(super) broken: Counter,
}

impl Counts {
    pub(super) fn register(&self, registry: &mut Registry) {
        let to = registry.sub_registry_with_prefix("lanner_intake");
        to.register("alerts_received", "Alerts taken in", self.received.clone());
        to.register("alerts_refused", "Parts that were no readable alert", self.refused.clone());
        to.register(
            "alerts_overflowed",
            "Alerts thrown away because too many waited",
            self.overflowed.clone(),
        );
        to.register("alerts_correlated", "Alerts matched to a scan", self.correlated.clone());
        to.register("alerts_unmatched", "Alerts that no scan was found for", self.unmatched.clone());
        to.register("alerts_late", "Alerts that came after their scan's end", self.late.clone());
        to.register("marks", "Marks of running scans", self.marks.clone());
        to.register("marks_forged", "Marks that nobody gave out", self.forged.clone());
        to.register("blind", "Times a sensor said that it did not see everything", self.blind.clone());
        to.register("broken", "Times a sensor's stream broke", self.broken.clone());
    }

    pub(super) fn received(&self, door: Door, alerts: u64, refused: u64) {
        self.received.get_or_create(&DoorLabel { door }).inc_by(alerts);
        self.refused.get_or_create(&DoorLabel { door }).inc_by(refused);
    }

    pub(super) fn overflowed(&self, door: Door, alerts: u64) {
        if alerts > 0 {
            self.overflowed.get_or_create(&DoorLabel { door }).inc_by(alerts);
        }
    }

    pub(super) fn correlated(&self, way: Way) {
        let way = match way {
            Way::Name => WayValue::Name,
            Way::PodUid => WayValue::PodUid,
            Way::ContainerId => WayValue::ContainerId,
            Way::Parked => WayValue::Parked,
        };
        self.correlated.get_or_create(&WayLabel { way }).inc();
    }
}
