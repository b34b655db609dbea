//! Judges events by the rules and folds what repeats: the same rule, program, package and target are one alert.
//!
//! The table of folds is bounded by the scan's limit on distinct alerts; what exceeds it is a gap, not silence.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use lanner_proto::agent::agent_message::Body;
use lanner_proto::agent::{self, field};
use lanner_rules::{Match, RuleSet, Value};

use super::event::{CallEvent, Field};
use super::process::Process;

/// Of each ancestor's program, command line and folder so much is told: all of an alert must fit into one message.
const MAX_ANCESTOR_TEXT: usize = 512;

/// Repeats are told this often at the most.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Judge {
    rules: RuleSet,
    fields: Rc<[Field]>,
    folds: HashMap<Key, Fold>,
    last_id: u64,
    max: u32,
    flushed: Instant,
    over: bool,
}

type Key = (String, Vec<u8>, Vec<u8>, Vec<u8>);

struct Fold {
    id: u64,
    count: u64,
    told: u64,
    last_time: i64,
}

impl Judge {
    pub(super) fn new(rules: RuleSet, max: u32) -> Self {
        let fields = rules.fields().iter().map(|f| Field::parse(f).unwrap_or(Field::FdNumber)).collect();
        Self { rules, fields, folds: HashMap::new(), last_id: 0, max, flushed: Instant::now(), over: false }
    }

    pub(super) fn watches(&self, kind: &str) -> bool {
        self.rules.watches(kind)
    }

    pub(super) fn fields(&self) -> Rc<[Field]> {
        self.fields.clone()
    }

    /// The environment variables that the rules ask for.
    pub(super) fn variables(&self) -> Vec<String> {
        let name = |field: &Field| if let Field::Env(name) = field { Some(name.clone()) } else { None };
        self.fields.iter().filter_map(name).collect()
    }

    /// Judges one event; whatever is new goes out at once.
    pub(super) fn judge(
        &mut self,
        event: &CallEvent<'_>,
        out: &mut dyn FnMut(Body) -> io::Result<()>,
    ) -> io::Result<()> {
        let time = event.known.time;
        let mut news = Vec::new();
        for matched in self.rules.evaluate(event) {
            let key = key(&matched, event);
            if let Some(fold) = self.folds.get_mut(&key) {
                fold.count += 1;
                fold.last_time = time;
                continue;
            }
            if self.folds.len() >= usize::try_from(self.max).unwrap_or(usize::MAX) {
                if !std::mem::replace(&mut self.over, true) {
                    let detail = format!("more than {} distinct alerts", self.max);
                    news.push(Body::Gap(agent::Gap { kind: agent::gap::Kind::Limit.into(), detail }));
                }
                continue;
            }
            self.last_id += 1;
            self.folds.insert(key, Fold { id: self.last_id, count: 1, told: 1, last_time: time });
            news.push(Body::Alert(alert(self.last_id, time, &matched, event.line)));
        }
        news.into_iter().try_for_each(out)
    }

    /// Tells of repeats, now and then or (at the end) at once.
    pub(super) fn flush(&mut self, now: bool, out: &mut dyn FnMut(Body) -> io::Result<()>) -> io::Result<()> {
        if !now && self.flushed.elapsed() < FLUSH_EVERY {
            return Ok(());
        }
        self.flushed = Instant::now();
        for fold in self.folds.values_mut().filter(|f| f.count > f.told) {
            fold.told = fold.count;
            let (id, count, last_time_ns) = (fold.id, fold.count, fold.last_time);
            out(Body::AlertRepeated(agent::AlertRepeated { id, count, last_time_ns }))?;
        }
        Ok(())
    }
}

fn key(matched: &Match<'_>, event: &CallEvent<'_>) -> Key {
    let process = event.line.first();
    let subject = event.subject;
    let target = match (&subject.path, &subject.host, subject.address) {
        (_, Some(host), _) => host.clone().into_bytes(),
        (Some(path), None, _) => path.clone(),
        (None, None, Some(address)) => address.to_string().into_bytes(),
        (None, None, None) => Vec::new(),
    };
    let exe = process.map(|p| p.exe.clone()).unwrap_or_default();
    let package = process.and_then(|p| p.package.as_ref()).map(|p| p.folder.clone()).unwrap_or_default();
    (matched.rule.name.clone(), exe, package, target)
}

fn alert(id: u64, time_ns: i64, matched: &Match<'_>, line: &[Rc<Process>]) -> agent::Alert {
    let package = line.first().and_then(|p| p.package.as_ref());
    agent::Alert {
        id,
        time_ns,
        rule: matched.rule.name.clone(),
        priority: matched.rule.priority as u32,
        output: matched.output.clone(),
        fields: matched.fields.iter().map(|(name, value)| field(name, value)).collect(),
        tags: matched.rule.tags.clone(),
        ancestry: line.iter().enumerate().map(|(i, p)| process(p, i)).collect(),
        package_name: package.map(|p| p.name.clone()).unwrap_or_default(),
        package_folder: package.map(|p| p.folder.clone()).unwrap_or_default(),
    }
}

fn process(process: &Process, generation: usize) -> agent::Process {
    let max = if generation == 0 { usize::MAX } else { MAX_ANCESTOR_TEXT };
    let bounded = |text: &[u8]| text.get(..max).unwrap_or(text).to_vec();
    let spaced: Vec<u8> = process.arguments.iter().map(|b| if *b == 0 { b' ' } else { *b }).collect();
    agent::Process {
        pid: process.pid.unsigned_abs(),
        name: process.name.clone(),
        exe: bounded(&process.exe),
        cmdline: bounded(&spaced),
        cwd: bounded(&process.cwd),
    }
}

fn field(name: &str, value: &Value<'_>) -> agent::Field {
    let value = match value {
        Value::Missing => None,
        Value::Text(text) => Some(field::Value::Text(text.to_vec())),
        Value::Number(number) => Some(field::Value::Number(*number)),
        Value::Flag(flag) => Some(field::Value::Flag(*flag)),
        Value::Address(address) => Some(field::Value::Text(address.to_string().into_bytes())),
        Value::List(items) => {
            Some(field::Value::List(agent::TextList { items: items.iter().map(|i| i.to_vec()).collect() }))
        }
    };
    agent::Field { name: name.to_owned(), value }
}
