//! What the functions have in common: problem documents, the shapes of Package Hunter, small readers of a request.
//!
//! Pure text and JSON, tested natively; no WASI and no interface of the platform is imported here.

#![forbid(unsafe_code)]

use serde_json::{Map, Value, json};

/// An answer before it becomes HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    pub fn json(status: u16, body: String) -> Self {
        Self { status, headers: vec![("content-type", "application/json".into())], body }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// RFC 9457. `code` is part of the contract, `detail` is for people.
    pub fn problem(status: u16, code: &str, title: &str, detail: &str) -> Self {
        let body = json!({ "type": format!("urn:lanner:problem:{code}"), "title": title, "status": status, "code": code, "detail": detail });
        Self {
            status,
            headers: vec![("content-type", "application/problem+json".into())],
            body: body.to_string(),
        }
    }

    pub fn method_not_allowed(allow: &str) -> Self {
        let detail = format!("this resource answers to {allow}");
        Self::problem(405, "method-not-allowed", "method not allowed", &detail).with("allow", allow.into())
    }

    pub fn not_found() -> Self {
        Self::problem(404, "not-found", "not found", "there is no such scan")
    }
}

/// One value of a query string, percent-decoded; the last one wins.
pub fn query(uri_query: Option<&str>, name: &str) -> Option<String> {
    let pairs = uri_query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).last().map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match byte {
            b'+' => out.push(b' '),
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => out.push(u8::try_from(high * 16 + low).unwrap_or(b'?')),
                _ => out.push(b'?'),
            },
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Package Hunter's answer to a poll, from a scan's document and its kept alerts.
///
/// `failed` with complete evidence is `finished` there: its alerts are all that Package Hunter knew to say.
pub fn package_hunter_poll(scan: &Value, alerts: &[Value]) -> Value {
    let result: Vec<Value> = alerts.iter().map(package_hunter_alert).collect();
    let state = scan.get("state").and_then(Value::as_str).unwrap_or_default();
    let id = scan.get("id").cloned().unwrap_or(Value::Null);
    match state {
        "queued" | "running" => json!({ "status": "pending", "id": id }),
        "finished" | "failed" => json!({ "status": "finished", "id": id, "result": result }),
        _ => {
            let reason = scan.get("reason").and_then(Value::as_str).unwrap_or(state);
            json!({ "status": "error", "id": id, "reason": reason, "result": result })
        }
    }
}

/// An alert as Falco's gRPC output looks in JSON.
fn package_hunter_alert(alert: &Value) -> Value {
    let text = |key: &str| alert.get(key).and_then(Value::as_str).unwrap_or_default();
    let time = alert.get("time_ns").and_then(Value::as_i64).unwrap_or_default();
    let fields: Map<String, Value> = alert
        .get("output_fields")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), Value::String(as_grpc_text(value))))
        .collect();
    json!({
        "time": { "seconds": (time.div_euclid(1_000_000_000)).to_string(), "nanos": time.rem_euclid(1_000_000_000) },
        "priority": text("priority"),
        "source": text("source").to_uppercase(),
        "rule": text("rule"),
        "output": text("output"),
        "output_fields": fields,
        "hostname": text("hostname"),
        "tags": alert.get("tags").cloned().unwrap_or_else(|| json!([])),
    })
}

/// gRPC's output fields are all text: `<NA>` for what is not set, lists in parentheses.
fn as_grpc_text(value: &Value) -> String {
    match value {
        Value::Null => "<NA>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("({})", items.iter().map(as_grpc_text).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// A client's idempotency key: printable ASCII, at most 128 bytes.
pub fn idempotency_key(value: Option<&[u8]>) -> Result<Option<String>, Answer> {
    let Some(bytes) = value else { return Ok(None) };
    let good = (1..=128).contains(&bytes.len()) && bytes.iter().all(|b| b.is_ascii_graphic());
    if good {
        return Ok(Some(String::from_utf8_lossy(bytes).into_owned()));
    }
    let detail = "the header Idempotency-Key has 1 to 128 printable ASCII characters";
    Err(Answer::problem(400, "bad-idempotency-key", "bad idempotency key", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_the_last_value_wins() {
        assert_eq!(query(Some("a=1&b=x%20y%2F+z&a=2"), "a").as_deref(), Some("2"));
        assert_eq!(query(Some("b=x%20y%2F+z"), "b").as_deref(), Some("x y/ z"));
        assert_eq!(query(Some("b=%zz"), "b").as_deref(), Some("?"));
        assert_eq!(query(None, "b"), None);
    }

    #[test]
    fn package_hunter_sees_its_own_shapes() {
        let alert = json!({
            "time_ns": 1_795_506_696_273_737_113_i64, "priority": "WARNING", "source": "syscall", "rule": "r",
            "output": "o", "output_fields": {"a": null, "b": 7, "c": ["x", "y"], "d": true}, "hostname": "h", "tags": ["t"],
        });
        let poll = |state: &str| {
            package_hunter_poll(
                &json!({"id": "i", "state": state, "reason": "why"}),
                std::slice::from_ref(&alert),
            )
        };
        assert_eq!(poll("running"), json!({"status": "pending", "id": "i"}));
        assert_eq!(poll("failed"), poll("finished"));
        assert_eq!(poll("incomplete")["reason"], "why");
        let first = &poll("finished")["result"][0];
        assert_eq!(first["time"], json!({"seconds": "1795506696", "nanos": 273_737_113}));
        assert_eq!(
            (first["source"].as_str(), first["priority"].as_str()),
            (Some("SYSCALL"), Some("WARNING"))
        );
        assert_eq!(first["output_fields"], json!({"a": "<NA>", "b": "7", "c": "(x,y)", "d": "true"}));
    }

    #[test]
    fn keys_are_short_and_printable() {
        assert_eq!(idempotency_key(Some(b"abc")), Ok(Some("abc".into())));
        assert_eq!(idempotency_key(None), Ok(None));
        for bad in [b"".as_slice(), b"a b", b"\xff", &[b'x'; 129]] {
            assert_eq!(idempotency_key(Some(bad)).unwrap_err().status, 400);
        }
    }
}
