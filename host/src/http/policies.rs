//! `/v1/policies` and `/v1/audit`: the filters' life cycle over HTTP. Routes translate; what a revision is, and what
//! becomes of it, they leave to `policy`.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use lanner_core::{Name, Revision, RevisionState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::documents::{
    Answer, JSON, Problem, Which, json, limited, named, parsed, plain, query, told, which,
};
use super::native::of_store;
use super::refresh::Refresh;
use super::{Body, Caller, Code};
use crate::config::Role;
use crate::engine::Wasm;
use crate::manifest::RegistrySource;
use crate::policy::{ChangeError, Module, Policy, Refusal, SourceView, Spec, Upload, Uploaded};
use crate::scan::Scans;
use crate::source::Source;
use crate::tasks::{OnError, OnStop, Supervisor, TaskKind};

pub struct Policies {
    pub policy: Policy,
    pub scans: Scans,
    pub supervisor: Supervisor,
    /// Of a component.
    pub max_bytes: u64,
}

/// Where a path below `/v1/policies` leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    All,
    One(String),
    Activate(String),
    Rollback(String),
    Diff(String),
    Rejudge,
    Refresh,
    Audit,
}

const REJUDGE: TaskKind = TaskKind { name: "rejudge", on_error: OnError::Log, on_stop: OnStop::Finish };
/// A spec, and what multipart adds around its parts.
const MAX_SPEC: usize = 128 * 1024;
const MAX_PAGE: usize = 200;
const WASM: &str = "application/wasm";
const MULTIPART: &str = "multipart/form-data";

impl Route {
    pub const LABELS: [&str; 8] = [
        "/v1/policies",
        "/v1/policies/:name",
        "/v1/policies/:name/activate",
        "/v1/policies/:name/rollback",
        "/v1/policies/:name/diff",
        "/v1/policies/rejudge",
        "/v1/policies/refresh",
        "/v1/audit",
    ];

    pub fn of(path: &str) -> Option<Self> {
        if path == "/v1/audit" {
            return Some(Self::Audit);
        }
        let rest = path.strip_prefix("/v1/policies")?;
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            [""] => Some(Self::All),
            ["", "rejudge"] => Some(Self::Rejudge),
            ["", "refresh"] => Some(Self::Refresh),
            ["", name] if !name.is_empty() => Some(Self::One((*name).to_owned())),
            ["", name, "activate"] => Some(Self::Activate((*name).to_owned())),
            ["", name, "rollback"] => Some(Self::Rollback((*name).to_owned())),
            ["", name, "diff"] => Some(Self::Diff((*name).to_owned())),
            _ => None,
        }
    }

    /// One of a closed set, for metrics.
    pub fn label(&self) -> &'static str {
        let [all, one, activate, rollback, diff, rejudge, refresh, audit] = Self::LABELS;
        match self {
            Self::All => all,
            Self::One(_) => one,
            Self::Activate(_) => activate,
            Self::Rollback(_) => rollback,
            Self::Diff(_) => diff,
            Self::Rejudge => rejudge,
            Self::Refresh => refresh,
            Self::Audit => audit,
        }
    }

    /// Filters decide what everybody is told: only an admin changes them, or reads who did.
    pub fn needed(label: &str, method: &Method) -> Option<Role> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let ours = Self::LABELS.contains(&label);
        ours.then(|| if reads && label != "/v1/audit" { Role::Read } else { Role::Admin })
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Page {
    before: Option<u64>,
    limit: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct PutQuery {
    dry_run: bool,
    start: Option<crate::policy::Start>,
    note: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Since {
    /// Nanoseconds since the epoch, or a time of RFC 3339.
    since: Option<String>,
}

impl Policies {
    /// Boxed, so that the router's own future need not name what happens here.
    pub(super) fn answer(
        &self,
        route: Route,
        parts: Parts,
        body: Body,
        caller: Caller,
    ) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move { self.answer_at(route, &parts, body, &caller).await })
    }

    async fn answer_at(&self, route: Route, parts: &Parts, body: Body, caller: &Caller) -> Response<Body> {
        let answer = match (route, parts.method.as_str()) {
            (Route::All, "GET" | "HEAD") => self.all(),
            (Route::One(name), "GET" | "HEAD") => self.one(&name),
            (Route::One(name), "PUT") => self.put(&name, parts, body, caller).await,
            (Route::One(name), "DELETE") => self.retire(&name, caller).await,
            (Route::Activate(name), "POST") => self.move_to(&name, body, caller, true).await,
            (Route::Rollback(name), "POST") => self.move_to(&name, body, caller, false).await,
            (Route::Diff(name), "GET" | "HEAD") => self.diff(&name, parts).await,
            (Route::Rejudge, "GET" | "HEAD") => self.rejudged(),
            (Route::Rejudge, "POST") => self.rejudge(parts, caller).await,
            (Route::Refresh, "POST") => self.refresh(body, caller).await,
            (Route::Audit, "GET" | "HEAD") => self.audit(parts).await,
            (route, _) => Err(Code::MethodNotAllowed
                .answer_with("this resource does not know the method", header::ALLOW, allowed(&route))
                .into()),
        };
        told(answer)
    }

    fn all(&self) -> Answer {
        let revisions = self.policy.revisions();
        let mut names: Vec<&Name> = revisions.iter().map(|r| &r.name).collect();
        names.dedup();
        let filters: Vec<Value> = names
            .into_iter()
            .map(|name| self.summary(name, &revisions.iter().filter(|r| r.name == *name).collect::<Vec<_>>()))
            .collect();
        Ok(json(StatusCode::OK, &json!({ "policies": filters, "active": self.policy.active() })))
    }

    fn summary(&self, name: &Name, revisions: &[&Revision]) -> Value {
        summary(name, revisions, self.policy.source_of(name).as_ref())
    }

    fn one(&self, name: &str) -> Answer {
        let name = named(name)?;
        let revisions = self.policy.revisions_of(&name);
        if revisions.is_empty() {
            return Err(of_change(&ChangeError::UnknownFilter).into());
        }
        let mut shown = self.summary(&name, &revisions.iter().collect::<Vec<_>>());
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("revisions".into(), json!(revisions));
        }
        Ok(json(StatusCode::OK, &shown))
    }

    async fn put(&self, name: &str, parts: &Parts, body: Body, caller: &Caller) -> Answer {
        let name = named(name)?;
        let query: PutQuery = query(parts)?;
        let (sent, mut spec) = self.received(parts, body).await?;
        spec.start = query.start.unwrap_or(spec.start);
        if !query.note.is_empty() {
            spec.note = query.note;
        }
        let (by, dry_run) = (caller.owner.0.clone(), query.dry_run);
        let taken = match sent {
            Sent::Module(module) => self.policy.upload(Upload { name, module, spec, by, dry_run }).await,
            Sent::Source(source) => {
                self.policy.upload_from(name, Source::Registry(source), spec, &by, dry_run).await
            }
        };
        let Uploaded { revision, trial } = taken.map_err(|r| of_refusal(&r))?;
        let status = if query.dry_run { StatusCode::OK } else { StatusCode::CREATED };
        let answer = json!({ "dry_run": query.dry_run, "revision": revision, "trial": trial });
        let mut response = json(status, &answer);
        if let Ok(location) = HeaderValue::from_str(&format!("/v1/policies/{}", revision.name)) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Ok(response)
    }

    /// The component and how it is to judge: alone, with a spec as multipart, or a spec that names a kept one.
    async fn received(&self, parts: &Parts, body: Body) -> Result<(Sent, Spec), Problem> {
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            WASM => {
                let module = Module::Bytes(Wasm::new(self.bytes(body).await?));
                Ok((Sent::Module(module), Spec::default()))
            }
            MULTIPART => self.multipart(kind, body).await,
            JSON => {
                let spec: Spec = parsed(&limited(body, MAX_SPEC, "document").await?)?;
                let sent = match (spec.digest.clone(), spec.source.clone()) {
                    (Some(digest), None) => Sent::Module(Module::Kept(digest)),
                    (None, Some(source)) => Sent::Source(source),
                    _ => {
                        let detail =
                            "send a component, or name either a kept one in digest, or one in source";
                        return Err(Code::BadRequest.answer(detail).into());
                    }
                };
                Ok((sent, spec))
            }
            _ => {
                let detail = "send application/wasm, multipart/form-data with the parts spec and module, or \
                              application/json with the digest of a kept component or the source of one";
                Err(Code::UnsupportedMediaType.answer(detail).into())
            }
        }
    }

    async fn multipart(&self, kind: &str, body: Body) -> Result<(Sent, Spec), Problem> {
        let bad = |what: &str| Code::BadRequest.answer(&format!("the multipart body is not right: {what}"));
        let boundary = multer::parse_boundary(kind).map_err(|e| bad(&e.to_string()))?;
        let whole = self.max_bytes.saturating_add(MAX_SPEC as u64);
        let limits = multer::SizeLimit::new()
            .whole_stream(whole)
            .for_field("module", self.max_bytes)
            .for_field("spec", MAX_SPEC as u64);
        let limits = multer::Constraints::new().size_limit(limits).allowed_fields(vec!["module", "spec"]);
        let stream = plain(body).into_data_stream();
        let mut form = multer::Multipart::with_constraints(stream, boundary, limits);
        let (mut module, mut spec) = (None, None);
        let refused = |error: multer::Error| match error {
            multer::Error::FieldSizeExceeded { .. } | multer::Error::StreamSizeExceeded { .. } => {
                of_refusal(&Refusal::Large { bytes: whole, max: self.max_bytes })
            }
            other => bad(&other.to_string()),
        };
        while let Some(field) = form.next_field().await.map_err(refused)? {
            let name = field.name().unwrap_or_default().to_owned();
            let bytes = field.bytes().await.map_err(refused)?;
            match name.as_str() {
                "module" => module = Some(bytes),
                _ => spec = Some(parsed(&bytes)?),
            }
        }
        let module = module.ok_or_else(|| bad("it has no part module"))?;
        Ok((Sent::Module(Module::Bytes(Wasm::new(module))), spec.unwrap_or_default()))
    }

    async fn bytes(&self, body: Body) -> Result<Bytes, Problem> {
        limited(body, usize::try_from(self.max_bytes).unwrap_or(usize::MAX), "component").await
    }

    async fn move_to(&self, name: &str, body: Body, caller: &Caller, forward: bool) -> Answer {
        let name = named(name)?;
        let (revision, by) = (which(body, MAX_SPEC).await?, &caller.owner.0);
        let moved = if forward {
            self.policy.activate(&name, revision, by).await
        } else {
            self.policy.rollback(&name, revision, by).await
        };
        Ok(json(StatusCode::OK, &json!({ "revision": moved.map_err(|e| of_change(&e))? })))
    }

    async fn retire(&self, name: &str, caller: &Caller) -> Answer {
        let name = named(name)?;
        self.policy.retire(&name, &caller.owner.0).await.map_err(|e| of_change(&e))?;
        self.one(name.as_str())
    }

    async fn diff(&self, name: &str, parts: &Parts) -> Answer {
        let name = named(name)?;
        let which: Which = query(parts)?;
        let revisions = self.policy.revisions_of(&name);
        let shadow = || revisions.iter().find(|r| r.state == RevisionState::Shadow).map(|r| r.number);
        let number = which.revision.or_else(shadow).ok_or_else(|| of_change(&ChangeError::NothingWaits))?;
        let found = self.policy.differences(&name, number).await.map_err(|e| of_store(&e))?;
        let answer = json!({
            "policy": name, "revision": number, "total": found.total, "latest": found.latest,
        });
        Ok(json(StatusCode::OK, &answer))
    }

    fn rejudged(&self) -> Answer {
        match self.scans.rejudged() {
            Some(progress) => Ok(json(StatusCode::OK, &json!(progress))),
            None => Err(Code::NotFound.answer("nothing was judged again").into()),
        }
    }

    /// Answers when it is noted; the looking takes its time, and `GET /v1/policies/{name}` tells what came of it.
    async fn refresh(&self, body: Body, caller: &Caller) -> Answer {
        let asked = Refresh::received(body).await?;
        if let Some(name) = &asked.name
            && self.policy.source_of(name).is_none()
        {
            let detail = "no filter of this name has a source in the operator's file";
            return Err(Code::NotFound.answer(detail).into());
        }
        let wanted = |name: &Name, view: &SourceView| asked.wants(name, view.package.as_ref());
        let looked_at = self.policy.ask(wanted, asked.again(), &caller.owner.0);
        Ok(json(StatusCode::ACCEPTED, &json!({ "policies": looked_at })))
    }

    async fn rejudge(&self, parts: &Parts, caller: &Caller) -> Answer {
        let asked: Since = query(parts)?;
        let since = match asked.since.as_deref() {
            None => 0,
            Some(text) => nanos(text).ok_or_else(|| {
                Code::BadRequest.answer("since is a time as 2026-01-31T12:00:00Z, or nanoseconds since 1970")
            })?,
        };
        let begun = self.scans.begin_rejudge(since);
        let rejudgement = begun.map_err(|e| Code::Conflict.answer(&e.to_string()))?;
        let noted = self.policy.note_rejudge(&caller.owner.0, format!("since {since}")).await;
        let (scans, stop) = (self.scans.clone(), self.supervisor.stop().clone());
        self.supervisor.spawn(REJUDGE, async move {
            scans.rejudge(rejudgement, stop).await;
            Ok::<_, std::convert::Infallible>(())
        });
        noted.map_err(|e| of_store(&e))?;
        let mut response = json(StatusCode::ACCEPTED, &json!(self.scans.rejudged()));
        let location = HeaderValue::from_static("/v1/policies/rejudge");
        response.headers_mut().insert(header::LOCATION, location);
        Ok(response)
    }

    async fn audit(&self, parts: &Parts) -> Answer {
        let page: Page = query(parts)?;
        let limit = page.limit.unwrap_or(50).clamp(1, MAX_PAGE);
        let lines = self.policy.audit(page.before, limit).await.map_err(|e| of_store(&e))?;
        let next = lines.last().filter(|_| lines.len() == limit).map(|(id, _)| *id);
        let shown: Vec<Value> = lines
            .iter()
            .map(|(id, change)| {
                let mut line = json!(change);
                if let Some(fields) = line.as_object_mut() {
                    fields.insert("id".into(), json!(id));
                }
                line
            })
            .collect();
        Ok(json(StatusCode::OK, &json!({ "changes": shown, "next": next })))
    }
}

enum Sent {
    Module(Module),
    Source(RegistrySource),
}

fn summary(name: &Name, revisions: &[&Revision], source: Option<&SourceView>) -> Value {
    let of = |state| revisions.iter().find(|r| r.state == state);
    let judging = of(RevisionState::Active).or(revisions.iter().find(|r| r.taken_out));
    json!({
        "name": name,
        "source": source.map(|s| &s.source),
        "looked": source.and_then(|s| s.looked.as_ref()),
        "order": judging.map(|r| r.spec.order),
        "active": judging,
        "shadow": of(RevisionState::Shadow),
        "kept": revisions.len(),
    })
}

fn allowed(route: &Route) -> &'static str {
    match route {
        Route::All | Route::Diff(_) | Route::Audit => "GET",
        Route::One(_) => "GET, PUT, DELETE",
        Route::Activate(_) | Route::Rollback(_) | Route::Refresh => "POST",
        Route::Rejudge => "GET, POST",
    }
}

fn nanos(text: &str) -> Option<i64> {
    let number = text.parse::<i64>().ok();
    number.or_else(|| i64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok())
}

fn of_refusal(refusal: &Refusal) -> Response<Body> {
    let code = match refusal {
        Refusal::Large { max, .. } => {
            return Code::TooLarge.answer(&format!("the component has more than {max} bytes"));
        }
        Refusal::Pull(error) if error.is_transient() => Code::SourceUnavailable,
        Refusal::Signature(error) if error.is_transient() => Code::SourceUnavailable,
        Refusal::Pull(_) => Code::FilterPull,
        Refusal::Signature(_) => Code::FilterSignature,
        Refusal::Format(_) => Code::FilterFormat,
        Refusal::Contract(crate::policy::ContractError::Import(_)) => Code::FilterImport,
        Refusal::Contract(crate::policy::ContractError::Version { .. }) => Code::FilterVersion,
        Refusal::Contract(crate::policy::ContractError::World) | Refusal::World(_) => Code::FilterWorld,
        Refusal::Compile(_) => Code::FilterCompile,
        Refusal::Describe(_) => Code::FilterDescribe,
        Refusal::Settings(_) => Code::FilterSettings,
        Refusal::Trial(_) => Code::FilterTrial,
        Refusal::Spec(_) => Code::BadRequest,
        Refusal::UnknownDigest(_) => Code::NotFound,
        Refusal::Disk(error) => {
            tracing::error!(%error, "a component could not be stored");
            return of_store(&crate::scan::ports::StoreError::Full);
        }
        Refusal::Store(error) => return of_store(error),
    };
    code.answer(&refusal.to_string())
}

fn of_change(error: &ChangeError) -> Response<Body> {
    let code = match error {
        ChangeError::UnknownFilter | ChangeError::UnknownRevision(..) => Code::NotFound,
        ChangeError::NothingWaits | ChangeError::NothingBefore | ChangeError::Already(_) => Code::Conflict,
        ChangeError::Broken(..) => Code::FilterTrial,
        ChangeError::Store(error) => return of_store(error),
    };
    code.answer(&error.to_string())
}
