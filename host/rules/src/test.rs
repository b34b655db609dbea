//! One comparison: a field's value against what a rule wrote.
//!
//! A rule does not say of which type its field is, so a test holds what was written as text, number, flag and address
//! and compares as the event's value asks. A missing value fulfils no test; `!=` is the negation of `=`, therefore
//! true for it. A list of values fulfils a test when one of them does.

use std::net::IpAddr;

use crate::Value;
use crate::glob::Glob;
use crate::needles::Needles;
use crate::net::Net;

/// Longer lists stay apart: uniting copies them into every user of a macro.
const MAX_UNITED: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Exists,
    Equal(Operand),
    In(Set),
    Less(i64),
    LessOrEqual(i64),
    Greater(i64),
    GreaterOrEqual(i64),
    Contains(Needles),
    /// The needle is in lower case.
    IContains(Vec<u8>),
    StartsWith(Vec<Vec<u8>>),
    EndsWith(Vec<Vec<u8>>),
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Set {
    /// Sorted by length, then bytes: most candidates fail on their length.
    texts: Vec<Vec<u8>>,
    numbers: Vec<i64>,
    flags: Vec<bool>,
    nets: Vec<Net>,
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
        let mut set = Self::default();
        for value in values {
            set.add(Operand::new(value));
        }
        set.arrange();
        set
    }

    fn add(&mut self, operand: Operand) {
        self.texts.push(operand.text);
        self.numbers.extend(operand.number);
        self.flags.extend(operand.flag);
        self.nets.extend(operand.net);
    }

    fn extend(&mut self, other: &Self) {
        self.texts.extend_from_slice(&other.texts);
        self.numbers.extend_from_slice(&other.numbers);
        self.flags.extend_from_slice(&other.flags);
        self.nets.extend_from_slice(&other.nets);
    }

    fn arrange(&mut self) {
        self.texts.sort_by(|a, b| by_length(a, b));
        self.texts.dedup();
        self.numbers.sort_unstable();
        self.numbers.dedup();
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
            Self::Contains(needles) => any_text(value, |text| needles.found_in(text)),
            Self::IContains(needle) => any_text(value, |text| contains_ignoring_case(text, needle)),
            Self::StartsWith(starts) => {
                any_text(value, |text| starts.iter().any(|start| text.starts_with(start)))
            }
            Self::EndsWith(ends) => any_text(value, |text| ends.iter().any(|end| text.ends_with(end))),
            Self::Glob(glob) => any_text(value, |text| glob.matches(text)),
            Self::PathMatch(paths) => {
                any_text(value, |text| paths.iter().any(|path| is_at_or_below(text, path)))
            }
        }
    }

    /// A guess at the time that it takes, in arbitrary units.
    pub(crate) fn cost(&self) -> u32 {
        match self {
            Self::Exists
            | Self::Less(_)
            | Self::LessOrEqual(_)
            | Self::Greater(_)
            | Self::GreaterOrEqual(_) => 1,
            Self::Equal(operand) if operand.flag.is_some() => 1,
            Self::Equal(_) | Self::StartsWith(_) | Self::EndsWith(_) => 2,
            Self::In(_) => 3,
            Self::PathMatch(_) | Self::Contains(_) => 6,
            Self::IContains(_) | Self::Glob(_) => 12,
        }
    }

    /// One test for "any of these", if they are of a kind: `a contains x or a contains y` asks for the value once and
    /// searches it once.
    pub(crate) fn any_of(tests: &[&Self]) -> Option<Self> {
        let first = *tests.first()?;
        let mut union = first.clone();
        match &mut union {
            Self::Equal(_) | Self::In(_) => {
                let mut set = Set::default();
                for test in tests {
                    match test {
                        Self::Equal(operand) => set.add(operand.clone()),
                        Self::In(other) => set.extend(other),
                        _ => return None,
                    }
                }
                set.arrange();
                union = Self::In(set);
            }
            Self::Contains(needles) => *needles = Needles::new(collect(tests, Self::contained)?),
            Self::StartsWith(texts) => *texts = collect(tests, Self::starts)?,
            Self::EndsWith(texts) => *texts = collect(tests, Self::ends)?,
            Self::PathMatch(texts) => *texts = collect(tests, Self::paths)?,
            _ => return None,
        }
        Some(union)
    }

    /// Tests with the same number can become one; `None` stays alone.
    pub(crate) fn family(&self) -> Option<u8> {
        match self {
            Self::Equal(_) => Some(0),
            Self::In(set) if set.texts.len() <= MAX_UNITED => Some(0),
            Self::Contains(needles) if needles.texts().len() <= MAX_UNITED => Some(1),
            Self::StartsWith(texts) if texts.len() <= MAX_UNITED => Some(2),
            Self::EndsWith(texts) if texts.len() <= MAX_UNITED => Some(3),
            Self::PathMatch(texts) if texts.len() <= MAX_UNITED => Some(4),
            _ => None,
        }
    }

    fn contained(&self) -> Option<&[Vec<u8>]> {
        if let Self::Contains(needles) = self { Some(needles.texts()) } else { None }
    }

    fn starts(&self) -> Option<&[Vec<u8>]> {
        if let Self::StartsWith(texts) = self { Some(texts) } else { None }
    }

    fn ends(&self) -> Option<&[Vec<u8>]> {
        if let Self::EndsWith(texts) = self { Some(texts) } else { None }
    }

    fn paths(&self) -> Option<&[Vec<u8>]> {
        if let Self::PathMatch(texts) = self { Some(texts) } else { None }
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

/// The texts of all tests, each once; none if one of the tests is of another kind.
fn collect(tests: &[&Test], of: fn(&Test) -> Option<&[Vec<u8>]>) -> Option<Vec<Vec<u8>>> {
    let mut texts = Vec::new();
    for test in tests {
        texts.extend_from_slice(of(test)?);
    }
    texts.sort();
    texts.dedup();
    Some(texts)
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
