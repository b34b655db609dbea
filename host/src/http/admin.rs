//! The admin listener: `/healthz`, `/readyz`, `/metrics`. For probes and scrapers, without credentials: it tells
//! numbers and never a name of a package, a scan or an owner.

use std::path::PathBuf;

use http::{Method, Request, Response, header};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{Body, Code, document};

pub struct Admin {
    pub registry: Registry,
    /// Where scans are written: ready means that it can be.
    pub data_dir: PathBuf,
    /// Cancelled: we drain, and take nothing new.
    pub stop: CancellationToken,
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Admin {
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Code::MethodNotAllowed.answer_with("this resource answers to GET", header::ALLOW, "GET");
        }
        match request.uri().path() {
            "/healthz" => document("text/plain; charset=utf-8", "ok\n"),
            "/readyz" => self.ready().await,
            "/metrics" => self.metrics(),
            _ => Code::NotFound.answer("here are /healthz, /readyz and /metrics"),
        }
    }

    async fn ready(&self) -> Response<Body> {
        if self.stop.is_cancelled() {
            return Code::NotReady.answer("the service is stopping");
        }
        let probe = self.data_dir.join("ready");
        let written = async {
            tokio::fs::write(&probe, b"ready\n").await?;
            tokio::fs::remove_file(&probe).await
        };
        match written.await {
            Ok(()) => document("text/plain; charset=utf-8", "ready\n"),
            Err(error) => {
                tracing::warn!(%error, "the data directory cannot be written to");
                Code::NotReady.answer("the data directory cannot be written to")
            }
        }
    }

    fn metrics(&self) -> Response<Body> {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => document(OPENMETRICS, text),
            Err(_) => Code::Failed.answer("the numbers could not be written"),
        }
    }
}
