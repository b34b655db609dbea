//! Names to what they stand for: lists into values, macros into conditions, fields into indices.
//!
//! Cycles are found first and reported by name; after that every macro is resolved once, however many rules use it.
//! Only macros that an enabled rule reaches need their fields to be known: a shared file may define more than one
//! sensor can answer.

mod circles;
mod spelling;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::FieldName;
use crate::condition::{self, Expr, Op, Word};
use crate::diagnostics::Diagnostics;
use crate::document::{Document, Text};
use crate::glob::Glob;
use crate::limits::{MAX_DEPTH, MAX_LIST, MAX_VALUES};
use crate::needles::Needles;
use crate::plan::{NodeId, Plan};
use crate::test::{Operand, Set, Test, parse_number};

pub(crate) struct Resolver<'a> {
    document: &'a Document,
    known: &'a dyn Fn(&FieldName) -> bool,
    parsed: BTreeMap<&'a str, Expr>,
    /// Macros that are part of a cycle or nested too deep: reported once, `false` wherever they are used.
    broken: HashSet<&'a str>,
    macros: HashMap<&'a str, NodeId>,
    lists: HashMap<&'a str, Vec<String>>,
    depth: usize,
    /// Values copied so far: lists in lists and in many rules could multiply without end.
    values: usize,
    pub(crate) plan: Plan,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(
        document: &'a Document,
        known: &'a dyn Fn(&FieldName) -> bool,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let mut parsed = BTreeMap::new();
        for (name, text) in &document.macros {
            if let Some(expr) = parse(text, &format!("macro `{name}`"), diagnostics) {
                parsed.insert(name.as_str(), expr);
            }
        }
        let mut resolver = Self {
            document,
            known,
            parsed,
            broken: HashSet::new(),
            macros: HashMap::new(),
            lists: HashMap::new(),
            depth: 0,
            values: 0,
            plan: Plan::default(),
        };
        resolver.resolve_lists(diagnostics);
        resolver.find_cycles(diagnostics);
        resolver
    }

    /// A rule's condition; whatever is wrong in it is in the diagnostics.
    pub(crate) fn rule(&mut self, name: &str, text: &'a Text, diagnostics: &mut Diagnostics) -> NodeId {
        let label = format!("rule `{name}`");
        match parse(text, &label, diagnostics) {
            Some(expr) => self.expr(&expr, &Scope { text, label }, diagnostics),
            None => self.plan.constant(false),
        }
    }

    fn expr(&mut self, expr: &Expr, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> NodeId {
        if self.depth >= MAX_DEPTH {
            scope.report(0, &format!("nested deeper than {MAX_DEPTH} with its macros put in"), diagnostics);
            return self.plan.constant(false);
        }
        self.depth += 1;
        let id = self.node(expr, scope, diagnostics);
        self.depth -= 1;
        id
    }

    fn node(&mut self, expr: &Expr, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> NodeId {
        match expr {
            Expr::And(terms) => {
                let terms = terms.iter().map(|term| self.expr(term, scope, diagnostics)).collect();
                self.plan.and(terms)
            }
            Expr::Or(terms) => {
                let terms = terms.iter().map(|term| self.expr(term, scope, diagnostics)).collect();
                self.plan.or(terms)
            }
            Expr::Not(inner) => {
                let inner = self.expr(inner, scope, diagnostics);
                self.plan.not(inner)
            }
            Expr::Macro { name, at } => self.macro_(name, *at, scope, diagnostics),
            Expr::Exists { field, at } => self.test(field, *at, Test::Exists, scope, diagnostics),
            Expr::Compare { field, at, op, words } => match self.values(*op, words, scope, diagnostics) {
                Some(values) => self.compare(field, *at, *op, &values, scope, diagnostics),
                None => self.plan.constant(false),
            },
            Expr::CompareList { field, at, op, list } => {
                if list.quoted || !self.lists.contains_key(list.text.as_str()) {
                    let message = format!(
                        "there is no list `{}`; a single value needs parentheses: `({0})`",
                        list.text
                    );
                    scope.report(list.at, &message, diagnostics);
                    return self.plan.constant(false);
                }
                match self.values(*op, std::slice::from_ref(list), scope, diagnostics) {
                    Some(values) => self.compare(field, *at, *op, &values, scope, diagnostics),
                    None => self.plan.constant(false),
                }
            }
        }
    }

    fn macro_(&mut self, name: &str, at: usize, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> NodeId {
        if let Some(id) = self.macros.get(name) {
            return *id;
        }
        let Some((name, text)) = self.document.macros.get_key_value(name) else {
            let hint = match spelling::closest(name, self.document.macros.keys().map(String::as_str)) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => "; define it with `- macro:`".to_owned(),
            };
            scope.report(at, &format!("there is no macro `{name}`{hint}"), diagnostics);
            return self.plan.constant(false);
        };
        // A macro that did not parse, or is part of a cycle, has been reported where it is defined.
        let id = match self.parsed.remove(name.as_str()) {
            Some(expr) if !self.broken.contains(name.as_str()) => {
                let scope = Scope { text, label: format!("macro `{name}`") };
                self.expr(&expr, &scope, diagnostics)
            }
            _ => self.plan.constant(false),
        };
        self.macros.insert(name, id);
        id
    }

    /// The operands of a comparison, with lists put in for their names.
    fn values(
        &mut self,
        op: Op,
        words: &[Word],
        scope: &Scope<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<String>> {
        let mut values = Vec::new();
        for word in words {
            match self.lists.get(word.text.as_str()) {
                Some(list) if op.takes_list() && !word.quoted => values.extend_from_slice(list),
                _ => values.push(word.text.clone()),
            }
            if values.len() > MAX_LIST {
                scope.report(word.at, &format!("more than {MAX_LIST} values in one comparison"), diagnostics);
                return None;
            }
        }
        self.values += values.len();
        if self.values > MAX_VALUES {
            scope.report(
                0,
                &format!("more than {MAX_VALUES} values in all comparisons together"),
                diagnostics,
            );
            return None;
        }
        Some(values)
    }

    fn compare(
        &mut self,
        field: &FieldName,
        at: usize,
        op: Op,
        values: &[String],
        scope: &Scope<'_>,
        diagnostics: &mut Diagnostics,
    ) -> NodeId {
        let first = values.first().map(String::as_str).unwrap_or_default();
        let number = parse_number(first);
        if op.is_numeric() && number.is_none() {
            scope.report(
                at,
                &format!("`{field}` is compared with `{first}`, which is not a number"),
                diagnostics,
            );
        }
        let bound = number.unwrap_or_default();
        if op.takes_hex() && parse_hex(first).is_none() {
            scope.report(
                at,
                &format!("`{field}` is compared with `{first}`, which is not hexadecimal"),
                diagnostics,
            );
        }
        let bytes = || parse_hex(first).unwrap_or_default();
        let test = match op {
            Op::Equal | Op::NotEqual => Test::Equal(Operand::new(first)),
            Op::Less => Test::Less(bound),
            Op::LessOrEqual => Test::LessOrEqual(bound),
            Op::Greater => Test::Greater(bound),
            Op::GreaterOrEqual => Test::GreaterOrEqual(bound),
            Op::Contains => Test::Contains(Needles::new(vec![first.into()])),
            Op::ContainsBytes => Test::Contains(Needles::new(vec![bytes()])),
            Op::IContains => Test::IContains(first.to_ascii_lowercase().into_bytes()),
            Op::StartsWith => Test::StartsWith(vec![first.into()]),
            Op::StartsWithBytes => Test::StartsWith(vec![bytes()]),
            Op::EndsWith => Test::EndsWith(vec![first.into()]),
            Op::Glob => Test::Glob(Glob::new(first, false)),
            Op::IGlob => Test::Glob(Glob::new(first, true)),
            Op::In | Op::Intersects => Test::In(Set::new(values)),
            Op::PathMatch => Test::PathMatch(values.iter().map(|value| value.as_bytes().to_vec()).collect()),
        };
        let id = self.test(field, at, test, scope, diagnostics);
        if op == Op::NotEqual { self.plan.not(id) } else { id }
    }

    fn test(
        &mut self,
        field: &FieldName,
        at: usize,
        test: Test,
        scope: &Scope<'_>,
        diagnostics: &mut Diagnostics,
    ) -> NodeId {
        if !(self.known)(field) {
            scope.report(
                at,
                &format!("there is no field `{field}` in the events of this sensor"),
                diagnostics,
            );
            return self.plan.constant(false);
        }
        let subject = self.plan.subject(field);
        self.plan.check(subject, test)
    }
}

/// Where an expression was written, for messages.
struct Scope<'t> {
    text: &'t Text,
    label: String,
}

impl Scope<'_> {
    fn report(&self, at: usize, message: &str, diagnostics: &mut Diagnostics) {
        diagnostics.at(&self.text.place(at), format!("{}: {message}", self.label));
    }
}

pub(crate) fn parse(text: &Text, label: &str, diagnostics: &mut Diagnostics) -> Option<Expr> {
    match condition::parse(&text.value) {
        Ok(expr) => Some(expr),
        Err(error) => {
            diagnostics.at(&text.place(error.at), format!("{label}: {}", error.message));
            None
        }
    }
}

/// `cafebabe` as bytes.
fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}
