//! How long an event takes that matches nothing, with Lanner's own rules: most events of an installation are such.
//!
//! `cargo run --release -p lanner-rules --example evaluate` prints a line per event. For profiling, not a benchmark with
//! statistics: a single number is enough to see that something became ten times slower.

use std::borrow::Cow;
use std::time::Instant;

use lanner_rules::{Event, LANNER_RULES, RuleSet, Source, Value};

const ROUNDS: u32 = 1_000_000;

/// An event whose fields are ready to be borrowed, as a sensor's are.
struct Ready<'e> {
    event_type: &'e str,
    fields: Vec<Value<'e>>,
}

impl Event for Ready<'_> {
    fn event_type(&self) -> &str {
        self.event_type
    }

    fn field(&self, index: usize) -> Value<'_> {
        match self.fields.get(index) {
            Some(Value::Text(text)) => Value::Text(Cow::Borrowed(text.as_ref())),
            Some(other) => other.clone(),
            None => Value::Missing,
        }
    }
}

fn main() {
    let source = Source { name: "lanner_rules.yaml", text: LANNER_RULES };
    let rules = match RuleSet::compile(&[source], &|_| true) {
        Ok(rules) => rules,
        Err(found) => return found.iter().for_each(|diagnostic| println!("{diagnostic}")),
    };
    let module = "/home/u/project/node_modules/express/lib/router/index.js";
    let cache = "/home/u/.npm/_cacache/content-v2/sha512/3e/84/9f2a7ac2f27a7f7d9cb1f0c0b6";
    let system = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6";
    let flags = |home, project| [("lanner.in_home", home), ("lanner.in_project", project)];
    measure(&rules, "openat read in project", "openat", module, true, &flags(true, true));
    measure(&rules, "openat read in cache", "openat", cache, true, &flags(true, false));
    measure(&rules, "openat read of system", "openat", system, true, &flags(false, false));
    measure(&rules, "openat write in cache", "openat", cache, false, &flags(true, false));
    measure(&rules, "execve in package", "execve", module, true, &flags(true, true));
    measure(&rules, "an unwatched type", "getpid", "", true, &[]);
}

fn measure(rules: &RuleSet, what: &str, event_type: &str, path: &str, read: bool, flags: &[(&str, bool)]) {
    let value = |name: &str| match name {
        "fd.name" | "fd.nameraw" => text(path),
        "fd.filename" => text(path.rsplit('/').next().unwrap_or_default()),
        "fd.type" => text("file"),
        "proc.name" => text("node"),
        "proc.exepath" => text("/usr/bin/node"),
        "proc.cmdline" => text("node /usr/bin/npm install --no-audit --no-fund express@4.18.2"),
        "proc.args" => text("/usr/bin/npm install --no-audit --no-fund express@4.18.2"),
        "evt.is_open_read" => Value::Flag(read),
        "evt.is_open_write" => Value::Flag(!read),
        "proc.stdin.type" => text("unix"),
        "lanner.package" | "evt.res" => text("express"),
        "lanner.argv_utf8" => Value::Flag(true),
        "lanner.proxy_allowed" => Value::Missing,
        name => match flags.iter().find(|(flag, _)| *flag == name) {
            Some((_, on)) => Value::Flag(*on),
            None if name.starts_with("lanner.") => Value::Flag(false),
            None => Value::Missing,
        },
    };
    let fields = rules.fields().iter().map(|field| value(&field.name)).collect();
    let event = Ready { event_type, fields };
    let matches = rules.evaluate(&event);
    let names: Vec<_> = matches.iter().map(|found| found.rule.name.as_str()).collect();
    let begin = Instant::now();
    let mut found = 0;
    for _ in 0..ROUNDS {
        found += std::hint::black_box(rules.evaluate(std::hint::black_box(&event))).len();
    }
    let each = begin.elapsed() / ROUNDS;
    println!("{what}: {} ns, {found} matches {names:?}", each.as_nanos());
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text.as_bytes()))
}
