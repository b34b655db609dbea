//! A scan by the host in a cluster: submitted, followed and answered from this desk. The verdict is made here, of what the host
//! has found, by the same rule and at this desk's own threshold.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use http_body_util::BodyExt;
use lanner_core::{JudgedAlert, Scan};
use serde_json::{Value, json};

use super::super::cluster::InCluster;
use super::super::remote::problem;
use super::super::target::Target;
use super::super::{Exit, Format, ScanArgs, render};
use super::body::{Broken, submission};
use super::progress::{Progress, Step};
use super::{exit, width, worst};
use crate::capability::view;
use crate::http::Body;

/// A host that restarts or moves goes on with its scans.
const AWAY: Duration = Duration::from_secs(300);
const AGAIN: Duration = Duration::from_secs(2);
/// The longest line of the host's events: an alert with all that may be in it.
const MAX_LINE: usize = 1 << 20;

pub(super) async fn scan(target: &Target, args: &ScanArgs) -> anyhow::Result<Exit> {
    let host = InCluster::find(&args.cluster).await?;
    let id = submit(&host, target, args.manager.as_deref()).await?;
    let document = tokio::select! {
        document = follow(&host, &id) => document?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted: there is no answer; the host goes on with scan {id}"),
    };
    let scan = view::scan_of(&document).context("the host's answer about the scan cannot be read")?;
    let documents = host.get(&format!("/v1/scans/{id}/alerts?include=suppressed")).await?;
    let documents =
        documents.get("alerts").and_then(Value::as_array).context("the host answered without alerts")?;
    let alerts: Result<Vec<JudgedAlert>, _> = documents.iter().map(view::alert_of).collect();
    let alerts = alerts.context("the host's answer about alerts cannot be read")?;
    let verdict = whole(&scan, &alerts)?.verdict(worst(&alerts), args.fail_on);
    match args.format {
        Format::Table => {
            print!("{}", render::table(&target.title(), &scan, &alerts, args.fail_on, width()));
        }
        Format::Json => {
            let all = json!({ "scan": document, "verdict": verdict, "alerts": documents });
            println!("{}", serde_json::to_string_pretty(&all)?);
        }
    }
    Ok(exit(verdict, &scan))
}

/// An answer that has lost alerts on its way is none.
fn whole<'a>(scan: &'a Scan, alerts: &[JudgedAlert]) -> anyhow::Result<&'a Scan> {
    let counted = scan.counts.kept + scan.counts.suppressed;
    if alerts.len() as u64 != counted {
        bail!("the host counted {counted} alerts and gave {}: there is no answer", alerts.len());
    }
    Ok(scan)
}

async fn submit(host: &InCluster, target: &Target, manager: Option<&str>) -> anyhow::Result<String> {
    let broken = Broken::default();
    let answer = host.ask(submission("", target, manager, &broken)?).await;
    if let Some(why) = broken.take() {
        bail!("the folder cannot be packed: {why}");
    }
    match answer? {
        (http::StatusCode::ACCEPTED, document) => {
            let id = document.get("id").and_then(Value::as_str).context("the host gave no id")?;
            // It becomes part of a path.
            let id: lanner_core::ScanId = id.parse().context("the host gave an id that is none")?;
            Ok(id.to_string())
        }
        (status, document) => bail!("{}", problem(status, &document)),
    }
}

/// The scan once it is over. A connection that breaks is made again.
async fn follow(host: &InCluster, id: &str) -> anyhow::Result<Value> {
    let progress = Progress::new();
    let mut heard = tokio::time::Instant::now();
    loop {
        let listened = listen(host, id, &progress).await;
        match host.get(&format!("/v1/scans/{id}")).await {
            Ok(document) if is_over(&document) => {
                progress.clear();
                return Ok(document);
            }
            Ok(_) => heard = tokio::time::Instant::now(),
            Err(error) if heard.elapsed() > AWAY => return Err(error),
            Err(error) => tracing::debug!(%error, "the host cannot be asked; again soon"),
        }
        if let Err(error) = listened {
            tracing::debug!(%error, "the host's events broke off; again soon");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn is_over(document: &Value) -> bool {
    !matches!(document.get("state").and_then(Value::as_str), Some("queued" | "running"))
}

/// Shows the host's server-sent events until they end.
async fn listen(host: &InCluster, id: &str, progress: &Progress) -> anyhow::Result<()> {
    let request = http::Request::get(format!("/v1/scans/{id}/events")).body(Body::default())?;
    host.exchange(request, async |response| {
        if response.status() != http::StatusCode::OK {
            bail!("the host answered {}", response.status());
        }
        let mut body = response.into_body().into_data_stream();
        let (mut text, mut event) = (Vec::new(), String::new());
        while let Some(piece) = body.next().await {
            text.extend_from_slice(&piece?);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                shown(String::from_utf8_lossy(&line).trim_end(), &mut event, progress);
            }
            if text.len() > MAX_LINE {
                bail!("an event is longer than {MAX_LINE} bytes");
            }
        }
        Ok(())
    })
    .await
}

fn shown(line: &str, event: &mut String, progress: &Progress) {
    if let Some(name) = line.strip_prefix("event: ") {
        name.clone_into(event);
    } else if let Some(data) = line.strip_prefix("data: ")
        && let Ok(data) = serde_json::from_str(data)
        && let Some(step) = Step::of_text(event, &data)
    {
        progress.show(&step);
    }
}
