//! A rule's output: text with fields, filled in for one event.
//!
//! What is filled in was chosen by the watched program. The result is one line of bounded length in which control
//! characters are escaped; bytes that are not UTF-8 stay as they are.

use std::borrow::Cow;
use std::io::Write;

use crate::condition::field_prefix;
use crate::{FieldName, MAX_OUTPUT, Value};

#[derive(Debug)]
pub(crate) enum Part {
    Literal(String),
    Field(FieldName),
}

#[derive(Debug)]
pub(crate) struct OutputError {
    pub(crate) at: usize,
    pub(crate) message: String,
}

const CUT: &[u8] = b"...";

/// Splits an output into literal text and fields.
pub(crate) fn parse(text: &str) -> Result<Vec<Part>, OutputError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(percent) = rest.find('%') else {
            literal.push_str(rest);
            break;
        };
        literal.push_str(rest.get(..percent).unwrap_or_default());
        let after = rest.get(percent + 1..).unwrap_or_default();
        at += percent + 1;
        let next = after.chars().next();
        if next == Some('%') {
            literal.push('%');
            at += 1;
        } else if next.is_some_and(|c| c.is_ascii_alphabetic()) {
            let Some((field, length)) = field_prefix(after) else {
                let word: String = after.chars().take_while(|c| !c.is_whitespace()).take(40).collect();
                let message =
                    format!("`%{word}` is not a field; write `%proc.name`, or `%%` for a percent sign");
                return Err(OutputError { at, message });
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(field));
            at += length;
        } else {
            // `100% of it`: no field can begin here.
            literal.push('%');
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// A line under construction.
#[derive(Debug, Default)]
pub(crate) struct Line {
    bytes: Vec<u8>,
    full: bool,
}

impl Line {
    pub(crate) fn literal(&mut self, text: &str) {
        self.escaped(text.as_bytes());
    }

    pub(crate) fn value(&mut self, value: &Value<'_>) {
        match value {
            Value::Missing => self.escaped(b"<NA>"),
            Value::Text(text) => self.escaped(text),
            Value::Number(number) => self.escaped(number.to_string().as_bytes()),
            Value::Flag(flag) => self.escaped(flag.to_string().as_bytes()),
            Value::Address(address) => self.escaped(address.to_canonical().to_string().as_bytes()),
            Value::List(texts) => {
                for (index, text) in texts.iter().enumerate() {
                    if index > 0 {
                        self.escaped(b",");
                    }
                    self.escaped(text);
                }
            }
        }
    }

    fn escaped(&mut self, mut text: &[u8]) {
        while let Some((first, rest)) = text.split_first().filter(|_| !self.full) {
            let unsafe_length = line_breaker(text);
            if unsafe_length > 0 {
                let (bad, rest) = text.split_at(unsafe_length);
                for byte in bad {
                    match byte {
                        b'\n' => self.push(b"\\n"),
                        b'\r' => self.push(b"\\r"),
                        b'\t' => self.push(b"\\t"),
                        byte => self.push(&hex(*byte)),
                    }
                }
                text = rest;
            } else {
                self.push(&[*first]);
                text = rest;
            }
        }
    }

    /// All or nothing, so that an escape is never cut in two.
    fn push(&mut self, bytes: &[u8]) {
        if self.full || self.bytes.len() + bytes.len() > MAX_OUTPUT {
            self.full = true;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.full {
            self.bytes.truncate(MAX_OUTPUT - CUT.len());
            // Not within a character, if these are characters at all: at most three bytes go.
            for _ in 0..3 {
                let continues = self.bytes.last().is_some_and(|byte| byte & 0xC0 == 0x80);
                if !continues {
                    break;
                }
                self.bytes.pop();
            }
            if self.bytes.last().is_some_and(|byte| *byte >= 0xC0) {
                self.bytes.pop();
            }
            self.bytes.extend_from_slice(CUT);
        }
        self.bytes
    }
}

/// How many bytes at the start could break the line or steer a terminal: C0, DEL, C1, and Unicode's own separators.
fn line_breaker(text: &[u8]) -> usize {
    match text {
        [0..=0x1F | 0x7F, ..] => 1,
        [0xC2, 0x80..=0x9F, ..] => 2,
        [0xE2, 0x80, 0xA8 | 0xA9, ..] => 3,
        _ => 0,
    }
}

fn hex(byte: u8) -> Vec<u8> {
    let mut text = Vec::with_capacity(4);
    // Writing to a vector cannot fail.
    let _ = write!(text, "\\x{byte:02x}");
    text
}

/// A value that outlives the event, bounded like an output.
pub(crate) fn owned(value: Value<'_>) -> Value<'static> {
    let bounded = |text: &[u8]| Cow::Owned(text.get(..MAX_OUTPUT).unwrap_or(text).to_vec());
    match value {
        Value::Missing => Value::Missing,
        Value::Text(text) => Value::Text(bounded(&text)),
        Value::Number(number) => Value::Number(number),
        Value::Flag(flag) => Value::Flag(flag),
        Value::Address(address) => Value::Address(address),
        Value::List(texts) => {
            let mut room = MAX_OUTPUT;
            let texts = texts.iter().take_while(|text| {
                let fits = text.len() <= room;
                room = room.saturating_sub(text.len() + 1);
                fits
            });
            Value::List(texts.map(|text| bounded(text)).collect())
        }
    }
}
