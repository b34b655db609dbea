//! The function `alerts`: `GET /v1/scans/{id}/alerts`, with the suppressed ones if `?include=suppressed` says so.

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
use bindings::lanner::platform::jobs::JobError;

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
    if request.method() != Method::GET {
        return Err(Answer::method_not_allowed("GET"));
    }
    let id = request.uri().path().strip_prefix("/v1/scans/").and_then(|p| p.strip_suffix("/alerts"));
    let id = id.ok_or_else(Answer::not_found)?.to_owned();
    let suppressed = match shared::query(request.uri().query(), "include").as_deref() {
        None => false,
        Some("suppressed") => true,
        Some(_) => {
            let detail = "include takes the value suppressed";
            return Err(Answer::problem(400, "bad-include", "bad query", detail));
        }
    };
    let alerts = alerts::of_scan(id.clone(), suppressed).await.map_err(|error| match error {
        JobError::Unknown => Answer::not_found(),
        _ => Answer::problem(
            500,
            "failed",
            "internal error",
            "the service could not do this; its log says why",
        ),
    })?;
    Ok(Answer::json(200, format!("{{\"scan\":\"{id}\",\"alerts\":{alerts}}}")))
}
