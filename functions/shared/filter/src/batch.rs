//! A batch as it is read: each alert with the texts and lists that it points to. Nothing is copied, and a text is looked at
//! only when it is asked for.
//!
//! It knows the bindings of the world `alert-filter`, one module up, and nothing else: it is written into each new project
//! in Rust as it stands here.

#![allow(dead_code, reason = "a filter takes from it what it needs")]

use super::bindings::exports::lanner::platform::filter::{Alert, Batch, Field, Process, Responsible, Span};
use super::bindings::lanner::platform::types::Priority;

/// An alert of a batch. Numbers and the priority are read from `alert`.
#[derive(Clone, Copy)]
pub struct AlertView<'a> {
    pub alert: &'a Alert,
    pub batch: &'a Batch,
}

/// A process that an alert points to.
#[derive(Clone, Copy)]
pub struct ProcessView<'a> {
    pub process: &'a Process,
    pub batch: &'a Batch,
}

/// An alert in plain words, from which tests make a batch.
#[derive(Clone, Debug)]
pub struct Plain<'a> {
    pub id: u64,
    pub time: i64,
    pub last_time: i64,
    pub count: u64,
    pub rule: &'a str,
    pub priority: Priority,
    pub output: &'a str,
    /// Names and values as JSON.
    pub fields: &'a [(&'a str, &'a str)],
    pub tags: &'a [&'a str],
    /// Name, program and command line, nearest first.
    pub ancestry: &'a [(&'a str, &'a str, &'a str)],
    /// Name and folder.
    pub package: Option<(&'a str, &'a str)>,
    pub fingerprint: &'a str,
    pub seen_before: u32,
}

impl Batch {
    pub fn views(&self) -> impl ExactSizeIterator<Item = AlertView<'_>> {
        self.alerts.iter().map(|alert| AlertView { alert, batch: self })
    }

    /// What a span of `texts` says; nothing where there is none.
    pub fn text(&self, of: Span) -> &str {
        std::str::from_utf8(part(&self.texts, of)).unwrap_or_default()
    }
}

impl<'a> AlertView<'a> {
    pub fn rule(self) -> &'a str {
        self.batch.text(self.alert.rule)
    }

    pub fn output(self) -> &'a str {
        self.batch.text(self.alert.output)
    }

    pub fn source(self) -> &'a str {
        self.batch.text(self.alert.source)
    }

    pub fn sensor(self) -> &'a str {
        self.batch.text(self.alert.sensor)
    }

    pub fn fingerprint(self) -> &'a str {
        self.batch.text(self.alert.fingerprint)
    }

    /// Names and values as JSON.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let fields = part(&self.batch.fields, self.alert.fields);
        fields.iter().map(move |field| (self.batch.text(field.name), self.batch.text(field.value)))
    }

    /// A field's value as JSON.
    pub fn field(self, name: &str) -> Option<&'a str> {
        self.fields().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    pub fn tags(self) -> impl Iterator<Item = &'a str> {
        part(&self.batch.tags, self.alert.tags).iter().map(move |tag| self.batch.text(*tag))
    }

    /// The process that did it, then its ancestors, nearest first.
    pub fn ancestry(self) -> impl Iterator<Item = ProcessView<'a>> {
        let batch = self.batch;
        let places = part(&batch.ancestry, self.alert.ancestry).iter();
        places.filter_map(move |place| {
            let process = batch.processes.get(usize::try_from(*place).ok()?)?;
            Some(ProcessView { process, batch })
        })
    }

    /// The name of the package responsible, and its folder.
    pub fn package(self) -> Option<(&'a str, &'a str)> {
        let of = self.alert.package.as_ref()?;
        Some((self.batch.text(of.name), self.batch.text(of.folder)))
    }
}

impl<'a> ProcessView<'a> {
    pub fn name(self) -> &'a str {
        self.batch.text(self.process.name)
    }

    pub fn exe(self) -> &'a str {
        self.batch.text(self.process.exe)
    }

    pub fn cmdline(self) -> &'a str {
        self.batch.text(self.process.cmdline)
    }

    pub fn cwd(self) -> &'a str {
        self.batch.text(self.process.cwd)
    }
}

fn part<T>(list: &[T], of: Span) -> &[T] {
    let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let start = place(of.start);
    list.get(start..start.saturating_add(place(of.count))).unwrap_or_default()
}

impl Default for Plain<'_> {
    fn default() -> Self {
        Self {
            id: 1,
            time: 1,
            last_time: 1,
            count: 1,
            rule: "",
            priority: Priority::Warning,
            output: "",
            fields: &[],
            tags: &[],
            ancestry: &[],
            package: None,
            fingerprint: "0000000000000000",
            seen_before: 0,
        }
    }
}

impl Batch {
    /// As the host makes one, of a project `shop` that is installed with npm.
    pub fn of(alerts: &[Plain<'_>]) -> Self {
        let mut batch = Self {
            scan: "s".into(),
            manager: "npm".into(),
            subject: "shop".into(),
            alerts: Vec::new(),
            processes: Vec::new(),
            ancestry: Vec::new(),
            fields: Vec::new(),
            tags: Vec::new(),
            texts: Vec::new(),
        };
        alerts.iter().for_each(|alert| batch.add(alert));
        batch
    }

    fn add(&mut self, plain: &Plain<'_>) {
        let starts = [self.fields.len(), self.tags.len(), self.ancestry.len()];
        for (name, value) in plain.fields {
            let field = Field { name: self.put(name), value: self.put(value) };
            self.fields.push(field);
        }
        for tag in plain.tags {
            let tag = self.put(tag);
            self.tags.push(tag);
        }
        for (name, exe, cmdline) in plain.ancestry {
            let (name, exe, cmdline) = (self.put(name), self.put(exe), self.put(cmdline));
            self.ancestry.push(small(self.processes.len()));
            let cwd = self.put("/home/u/app");
            self.processes.push(Process { pid: 1, name, exe, cmdline, cwd });
        }
        let [fields, tags, ancestry] = starts;
        let alert = Alert {
            id: plain.id,
            time: plain.time,
            last_time: plain.last_time,
            count: plain.count,
            rule: self.put(plain.rule),
            priority: plain.priority,
            output: self.put(plain.output),
            fields: span(fields, self.fields.len()),
            tags: span(tags, self.tags.len()),
            source: self.put("syscall"),
            sensor: self.put("builtin"),
            ancestry: span(ancestry, self.ancestry.len()),
            package: plain
                .package
                .map(|(name, folder)| Responsible { name: self.put(name), folder: self.put(folder) }),
            fingerprint: self.put(plain.fingerprint),
            seen_before: plain.seen_before,
        };
        self.alerts.push(alert);
    }

    fn put(&mut self, text: &str) -> Span {
        let start = self.texts.len();
        self.texts.extend_from_slice(text.as_bytes());
        span(start, self.texts.len())
    }
}

fn span(start: usize, end: usize) -> Span {
    Span { start: small(start), count: small(end - start) }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_read_and_what_points_elsewhere_is_nothing() {
        let mut batch = Batch::of(&[Plain {
            rule: "r",
            fields: &[("a", "1"), ("b", "\"ä\"")],
            tags: &["x", "y"],
            ancestry: &[("node", "/usr/bin/node", "node a.js"), ("npm", "/usr/bin/npm", "npm")],
            package: Some(("p", ".")),
            ..Plain::default()
        }]);
        let view = batch.views().next().unwrap();
        assert_eq!((view.rule(), view.package(), view.source()), ("r", Some(("p", ".")), "syscall"));
        assert_eq!((view.field("b"), view.field("c")), (Some("\"ä\""), None));
        assert!(view.tags().eq(["x", "y"]));
        assert!(view.ancestry().map(ProcessView::exe).eq(["/usr/bin/node", "/usr/bin/npm"]));
        batch.alerts[0].rule = Span { start: u32::MAX, count: u32::MAX };
        batch.alerts[0].tags.count = 3;
        batch.ancestry[1] = 9;
        let view = batch.views().next().unwrap();
        assert_eq!((view.rule(), view.tags().count(), view.ancestry().count()), ("", 0, 1));
    }
}
