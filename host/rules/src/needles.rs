//! Texts to find in a text, prepared once: rules about paths ask for dozens of them at every open.

use std::fmt;
use std::hash::{Hash, Hasher};

use aho_corasick::AhoCorasick;
use memchr::memmem;

#[derive(Clone)]
pub(crate) struct Needles {
    texts: Vec<Vec<u8>>,
    search: Search,
}

#[derive(Clone)]
enum Search {
    One(Box<memmem::Finder<'static>>),
    Many(AhoCorasick),
    /// More than an automaton holds: one after the other.
    Each(Vec<memmem::Finder<'static>>),
}

impl Needles {
    pub(crate) fn new(texts: Vec<Vec<u8>>) -> Self {
        let finder = |text: &Vec<u8>| memmem::Finder::new(text).into_owned();
        let search = match texts.as_slice() {
            [only] => Search::One(Box::new(finder(only))),
            _ => AhoCorasick::new(&texts)
                .map_or_else(|_| Search::Each(texts.iter().map(finder).collect()), Search::Many),
        };
        Self { texts, search }
    }

    pub(crate) fn texts(&self) -> &[Vec<u8>] {
        &self.texts
    }

    /// Whether one of them is in the text.
    pub(crate) fn found_in(&self, text: &[u8]) -> bool {
        match &self.search {
            Search::One(finder) => finder.find(text).is_some(),
            Search::Many(automaton) => automaton.is_match(text),
            Search::Each(finders) => finders.iter().any(|finder| finder.find(text).is_some()),
        }
    }
}

impl PartialEq for Needles {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Needles {}

impl Hash for Needles {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.texts.hash(state);
    }
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.texts.iter().map(|text| String::from_utf8_lossy(text))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_needle_is_enough() {
        let needles = Needles::new(vec![b"/.ssh/".to_vec(), b"/.aws/".to_vec()]);
        assert!(needles.found_in(b"/home/a/.aws/credentials"));
        assert!(!needles.found_in(b"/home/a/.awsome"));
        assert!(Needles::new(vec![b"".to_vec()]).found_in(b""));
        assert!(!Needles::new(Vec::new()).found_in(b"x"));
    }
}
