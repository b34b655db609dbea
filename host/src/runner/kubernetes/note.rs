//! What a host writes down of a scan's pod, so that its next life can go on with it. No secret is in it that opens anything: of
//! token and key there are digests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lanner_proto::{agent, pod};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::door::{Pass, Secret};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Note {
    /// The name of its Job.
    pub(super) job: String,
    pub(super) persona: agent::Persona,
    pub(super) start_nonce: Vec<u8>,
    pub(super) end_nonce: Option<Vec<u8>>,
    /// The agent has said all that it had to say.
    pub(super) is_over: bool,
    pub(super) pod: InPod,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum InPod {
    /// It has not come.
    Expected(Secret),
    Inside(Secret, Box<pod::Found>),
}

/// As it is stored: bytes in base64, messages of the protocol as their bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    job: String,
    persona: String,
    start_nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_nonce: Option<String>,
    is_over: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

impl Note {
    pub(super) fn pass(&self) -> Pass {
        match self.pod {
            InPod::Expected(token) => Pass::Token(token),
            InPod::Inside(key, _) => Pass::Key(key),
        }
    }

    pub(super) fn to_value(&self) -> Value {
        let (token, key, found) = match &self.pod {
            InPod::Expected(token) => (Some(text(token)), None, None),
            InPod::Inside(key, found) => (None, Some(text(key)), Some(text(&found.encode_to_vec()))),
        };
        let stored = Stored {
            job: self.job.clone(),
            persona: text(&self.persona.encode_to_vec()),
            start_nonce: text(&self.start_nonce),
            end_nonce: self.end_nonce.as_deref().map(text),
            is_over: self.is_over,
            token,
            key,
            found,
        };
        // Nothing in it can fail to be JSON; a note that is null is read by nobody.
        serde_json::to_value(stored).unwrap_or_default()
    }

    /// Nothing if it is not what this version writes.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let stored = Stored::deserialize(value).ok()?;
        let pod = match (&stored.token, &stored.key, &stored.found) {
            (Some(token), None, None) => InPod::Expected(secret(token)?),
            (None, Some(key), Some(found)) => {
                InPod::Inside(secret(key)?, Box::new(pod::Found::decode(bytes(found)?.as_slice()).ok()?))
            }
            _ => return None,
        };
        let end_nonce = match &stored.end_nonce {
            Some(nonce) => Some(bytes(nonce)?),
            None => None,
        };
        Some(Self {
            job: stored.job.clone(),
            persona: agent::Persona::decode(bytes(&stored.persona)?.as_slice()).ok()?,
            start_nonce: bytes(&stored.start_nonce)?,
            end_nonce,
            is_over: stored.is_over,
            pod,
        })
    }
}

fn text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn secret(text: &str) -> Option<Secret> {
    bytes(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn note(pod: InPod) -> Note {
        let persona = agent::Persona { hostname: "web-07".into(), user: "sam".into(), seed: vec![1, 2, 3] };
        let job = "lanner-1".to_owned();
        Note { job, persona, start_nonce: vec![4; 16], end_nonce: Some(vec![5; 16]), is_over: false, pod }
    }

    #[test]
    fn what_is_written_is_read() {
        let found = pod::Found { path: "/usr/bin".into(), work_dir: "/work".into(), ..Default::default() };
        for pod in [InPod::Expected([1; 32]), InPod::Inside([2; 32], Box::new(found))] {
            let note = note(pod);
            assert_eq!(Note::read(&note.to_value()), Some(note));
        }
    }

    #[test]
    fn what_is_no_note_is_not_taken_for_one() {
        let good = note(InPod::Expected([1; 32])).to_value();
        let with = |name: &str, value: Value| {
            let mut bad = good.clone();
            bad[name] = value;
            bad
        };
        for bad in [
            Value::Null,
            json!({}),
            with("token", json!("c2hvcnQ=")),
            with("key", json!("AAAA")),
            with("persona", json!("no base64!")),
            with("end_nonce", json!("no base64!")),
            with("more", json!(1)),
        ] {
            assert_eq!(Note::read(&bad), None, "{bad}");
        }
    }
}
