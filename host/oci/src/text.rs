//! Text that came from outside, made fit for a message: quoted, escaped, and short.

/// What a message shows of foreign text, in characters.
const SHOWN: usize = 200;

pub(crate) fn shown(text: &str) -> String {
    let mut short = String::new();
    for character in text.chars().take(SHOWN) {
        // Within double quotes, a single one means nothing.
        match character {
            '\'' => short.push('\''),
            other => short.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    format!("\"{short}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_length_are_tamed() {
        assert_eq!(shown("a's\u{1b}[0m\n\""), "\"a's\\u{1b}[0m\\n\\\"\"");
        assert_eq!(shown(&"x".repeat(201)), format!("\"{}…\"", "x".repeat(200)));
    }
}
