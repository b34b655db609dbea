//! Any bytes as an uploaded component: what it asks for is read without a panic, and only a filter passes.
//!
//! The two files are taken as they lie in the host, without the engine around them: that takes a sanitizer a quarter of an
//! hour to build, and nothing of it is met before these two have said yes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../host/src/policy/contract.rs"]
mod contract;
#[path = "../../host/src/engine/inspect.rs"]
mod inspect;

/// Where the two look for each other.
mod engine {
    pub(crate) use crate::inspect;
}

mod convert {
    use lanner_core::text::{bounded, escaped};

    /// As the host's.
    pub(crate) fn shown(text: &str) -> String {
        escaped(&bounded(text, 300))
    }
}

const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

fuzz_target!(|data: &[u8]| {
    look(data);
    // A fuzzer finds the header, but loses it again with most changes.
    look(&[HEADER, data].concat());
});

fn look(wasm: &[u8]) {
    let interface = match inspect::inspect(wasm) {
        Ok(interface) => interface,
        Err(error) => {
            assert!(error.to_string().len() < 400, "{error}");
            return;
        }
    };
    assert!(interface.imports.len() + interface.exports.len() <= wasm.len());
    match contract::check(&interface) {
        Ok(()) => {
            assert!(interface.exports.iter().any(|e| e.starts_with("lanner:platform/filter@0.1")));
            let known = ["lanner:platform/logging@", "lanner:platform/types@"];
            assert!(interface.imports.iter().all(|i| known.iter().any(|k| i.starts_with(k))));
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.len() < 2000 && !said.contains(char::is_control), "{said:?}");
        }
    }
}
