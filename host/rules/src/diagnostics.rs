//! What was found wrong, collected until all of it is known, and bounded: a hostile file cannot fill the memory with
//! complaints about itself.

use crate::Diagnostic;
use crate::document::Place;
use crate::limits::MAX_DIAGNOSTICS;

/// Texts of rules files are quoted in messages up to this length.
const MAX_MESSAGE: usize = 600;

#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    found: Vec<Diagnostic>,
    more: usize,
}

impl Diagnostics {
    pub(crate) fn add(&mut self, source: &str, line: usize, message: impl Into<String>) {
        if self.found.len() >= MAX_DIAGNOSTICS {
            self.more += 1;
            return;
        }
        let diagnostic = Diagnostic { source: source.to_owned(), line, message: one_line(&message.into()) };
        if !self.found.contains(&diagnostic) {
            self.found.push(diagnostic);
        }
    }

    pub(crate) fn at(&mut self, place: &Place, message: impl Into<String>) {
        self.add(&place.source, place.line, message);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn into_found(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|a, b| (&a.source, a.line).cmp(&(&b.source, b.line)));
        if self.more > 0 {
            let message = format!("{} more diagnostics are not shown", self.more);
            let source = self.found.last().map_or_else(String::new, |last| last.source.clone());
            self.found.push(Diagnostic { source, line: 0, message });
        }
        self.found
    }
}

/// Names in a rules file may hold anything; a message is one printable line.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len().min(MAX_MESSAGE));
    for c in message.chars() {
        if line.len() >= MAX_MESSAGE {
            line.push_str("...");
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
