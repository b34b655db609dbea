//! Scans and alerts as the JSON documents that clients see. What is left out (environment, files, source keys) is the
//! host's own business.

use std::collections::BTreeMap;

use lanner_core::agree::Witness;
use lanner_core::scan::HostAttempt;
use lanner_core::{
    Alert, Counts, Decision, Evidence, FilterFailure, FilterRef, Gap, Isolation, JobSpec, JudgedAlert, Nanos,
    Owner, PhaseResult, Priority, Process, Responsible, Scan, ScanId, ScanState, SensorReport, Subject,
};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) fn scan(scan: &Scan) -> Value {
    let gaps: Vec<Value> = scan
        .evidence
        .gaps
        .iter()
        .map(|g| json!({ "kind": g.kind, "detail": g.detail, "message": g.to_string() }))
        .collect();
    let phases: Vec<Value> = scan
        .phases
        .iter()
        .map(|p| {
            json!({
                "name": p.name, "started_ns": p.started, "ended_ns": p.ended, "exit_code": p.exit_code,
                "signal": p.signal, "output_tail": p.output_tail,
            })
        })
        .collect();
    json!({
        "id": scan.id,
        "owner": scan.owner,
        "state": scan.state,
        "reason": scan.reason,
        "manager": scan.spec.manager,
        "subject": subject(&scan.spec.subject),
        "created_ns": scan.created,
        "started_ns": scan.started,
        "ended_ns": scan.ended,
        "isolation": scan.isolation,
        "phases": phases,
        "evidence": { "complete": scan.evidence.complete(), "sensors": scan.evidence.sensors, "gaps": gaps },
        "counts": scan.counts,
        "network": scan.network,
        "filters": scan.filters,
        "filter_failures": scan.filter_failures,
        "source": scan.source.as_ref().map(|s| json!({ "digest": s.digest, "bytes": s.bytes })),
    })
}

fn subject(subject: &Subject) -> Value {
    match subject {
        Subject::Project { name } => json!({ "kind": "project", "name": name }),
        Subject::Package { name, version } => json!({ "kind": "package", "name": name, "version": version }),
    }
}

pub(crate) fn alert(judged: &JudgedAlert) -> Value {
    let alert = &judged.alert;
    let also_seen_by: Vec<Value> = alert
        .also_seen_by
        .iter()
        .map(|w| json!({ "sensor": w.sensor, "count": w.count, "last_time_ns": w.last_time }))
        .collect();
    json!({
        "id": alert.id,
        "time_ns": alert.time,
        "last_time_ns": alert.last_time,
        "count": alert.count,
        "rule": alert.rule,
        "priority": judged.priority(),
        "rule_priority": alert.priority,
        "output": alert.output,
        "output_fields": alert.output_fields,
        "tags": alert.tags,
        "source": alert.source,
        "hostname": alert.hostname,
        "sensor": alert.sensor,
        "also_seen_by": also_seen_by,
        "ancestry": alert.ancestry,
        "package": alert.package,
        "fingerprint": alert.fingerprint(),
        "suppressed": judged.suppressed(),
        "decisions": judged.decisions,
    })
}

/// The document of [`scan`], read again: for a scan that another host made.
#[derive(Deserialize)]
struct ScanDocument {
    id: ScanId,
    owner: Owner,
    state: ScanState,
    reason: String,
    manager: String,
    subject: Subject,
    created_ns: Nanos,
    started_ns: Option<Nanos>,
    ended_ns: Option<Nanos>,
    isolation: Option<Isolation>,
    phases: Vec<PhaseDocument>,
    evidence: EvidenceDocument,
    counts: Counts,
    network: Vec<HostAttempt>,
    filters: Vec<FilterRef>,
    filter_failures: Vec<FilterFailure>,
}

#[derive(Deserialize)]
struct PhaseDocument {
    name: String,
    started_ns: Nanos,
    ended_ns: Option<Nanos>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    output_tail: String,
}

#[derive(Deserialize)]
struct EvidenceDocument {
    complete: bool,
    sensors: Vec<SensorReport>,
    gaps: Vec<Gap>,
}

impl From<PhaseDocument> for PhaseResult {
    fn from(it: PhaseDocument) -> Self {
        let PhaseDocument { name, started_ns: started, ended_ns: ended, exit_code, signal, output_tail } = it;
        Self { name, started, ended, exit_code, signal, output_tail }
    }
}

/// What it asked for is not in the document, and not in the scan then.
pub(crate) fn scan_of(document: &Value) -> Result<Scan, serde_json::Error> {
    let read = ScanDocument::deserialize(document)?;
    let EvidenceDocument { complete, sensors, gaps } = read.evidence;
    if complete != gaps.is_empty() {
        return Err(serde::de::Error::custom("the evidence is complete, or it has gaps"));
    }
    let spec = JobSpec::new(&read.manager, read.subject);
    Ok(Scan {
        state: read.state,
        reason: read.reason,
        started: read.started_ns,
        ended: read.ended_ns,
        isolation: read.isolation,
        phases: read.phases.into_iter().map(PhaseResult::from).collect(),
        evidence: Evidence { sensors, gaps },
        counts: read.counts,
        network: read.network,
        filters: read.filters,
        filter_failures: read.filter_failures,
        ..Scan::queued(read.id, read.owner, read.created_ns, spec)
    })
}

/// The document of [`alert`], read again: for alerts that were kept as files.
#[derive(Deserialize)]
struct AlertDocument {
    id: u64,
    time_ns: Nanos,
    last_time_ns: Nanos,
    count: u64,
    rule: String,
    rule_priority: Priority,
    output: String,
    output_fields: BTreeMap<String, Value>,
    tags: Vec<String>,
    source: String,
    hostname: String,
    sensor: String,
    #[serde(default)]
    also_seen_by: Vec<WitnessDocument>,
    ancestry: Vec<Process>,
    package: Option<Responsible>,
    decisions: Vec<Decision>,
}

#[derive(Deserialize)]
struct WitnessDocument {
    sensor: String,
    count: u64,
    last_time_ns: Nanos,
}

impl From<WitnessDocument> for Witness {
    fn from(WitnessDocument { sensor, count, last_time_ns: last_time }: WitnessDocument) -> Self {
        Self { sensor, count, last_time }
    }
}

pub(crate) fn alert_of(document: &Value) -> Result<JudgedAlert, serde_json::Error> {
    let read = AlertDocument::deserialize(document)?;
    let alert = Alert {
        id: read.id,
        time: read.time_ns,
        last_time: read.last_time_ns,
        count: read.count,
        rule: read.rule,
        priority: read.rule_priority,
        output: read.output,
        output_fields: read.output_fields,
        tags: read.tags,
        source: read.source,
        hostname: read.hostname,
        sensor: read.sensor,
        also_seen_by: read.also_seen_by.into_iter().map(Witness::from).collect(),
        ancestry: read.ancestry,
        package: read.package,
    };
    Ok(JudgedAlert { alert, decisions: read.decisions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_read_back_as_it_was_shown() {
        let mut shown = crate::store::conformance::scan(3, "me", ScanState::Failed);
        shown.reason = "the phase install failed with exit code 1".into();
        shown.evidence.gap(lanner_core::evidence::GapKind::Limit, "memory");
        let (exit_code, output_tail) = (Some(1), "no".into());
        shown.phases.push(PhaseResult {
            name: "install".into(),
            started: 1,
            ended: Some(2),
            exit_code,
            signal: None,
            output_tail,
        });
        assert_eq!(scan_of(&scan(&shown)).unwrap(), shown);
        let mut forged = scan(&shown);
        forged["evidence"]["gaps"] = json!([]);
        assert!(scan_of(&forged).unwrap_err().to_string().contains("or it has gaps"));
        assert!(scan_of(&json!({ "id": 1 })).is_err());
    }

    #[test]
    fn an_alert_is_read_back_as_it_was_shown() {
        let judged = crate::store::conformance::alert(3, "r");
        assert_eq!(alert_of(&alert(&judged)).unwrap(), judged);
        assert!(alert_of(&json!({ "id": 1 })).is_err());
    }
}
