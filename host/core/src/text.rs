//! Hostile text made safe to show and to store: bounded, and free of control characters.
//!
//! Names, command lines and paths in alerts were chosen by the package. A terminal escape in one must not reach a
//! terminal, and a megabyte in one must not reach the store.

/// Cuts at a character boundary to at most `max` bytes, with `…` where something was left out.
pub fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let room = max.saturating_sub('…'.len_utf8());
    let end = (0..=room).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    let mut cut = text.get(..end).unwrap_or_default().to_owned();
    cut.push('…');
    cut
}

/// Replaces what a terminal could obey (C0, C1, DEL, bidirectional overrides) by its `\u{..}` or `\n` form.
pub fn escaped(text: &str) -> String {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Bytes that need not be UTF-8, as text: what is not UTF-8 is shown as U+FFFD.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An error and all that is behind it, as one line. The texts may be anybody's: escape it before it is shown.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terminal_escapes_lose_their_power() {
        assert_eq!(escaped("a\x1b[31mred\x07\u{202e}"), "a\\u{1b}[31mred\\u{7}\\u{202e}");
        assert_eq!(escaped("plain – text"), "plain – text");
    }

    #[test]
    fn an_error_is_told_with_all_that_is_behind_it() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Link(&'static str, #[source] Option<Box<Link>>);
        let one = Link("a", Some(Box::new(Link("b", Some(Box::new(Link("c", None)))))));
        assert_eq!(chain(&one), "a: b: c");
        assert_eq!(chain(&Link("a", None)), "a");
    }

    proptest! {
        #[test]
        fn bounded_never_exceeds_the_bound(text in ".*", max in 3usize..64) {
            prop_assert!(bounded(&text, max).len() <= max);
        }

        #[test]
        fn escaped_text_holds_no_control_character(text in any::<String>()) {
            prop_assert!(!escaped(&text).chars().any(char::is_control));
        }
    }
}
