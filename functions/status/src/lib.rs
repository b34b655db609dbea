//! The function `status`: one scan. `GET` and `DELETE /v1/scans/{id}`, and Package Hunter's poll `GET /?id=…`.

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

use bindings::lanner::platform::alerts;
use bindings::lanner::platform::jobs::{self, JobError};

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let answer = match route(&request).await {
        Ok(answer) | Err(answer) => answer,
    };
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status).unwrap_or_default());
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body)
}

async fn route(request: &Request) -> Result<Answer, Answer> {
    let path = request.uri().path();
    let id = path.strip_prefix("/v1/scans/").map(str::to_owned);
    match (id, request.method()) {
        (Some(id), &Method::GET) => Ok(Answer::json(200, jobs::get(id).await.map_err(of_job)?)),
        (Some(id), &Method::DELETE) => {
            let was = jobs::cancel(id.clone()).await.map_err(of_job)?;
            Ok(Answer::json(200, json!({ "id": id, "was": was }).to_string()))
        }
        (Some(_), _) => Err(Answer::method_not_allowed("GET, DELETE")),
        (None, &Method::GET) => poll(request.uri().query()).await,
        (None, _) => Err(Answer::method_not_allowed("GET")),
    }
}

async fn poll(query: Option<&str>) -> Result<Answer, Answer> {
    let Some(id) = shared::query(query, "id") else {
        let detail = "ask for a scan with ?id=…";
        return Err(Answer::problem(400, "no-id", "no id", detail));
    };
    let scan: Value = parsed(&jobs::get(id.clone()).await.map_err(of_job)?)?;
    let alerts: Value = parsed(&alerts::of_scan(id, false).await.map_err(of_job)?)?;
    let alerts = alerts.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(Answer::json(200, shared::package_hunter_poll(&scan, alerts).to_string()))
}

fn parsed(document: &str) -> Result<Value, Answer> {
    serde_json::from_str(document).map_err(|_| failed())
}

fn of_job(error: JobError) -> Answer {
    match error {
        JobError::Unknown => Answer::not_found(),
        JobError::DiskFull => {
            Answer::problem(507, "disk-full", "disk full", "the disk that holds the data directory is full")
        }
        _ => failed(),
    }
}

fn failed() -> Answer {
    Answer::problem(500, "failed", "internal error", "the service could not do this; its log says why")
}
