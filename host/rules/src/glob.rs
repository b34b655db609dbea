//! Shell patterns over bytes: `*`, `?`, `[a-z]`, `[!a-z]`, `\` before a character that is meant literally.
//!
//! As in Falco, `*` also matches `/`. Matching never takes more than pattern times text steps.

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Glob {
    parts: Vec<Part>,
    fold: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Any,
    One,
    Byte(u8),
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    /// `fold` ignores the case of ASCII letters.
    pub(crate) fn new(pattern: &str, fold: bool) -> Self {
        let lowered = pattern.to_ascii_lowercase();
        let mut rest = if fold { lowered.as_bytes() } else { pattern.as_bytes() };
        let mut parts = Vec::new();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            let part = match first {
                b'*' if parts.last() == Some(&Part::Any) => continue,
                b'*' => Part::Any,
                b'?' => Part::One,
                b'\\' => match after.split_first() {
                    Some((escaped, after)) => {
                        rest = after;
                        Part::Byte(*escaped)
                    }
                    None => Part::Byte(b'\\'),
                },
                b'[' => match class(after) {
                    Some((part, after)) => {
                        rest = after;
                        part
                    }
                    // An unclosed class is an ordinary bracket, as in fnmatch(3).
                    None => Part::Byte(b'['),
                },
                byte => Part::Byte(*byte),
            };
            parts.push(part);
        }
        Self { parts, fold }
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        // Where to go back to when the last `*` took too little.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match (self.parts.get(part), text.get(at)) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    part += 1;
                    retry = Some((part, at));
                    continue;
                }
                (Some(one), Some(byte)) if self.fits(one, *byte) => {
                    part += 1;
                    at += 1;
                    continue;
                }
                _ => {}
            }
            match retry {
                Some((after, taken)) if taken < text.len() => {
                    part = after;
                    at = taken + 1;
                    retry = Some((after, at));
                }
                _ => return false,
            }
        }
    }

    fn fits(&self, part: &Part, byte: u8) -> bool {
        let byte = if self.fold { byte.to_ascii_lowercase() } else { byte };
        match part {
            Part::Any => false,
            Part::One => true,
            Part::Byte(wanted) => *wanted == byte,
            Part::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *negated
            }
        }
    }
}

/// The class after `[` and what follows its `]`.
fn class(text: &[u8]) -> Option<(Part, &[u8])> {
    let (negated, mut rest) = match text.split_first() {
        Some((b'!' | b'^', after)) => (true, after),
        _ => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        let (low, after) = rest.split_first()?;
        // A `]` that comes first is a member.
        if *low == b']' && !ranges.is_empty() {
            return Some((Part::Class { negated, ranges }, after));
        }
        match after {
            [b'-', high, after @ ..] if *high != b']' => {
                ranges.push((*low, *high));
                rest = after;
            }
            _ => {
                ranges.push((*low, *low));
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(pattern: &str, text: &str) -> bool {
        Glob::new(pattern, false).matches(text.as_bytes())
    }

    #[test]
    fn stars_cross_slashes() {
        assert!(glob("/home/*/.ssh/*", "/home/a/b/.ssh/id_rsa"));
        assert!(!glob("/home/*/.ssh/*", "/home/a/ssh/id_rsa"));
        assert!(glob("*", ""));
        assert!(glob("a*b*c", "aXXbYbZc"));
        assert!(!glob("a*b", "ac"));
    }

    #[test]
    fn classes_and_escapes_match_as_in_a_shell() {
        assert!(glob("[a-c]x?", "bxy"));
        assert!(!glob("[!a-c]x", "bx"));
        assert!(glob("[]]", "]"));
        assert!(glob("a\\*", "a*"));
        assert!(!glob("a\\*", "ab"));
        assert!(glob("a[b", "a[b"));
        assert!(Glob::new("*.KEY", true).matches(b"server.Key"));
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let pattern = "*a".repeat(200);
        assert!(!glob(&pattern, &"a".repeat(199)));
        assert!(!glob(&format!("{pattern}b"), &"a".repeat(5_000)));
    }
}
