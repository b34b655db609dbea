//! Any bytes as a manifest, a list, or a config: read or refused, and what was read is bounded.

#![no_main]

use lanner_oci::{Document, WasmConfig, only_entry, only_wasm};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = WasmConfig::parse(data);
    for sent in [None, Some("application/vnd.oci.image.manifest.v1+json"), Some("text/plain; charset=utf-8")] {
        match Document::parse(data, sent) {
            Err(error) => assert!(!error.to_string().contains(char::is_control)),
            Ok(Document::Manifest(manifest)) => {
                assert!(manifest.layers.len() <= 1000);
                if let Ok(layer) = only_wasm(&manifest) {
                    assert!(layer.media_type.contains("wasm"));
                }
            }
            Ok(Document::Index(index)) => {
                assert!(index.manifests.len() <= 1000);
                let _ = only_entry(&index);
            }
        }
    }
});
