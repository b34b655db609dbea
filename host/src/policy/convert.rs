//! Between the words of core and those of the world `alert-filter`; and what makes an answer nonsense.

use std::collections::HashMap;

use lanner_core::text::{bounded, escaped};
use lanner_core::{Action, Alert, Decision, Priority, Process, Revision};

use super::generated::exports::lanner::platform::filter as wit;
use super::generated::lanner::platform::types::Priority as WitPriority;
use crate::scan::ports::About;

const MAX_SHOWN: usize = 300;

pub(super) fn shown(text: &str) -> String {
    escaped(&bounded(text, MAX_SHOWN))
}

/// The alerts as one table: each process once, and all texts in one piece, because what crossing into a component costs is
/// each single text and list, not their length.
pub(super) fn batch(about: &About, alerts: &[Alert]) -> wit::Batch {
    let mut table = Table::new(about, alerts.len());
    for alert in alerts {
        table.add(about, alert);
    }
    table.batch
}

struct Table<'a> {
    batch: wit::Batch,
    places: HashMap<&'a Process, u32>,
    /// Those of the alert before, and where they lie: alerts of one process mostly come one after another.
    last: (&'a [Process], wit::Span),
}

/// An alert with its fields, as scans have them: more room is made where it is not enough.
const BYTES_AN_ALERT: usize = 512;

impl<'a> Table<'a> {
    fn new(about: &About, alerts: usize) -> Self {
        let batch = wit::Batch {
            scan: about.scan.to_string(),
            manager: about.manager.clone(),
            subject: about.subject.clone(),
            alerts: Vec::with_capacity(alerts),
            processes: Vec::new(),
            ancestry: Vec::new(),
            fields: Vec::with_capacity(alerts * 4),
            tags: Vec::with_capacity(alerts * 4),
            texts: Vec::with_capacity(alerts * BYTES_AN_ALERT),
        };
        Self { batch, places: HashMap::new(), last: (&[], wit::Span { start: 0, count: 0 }) }
    }

    fn add(&mut self, about: &About, alert: &'a Alert) {
        let fingerprint = alert.fingerprint();
        let fields = self.fields(alert);
        let tags = self.batch.tags.len();
        for tag in &alert.tags {
            let tag = self.text(tag);
            self.batch.tags.push(tag);
        }
        let tags = span(tags, self.batch.tags.len());
        let alert = wit::Alert {
            id: alert.id,
            time: alert.time,
            last_time: alert.last_time,
            count: alert.count,
            rule: self.text(&alert.rule),
            priority: to_wit(alert.priority),
            output: self.text(&alert.output),
            fields,
            tags,
            source: self.text(&alert.source),
            sensor: self.text(&alert.sensor),
            ancestry: self.ancestry(&alert.ancestry),
            package: alert
                .package
                .as_ref()
                .map(|p| wit::Responsible { name: self.text(&p.name), folder: self.text(&p.folder) }),
            seen_before: about.seen.get(&fingerprint).copied().unwrap_or(0),
            fingerprint: self.text(&fingerprint),
        };
        self.batch.alerts.push(alert);
    }

    fn fields(&mut self, alert: &Alert) -> wit::Span {
        let first = self.batch.fields.len();
        for (name, value) in &alert.output_fields {
            let name = self.text(name);
            let start = self.batch.texts.len();
            // Writing to memory does not fail.
            let _ = serde_json::to_writer(&mut self.batch.texts, value);
            let value = span(start, self.batch.texts.len());
            self.batch.fields.push(wit::Field { name, value });
        }
        span(first, self.batch.fields.len())
    }

    fn ancestry(&mut self, line: &'a [Process]) -> wit::Span {
        if self.last.0 == line {
            return self.last.1;
        }
        let first = self.batch.ancestry.len();
        for process in line {
            let place = match self.places.get(process) {
                Some(place) => *place,
                None => self.process(process),
            };
            self.batch.ancestry.push(place);
        }
        self.last = (line, span(first, self.batch.ancestry.len()));
        self.last.1
    }

    fn process(&mut self, process: &'a Process) -> u32 {
        let place = small(self.batch.processes.len());
        let converted = wit::Process {
            pid: process.pid,
            name: self.text(&process.name),
            exe: self.text(&process.exe),
            cmdline: self.text(&process.cmdline),
            cwd: self.text(&process.cwd),
        };
        self.batch.processes.push(converted);
        self.places.insert(process, place);
        place
    }

    fn text(&mut self, text: &str) -> wit::Span {
        let start = self.batch.texts.len();
        self.batch.texts.extend_from_slice(text.as_bytes());
        span(start, self.batch.texts.len())
    }
}

fn span(start: usize, end: usize) -> wit::Span {
    wit::Span { start: small(start), count: small(end.saturating_sub(start)) }
}

/// What does not fit does not fit a filter's memory either.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// One well-formed decision for each alert of the batch, no more and no less, in the batch's order.
pub(super) fn decisions(
    batch: &wit::Batch,
    answered: Vec<wit::Decision>,
    of: &Revision,
) -> Result<Vec<Decision>, String> {
    let asked = batch.alerts.len();
    if answered.len() != asked {
        return Err(format!("the filter answered {} decisions for {asked} alerts", answered.len()));
    }
    // Most filters answer in the order in which they were asked.
    if answered.iter().zip(&batch.alerts).all(|(answer, alert)| answer.id == alert.id) {
        return answered.into_iter().map(|answer| decision(answer, of)).collect();
    }
    let mut open: HashMap<u64, Option<Decision>> = batch.alerts.iter().map(|a| (a.id, None)).collect();
    for answer in answered {
        let id = answer.id;
        match open.get_mut(&id) {
            Some(place @ None) => *place = Some(decision(answer, of)?),
            _ => {
                return Err(format!("the filter decided twice on alert {id}, or was not asked about it"));
            }
        }
    }
    Ok(batch.alerts.iter().filter_map(|a| open.get_mut(&a.id)?.take()).collect())
}

fn decision(decision: wit::Decision, of: &Revision) -> Result<Decision, String> {
    let mut decision = Decision {
        filter: of.name.to_string(),
        revision: of.number,
        digest: of.digest.clone(),
        action: action(decision.action),
        reason: decision.reason,
        tags: decision.tags,
        pin: decision.pin,
        overruled: String::new(),
    };
    // Bounds count what the filter said; escaping makes it longer.
    decision.check().map_err(|e| e.to_string())?;
    decision.reason = escaped(&decision.reason);
    decision.tags.iter_mut().for_each(|t| *t = escaped(t));
    Ok(decision)
}

fn action(action: wit::Action) -> Action {
    match action {
        wit::Action::Keep => Action::Keep,
        wit::Action::Suppress => Action::Suppress,
        wit::Action::Reprioritise(priority) => Action::Reprioritise(of_wit(priority)),
    }
}

fn to_wit(priority: Priority) -> WitPriority {
    match priority {
        Priority::Emergency => WitPriority::Emergency,
        Priority::Alert => WitPriority::Alert,
        Priority::Critical => WitPriority::Critical,
        Priority::Error => WitPriority::Error,
        Priority::Warning => WitPriority::Warning,
        Priority::Notice => WitPriority::Notice,
        Priority::Informational => WitPriority::Informational,
        Priority::Debug => WitPriority::Debug,
    }
}

fn of_wit(priority: WitPriority) -> Priority {
    match priority {
        WitPriority::Emergency => Priority::Emergency,
        WitPriority::Alert => Priority::Alert,
        WitPriority::Critical => Priority::Critical,
        WitPriority::Error => Priority::Error,
        WitPriority::Warning => Priority::Warning,
        WitPriority::Notice => Priority::Notice,
        WitPriority::Informational => Priority::Informational,
        WitPriority::Debug => Priority::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::ports::Seen;

    fn process(pid: u32) -> Process {
        Process { pid, name: format!("p{pid}"), exe: "/usr/bin/ä".into(), ..Process::default() }
    }

    fn alert(id: u64, line: &[u32]) -> Alert {
        Alert {
            id,
            time: 1,
            last_time: 2,
            count: 1,
            rule: format!("rule {id}"),
            priority: Priority::Notice,
            output: "ö".into(),
            output_fields: [("n".to_owned(), 7.into()), ("t".to_owned(), "a\"b".into())].into(),
            tags: vec!["x".into(), "yy".into()],
            source: "syscall".into(),
            hostname: "h".into(),
            sensor: "builtin".into(),
            also_seen_by: vec![],
            ancestry: line.iter().copied().map(process).collect(),
            package: (id == 1).then(|| lanner_core::Responsible { name: "p".into(), folder: ".".into() }),
        }
    }

    #[test]
    fn what_an_alert_points_to_is_what_it_had_and_each_process_is_there_once() {
        let alerts = [alert(1, &[3, 2, 1]), alert(2, &[3, 2, 1]), alert(3, &[2, 1]), alert(4, &[])];
        let seen = Seen::from([(alerts[2].fingerprint(), 5)]);
        let about = About {
            scan: lanner_core::ScanId::new(1, [1; 10]),
            manager: "npm".into(),
            subject: "s".into(),
            seen,
        };
        let batch = batch(&about, &alerts);
        let part = |of: wit::Span| of.start as usize..(of.start + of.count) as usize;
        let text = |of: wit::Span| String::from_utf8(batch.texts[part(of)].to_vec()).unwrap();
        assert_eq!((batch.processes.len(), batch.alerts.len()), (3, 4));
        for (is, was) in batch.alerts.iter().zip(&alerts) {
            assert_eq!((is.id, text(is.rule), text(is.output)), (was.id, was.rule.clone(), "ö".into()));
            let line: Vec<u32> = batch.ancestry[part(is.ancestry)].to_vec();
            let line = line.iter().map(|at| batch.processes[*at as usize]);
            assert!(line.clone().map(|p| p.pid).eq(was.ancestry.iter().map(|p| p.pid)));
            assert!(
                line.clone().all(|p| text(p.exe) == "/usr/bin/ä" && text(p.name) == format!("p{}", p.pid))
            );
            assert!(batch.tags[part(is.tags)].iter().map(|t| text(*t)).eq(was.tags.iter().cloned()));
            let fields = batch.fields[part(is.fields)].iter().map(|f| [text(f.name), text(f.value)]);
            let fields: Vec<_> = fields.collect();
            assert_eq!(fields, [["n", "7"], ["t", r#""a\"b""#]]);
            assert_eq!(text(is.fingerprint), was.fingerprint());
        }
        assert!(batch.alerts[0].package.is_some() && batch.alerts[1].package.is_none());
        assert_eq!(batch.alerts.iter().map(|a| a.seen_before).collect::<Vec<_>>(), [0, 0, 5, 0]);
    }
}
