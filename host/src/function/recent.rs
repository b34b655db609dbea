//! What a function was asked in the last hour: GETs without a body that it answered, each once. A new revision is tried on
//! them. They stay in memory, few and short, with the caller on whose behalf they were and without his secret.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode};
use http_body::Body as _;

use super::slot::lock;
use crate::http::{Body, Caller};

const MOST: usize = 64;
const LONGEST: usize = 1024;
const AGE: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub(super) struct Recent {
    kept: Mutex<VecDeque<Recorded>>,
}

#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) path: PathAndQuery,
    pub(super) caller: Caller,
    pub(super) status: StatusCode,
    at: Instant,
}

/// A request that can be asked again: without a body, and by its method without effects.
pub(super) fn repeatable(request: &Request<Body>) -> bool {
    *request.method() == Method::GET && request.body().is_end_stream()
}

impl Recent {
    /// Notes one that was answered well; one of the same path on behalf of the same caller takes its place.
    pub(super) fn note(&self, path: Option<&PathAndQuery>, caller: &Caller, status: StatusCode) {
        let Some(path) = path.filter(|p| p.as_str().len() <= LONGEST && !status.is_server_error()) else {
            return;
        };
        // Whoever is served does not wait for this.
        let Ok(mut kept) = self.kept.try_lock() else { return };
        let same = |r: &Recorded| r.path == *path && r.caller.owner == caller.owner;
        let at = Instant::now();
        if let Some(known) = kept.iter_mut().find(|r| same(r)) {
            (known.at, known.status, known.caller.reach) = (at, status, caller.reach.clone());
            return;
        }
        if kept.len() >= MOST {
            kept.pop_front();
        }
        kept.push_back(Recorded { path: path.clone(), caller: caller.clone(), status, at });
    }

    pub(super) fn of_last_hour(&self) -> Vec<Recorded> {
        lock(&self.kept).iter().filter(|r| r.at.elapsed() < AGE).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use lanner_core::Owner;

    use super::*;
    use crate::scan::Reach;

    #[test]
    fn each_request_is_kept_once_and_only_if_it_was_answered() {
        let recent = Recent::default();
        let caller =
            |name: &str| Caller { owner: Owner(name.into()), reach: Reach::All, request_id: String::new() };
        let note = |path: &str, name: &str, status| {
            recent.note(Some(&path.parse().unwrap()), &caller(name), status);
        };
        note("/a?b=1", "me", StatusCode::OK);
        note("/a?b=1", "me", StatusCode::NOT_FOUND);
        note("/a?b=1", "you", StatusCode::OK);
        note("/a?b=1", "you", StatusCode::INTERNAL_SERVER_ERROR);
        note(&format!("/{}", "x".repeat(LONGEST)), "me", StatusCode::OK);
        let kept: Vec<_> = recent.of_last_hour().into_iter().map(|r| (r.caller.owner.0, r.status)).collect();
        assert_eq!(kept, [("me".into(), StatusCode::NOT_FOUND), ("you".into(), StatusCode::OK)]);
        for number in 0..MOST {
            note(&format!("/{number}"), "me", StatusCode::OK);
        }
        let kept = recent.of_last_hour();
        assert_eq!((kept.len(), kept[0].path.as_str()), (MOST, "/0"));
    }
}
