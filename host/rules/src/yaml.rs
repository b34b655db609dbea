//! Rules files as a tree of nodes that remember their lines.
//!
//! Reads YAML events into scalars, sequences and mappings. It keeps every scalar as the text that was written (a list
//! item `0x10` or `yes` stays that text) and knows, for each character of a folded condition, which line it came from.
//! Aliases are refused, so a small file cannot grow into a large tree. It knows nothing of rules.

use granit_parser::{Event, Parser, ScalarStyle, Span, options};

use crate::limits::{MAX_YAML_DEPTH, MAX_YAML_NODES};

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) lines: Lines,
    plain: bool,
}

/// Where the characters of a scalar came from.
///
/// Folding changes white space only, so a character is found again by counting what is not white space.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    first: usize,
    /// For each further line: how many non-blank characters come before it.
    before: Vec<usize>,
}

/// The file is not YAML, or not YAML that we take.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// A collection that has begun and not ended.
enum Open {
    Sequence(usize, Vec<Node>),
    Mapping(usize, Vec<(Node, Node)>, Option<Node>),
}

/// The top nodes of all documents in a file.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, Fault> {
    let options = options! {
        flow_nesting_limit: MAX_YAML_DEPTH,
        block_nesting_limit: MAX_YAML_DEPTH,
    };
    let mut builder = Builder { text, open: Vec::new(), roots: Vec::new(), nodes: 0 };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| Fault {
            line: error.marker().line(),
            message: format!("not YAML: {}", error.info()),
        })?;
        builder.take(event, &span)?;
    }
    Ok(builder.roots)
}

struct Builder<'a> {
    text: &'a str,
    open: Vec<Open>,
    roots: Vec<Node>,
    nodes: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fault> {
        let line = span.start.line();
        match event {
            Event::Scalar(value, style, _, _) => {
                let plain = style == ScalarStyle::Plain;
                let lines = Lines::of(self.text, span, style);
                let scalar = Scalar { text: value.into_owned(), lines, plain };
                self.add(Node { kind: Kind::Scalar(scalar), line })
            }
            Event::SequenceStart(..) => {
                self.open.push(Open::Sequence(line, Vec::new()));
                Ok(())
            }
            Event::MappingStart(..) => {
                self.open.push(Open::Mapping(line, Vec::new(), None));
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(line, items)) => self.add(Node { kind: Kind::Sequence(items), line }),
                Some(Open::Mapping(line, entries, _)) => {
                    self.add(Node { kind: Kind::Mapping(entries), line })
                }
                None => Ok(()),
            },
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let message =
                    "YAML aliases are not taken in rules files: write the value out, or use a list or macro";
                Err(Fault { line, message: message.to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, node: Node) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > MAX_YAML_NODES {
            let message = format!("the file has more than {MAX_YAML_NODES} YAML nodes: split it");
            return Err(Fault { line: node.line, message });
        }
        match self.open.last_mut() {
            None => self.roots.push(node),
            Some(Open::Sequence(_, items)) => items.push(node),
            Some(Open::Mapping(_, entries, key)) => match key.take() {
                None => *key = Some(node),
                Some(name) => entries.push((name, node)),
            },
        }
        Ok(())
    }
}

impl Node {
    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            Kind::Sequence(_) | Kind::Mapping(_) => None,
        }
    }

    /// `key:` with nothing behind it.
    pub(crate) fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.plain && matches!(scalar.text.as_str(), "" | "~" | "null"))
    }
}

impl Lines {
    /// All characters on one line.
    pub(crate) fn single(line: usize) -> Self {
        Self { first: line, before: Vec::new() }
    }

    fn of(source: &str, span: &Span, style: ScalarStyle) -> Self {
        let first = span.start.line();
        let Some(raw) = span.slice(source) else { return Self::single(first) };
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        // Escapes in quoted scalars change more than white space: the first line is the best honest answer.
        if !block && style != ScalarStyle::Plain {
            return Self::single(first);
        }
        let mut before = Vec::new();
        let mut seen = 0;
        for (index, line) in raw.split('\n').enumerate() {
            if index > 0 {
                before.push(seen);
            }
            // A block scalar's first line is its indicator (`>`, `|-`), which is not part of the text.
            if !(block && index == 0 && line.starts_with(['>', '|'])) {
                seen += line.chars().filter(|c| !c.is_whitespace()).count();
            }
        }
        Self { first, before }
    }

    /// The line of the character at this byte offset of the scalar's text.
    pub(crate) fn at(&self, text: &str, offset: usize) -> usize {
        let seen = text
            .char_indices()
            .take_while(|(at, _)| *at < offset)
            .filter(|(_, c)| !c.is_whitespace())
            .count();
        self.first + self.before.iter().take_while(|before| **before <= seen).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition_lines(yaml: &str, word: &str) -> usize {
        let roots = parse(yaml).unwrap();
        let Kind::Mapping(entries) = &roots[0].kind else { panic!("not a mapping") };
        let scalar = entries[0].1.scalar().unwrap();
        scalar.lines.at(&scalar.text, scalar.text.find(word).unwrap())
    }

    #[test]
    fn characters_of_folded_text_know_their_line() {
        assert_eq!(condition_lines("c: >\n  one and\n  two or\n\n  three\n", "one"), 2);
        assert_eq!(condition_lines("c: >\n  one and\n  two or\n\n  three\n", "two"), 3);
        assert_eq!(condition_lines("c: >\n  one and\n  two or\n\n  three\n", "three"), 5);
        assert_eq!(condition_lines("c: one\n  and two\n", "two"), 2);
        assert_eq!(condition_lines("\n\nc: 'one two'\n", "two"), 3);
    }

    #[test]
    fn an_alias_is_refused_so_that_no_bomb_can_unfold() {
        let fault = parse("- &a [x, x]\n- [*a, *a]\n").unwrap_err();
        assert_eq!(fault.line, 2);
        assert!(fault.message.contains("aliases"), "{}", fault.message);
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"- ".repeat(100_000)).is_err());
    }

    #[test]
    fn scalars_stay_as_written() {
        let roots = parse("[0x10, yes, 1.0, ~, '~']").unwrap();
        let Kind::Sequence(items) = &roots[0].kind else { panic!("not a sequence") };
        let texts: Vec<_> = items.iter().map(|item| item.scalar().unwrap().text.as_str()).collect();
        assert_eq!(texts, ["0x10", "yes", "1.0", "~", "~"]);
        assert!(items[3].is_null());
        assert!(!items[4].is_null());
    }
}
