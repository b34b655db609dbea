//! `/openapi.json`: what this host answers. The routes come from the manifest that is loaded and from the host's own;
//! the table below adds words to those that we ship. A route of somebody else's app is listed without words.
//!
//! The document of the built-in app is kept in `docs/openapi.json`; a test fails when it drifts.

use http::Method;
use serde_json::{Map, Value, json};

use super::functions;
use super::policies::Route;
use super::router::needed;
use super::sensors::{SENSORS, UNMATCHED};

/// One thing that can be asked.
struct Operation {
    route: &'static str,
    method: Method,
    summary: &'static str,
    query: &'static [(&'static str, &'static str)],
    body: &'static [&'static str],
    /// Status, what it means, media type.
    answers: &'static [(&'static str, &'static str, &'static str)],
}

const JSON: &str = "application/json";
const GZIP: &str = "application/gzip";

/// The host's own routes, beside those of the manifest.
const EVENTS: &str = "/v1/scans/:id/events";
const OWN: [&str; 3] = [EVENTS, SENSORS, UNMATCHED];

const OPERATIONS: &[Operation] = &[
    Operation {
        route: "/v1/scans",
        method: Method::POST,
        summary: "Submit a project (a gzipped tar) or the name of a published package; Idempotency-Key is honoured",
        query: &[("manager", "The package manager; guessed from the project's files otherwise")],
        body: &[GZIP, JSON],
        answers: &[
            ("202", "The scan is on disk and waits; Location names it", JSON),
            ("400", "The archive, the package's name or a header is not right", ""),
            ("408", "The body came too slowly", ""),
            ("413", "The body is too large", ""),
            ("415", "Neither a gzipped tar nor JSON", ""),
            ("422", "No manifest, an unknown manager, or a job that cannot be run", ""),
            ("429", "The queue is full; Retry-After says when to come again", ""),
            ("503", "The service is stopping", ""),
            ("507", "The disk is full", ""),
        ],
    },
    Operation {
        route: "/v1/scans",
        method: Method::GET,
        summary: "List scans, newest first",
        query: &[("before", "The `next` of the page before"), ("limit", "At most 100")],
        body: &[],
        answers: &[("200", "A page of scans", JSON)],
    },
    Operation {
        route: "/v1/scans/:id",
        method: Method::GET,
        summary: "One scan: state, phases, evidence, counts",
        query: &[],
        body: &[],
        answers: &[("200", "The scan", JSON), ("404", "There is no such scan", "")],
    },
    Operation {
        route: "/v1/scans/:id",
        method: Method::DELETE,
        summary: "Cancel a scan that has not ended; forget one that has",
        query: &[],
        body: &[],
        answers: &[("200", "What it was", JSON), ("404", "There is no such scan", "")],
    },
    Operation {
        route: "/v1/scans/:id/alerts",
        method: Method::GET,
        summary: "The kept alerts of a scan",
        query: &[("include", "`suppressed`: also what filters suppressed, with their reasons")],
        body: &[],
        answers: &[("200", "The alerts", JSON), ("404", "There is no such scan", "")],
    },
    Operation {
        route: EVENTS,
        method: Method::GET,
        summary: "Server-sent events `state`, `phase` and `alert`, until the final state",
        query: &[],
        body: &[],
        answers: &[
            ("200", "The events", "text/event-stream"),
            ("404", "There is no such scan", ""),
            ("503", "Too many clients listen already", ""),
        ],
    },
    Operation {
        route: SENSORS,
        method: Method::GET,
        summary: "The sensors beside the built-in one that were heard of: their door, state, lag and last error",
        query: &[],
        body: &[],
        answers: &[("200", "The sensors", JSON)],
    },
    Operation {
        route: UNMATCHED,
        method: Method::GET,
        summary: "How many alerts of other sensors no scan was found for, and the last of them; role admin",
        query: &[],
        body: &[],
        answers: &[("200", "Their number and samples, the newest first", JSON), ("403", "Not an admin", "")],
    },
    Operation {
        route: "/monitor/project/:manager",
        method: Method::POST,
        summary: "Submit a project as Package Hunter's clients do",
        query: &[],
        body: &[GZIP],
        answers: &[
            ("200", "`status` is `ok`, `id` names the scan", JSON),
            ("400", "The archive is not right", ""),
            ("413", "The body is too large", ""),
            ("422", "No manifest, or an unknown manager", ""),
            ("429", "The queue is full", ""),
        ],
    },
    Operation {
        route: "/",
        method: Method::GET,
        summary: "Poll a scan as Package Hunter's clients do",
        query: &[("id", "The scan")],
        body: &[],
        answers: &[
            ("200", "`status` is `pending`, `finished` or `error`", JSON),
            ("404", "There is no such scan", ""),
        ],
    },
    Operation {
        route: "/v1/policies",
        method: Method::GET,
        summary: "The filters: which revision of each is active, which is shadow",
        query: &[],
        body: &[],
        answers: &[("200", "The filters", JSON)],
    },
    Operation {
        route: "/v1/policies/:name",
        method: Method::GET,
        summary: "One filter and its kept revisions",
        query: &[],
        body: &[],
        answers: &[("200", "The filter", JSON), ("404", "There is no such filter", "")],
    },
    Operation {
        route: "/v1/policies/:name",
        method: Method::PUT,
        summary: "Upload a revision of a filter: checked, compiled, tried, and put in the place of the one before",
        query: &[
            ("dry-run", "`true`: everything but putting it in"),
            ("start", "`active` or `shadow`; wins over the spec's"),
            ("note", "Why; kept with the revision"),
        ],
        body: &["application/wasm", "multipart/form-data", JSON],
        answers: &[
            ("200", "What a dry run found", JSON),
            ("201", "The revision, and what its trial changed", JSON),
            ("400", "The name, the query or the spec is not right", ""),
            ("404", "No kept revision has this digest", ""),
            ("413", "The component is too large", ""),
            ("415", "None of the three media types", ""),
            (
                "422",
                "Refused; the code names the step: filter-pull, filter-signature, filter-format, filter-import, filter-version, filter-world, \
                 filter-compile, filter-describe, filter-settings, filter-trial",
                "",
            ),
            ("502", "The registry in `source` cannot be asked at the moment", ""),
            ("507", "The disk is full", ""),
        ],
    },
    Operation {
        route: "/v1/policies/:name",
        method: Method::DELETE,
        summary: "Retire a filter: it judges no more, its revisions are kept",
        query: &[],
        body: &[],
        answers: &[("200", "The filter", JSON), ("404", "There is no such filter", "")],
    },
    Operation {
        route: "/v1/policies/:name/activate",
        method: Method::POST,
        summary: "Make a revision active: the one in `revision`, else the shadow",
        query: &[],
        body: &[JSON],
        answers: &[
            ("200", "The revision", JSON),
            ("404", "There is no such filter or revision", ""),
            ("409", "It is active already, or none waits", ""),
            ("422", "It failed before, and fails still", ""),
        ],
    },
    Operation {
        route: "/v1/policies/:name/rollback",
        method: Method::POST,
        summary: "Back to a kept revision: the one in `revision`, else the one that was active before",
        query: &[],
        body: &[JSON],
        answers: &[
            ("200", "The revision", JSON),
            ("404", "There is no such filter or revision", ""),
            ("409", "Nothing was active before", ""),
        ],
    },
    Operation {
        route: "/v1/policies/:name/diff",
        method: Method::GET,
        summary: "Which alerts a shadow revision would have answered otherwise",
        query: &[("revision", "The revision; the shadow if left out")],
        body: &[],
        answers: &[("200", "How many, and the latest", JSON), ("409", "There is no shadow", "")],
    },
    Operation {
        route: "/v1/policies/rejudge",
        method: Method::POST,
        summary: "Judge stored alerts again with the filters of now, in the background",
        query: &[("since", "Scans that ended then or later: a time of RFC 3339, or nanoseconds since 1970")],
        body: &[],
        answers: &[
            ("202", "It has begun; GET tells how far it is", JSON),
            ("409", "One is running already", ""),
        ],
    },
    Operation {
        route: "/v1/policies/rejudge",
        method: Method::GET,
        summary: "How far the last rejudgement is",
        query: &[],
        body: &[],
        answers: &[("200", "Its progress", JSON), ("404", "There was none", "")],
    },
    Operation {
        route: "/v1/policies/refresh",
        method: Method::POST,
        summary: "Look now where the filters of the operator's file come from: all, the one in `policy`, or those that a \
                  registry's notification is about; with `again` also what was refused before is tried",
        query: &[],
        body: &[JSON],
        answers: &[
            ("202", "Which filters' sources are looked at; GET tells what came of it", JSON),
            ("404", "No filter of this name has a source", ""),
        ],
    },
    Operation {
        route: "/v1/functions",
        method: Method::GET,
        summary: "The functions: where each comes from, which revision answers, what came of the last look at its source",
        query: &[],
        body: &[],
        answers: &[("200", "The functions", JSON)],
    },
    Operation {
        route: "/v1/functions/:name",
        method: Method::GET,
        summary: "One function and its kept revisions, each with the checks that it passed or failed",
        query: &[],
        body: &[],
        answers: &[("200", "The function", JSON), ("404", "There is no such function", "")],
    },
    Operation {
        route: "/v1/functions/:name/activate",
        method: Method::POST,
        summary: "Make a kept revision active: the one in `revision`, else the newest; one that failed is tried again first",
        query: &[],
        body: &[JSON],
        answers: &[
            ("200", "The revision", JSON),
            ("404", "There is no such function or revision", ""),
            ("409", "It is active already, or on its way in", ""),
            ("422", "It failed before, and fails still", ""),
        ],
    },
    Operation {
        route: "/v1/functions/:name/rollback",
        method: Method::POST,
        summary: "Back to a kept revision at once: the one in `revision`, else the one that was active before",
        query: &[],
        body: &[JSON],
        answers: &[
            ("200", "The revision", JSON),
            ("404", "There is no such function or revision", ""),
            ("409", "Nothing was active before", ""),
        ],
    },
    Operation {
        route: "/v1/functions/refresh",
        method: Method::POST,
        summary: "Look at the sources now: of all functions, of the one in `function`, or of those that a registry's \
                  notification is about; with `again` also what was refused before is tried",
        query: &[],
        body: &[JSON],
        answers: &[
            ("202", "Which functions' sources are looked at; GET tells what came of it", JSON),
            ("404", "There is no such function", ""),
        ],
    },
    Operation {
        route: "/v1/audit",
        method: Method::GET,
        summary: "Who changed which filter or function, newest first",
        query: &[("before", "The `next` of the page before"), ("limit", "At most 200")],
        body: &[],
        answers: &[("200", "A page of changes", JSON)],
    },
];

/// The document for a host with these function routes.
pub fn document(function_routes: &[String]) -> Value {
    let mut routes: Vec<&str> = function_routes
        .iter()
        .map(String::as_str)
        .chain(OWN)
        .chain(Route::LABELS)
        .chain(functions::Route::LABELS)
        .collect();
    routes.sort_unstable();
    routes.dedup();
    let paths: Map<String, Value> = routes.into_iter().map(|route| (template(route), path(route))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lanner",
            "description": "Is it safe to install this? Errors are problem documents (RFC 9457); every answer has an \
                            X-Request-Id.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "bearer": [] }, { "basic": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A credential's secret, or, where the host has roles for them, a service account's token",
                },
                "basic": { "type": "http", "scheme": "basic" },
            },
            "responses": {
                "problem": { "description": "A problem", "content": { "application/problem+json": {
                    "schema": { "$ref": "#/components/schemas/problem" },
                } } },
            },
            "schemas": { "problem": {
                "type": "object",
                "required": ["type", "title", "status", "code", "detail"],
                "properties": {
                    "type": { "type": "string", "format": "uri" },
                    "title": { "type": "string" },
                    "status": { "type": "integer" },
                    "code": { "type": "string", "description": "Stable; the texts are for people" },
                    "detail": { "type": "string" },
                },
            } },
        },
    })
}

fn path(route: &str) -> Value {
    let mut item = Map::new();
    let parameters: Vec<Value> = route
        .split('/')
        .filter_map(|part| part.strip_prefix(':'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if !parameters.is_empty() {
        item.insert("parameters".into(), Value::Array(parameters));
    }
    for operation in OPERATIONS.iter().filter(|o| o.route == route) {
        item.insert(operation.method.as_str().to_lowercase(), operation.document());
    }
    Value::Object(item)
}

impl Operation {
    fn document(&self) -> Value {
        let parameters: Vec<Value> = self
            .query
            .iter()
            .map(|(name, what)| json!({ "name": name, "in": "query", "description": what, "schema": { "type": "string" } }))
            .collect();
        let problem = |what: &str| json!({ "description": what, "$ref": "#/components/responses/problem" });
        let mut responses: Map<String, Value> = self
            .answers
            .iter()
            .map(|(status, what, kind)| {
                let answer = match *kind {
                    "" => problem(what),
                    kind => json!({ "description": what, "content": content(&[kind]) }),
                };
                ((*status).to_owned(), answer)
            })
            .collect();
        let role = needed(self.route, &self.method).as_str();
        responses.insert("401".into(), problem("No credential, or an unknown one"));
        responses.insert("403".into(), problem(&format!("The credential has not the role {role}")));
        responses.insert("default".into(), problem("Any other problem"));
        let mut document = json!({
            "summary": self.summary, "description": format!("Needs the role `{role}`."), "responses": responses,
        });
        if let Some(fields) = document.as_object_mut() {
            if !parameters.is_empty() {
                fields.insert("parameters".into(), Value::Array(parameters));
            }
            if !self.body.is_empty() {
                fields
                    .insert("requestBody".into(), json!({ "required": true, "content": content(self.body) }));
            }
        }
        document
    }
}

fn content(kinds: &[&str]) -> Value {
    kinds.iter().map(|kind| ((*kind).to_owned(), json!({}))).collect::<Map<_, _>>().into()
}

/// `/a/:b` as OpenAPI writes it; a wildcard's end has no notation there and is named.
fn template(route: &str) -> String {
    let parts = route.split('/').map(|part| match part.strip_prefix(':') {
        Some(name) => format!("{{{name}}}"),
        None if part == "..." => "{rest}".to_owned(),
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shipped() -> Vec<String> {
        let manifest = include_str!("../../../spin.toml");
        let manifest = crate::manifest::Manifest::parse("spin.toml", manifest).unwrap();
        manifest.routes().iter().map(|r| r.route.clone()).collect()
    }

    #[test]
    fn the_kept_document_is_true() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let now = format!("{:#}\n", document(&shipped()));
        if std::fs::read_to_string(&kept).unwrap_or_default() != now {
            std::fs::write(&kept, now).unwrap();
            panic!(
                "docs/openapi.json had drifted and is now written anew: look at the difference and commit it"
            );
        }
    }

    #[test]
    fn every_route_that_we_ship_has_words_and_no_words_lack_a_route() {
        let shipped = shipped();
        for route in &shipped {
            assert!(OPERATIONS.iter().any(|o| o.route == route), "{route}");
        }
        for operation in OPERATIONS {
            assert!(
                OWN.contains(&operation.route)
                    || Route::LABELS.contains(&operation.route)
                    || functions::Route::LABELS.contains(&operation.route)
                    || shipped.iter().any(|r| r == operation.route),
                "{}",
                operation.route
            );
        }
    }

    #[test]
    fn a_route_of_another_app_is_listed() {
        let document = document(&["/hello/:name".into(), "/files/...".into()]);
        assert_eq!(document["paths"]["/hello/{name}"]["parameters"][0]["name"], "name");
        assert!(document["paths"]["/files/{rest}"].is_object());
        assert!(document["paths"]["/v1/scans/{id}/events"]["get"].is_object());
        assert!(document["paths"]["/v1/scans"].is_null(), "no function answers there");
    }
}
