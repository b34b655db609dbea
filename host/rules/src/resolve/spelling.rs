//! What a name was probably meant to be.

/// A name at most two edits away: a slip of the finger, not another word.
pub(super) fn closest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .take(5_000)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= 2)
        .min()
        .map(|(_, near)| near)
}

fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 2 || a.len() > 100 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let edits = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = edits;
            left = edits;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let names = ["open_read", "open_write", "spawned_process"];
        assert_eq!(closest("open_raed", names.into_iter()), Some("open_read"));
        assert_eq!(closest("open_rea", names.into_iter()), Some("open_read"));
        assert_eq!(closest("outbound", names.into_iter()), None);
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("ab", "ba"), 2);
        assert_eq!(distance("kitten", "sitten"), 1);
    }
}
