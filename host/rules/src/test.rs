//! One comparison: a field's value against what a rule wrote.
//!
//! A rule does not say of which type its field is, so a test holds what was written as text, number, flag and address
//! and compares as the event's value asks. A missing value fulfils no test; `!=` is the negation of `=`, therefore
//! true for it. A list of values fulfils a test when one of them does.

use std::net::IpAddr;

use memchr::memmem;

use crate::Value;
use crate::glob::Glob;
use crate::net::Net;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Exists,
    Equal(Operand),
    In(Set),
    Less(i64),
    LessOrEqual(i64),
    Greater(i64),
    GreaterOrEqual(i64),
    Contains(Needle),
    /// The needle is in lower case.
    IContains(Vec<u8>),
    StartsWith(Vec<u8>),
    EndsWith(Vec<u8>),
    Glob(Glob),
    /// The path is one of these or below one of them.
    PathMatch(Vec<Vec<u8>>),
}

/// What a rule wrote, in every way that a value can be compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Operand {
    text: Vec<u8>,
    number: Option<i64>,
    flag: Option<bool>,
    net: Option<Net>,
}

/// Operands of `in`, arranged for finding: long lists of names are ordinary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Set {
    /// Sorted by length, then bytes: most candidates fail on their length.
    texts: Vec<Vec<u8>>,
    numbers: Vec<i64>,
    flags: Vec<bool>,
    nets: Vec<Net>,
}

/// A text to find, prepared once.
#[derive(Clone, Debug)]
pub(crate) struct Needle {
    finder: memmem::Finder<'static>,
}

impl PartialEq for Needle {
    fn eq(&self, other: &Self) -> bool {
        self.finder.needle() == other.finder.needle()
    }
}

impl Eq for Needle {}

impl std::hash::Hash for Needle {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.finder.needle().hash(state);
    }
}

impl Operand {
    pub(crate) fn new(text: &str) -> Self {
        Self { number: parse_number(text), flag: parse_flag(text), net: Net::parse(text), text: text.into() }
    }

    fn matches(&self, value: &Value<'_>) -> bool {
        match value {
            Value::Missing => false,
            Value::Text(text) => **text == *self.text,
            Value::Number(number) => self.number == Some(*number),
            Value::Flag(flag) => self.flag == Some(*flag),
            Value::Address(address) => self.net.is_some_and(|net| net.contains(*address)),
            Value::List(texts) => texts.iter().any(|text| **text == *self.text),
        }
    }
}

impl Set {
    pub(crate) fn new(values: &[String]) -> Self {
        let operands: Vec<_> = values.iter().map(|value| Operand::new(value)).collect();
        let mut texts: Vec<_> = operands.iter().map(|operand| operand.text.clone()).collect();
        texts.sort_by(|a, b| by_length(a, b));
        texts.dedup();
        let mut numbers: Vec<_> = operands.iter().filter_map(|operand| operand.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Self {
            texts,
            numbers,
            flags: operands.iter().filter_map(|operand| operand.flag).collect(),
            nets: operands.iter().filter_map(|operand| operand.net).collect(),
        }
    }

    fn has_text(&self, text: &[u8]) -> bool {
        self.texts.binary_search_by(|probe| by_length(probe, text)).is_ok()
    }

    fn matches(&self, value: &Value<'_>) -> bool {
        match value {
            Value::Missing => false,
            Value::Text(text) => self.has_text(text),
            Value::Number(number) => self.numbers.binary_search(number).is_ok(),
            Value::Flag(flag) => self.flags.contains(flag),
            Value::Address(address) => self.nets.iter().any(|net| net.contains(*address)),
            Value::List(texts) => texts.iter().any(|text| self.has_text(text)),
        }
    }
}

impl Needle {
    pub(crate) fn new(text: &str) -> Self {
        Self { finder: memmem::Finder::new(text.as_bytes()).into_owned() }
    }
}

impl Test {
    pub(crate) fn matches(&self, value: &Value<'_>) -> bool {
        match self {
            Self::Exists => !matches!(value, Value::Missing),
            Self::Equal(operand) => operand.matches(value),
            Self::In(set) => set.matches(value),
            Self::Less(bound) => number(value).is_some_and(|number| number < *bound),
            Self::LessOrEqual(bound) => number(value).is_some_and(|number| number <= *bound),
            Self::Greater(bound) => number(value).is_some_and(|number| number > *bound),
            Self::GreaterOrEqual(bound) => number(value).is_some_and(|number| number >= *bound),
            Self::Contains(needle) => any_text(value, |text| needle.finder.find(text).is_some()),
            Self::IContains(needle) => any_text(value, |text| contains_ignoring_case(text, needle)),
            Self::StartsWith(start) => any_text(value, |text| text.starts_with(start)),
            Self::EndsWith(end) => any_text(value, |text| text.ends_with(end)),
            Self::Glob(glob) => any_text(value, |text| glob.matches(text)),
            Self::PathMatch(paths) => any_text(value, |text| paths.iter().any(|path| is_at_or_below(text, path))),
        }
    }

    /// A guess at the time that it takes, in arbitrary units.
    pub(crate) fn cost(&self) -> u32 {
        match self {
            Self::Exists | Self::Less(_) | Self::LessOrEqual(_) | Self::Greater(_) | Self::GreaterOrEqual(_) => 1,
            Self::Equal(operand) if operand.flag.is_some() => 1,
            Self::Equal(_) | Self::StartsWith(_) | Self::EndsWith(_) => 2,
            Self::In(_) => 3,
            Self::PathMatch(_) | Self::Contains(_) => 6,
            Self::IContains(_) | Self::Glob(_) => 12,
        }
    }

    /// The texts that this test compares with as a whole.
    pub(crate) fn named_texts(&self) -> Vec<String> {
        let texts: &[Vec<u8>] = match self {
            Self::Equal(operand) => std::slice::from_ref(&operand.text),
            Self::In(set) => &set.texts,
            _ => &[],
        };
        texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    /// Whether a text that [`Self::named_texts`] does not name cannot fulfil the test.
    pub(crate) fn names_texts_only(&self) -> bool {
        matches!(
            self,
            Self::Equal(_)
                | Self::In(_)
                | Self::Less(_)
                | Self::LessOrEqual(_)
                | Self::Greater(_)
                | Self::GreaterOrEqual(_)
        )
    }
}

/// Decimal, or hexadecimal with `0x`.
pub(crate) fn parse_number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn number(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// Numbers, flags and addresses are compared as they would be printed: a rule that asks is answered, not ignored.
fn any_text(value: &Value<'_>, fits: impl Fn(&[u8]) -> bool) -> bool {
    match value {
        Value::Missing => false,
        Value::Text(text) => fits(text),
        Value::List(texts) => texts.iter().any(|text| fits(text)),
        Value::Number(number) => fits(number.to_string().as_bytes()),
        Value::Flag(flag) => fits(flag.to_string().as_bytes()),
        Value::Address(address) => fits(IpAddr::to_canonical(address).to_string().as_bytes()),
    }
}

fn by_length(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    (a.len(), a).cmp(&(b.len(), b))
}

fn contains_ignoring_case(text: &[u8], lower: &[u8]) -> bool {
    lower.is_empty() || text.windows(lower.len()).any(|window| window.eq_ignore_ascii_case(lower))
}

/// Whole components: `/etc` holds `/etc/passwd`, not `/etcetera`.
fn is_at_or_below(text: &[u8], path: &[u8]) -> bool {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    text.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
