//! The condition grammar: text to a tree, nothing looked up yet.
//!
//! As in Falco the grammar needs no tokens ahead of time: what a character means depends on whether a field, an
//! operator or a value is due (`*` and `!` are ordinary in a value). `not` binds tightest, then `and`, then `or`.
//! Nesting is bounded, so a hostile condition cannot exhaust the stack.

mod words;

use words::{KEYWORDS, SYMBOLS, WORDS, dotted_name};
pub(crate) use words::{Op, field_prefix, unquote};

use crate::FieldName;
use crate::limits::MAX_NESTING;

#[derive(Debug)]
pub(crate) enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Macro {
        name: String,
        at: usize,
    },
    Exists {
        field: FieldName,
        at: usize,
    },
    Compare {
        field: FieldName,
        at: usize,
        op: Op,
        words: Vec<Word>,
    },
    /// `in name` without parentheses: the list's values.
    CompareList {
        field: FieldName,
        at: usize,
        op: Op,
        list: Word,
    },
}

/// A value as written. An unquoted one in a list may be the name of a list.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) quoted: bool,
    pub(crate) at: usize,
}

#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// Reads a whole condition.
pub(crate) fn parse(text: &str) -> Result<Expr, SyntaxError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let expr = parser.or()?;
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(expr);
    }
    let message = if parser.rest().starts_with(')') {
        "unbalanced `)`: no `(` was opened for it".to_owned()
    } else {
        format!("expected `and`, `or` or the end of the condition, found `{}`", parser.excerpt())
    };
    Err(parser.error(message))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Expr, SyntaxError> {
        let mut terms = vec![self.and()?];
        while self.keyword("or") {
            terms.push(self.and()?);
        }
        Ok(single_or(terms, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, SyntaxError> {
        let mut terms = vec![self.unary()?];
        while self.keyword("and") {
            terms.push(self.unary()?);
        }
        Ok(single_or(terms, Expr::And))
    }

    fn unary(&mut self) -> Result<Expr, SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(self
                .error(format!("nested deeper than {MAX_NESTING}: name parts of the condition as macros")));
        }
        let expr = if self.keyword("not") {
            Expr::Not(Box::new(self.unary()?))
        } else {
            self.skip_space();
            let opened = self.at;
            if self.symbol("(") {
                let inner = self.or()?;
                self.skip_space();
                if !self.symbol(")") {
                    return Err(self.unclosed(opened));
                }
                inner
            } else {
                self.check()?
            }
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn unclosed(&self, opened: usize) -> SyntaxError {
        if self.rest().is_empty() {
            return SyntaxError { at: opened, message: "unbalanced `(`: it is never closed".to_owned() };
        }
        self.error(format!("expected `and`, `or` or `)`, found `{}`", self.excerpt()))
    }

    /// A macro's name, or a field with its operator and values.
    fn check(&mut self) -> Result<Expr, SyntaxError> {
        let at = self.at;
        let name = dotted_name(self.rest());
        if name.is_empty() {
            let found =
                if self.rest().is_empty() { "the end".to_owned() } else { format!("`{}`", self.excerpt()) };
            return Err(self.error(format!("expected a field, a macro, `not` or `(`, found {found}")));
        }
        if KEYWORDS.contains(&name) {
            return Err(self.error(format!("expected a field, a macro or `(` before `{name}`")));
        }
        let after = self.rest().get(name.len()..).unwrap_or_default();
        if after.starts_with('(') && !name.contains('.') {
            return Err(self.error(format!(
                "functions such as `{name}(...)` are not supported; compare the field itself"
            )));
        }
        if !name.contains('.') {
            self.at += name.len();
            self.skip_space();
            if let Some(op) = self.peek_operator() {
                let message = format!(
                    "`{name}` is not a field (fields have a dot, as `proc.name`) and cannot be compared with `{op}`"
                );
                return Err(SyntaxError { at, message });
            }
            return Ok(Expr::Macro { name: name.to_owned(), at });
        }
        let Some((field, length)) = field_prefix(self.rest()) else {
            return Err(self.error(format!("the argument of `{name}` is not closed: write `{name}[1]`")));
        };
        self.at += length;
        self.operator(field, at)
    }

    fn operator(&mut self, field: FieldName, at: usize) -> Result<Expr, SyntaxError> {
        self.skip_space();
        if self.keyword("exists") {
            return Ok(Expr::Exists { field, at });
        }
        let Some(op) = self.take_operator() else {
            let words: Vec<_> = WORDS.iter().map(|(word, _)| *word).collect();
            let known = format!("=, !=, <, <=, >, >=, exists, {}", words.join(", "));
            let found = self.excerpt();
            let message = if found.is_empty() || KEYWORDS.contains(&found.as_str()) || found == ")" {
                format!(
                    "`{field}` stands alone: compare it, as in `{field} = true`, or write `{field} exists`"
                )
            } else {
                format!("unknown operator `{found}` after `{field}`; known are {known}")
            };
            return Err(self.error(message));
        };
        self.skip_space();
        if !op.takes_list() {
            let word = self.word(&field)?;
            return Ok(Expr::Compare { field, at, op, words: vec![word] });
        }
        if self.rest().starts_with('(') {
            let words = self.words(&field)?;
            return Ok(Expr::Compare { field, at, op, words });
        }
        let list = self.word(&field)?;
        Ok(Expr::CompareList { field, at, op, list })
    }

    fn words(&mut self, field: &FieldName) -> Result<Vec<Word>, SyntaxError> {
        let opened = self.at;
        self.symbol("(");
        let mut words = Vec::new();
        self.skip_space();
        if self.symbol(")") {
            return Ok(words);
        }
        loop {
            self.skip_space();
            words.push(self.word(field)?);
            self.skip_space();
            if self.symbol(",") {
                continue;
            }
            if self.symbol(")") {
                return Ok(words);
            }
            if self.rest().is_empty() {
                return Err(SyntaxError {
                    at: opened,
                    message: "unbalanced `(`: the list is never closed".to_owned(),
                });
            }
            return Err(self.error(format!("expected `,` or `)` in the list, found `{}`", self.excerpt())));
        }
    }

    fn word(&mut self, field: &FieldName) -> Result<Word, SyntaxError> {
        let at = self.at;
        let quote = self.rest().chars().next().filter(|c| *c == '"' || *c == '\'');
        if let Some(quote) = quote {
            let Some((text, length)) = unquote(self.rest(), quote) else {
                return Err(self.error(format!("the quote {quote} is never closed")));
            };
            self.at += length;
            return Ok(Word { text, quoted: true, at });
        }
        let rest = self.rest();
        let end = rest.find(|c: char| c.is_whitespace() || "(),=\"'".contains(c)).unwrap_or(rest.len());
        let text = rest.get(..end).unwrap_or_default();
        if text.is_empty() {
            let found = if rest.is_empty() { "the end".to_owned() } else { format!("`{}`", self.excerpt()) };
            return Err(self.error(format!("expected a value for `{field}`, found {found}")));
        }
        self.at += end;
        Ok(Word { text: text.to_owned(), quoted: false, at })
    }

    fn take_operator(&mut self) -> Option<Op> {
        for (symbol, op) in SYMBOLS {
            if self.symbol(symbol) {
                return Some(*op);
            }
        }
        WORDS.iter().find(|(word, _)| self.keyword(word)).map(|(_, op)| *op)
    }

    fn peek_operator(&mut self) -> Option<&'static str> {
        let symbols =
            SYMBOLS.iter().map(|(symbol, _)| *symbol).find(|symbol| self.rest().starts_with(symbol));
        symbols.or_else(|| WORDS.iter().map(|(word, _)| *word).find(|word| self.at_keyword(word)))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    /// A word that ends where it should: `order` does not begin with `or`.
    fn keyword(&mut self, word: &str) -> bool {
        self.skip_space();
        let found = self.at_keyword(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn at_keyword(&self, word: &str) -> bool {
        let after = self.rest().strip_prefix(word).map(|after| after.chars().next());
        after.is_some_and(|next| next.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))))
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { at: self.at, message: message.into() }
    }

    /// The next word, for messages.
    fn excerpt(&self) -> String {
        let rest = self.rest();
        let first = rest.chars().next().unwrap_or(' ');
        if "()".contains(first) {
            return first.to_string();
        }
        rest.chars().take_while(|c| !c.is_whitespace() && !"()".contains(*c)).take(40).collect()
    }
}

fn single_or(mut terms: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match terms.pop() {
        Some(only) if terms.is_empty() => only,
        Some(last) => {
            terms.push(last);
            join(terms)
        }
        None => join(terms),
    }
}
