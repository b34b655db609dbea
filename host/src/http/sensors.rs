//! `GET /v1/sensors` and `GET /v1/alerts/unmatched`: how the witnesses do, and what was nobody's.
//!
//! Sensors are the service's own and anybody who reads may see them. An alert that no scan was found for may be anybody's,
//! so only those see it who see every scan.

use http::Response;

use super::{Body, Caller, Code, document};
use crate::intake::Intake;
use crate::scan::Reach;

pub(super) const SENSORS: &str = "/v1/sensors";
pub(super) const UNMATCHED: &str = "/v1/alerts/unmatched";

pub(super) fn sensors(intake: Option<&Intake>) -> Response<Body> {
    let sensors = intake.map(Intake::sensors).unwrap_or_default();
    document("application/json", serde_json::json!({ "sensors": sensors }).to_string())
}

pub(super) fn unmatched(intake: Option<&Intake>, caller: &Caller) -> Response<Body> {
    if caller.reach != Reach::All {
        return Code::Forbidden.answer("this needs the role admin, which this credential does not have");
    }
    let (total, samples) = intake.map(Intake::unmatched).unwrap_or_default();
    document("application/json", serde_json::json!({ "total": total, "samples": samples }).to_string())
}
