//! Rules files as lists, macros and rules: keys checked, later definitions laid over earlier ones.
//!
//! It knows what there is to define and where it was written; what a condition says it does not know. [`reader`]
//! knows the keys.

mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostics::Diagnostics;
use crate::yaml::Lines;
use crate::{Priority, Source};

use reader::Reader;

/// Everything that the files define.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) lists: BTreeMap<String, List>,
    pub(crate) macros: BTreeMap<String, Text>,
    pub(crate) rules: Vec<RawRule>,
}

#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) source: Arc<str>,
    pub(crate) line: usize,
}

#[derive(Debug)]
pub(crate) struct List {
    pub(crate) items: Vec<(String, Place)>,
}

/// A text that remembers where its characters came from, also after `append`.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) value: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    start: usize,
    text: String,
    source: Arc<str>,
    lines: Lines,
}

#[derive(Debug)]
pub(crate) struct RawRule {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) condition: Text,
    pub(crate) output: Text,
    pub(crate) priority: Priority,
    pub(crate) tags: Vec<String>,
    pub(crate) source: String,
    pub(crate) enabled: bool,
}

impl Document {
    /// Lays the files over each other in order.
    pub(crate) fn read(sources: &[Source<'_>], diagnostics: &mut Diagnostics) -> Self {
        let mut document = Self::default();
        for source in sources {
            Reader::new(source.name, &mut document, diagnostics).file(source.text);
        }
        document
    }
}

impl Text {
    fn new(source: &Arc<str>, text: &str, lines: Lines) -> Self {
        let piece = Piece { start: 0, text: text.to_owned(), source: Arc::clone(source), lines };
        Self { value: text.to_owned(), pieces: vec![piece] }
    }

    fn append(&mut self, other: Self) {
        self.value.push(' ');
        let base = self.value.len();
        self.value.push_str(&other.value);
        self.pieces
            .extend(other.pieces.into_iter().map(|piece| Piece { start: base + piece.start, ..piece }));
    }

    /// Where the character at this byte offset was written.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let piece = self.pieces.iter().rev().find(|piece| piece.start <= offset);
        match piece {
            Some(piece) => Place {
                source: Arc::clone(&piece.source),
                line: piece.lines.at(&piece.text, offset.saturating_sub(piece.start)),
            },
            None => Place { source: "".into(), line: 0 },
        }
    }
}
