//! What rules reach: their macros and lists in the order in which Falco must meet them, under our prefix, every field and
//! event type checked.
//!
//! A name is prefixed where it stands in the text, so that a condition keeps its author's words.

use std::collections::BTreeSet;

use crate::FieldName;
use crate::condition::{Expr, Word};
use crate::diagnostics::Diagnostics;
use crate::document::{Document, RawRule, Text};
use crate::output::{self, Part};
use crate::resolve;

use super::{PREFIX, SCOPE, Translated, WHOSE, has_field, known};

pub(super) struct Walk<'d> {
    document: &'d Document,
    /// For messages: the file to write into.
    dialect: &'d str,
    seen: BTreeSet<&'d str>,
    /// A macro or list comes after what it is made of.
    pub(super) lists: Vec<(&'d str, Vec<String>)>,
    pub(super) macros: Vec<(&'d str, String)>,
}

/// Where a condition stands.
struct Place<'p> {
    text: &'p Text,
    rule: &'p str,
    /// The macro, unless it is the rule's own condition.
    within: Option<&'p str>,
}

impl<'d> Walk<'d> {
    pub(super) fn new(document: &'d Document, dialect: &'d str) -> Self {
        Self { document, dialect, seen: BTreeSet::new(), lists: Vec::new(), macros: Vec::new() }
    }

    /// Whether a rule uses the macro.
    pub(super) fn reached(&self, name: &str) -> bool {
        self.macros.iter().any(|(known, _)| *known == name)
    }

    pub(super) fn rule(
        &mut self,
        raw: &'d RawRule,
        scoped: bool,
        diagnostics: &mut Diagnostics,
    ) -> Translated<'d> {
        if scoped {
            self.scope(&raw.name, diagnostics);
        }
        let place = Place { text: &raw.condition, rule: &raw.name, within: None };
        let own = self.condition(&place, diagnostics);
        let condition = if scoped { format!("{PREFIX}{SCOPE} and ({own})") } else { own };
        let output = self.output(raw, scoped, diagnostics);
        Translated { raw, condition, output }
    }

    fn scope(&mut self, rule: &str, diagnostics: &mut Diagnostics) {
        match self.document.macros.get_key_value(SCOPE) {
            Some((name, text)) => self.macro_(name, text, rule, diagnostics),
            None => {
                let message = format!("there is no macro `{SCOPE}`, which keeps rules to our containers");
                diagnostics.add(self.dialect, 0, message);
            }
        }
    }

    fn macro_(&mut self, name: &'d str, text: &'d Text, rule: &str, diagnostics: &mut Diagnostics) {
        if self.seen.insert(name) {
            let condition = self.condition(&Place { text, rule, within: Some(name) }, diagnostics);
            self.macros.push((name, condition));
        }
    }

    /// The text with each macro's and list's name prefixed.
    fn condition(&mut self, place: &Place<'_>, diagnostics: &mut Diagnostics) -> String {
        let label = format!("rule `{}`", place.rule);
        let Some(expr) = resolve::parse(place.text, &label, diagnostics) else { return String::new() };
        let mut names = Vec::new();
        self.expr(&expr, place, &mut names, diagnostics);
        names.sort_unstable();
        let mut text = place.text.value.clone();
        for at in names.into_iter().rev() {
            text.insert_str(at, PREFIX);
        }
        text.trim().to_owned()
    }

    fn expr(
        &mut self,
        expr: &Expr,
        place: &Place<'_>,
        names: &mut Vec<usize>,
        diagnostics: &mut Diagnostics,
    ) {
        match expr {
            Expr::And(terms) | Expr::Or(terms) => {
                terms.iter().for_each(|term| self.expr(term, place, names, diagnostics));
            }
            Expr::Not(inner) => self.expr(inner, place, names, diagnostics),
            Expr::Macro { name, at } => match self.document.macros.get_key_value(name) {
                Some((name, text)) => {
                    names.push(*at);
                    self.macro_(name, text, place.rule, diagnostics);
                }
                None => diagnostics.at(&place.text.place(*at), format!("there is no macro `{name}`")),
            },
            Expr::Exists { field, at } => self.field(field, *at, place, diagnostics),
            Expr::Compare { field, at, words, .. } => {
                self.field(field, *at, place, diagnostics);
                words.iter().for_each(|word| self.word(field, word, place, names, diagnostics));
            }
            Expr::CompareList { field, at, list, .. } => {
                self.field(field, *at, place, diagnostics);
                self.word(field, list, place, names, diagnostics);
            }
        }
    }

    fn field(&self, field: &FieldName, at: usize, place: &Place<'_>, diagnostics: &mut Diagnostics) {
        if !has_field(field) {
            self.refuse(&format!("the field `{field}`"), at, place, diagnostics);
        }
    }

    /// A value, or the name of a list of them.
    fn word(
        &mut self,
        field: &FieldName,
        word: &Word,
        place: &Place<'_>,
        names: &mut Vec<usize>,
        diagnostics: &mut Diagnostics,
    ) {
        let list = self.document.lists.get_key_value(&word.text).filter(|_| !word.quoted);
        if let Some((name, _)) = list {
            names.push(word.at);
            self.list(name);
        } else if field.is_event_type() && !known::EVENT_TYPES.contains(&word.text.as_str()) {
            self.refuse(&format!("the event type `{}`", word.text), word.at, place, diagnostics);
        }
    }

    fn list(&mut self, name: &'d str) {
        let Some(list) = self.document.lists.get(name).filter(|_| self.seen.insert(name)) else { return };
        let mut items = Vec::new();
        for (item, _) in &list.items {
            match self.document.lists.get_key_value(item) {
                Some((inner, _)) => {
                    self.list(inner);
                    items.push(format!("{PREFIX}{inner}"));
                }
                None => items.push(item.clone()),
            }
        }
        self.lists.push((name, items));
    }

    /// Without the words of which only we know the value, and with what says whose alert it is.
    fn output(&self, raw: &RawRule, scoped: bool, diagnostics: &mut Diagnostics) -> String {
        let text = raw.output.value.trim();
        if !scoped {
            return text.to_owned();
        }
        let ours = |word: &&str| !word.contains("%lanner.");
        let kept = text.split(' ').filter(ours).collect::<Vec<_>>().join(" ") + WHOSE;
        let place = Place { text: &raw.output, rule: &raw.name, within: None };
        for part in output::parse(&kept).unwrap_or_default() {
            if let Part::Field(field) = part {
                self.field(&field, 0, &place, diagnostics);
            }
        }
        kept
    }

    fn refuse(&self, what: &str, at: usize, place: &Place<'_>, diagnostics: &mut Diagnostics) {
        let Place { text, rule, within } = place;
        let (by, remedy) = match within {
            Some(name) => (format!(", by macro `{name}`,"), format!("a macro `{name}` of its own")),
            None => (String::new(), "a macro for it".to_owned()),
        };
        let message = format!(
            "rule `{rule}` asks{by} for {what}, which Falco does not have: give {} {remedy}, or the rule with `enabled: \
             false` and a `desc` that says why",
            self.dialect
        );
        diagnostics.at(&text.place(at), message);
    }
}
