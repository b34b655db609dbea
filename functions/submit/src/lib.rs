//! The function `submit`: takes a project or the name of a package, decides how it is installed, and asks for the Job.
//!
//! `POST /v1/scans` (a gzipped tar, or JSON `{"package": …}`), `GET /v1/scans`, and Package Hunter's
//! `POST /monitor/project/{manager}`. It knows package managers and nothing of sandboxes, stores or owners.

mod managers;

use managers::{Manager, Use};
use serde_json::{Value, json};
use shared::Answer;
use spin_sdk::http::{IntoResponse, Method, Request, Response, StatusCode};
use spin_sdk::http_service;

mod bindings {
    spin_sdk::wit_bindgen::generate!({
        world: "function",
        path: "../../proto/wit",
        runtime_path: "::spin_sdk::wit_bindgen::rt",
        generate_all,
    });
}

use bindings::lanner::platform::jobs::{self, JobError, JobSpec, Phase, Probe, ProbeKey, ProbeUse};
use bindings::lanner::platform::sources::{self, SourceError, SourceInfo};
use bindings::lanner::platform::types::{PackageRef, Subject};

/// A JSON body names a package and nothing else.
const MAX_JSON: usize = 64 * 1024;
const PAGE: u32 = 50;

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let answer = match route(request).await {
        Ok(answer) | Err(answer) => answer,
    };
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status).unwrap_or_default());
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body)
}

async fn route(request: Request) -> Result<Answer, Answer> {
    let path = request.uri().path().to_owned();
    match (path.strip_prefix("/monitor/project/"), request.method()) {
        (Some(manager), &Method::POST) => {
            let manager = known(manager)?;
            let key = key(&request)?;
            let id = project(request, Some(manager), key).await?;
            Ok(Answer::json(200, json!({ "status": "ok", "id": id }).to_string()))
        }
        (Some(_), _) => Err(Answer::method_not_allowed("POST")),
        (None, &Method::POST) => submit(request).await,
        (None, &Method::GET) => page(request.uri().query()).await,
        (None, _) => Err(Answer::method_not_allowed("GET, POST")),
    }
}

async fn submit(request: Request) -> Result<Answer, Answer> {
    let kind = request.headers().get("content-type").map(|v| v.as_bytes().to_vec()).unwrap_or_default();
    let key = key(&request)?;
    let id = match kind.split(|b| *b == b';').next().unwrap_or_default() {
        b"application/json" => package(request, key).await?,
        b""
        | b"application/gzip"
        | b"application/x-gzip"
        | b"application/x-tar"
        | b"application/octet-stream" => {
            let asked = shared::query(request.uri().query(), "manager");
            let manager = asked.as_deref().map(known).transpose()?;
            project(request, manager, key).await?
        }
        _ => {
            let detail = "send a gzipped tar as application/gzip, or application/json";
            return Err(Answer::problem(415, "unsupported-media-type", "unsupported media type", detail));
        }
    };
    let location = format!("/v1/scans/{id}");
    Ok(Answer::json(202, json!({ "id": id, "state": "queued", "href": location }).to_string())
        .with("location", location))
}

async fn page(query: Option<&str>) -> Result<Answer, Answer> {
    let before = shared::query(query, "before");
    let limit = shared::query(query, "limit").and_then(|l| l.parse().ok()).unwrap_or(PAGE).clamp(1, 100);
    let scans = jobs::list(before, limit).await.map_err(of_job)?;
    let next = if scans.len() == limit as usize { scans.last().and_then(|s| id_of(s)) } else { None };
    Ok(Answer::json(200, format!("{{\"scans\":[{}],\"next\":{}}}", scans.join(","), json!(next))))
}

fn id_of(document: &str) -> Option<String> {
    serde_json::from_str::<Value>(document).ok()?.get("id")?.as_str().map(str::to_owned)
}

async fn project(
    request: Request,
    manager: Option<&'static Manager>,
    key: Option<String>,
) -> Result<String, Answer> {
    let source = store(request).await?;
    let Some(manager) = manager.or_else(|| managers::by_files(&source.top_level)) else {
        let detail =
            format!("no file of a known package manager ({}) lies at the project's root", managers::names());
        return Err(Answer::problem(422, "no-manifest", "no manifest", &detail));
    };
    if !manager.fits(&source.top_level) {
        let detail = format!("the project has no {} at its root", manager.manifests.join(" or "));
        return Err(Answer::problem(422, "no-manifest", "no manifest", &detail));
    }
    let argv = manager.project_argv(&source.top_level).iter().map(|a| (*a).to_owned()).collect();
    let spec = spec(manager, Subject::Project(None), argv, Vec::new());
    jobs::start(spec, Some(source.handle), key).await.map_err(of_job)
}

async fn package(request: Request, key: Option<String>) -> Result<String, Answer> {
    let bad = |detail: &str| Answer::problem(400, "bad-package", "bad package", detail);
    let bytes = limited(request).await?;
    let body: Value = serde_json::from_slice(&bytes).map_err(|_| bad("the body is not JSON"))?;
    let text = body.get("package").and_then(Value::as_str);
    let text = text.ok_or_else(|| bad("the body has no string `package`, such as npm:express@4.18.2"))?;
    let (manager, rest) =
        text.split_once(':').ok_or_else(|| bad("a package is named MANAGER:NAME[@VERSION]"))?;
    let manager = known(manager)?;
    let at = rest.char_indices().skip(1).filter(|(_, c)| *c == '@').map(|(i, _)| i).last();
    let (name, version) = match at {
        Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
        None => (rest, None),
    };
    if !is_name(name) || version.is_some_and(|v| !is_version(v)) {
        return Err(bad("the package's name or version holds a character that no registry allows"));
    }
    let mut argv: Vec<String> = manager.package.iter().map(|a| (*a).to_owned()).collect();
    argv.push(rest.to_owned());
    let (file, content) = manager.project_file;
    let subject = Subject::Package(PackageRef { name: name.into(), version: version.map(Into::into) });
    let spec = spec(manager, subject, argv, vec![(file.into(), content.into())]);
    jobs::start(spec, None, key).await.map_err(of_job)
}

fn spec(manager: &Manager, subject: Subject, argv: Vec<String>, files: Vec<(String, String)>) -> JobSpec {
    let list = |items: &[&str]| items.iter().map(|i| (*i).to_owned()).collect();
    let keys = manager
        .probe
        .iter()
        .map(|(key, used)| ProbeKey { key: (*key).into(), used_as: used.to_wit() })
        .collect();
    JobSpec {
        manager: manager.name.into(),
        subject,
        tools: list(manager.tools),
        probe: Some(Probe { program: manager.name.into(), keys }),
        phases: vec![Phase { name: "install".into(), argv }],
        env: manager.env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        proxy_env: list(manager.proxy_env),
        package_roots: list(manager.package_roots),
        files,
    }
}

impl Use {
    fn to_wit(&self) -> ProbeUse {
        match self {
            Self::Registry(env) => ProbeUse::Registry((*env).into()),
            Self::CaFile(env) => ProbeUse::CaFile((*env).into()),
            Self::Folder(env, marker) => ProbeUse::Folder(((*env).into(), (*marker).into())),
        }
    }
}

/// Hands the body to the host as it comes; not one byte of it passes through here.
async fn store(request: Request) -> Result<SourceInfo, Answer> {
    use spin_sdk::wasip3::{http::types, wit_future};
    let mut body = request.into_body();
    let Some(raw) = body.take_unstarted() else {
        return Err(Answer::problem(400, "no-body", "no body", "the request has no body"));
    };
    let (_result, end) = wit_future::new(|| Ok(()));
    let (stream, _trailers) = types::Request::consume_body(raw, end);
    sources::store(stream).await.map_err(of_source)
}

async fn limited(request: Request) -> Result<Vec<u8>, Answer> {
    use spin_sdk::http::body::IncomingBodyExt;
    let bytes = request.into_body().bytes().await;
    let bytes =
        bytes.map_err(|_| Answer::problem(400, "interrupted", "interrupted", "the body broke off"))?;
    if bytes.len() > MAX_JSON {
        return Err(too_large(MAX_JSON as u64));
    }
    Ok(bytes.to_vec())
}

fn known(name: &str) -> Result<&'static Manager, Answer> {
    managers::by_name(name).ok_or_else(|| {
        let detail = format!("this package manager is not known; known are: {}", managers::names());
        Answer::problem(422, "unknown-manager", "unknown package manager", &detail)
    })
}

fn key(request: &Request) -> Result<Option<String>, Answer> {
    shared::idempotency_key(request.headers().get("idempotency-key").map(|v| v.as_bytes()))
}

fn is_name(name: &str) -> bool {
    let part = |p: &str| {
        !p.is_empty()
            && !p.starts_with(['.', '-'])
            && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    match name.strip_prefix('@') {
        Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| part(scope) && part(name)),
        None => part(name),
    }
}

fn is_version(version: &str) -> bool {
    (1..=64).contains(&version.len())
        && !version.starts_with(['-', '.'])
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}

fn too_large(max: u64) -> Answer {
    Answer::problem(413, "too-large", "too large", &format!("the body has more than {max} bytes"))
}

fn of_source(error: SourceError) -> Answer {
    match error {
        SourceError::Archive(text) => Answer::problem(400, "bad-archive", "bad archive", &text),
        SourceError::TooLarge(max) => too_large(max),
        SourceError::Interrupted => {
            Answer::problem(400, "interrupted", "interrupted", "the body ended before it was complete")
        }
        SourceError::DiskFull => disk_full(),
        SourceError::Failed => failed(),
    }
}

fn of_job(error: JobError) -> Answer {
    match error {
        JobError::Refused(text) => Answer::problem(422, "refused", "refused", &text),
        JobError::QueueFull(seconds) => {
            let detail = "the queue is full: try again after the time in Retry-After";
            Answer::problem(429, "queue-full", "queue full", detail).with("retry-after", seconds.to_string())
        }
        JobError::Stopping => Answer::problem(503, "stopping", "stopping", "the service is stopping")
            .with("retry-after", "10".into()),
        JobError::Unknown => Answer::not_found(),
        JobError::DiskFull => disk_full(),
        JobError::Failed => failed(),
    }
}

fn disk_full() -> Answer {
    Answer::problem(507, "disk-full", "disk full", "the disk that holds the data directory is full")
}

fn failed() -> Answer {
    Answer::problem(500, "failed", "internal error", "the service could not do this; its log says why")
}
