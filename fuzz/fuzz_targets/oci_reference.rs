//! Any text as a reference: what passes is written back as it was, and has nothing in it that means something in a URL.

#![no_main]

use lanner_oci::{Pinned, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    match text.parse::<Reference>() {
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
        Ok(reference) => {
            assert_eq!(reference.to_string(), text);
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
            assert!(reference.repository().chars().all(plain));
            assert!(reference.repository().split('/').all(|part| !matches!(part, "" | "." | "..")));
            assert_eq!(reference.pinned().is_some(), text.parse::<Pinned>().is_ok());
        }
    }
});
