//! The trial: requests whose answer nobody waits for, to the new revision and to the active one in turn, with everything
//! refused that would change something. First the component's own health request, then what was asked in the last hour.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use lanner_core::Owner;
use lanner_core::canary::{Sample, slower};

use super::Inner;
use super::instance::{Asked, Handler};
use super::slot::Slot;
use crate::http::{Body, Caller};
use crate::scan::Reach;
use crate::source::shown;

/// Requests of a trial; what was recorded is repeated until there are about so many.
const REQUESTS: usize = 120;
/// Whatever was not asked by then is left out.
const TIME: Duration = Duration::from_secs(20);
/// For one answer, whatever the function's own time is.
const ANSWER: Duration = Duration::from_secs(10);
/// Times of the first few are those of a cold start.
const COLD: usize = 4;

struct Question {
    path: PathAndQuery,
    caller: Caller,
    /// The only status that will do; otherwise what the active revision answers counts.
    status: Option<StatusCode>,
}

struct Answer {
    status: StatusCode,
    took: Duration,
}

impl Inner {
    /// What was found, or why it does not do.
    pub(super) async fn trial(&self, slot: &Slot, new: &Arc<Handler>) -> Result<String, String> {
        let questions = questions(slot);
        if questions.is_empty() {
            return Ok("there is no health request, and none was recorded".to_owned());
        }
        let (begun, active) = (Instant::now(), slot.serving().active.clone());
        let (mut old_times, mut new_times, mut asked) = (Vec::new(), Vec::new(), 0);
        let rounds = REQUESTS.div_ceil(questions.len());
        for question in std::iter::repeat_n(&questions, rounds).flatten() {
            // Each is asked once, however slow they are, unless the time is three times over.
            let late = if asked < questions.len() { TIME * 3 } else { TIME };
            if begun.elapsed() > late {
                break;
            }
            let then = question.ask(new).await;
            let now = question.ask(&active).await;
            question.judge(&now, &then)?;
            asked += 1;
            if asked > COLD {
                old_times.push(now.took);
                new_times.push(then.took);
            }
        }
        match slower(Sample::of(old_times, 0), Sample::of(new_times, 0)) {
            Some(why) => Err(why),
            None => Ok(format!("{asked} requests, {} different ones", questions.len())),
        }
    }
}

fn questions(slot: &Slot) -> Vec<Question> {
    let mut questions = Vec::new();
    if let Some(health) = &slot.function.grants.health
        && let (Ok(path), Ok(status)) = (health.path.parse(), StatusCode::from_u16(health.status))
    {
        // Somebody to whom nothing belongs.
        let owner = Owner("lanner-trial".to_owned());
        questions.push(Question {
            path,
            caller: caller(owner.clone(), Reach::Own(owner)),
            status: Some(status),
        });
    }
    let recorded = slot.recent.of_last_hour().into_iter();
    questions.extend(recorded.map(|r| Question {
        path: r.path,
        caller: caller(r.caller.owner, r.caller.reach),
        status: None,
    }));
    questions
}

fn caller(owner: Owner, reach: Reach) -> Caller {
    Caller { owner, reach, request_id: "trial".to_owned() }
}

impl Question {
    async fn ask(&self, handler: &Arc<Handler>) -> Answer {
        let begun = Instant::now();
        let mut request = Request::new(Body::default());
        // The host's name is nothing that a function may depend on.
        let uri = format!("http://localhost{}", self.path);
        *request.uri_mut() = uri.parse().unwrap_or_default();
        let asked = Asked { caller: self.caller.clone(), dry: true };
        let answered = tokio::time::timeout(ANSWER, async {
            let response = handler.clone().ask(request, asked, None).await;
            let (took, status) = (begun.elapsed(), response.status());
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return Answer { status: StatusCode::BAD_GATEWAY, took };
                }
            }
            Answer { status, took }
        });
        answered.await.unwrap_or(Answer { status: StatusCode::GATEWAY_TIMEOUT, took: ANSWER })
    }

    /// `now`: the active revision's answer, `then`: the new one's.
    fn judge(&self, now: &Answer, then: &Answer) -> Result<(), String> {
        let good = match self.status {
            Some(status) => then.status == status,
            None => then.status.is_success() || !now.status.is_success() && !worse(now.status, then.status),
        };
        if good {
            return Ok(());
        }
        let path = shown(self.path.as_str());
        Err(match self.status {
            Some(status) => format!(
                "the health request GET {path} is answered with {}, not {}",
                then.status.as_u16(),
                status.as_u16()
            ),
            None => format!(
                "GET {path} is answered with {}, by the active revision with {}",
                then.status.as_u16(),
                now.status.as_u16()
            ),
        })
    }
}

fn worse(now: StatusCode, then: StatusCode) -> bool {
    then.is_server_error() && !now.is_server_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_the_health_status_or_by_the_active_revision() {
        let question = |status: Option<u16>| Question {
            path: "/a".parse().unwrap(),
            caller: caller(Owner("me".into()), Reach::All),
            status: status.map(|s| StatusCode::from_u16(s).unwrap()),
        };
        let answer =
            |status: u16| Answer { status: StatusCode::from_u16(status).unwrap(), took: Duration::ZERO };
        let judged = |of: Option<u16>, now: u16, then: u16| question(of).judge(&answer(now), &answer(then));
        assert_eq!(judged(Some(204), 500, 204), Ok(()));
        let why = "the health request GET /a is answered with 404, not 200";
        assert_eq!(judged(Some(200), 200, 404), Err(why.into()));
        for (now, then) in [(200, 201), (404, 200), (404, 403), (500, 500), (500, 404)] {
            assert_eq!(judged(None, now, then), Ok(()), "{now} {then}");
        }
        let why = "GET /a is answered with 404, by the active revision with 200";
        assert_eq!(judged(None, 200, 404), Err(why.into()));
        assert!(judged(None, 404, 500).is_err());
    }
}
