//! The words of the grammar: operators, names of fields, quoted texts.

use crate::FieldName;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    ContainsBytes,
    IContains,
    StartsWith,
    StartsWithBytes,
    EndsWith,
    Glob,
    IGlob,
    In,
    Intersects,
    PathMatch,
}

/// Longer ones first: `<=` must not be read as `<`.
pub(super) const SYMBOLS: &[(&str, Op)] = &[
    ("==", Op::Equal),
    ("!=", Op::NotEqual),
    ("<=", Op::LessOrEqual),
    (">=", Op::GreaterOrEqual),
    ("=", Op::Equal),
    ("<", Op::Less),
    (">", Op::Greater),
];

pub(super) const WORDS: &[(&str, Op)] = &[
    ("contains", Op::Contains),
    ("bcontains", Op::ContainsBytes),
    ("icontains", Op::IContains),
    ("startswith", Op::StartsWith),
    ("bstartswith", Op::StartsWithBytes),
    ("endswith", Op::EndsWith),
    ("glob", Op::Glob),
    ("iglob", Op::IGlob),
    ("in", Op::In),
    ("intersects", Op::Intersects),
    ("pmatch", Op::PathMatch),
];

pub(super) const KEYWORDS: &[&str] = &["and", "or", "not"];

impl Op {
    pub(crate) fn takes_list(self) -> bool {
        matches!(self, Self::In | Self::Intersects | Self::PathMatch)
    }

    /// Falco's `b…` operators write bytes as hexadecimal digits.
    pub(crate) fn takes_hex(self) -> bool {
        matches!(self, Self::ContainsBytes | Self::StartsWithBytes)
    }

    pub(crate) fn is_numeric(self) -> bool {
        matches!(self, Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual)
    }
}

/// Reads a name with dots and an optional argument from the start of the text; also used by outputs.
pub(crate) fn field_prefix(text: &str) -> Option<(FieldName, usize)> {
    let name = dotted_name(text);
    if !name.contains('.') {
        return None;
    }
    let rest = text.get(name.len()..)?;
    let Some(inside) = rest.strip_prefix('[') else {
        return Some((FieldName { name: name.to_owned(), argument: None }, name.len()));
    };
    let end = inside.find(']')?;
    let argument = inside.get(..end)?;
    let bare = argument.trim_matches(|c| c == '"' || c == '\'');
    if bare.is_empty() || argument.contains(['[', '\n']) {
        return None;
    }
    Some((FieldName { name: name.to_owned(), argument: Some(bare.to_owned()) }, name.len() + end + 2))
}

/// `a.b_c.d`: every part begins with a letter or `_`, so a full stop after a field in an output stays outside.
pub(super) fn dotted_name(text: &str) -> &str {
    let mut end = 0;
    let mut part_begins = true;
    for (at, c) in text.char_indices() {
        let fits = if part_begins {
            c.is_ascii_alphabetic() || c == '_'
        } else {
            c.is_ascii_alphanumeric() || c == '_'
        };
        if fits {
            end = at + 1;
            part_begins = false;
        } else if c == '.' && !part_begins {
            part_begins = true;
        } else {
            break;
        }
    }
    text.get(..end).unwrap_or_default()
}

/// The text within quotes and how many bytes it took with them.
pub(crate) fn unquote(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Some((value, at + 1));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        match chars.next()?.1 {
            'n' => value.push('\n'),
            'r' => value.push('\r'),
            't' => value.push('\t'),
            same @ ('\\' | '"' | '\'') => value.push(same),
            // Others keep their backslash, as in Falco: globs and Windows paths need it.
            other => value.extend(['\\', other]),
        }
    }
    None
}
