//! Any bytes as Spin's locked app: what passes has routes that lead somewhere, and ids that are names.

#![no_main]

use lanner_oci::LockedApp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match LockedApp::parse(data) {
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
        Ok(app) => {
            for (_, component) in app.routes() {
                assert!(component.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{component}");
            }
        }
    }
});
