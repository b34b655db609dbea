//! The Falco rule language: parse, resolve, compile, evaluate over an event.
//!
//! Pure: text and events in, matches out. It knows no system call, no process and no file; what a field means is the
//! event's knowledge. Whatever is wrong with a rules file comes back as [`Diagnostic`]s with file and line, all at
//! once; evaluating never fails.

#![forbid(unsafe_code)]

mod compile;
mod condition;
mod diagnostics;
mod document;
mod evaluate;
pub mod falco;
mod glob;
mod limits;
mod needles;
mod net;
mod output;
mod plan;
mod resolve;
mod test;
mod yaml;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use compile::{Candidates, Compiled, Piece};
use evaluate::Memo;
use output::Line;

/// Lanner's own rules, for what an installation may not do.
pub const LANNER_RULES: &str = include_str!("../lanner_rules.yaml");

/// Compiled rules, ready to evaluate.
#[derive(Debug)]
pub struct RuleSet {
    fields: Vec<FieldName>,
    field_names: Vec<String>,
    rules: Vec<Compiled>,
    by_type: HashMap<Box<str>, Candidates>,
    otherwise: Candidates,
}

/// One rules file: its name is for messages.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// A field as a rule names it: `proc.name`, `proc.aname[2]`, `proc.env[NODE_OPTIONS]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldName {
    pub name: String,
    pub argument: Option<String>,
}

/// A field's value in an event. Text is bytes: paths and arguments need not be UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Falco's `<NA>`: not set for this event. Compares unequal to everything; `exists` is false.
    Missing,
    Text(Cow<'a, [u8]>),
    Number(i64),
    Flag(bool),
    Address(IpAddr),
    List(Vec<Cow<'a, [u8]>>),
}

/// What rules are evaluated over.
pub trait Event {
    /// `openat`, `execve`, … as in Falco's `evt.type`.
    fn event_type(&self) -> &str;
    /// The value of the field at this index of [`RuleSet::fields`].
    fn field(&self, index: usize) -> Value<'_>;
}

/// A rule that matched.
#[derive(Clone, Debug)]
pub struct Match<'r> {
    pub rule: &'r Rule,
    /// The rule's output with its fields filled in: one line, at most [`MAX_OUTPUT`] bytes, not necessarily UTF-8.
    pub output: Vec<u8>,
    /// The output's fields by their full name (`proc.aname[2]`), each once.
    pub fields: Vec<(&'r str, Value<'static>)>,
}

/// A rule as far as its readers need it.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub description: String,
    pub priority: Priority,
    pub tags: Vec<String>,
    pub source: String,
}

/// Falco's priorities, by the number its outputs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    Emergency = 0,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Informational,
    Debug,
}

/// Something wrong in a rules file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub source: String,
    /// From 1; 0 when the whole file is meant.
    pub line: usize,
    pub message: String,
}

pub const MAX_OUTPUT: usize = 8192;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.source, self.line, self.message)
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.argument {
            Some(argument) => write!(f, "{}[{argument}]", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FieldName {
    /// `evt.type` is answered by [`Event::event_type`], never by [`Event::field`].
    fn is_event_type(&self) -> bool {
        self.name == "evt.type" && self.argument.is_none()
    }
}

impl RuleSet {
    /// Compiles rules files in order; a later definition of a name replaces the earlier one, and macros and lists may
    /// be used in any file. `known` says whether the caller's events have a field; a rule that names another is
    /// refused. What is wrong comes back all at once.
    pub fn compile(
        sources: &[Source<'_>],
        known: &dyn Fn(&FieldName) -> bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        compile::compile(sources, known)
    }

    /// Every field that some rule's condition or output names: the index is what [`Event::field`] gets.
    pub fn fields(&self) -> &[FieldName] {
        &self.fields
    }

    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|compiled| &compiled.rule)
    }

    /// Whether any rule can match an event of this type: the sensor skips the others.
    pub fn watches(&self, event_type: &str) -> bool {
        !self.candidates(event_type).is_empty()
    }

    /// Every rule that matches, in file order.
    pub fn evaluate<'r>(&'r self, event: &dyn Event) -> Vec<Match<'r>> {
        let mut memo = Memo::new();
        let matching = self
            .candidates(event.event_type())
            .iter()
            .filter(|(_, condition)| condition.holds(event, &mut memo));
        matching
            .filter_map(|(rule, _)| self.rules.get(*rule))
            .map(|compiled| self.describe(compiled, event))
            .collect()
    }

    fn candidates(&self, event_type: &str) -> &Candidates {
        self.by_type.get(event_type).unwrap_or(&self.otherwise)
    }

    fn describe<'r>(&'r self, compiled: &'r Compiled, event: &dyn Event) -> Match<'r> {
        let mut line = Line::default();
        let mut fields: Vec<(&'r str, Value<'static>)> = Vec::new();
        for piece in &compiled.output {
            let (name, value) = match piece {
                Piece::Literal(text) => {
                    line.literal(text);
                    continue;
                }
                Piece::Field(index) => {
                    (self.field_names.get(*index).map_or("", String::as_str), event.field(*index))
                }
                Piece::EventType => ("evt.type", Value::Text(event.event_type().as_bytes().into())),
            };
            line.value(&value);
            if fields.iter().all(|(seen, _)| *seen != name) {
                fields.push((name, output::owned(value)));
            }
        }
        Match { rule: &compiled.rule, output: line.finish(), fields }
    }
}
