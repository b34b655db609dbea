//! Any bytes as docker's config.json. What it holds is secret: no error may quote more of it than a name.

#![no_main]

use lanner_oci::DockerConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(config) = DockerConfig::parse(data) else { return };
    for registry in ["docker.io", "ghcr.io", "127.0.0.1:5000"] {
        if let Err(error) = config.knows(registry) {
            assert!(!error.to_string().contains(char::is_control));
        }
    }
});
