//! Any bytes as a body of Falco's `http_output` and as a gRPC response: neither may panic or grow without bound, and what
//! is no alert must be counted.

#![no_main]

use lanner_core::falco::{MAX_ALERTS, Response, decode, from_rpc};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let decoded = decode(data, 1);
    assert!(decoded.sightings.len() <= MAX_ALERTS);
    assert_eq!(decoded.refused == 0, decoded.why.is_none());
    let (rule, output) = data.split_at(data.len().min(16));
    let sighting = from_rpc(
        Response {
            rule: rule.to_vec(),
            output: output.to_vec(),
            output_fields: data.chunks(7).map(|c| (c.to_vec(), output.to_vec())).collect(),
            ..Response::default()
        },
        1,
    );
    assert!(sighting.alert.output_fields.len() <= 256);
});
