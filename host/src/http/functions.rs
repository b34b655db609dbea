//! `/v1/functions`: the functions' life cycle over HTTP. Routes translate; what a revision is, and what becomes of it, they
//! leave to `function`.

use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, Response, StatusCode, header};
use serde_json::json;

use super::documents::{Answer, json, named, told, which};
use super::native::of_store;
use super::refresh::Refresh;
use super::{Body, Caller, Code};
use crate::config::Role;
use crate::function::{ChangeError, Functions, View};

/// Where a path below `/v1/functions` leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    All,
    One(String),
    Activate(String),
    Rollback(String),
    Refresh,
}

const MAX_CHANGE: usize = 16 * 1024;

impl Route {
    pub const LABELS: [&str; 5] = [
        "/v1/functions",
        "/v1/functions/:name",
        "/v1/functions/:name/activate",
        "/v1/functions/:name/rollback",
        "/v1/functions/refresh",
    ];

    pub fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/v1/functions")?.split('/').collect();
        match parts.as_slice() {
            [""] => Some(Self::All),
            ["", "refresh"] => Some(Self::Refresh),
            ["", name] if !name.is_empty() => Some(Self::One((*name).to_owned())),
            ["", name, "activate"] => Some(Self::Activate((*name).to_owned())),
            ["", name, "rollback"] => Some(Self::Rollback((*name).to_owned())),
            _ => None,
        }
    }

    /// One of a closed set, for metrics.
    pub fn label(&self) -> &'static str {
        let [all, one, activate, rollback, refresh] = Self::LABELS;
        match self {
            Self::All => all,
            Self::One(_) => one,
            Self::Activate(_) => activate,
            Self::Rollback(_) => rollback,
            Self::Refresh => refresh,
        }
    }

    /// Functions take everybody's submissions: only an admin changes them.
    pub fn needed(label: &str, method: &Method) -> Option<Role> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        Self::LABELS.contains(&label).then_some(if reads { Role::Read } else { Role::Admin })
    }
}

/// Boxed, so that the router's own future need not name what happens here.
pub(super) fn answer<'f>(
    functions: &'f Functions,
    route: Route,
    parts: &Parts,
    body: Body,
    caller: &Caller,
) -> BoxFuture<'f, Response<Body>> {
    let (method, by) = (parts.method.clone(), caller.owner.0.clone());
    Box::pin(async move {
        told(match (route, method.as_str()) {
            (Route::All, "GET" | "HEAD") => {
                Ok(json(StatusCode::OK, &json!({ "functions": functions.all() })))
            }
            (Route::One(name), "GET" | "HEAD") => one(functions, &name),
            (Route::Activate(name), "POST") => move_to(functions, &name, body, &by, true).await,
            (Route::Rollback(name), "POST") => move_to(functions, &name, body, &by, false).await,
            (Route::Refresh, "POST") => refresh(functions, body, &by).await,
            (route, _) => Err(Code::MethodNotAllowed
                .answer_with("this resource does not know the method", header::ALLOW, allowed(&route))
                .into()),
        })
    })
}

fn one(functions: &Functions, name: &str) -> Answer {
    let name = named(name)?;
    let unknown = || of_change(&ChangeError::UnknownFunction);
    let (view, revisions) = functions.one(&name).ok_or_else(unknown)?;
    let mut shown = json!(view);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("revisions".into(), json!(revisions));
    }
    Ok(json(StatusCode::OK, &shown))
}

async fn move_to(functions: &Functions, name: &str, body: Body, by: &str, forward: bool) -> Answer {
    let name = named(name)?;
    let revision = which(body, MAX_CHANGE).await?;
    let moved = if forward {
        functions.activate(&name, revision, by).await
    } else {
        functions.rollback(&name, revision, by).await
    };
    Ok(json(StatusCode::OK, &json!({ "revision": moved.map_err(|e| of_change(&e))? })))
}

/// Answers when it is noted; the looking takes its time, and `GET /v1/functions/{name}` tells what came of it.
async fn refresh(functions: &Functions, body: Body, by: &str) -> Answer {
    let asked = Refresh::received(body).await?;
    if let Some(name) = &asked.name
        && functions.one(name).is_none()
    {
        return Err(of_change(&ChangeError::UnknownFunction).into());
    }
    let wanted = |view: &View| asked.wants(&view.name, view.package.as_ref());
    let looked_at = functions.ask(wanted, asked.again(), by);
    Ok(json(StatusCode::ACCEPTED, &json!({ "functions": looked_at })))
}

fn allowed(route: &Route) -> &'static str {
    match route {
        Route::All | Route::One(_) => "GET",
        Route::Activate(_) | Route::Rollback(_) | Route::Refresh => "POST",
    }
}

fn of_change(error: &ChangeError) -> Response<Body> {
    let code = match error {
        ChangeError::UnknownFunction | ChangeError::UnknownRevision(..) => Code::NotFound,
        ChangeError::NothingWaits
        | ChangeError::NothingBefore
        | ChangeError::Already(_)
        | ChangeError::HalfWay(_) => Code::Conflict,
        ChangeError::Broken(..) => Code::FunctionRefused,
        ChangeError::Store(error) => return of_store(error),
    };
    code.answer(&error.to_string())
}
