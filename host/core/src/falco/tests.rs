//! Decoding against recordings of a real Falco 0.43.1, and against bytes that nobody sent.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::falco::rpc::Response;

fn bodies(name: &str) -> Vec<String> {
    let path = format!("{}/testdata/falco/{name}.http.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let body = |line: &str| serde_json::from_str::<Value>(line).unwrap()["body"].as_str().unwrap().to_owned();
    text.lines().map(body).collect()
}

/// The messages of a recorded stream as a generic protobuf reader sees them.
fn responses(name: &str) -> Vec<Response> {
    let path = format!("{}/testdata/falco/{name}.grpc.bin", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap();
    let mut rest = bytes.as_slice();
    let mut all = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (message, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        all.push(response(message));
        rest = tail;
    }
    all
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// Number and content of each field; a number's content is its eight bytes.
fn wire(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let content = varint(&mut bytes);
        match tag & 7 {
            0 => fields.push((tag >> 3, content.to_be_bytes().to_vec())),
            2 => {
                let (content, rest) = bytes.split_at(usize::try_from(content).unwrap());
                bytes = rest;
                fields.push((tag >> 3, content.to_vec()));
            }
            other => panic!("wire type {other}"),
        }
    }
    fields
}

fn response(message: &[u8]) -> Response {
    let mut response = Response::default();
    let number = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().unwrap());
    for (field, content) in wire(message) {
        match field {
            1 => {
                let parts = wire(&content);
                let part = |n| parts.iter().find(|(f, _)| *f == n).map_or(0, |(_, c)| number(c));
                response.time = Some(part(1) * 1_000_000_000 + part(2));
            }
            2 => response.priority = i32::try_from(number(&content)).unwrap(),
            3 => response.source_deprecated = i32::try_from(number(&content)).unwrap(),
            4 => response.rule = content,
            5 => response.output = content,
            6 => {
                let mut pair = wire(&content).into_iter().map(|(_, c)| c);
                response
                    .output_fields
                    .push((pair.next().unwrap_or_default(), pair.next().unwrap_or_default()));
            }
            7 => response.hostname = content,
            8 => response.tags.push(content),
            9 => response.source = content,
            _ => {}
        }
    }
    response
}

fn one(body: &str) -> Sighting {
    let mut decoded = decode(body.as_bytes(), 7);
    assert_eq!((decoded.refused, decoded.sightings.len()), (0, 1), "{:?}", decoded.why);
    decoded.sightings.remove(0)
}

#[test]
fn the_same_alert_is_the_same_through_http_and_grpc() {
    for name in ["stock", "typed", "internal"] {
        let (bodies, responses) = (bodies(name), responses(name));
        assert_eq!(bodies.len(), responses.len());
        for (body, response) in bodies.iter().zip(responses) {
            assert_eq!(one(body), from_rpc(response, 7), "{name}");
        }
    }
}

#[test]
fn fields_keep_their_types_and_times_their_nanoseconds() {
    let first = one(&bodies("typed")[0]).alert;
    assert_eq!((first.rule.as_str(), first.priority), ("Typed net", Priority::Informational));
    assert_eq!(first.time, 1_795_506_696_273_737_113);
    assert_eq!(first.output_fields["evt.time"], json!(1_795_506_696_273_737_113_i64));
    assert_eq!(first.output_fields["fd.types"], json!(["ipv4", "file", "pipe"]));
    assert_eq!(first.output_fields["fd.is_server"], json!(true));
    assert_eq!(first.output_fields["evt.rawres"], json!(-115));
    assert_eq!(first.output_fields["proc.aname"], Value::Null);
    assert_eq!(first.tags, ["network", "odd tag", "ünï"]);
}

#[test]
fn the_container_and_the_ancestors_are_read() {
    let sighting = one(&bodies("stock")[0]);
    let id = Some("842477b01e66".to_owned());
    assert_eq!(sighting.origin, Origin { container_id: id, ..Origin::default() });
    let names: Vec<_> = sighting.alert.ancestry.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["cat", "bash", "trigger.sh", "capture.sh"]);
    // The machine itself is no container.
    assert_eq!(one(&bodies("typed")[0]).origin, Origin::default());
    assert_eq!(fields::container_id(&"ab".repeat(32)), Some("abababababab".into()));
    assert_eq!(fields::container_id("842477B01E66"), Some("842477b01e66".into()));
    for text in ["", "842477b01e6", "842477b01e6g", "ünïünïünïünï"] {
        assert_eq!(fields::container_id(text), None, "{text}");
    }
}

#[test]
fn json_output_off_is_refused_by_http_with_the_key_and_read_from_grpc() {
    for body in bodies("text") {
        let decoded = decode(body.as_bytes(), 7);
        assert!(decoded.sightings.is_empty());
        let why = decoded.why.unwrap().to_string();
        assert_eq!(why, "this is Falco's text output: set json_output: true in falco.yaml");
    }
    for response in responses("text") {
        let alert = from_rpc(response, 7).alert;
        assert!(alert.output_fields.contains_key("container.id"), "{alert:?}");
        assert_eq!(alert.source, "syscall");
    }
    let unset = from_rpc(responses("text").remove(0), 7);
    assert_eq!(unset.alert.output_fields["k8s.pod.name"], Value::Null);
}

#[test]
fn a_byte_that_is_no_text_costs_no_alert() {
    let alerts: Vec<_> = responses("badutf8-text").into_iter().map(|r| from_rpc(r, 7).alert).collect();
    assert_eq!(alerts.len(), 3);
    let cmdline = alerts[0].output_fields["proc.cmdline"].as_str().unwrap();
    assert_eq!(cmdline, "cat /etc/shadow /nonexistent-bad\u{fffd}\u{fffd}utf8");
}

#[test]
fn falcos_own_troubles_are_told_from_its_numbers() {
    let kinds: Vec<_> = bodies("internal").iter().map(|b| one(b).kind).collect();
    assert_eq!(kinds.iter().filter(|k| **k == Kind::Blind).count(), 1, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|k| **k == Kind::Metrics).count(), kinds.len() - 1);
    // A rule may call itself anything; its source it cannot choose.
    let forged = json!({ "rule": "Falco internal: syscall event drop", "source": "syscall" });
    assert_eq!(one(&forged.to_string()).kind, Kind::Alert);
}

#[test]
fn a_mark_is_told_by_its_rule_and_its_nonce() {
    let nonce = "0123456789abcdef0123456789abcdef";
    let kind = |rule: &str, args: &str| {
        one(&json!({ "rule": rule, "output_fields": { "proc.args": args } }).to_string()).kind
    };
    assert_eq!(kind(MARK_RULE, &format!("mark {nonce}")), Kind::Mark(nonce.into()));
    for (rule, args) in [
        ("other", format!("mark {nonce}")),
        (MARK_RULE, format!("mark {nonce} ")),
        (MARK_RULE, format!("mark {}", nonce.to_uppercase())),
        (MARK_RULE, format!("mark {nonce}0")),
        (MARK_RULE, nonce.to_owned()),
        (MARK_RULE, String::new()),
    ] {
        assert_eq!(kind(rule, &args), Kind::Alert, "{rule} {args}");
    }
}

#[test]
fn arrays_lines_and_falcosidekicks_additions_are_read() {
    let stock = bodies("stock");
    let lines = stock.join("\n");
    let array = format!("[{}]", stock.join(","));
    let expected: Vec<_> = stock.iter().map(|b| one(b)).collect();
    assert_eq!(decode(lines.as_bytes(), 7).sightings, expected);
    assert_eq!(decode(array.as_bytes(), 7).sightings, expected);
    let mut sidekick: Value = serde_json::from_str(&stock[0]).unwrap();
    sidekick["uuid"] = json!("b1946ac9-2492-4a8b-9b5c-000000000000");
    sidekick["output_fields"]["evt.time"] = json!(1.7955069350606587e18);
    let sighting = one(&sidekick.to_string());
    assert_eq!(sighting.origin, expected[0].origin);
    assert!((sighting.alert.time - expected[0].alert.time).abs() < 1000);
}

#[test]
fn a_part_that_cannot_be_read_costs_no_other_and_is_counted() {
    let good = bodies("stock").remove(0);
    let rows = [
        (String::new(), 0, 1, "the body is empty"),
        ("[]".into(), 0, 0, ""),
        (
            format!("{good}\n{{\"priority\":\"x\"}}\n{good}"),
            2,
            1,
            "this JSON is no alert of Falco's: it has no rule",
        ),
        (format!("[{good},7]"), 1, 1, "this JSON is no alert of Falco's: it has no rule"),
        (
            format!("{good}\n{{\"rule\":"),
            1,
            1,
            "this is no JSON of Falco's: EOF while parsing a value at line 2 column 8",
        ),
    ];
    for (body, alerts, refused, why) in rows {
        let decoded = decode(body.as_bytes(), 7);
        assert_eq!((decoded.sightings.len(), decoded.refused), (alerts, refused), "{body}");
        assert_eq!(decoded.why.map(|w| w.to_string()).unwrap_or_default(), why);
    }
    let many = format!("[{}]", vec!["{\"rule\":\"r\"}"; MAX_ALERTS + 1].join(","));
    let decoded = decode(many.as_bytes(), 7);
    assert_eq!((decoded.sightings.len(), decoded.refused), (MAX_ALERTS, 1));
    assert!(matches!(decoded.why, Some(DecodeError::TooMany)));
}

#[test]
fn what_an_alert_does_not_tell_is_taken_for_the_worst_or_from_us() {
    let bare = one("{\"rule\":\"r\",\"output_fields\":null,\"tags\":null,\"priority\":null}").alert;
    assert_eq!((bare.time, bare.priority), (7, Priority::Emergency));
    let only_text = one("{\"rule\":\"r\",\"time\":\"2026-11-24T07:55:35.060658807Z\"}").alert;
    assert_eq!(only_text.time, 1_795_506_935_060_658_807);
}

#[test]
fn hostile_sizes_are_bounded() {
    let long = "x".repeat(100_000);
    let fields: serde_json::Map<String, Value> =
        (0..5000).map(|n| (format!("f{n}{long:.200}"), json!([long, [long], { "a": long }]))).collect();
    let body = json!({ "rule": long, "output": long, "tags": vec![&long; 500], "output_fields": fields });
    let alert = one(&body.to_string()).alert;
    assert!(serde_json::to_vec(&alert).unwrap().len() < 4 << 20);
    assert!(alert.rule.len() <= 512 && alert.tags.len() == 64 && alert.output_fields.len() == 256);
    let deep = format!("{{\"rule\":\"r\",\"output_fields\":{}1{}}}", "[".repeat(9000), "]".repeat(9000));
    assert_eq!(decode(deep.as_bytes(), 7).refused, 1);
}

#[test]
fn a_document_in_the_output_is_believed_only_under_its_own_rule() {
    let document = json!({ "rule": "quiet", "priority": "Debug", "source": "internal", "output_fields": {} });
    let mut response = Response { rule: b"loud".to_vec(), priority: 2, ..Response::default() };
    response.output = document.to_string().into_bytes();
    let sighting = from_rpc(response.clone(), 7);
    assert_eq!((sighting.alert.rule.as_str(), sighting.alert.priority), ("loud", Priority::Critical));
    response.rule = b"quiet".to_vec();
    let sighting = from_rpc(response, 7);
    assert_eq!((sighting.alert.priority, sighting.alert.source.as_str()), (Priority::Critical, "syscall"));
}

static TYPED: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| bodies("typed"));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_body_panics_and_each_is_an_alert_or_counted(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let decoded = decode(&body, 7);
        prop_assert!(decoded.refused > 0 || !decoded.sightings.is_empty() || body.first() == Some(&b'['));
        prop_assert_eq!(decoded.refused == 0, decoded.why.is_none());
    }

    #[test]
    fn a_recorded_body_with_any_bytes_in_it_is_an_alert_or_counted(
        at in 0usize..1000, with in prop::collection::vec(any::<u8>(), 0..6), which in 0usize..5,
    ) {
        let mut body = TYPED[which].clone().into_bytes();
        let at = at.min(body.len());
        body.splice(at..at, with);
        let decoded = decode(&body, 7);
        prop_assert!(decoded.refused > 0 || !decoded.sightings.is_empty());
    }

    #[test]
    fn every_response_is_an_alert(
        rule in prop::collection::vec(any::<u8>(), 0..20), output in prop::collection::vec(any::<u8>(), 0..200),
        field in prop::collection::vec(any::<u8>(), 0..20), priority in any::<i32>(), time in prop::option::of(any::<i64>()),
    ) {
        let output_fields = vec![(field.clone(), output.clone())];
        let sighting = from_rpc(Response { time, priority, rule, output, output_fields, ..Response::default() }, 7);
        prop_assert_eq!(sighting.alert.output_fields.len(), 1);
        prop_assert!(sighting.alert.time > 0);
    }
}
