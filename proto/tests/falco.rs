//! Falco's messages as they come off the wire.

use lanner_proto::falco::outputs::Response;
use prost::Message;

/// What Falco sends as strings arrives whatever its bytes are, and a map arrives as its entries.
#[test]
fn falcos_strings_and_maps_are_read_without_a_look_at_their_bytes() {
    // Rule (4) "r\xff", one field (6) {1: "k", 2: "\xfe"}, priority (2) 4.
    let wire = [0x10, 4, 0x22, 2, b'r', 0xff, 0x32, 6, 0x0a, 1, b'k', 0x12, 1, 0xfe];
    let response = Response::decode(wire.as_slice()).unwrap();
    assert_eq!(response.rule, b"r\xff");
    assert_eq!((response.priority, response.output_fields[0].value.as_slice()), (4, b"\xfe".as_slice()));
}
