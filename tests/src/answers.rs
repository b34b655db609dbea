//! What tests look for in the documents of scans and alerts.

use std::collections::BTreeSet;

use serde_json::Value;

/// Whether a scan has its answer.
pub fn is_over(scan: &Value) -> bool {
    !matches!(scan["state"].as_str(), Some("queued" | "running"))
}

/// The rules of alerts, as `GET …/alerts` and `lanner scan --format json` have them.
pub fn rules(alerts: &Value) -> BTreeSet<&str> {
    each(alerts).filter_map(|alert| alert["rule"].as_str()).collect()
}

/// The last parts of the files that alerts name, one for each alert.
pub fn files(alerts: &Value) -> Vec<&str> {
    each(alerts)
        .filter_map(|alert| alert.pointer("/output_fields/fd.name")?.as_str()?.rsplit('/').next())
        .collect()
}

#[expect(clippy::panic, reason = "no alerts in an answer that must have them would pass for none seen")]
fn each(alerts: &Value) -> impl Iterator<Item = &Value> {
    alerts["alerts"].as_array().unwrap_or_else(|| panic!("no alerts: {alerts}")).iter()
}
