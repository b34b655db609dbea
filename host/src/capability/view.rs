//! Scans and alerts as the JSON documents that clients see. What is left out (environment, files, source keys) is the
//! host's own business.

use lanner_core::{JudgedAlert, Scan, Subject};
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
        "ancestry": alert.ancestry,
        "package": alert.package,
        "fingerprint": alert.fingerprint(),
        "suppressed": judged.suppressed(),
        "decisions": judged.decisions,
    })
}
