//! What the filters in Rust have in common: the words of the world `alert-filter`, a batch as it is read, and the
//! priorities as words.
//!
//! No logic of any filter is here. `batch.rs`, `batch.js`, `batch.py` and `batch.h` beside it are the same helper for each
//! language; `lanner policy new` writes them into the projects that it makes.

pub mod bindings {
    wit_bindgen::generate!({
        world: "alert-filter",
        path: "../../../proto/wit",
        pub_export_macro: true,
        default_bindings_module: "shared_filter::bindings",
    });
}
pub mod batch;

pub use batch::{AlertView, Plain, ProcessView};
pub use bindings::exports::lanner::platform::filter as api;
pub use bindings::lanner::platform::types::Priority;

/// Falco's priorities by their words, most urgent first: the place is the urgency.
pub const PRIORITIES: [(&str, Priority); 8] = [
    ("emergency", Priority::Emergency),
    ("alert", Priority::Alert),
    ("critical", Priority::Critical),
    ("error", Priority::Error),
    ("warning", Priority::Warning),
    ("notice", Priority::Notice),
    ("informational", Priority::Informational),
    ("debug", Priority::Debug),
];

/// The priority that a word means.
pub fn priority(word: &str) -> Option<Priority> {
    PRIORITIES.iter().find(|(w, _)| *w == word).map(|(_, p)| *p)
}

/// The word for a priority.
pub fn word(priority: Priority) -> &'static str {
    PRIORITIES.iter().find(|(_, p)| *p == priority).map_or("", |(w, _)| *w)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_priority_has_a_word_and_their_order_is_that_of_the_world() {
        for (place, (name, value)) in PRIORITIES.into_iter().enumerate() {
            assert_eq!((value as usize, priority(name), word(value)), (place, Some(value), name));
        }
        assert_eq!(priority("loud"), None);
    }
}
