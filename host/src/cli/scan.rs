//! `lanner scan`: one scan from the command line, on a host that lives as long as the scan; or by a host in a cluster (`remote`).

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::StreamExt;
use lanner_core::{JudgedAlert, Owner, Priority, Scan, ScanId, Verdict};
use serde_json::{Value, json};

use super::cluster::On;
use super::target::Target;
use super::{Exit, Format, ScanArgs};
use super::{answer, render};
use crate::app::Desk;
use crate::http::{Body, Caller};
use crate::scan::{Reach, ScanEvent};
use body::{Broken, submission};
use progress::{Progress, Step};

mod body;
mod progress;
mod remote;

/// What still waits for a dead disk gets this long.
const LEAVE: Duration = Duration::from_secs(2);
const DEFAULT_WIDTH: usize = 160;

pub(super) fn run(args: ScanArgs) -> anyhow::Result<Exit> {
    let target = Target::parse(&args.target)?;
    let runtime = tokio::runtime::Runtime::new().context("the asynchronous runtime cannot start")?;
    if let Some(On::Kubernetes) = args.on {
        let exit = runtime.block_on(remote::scan(&target, &args));
        runtime.shutdown_timeout(LEAVE);
        return exit;
    }
    let config = args.common.config()?;
    let exit = runtime.block_on(async {
        let desk = Desk::open(&config).await?;
        let result = tokio::select! {
            result = scan(&desk, &target, &args) => result,
            () = desk.run() => Err(anyhow!("the host stopped before the scan ended")),
            _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted: there is no answer")),
        };
        desk.close().await;
        result
    });
    // A request body that still waits for a dead disk must not hold the answer back.
    runtime.shutdown_timeout(LEAVE);
    exit
}

async fn scan(desk: &Desk, target: &Target, args: &ScanArgs) -> anyhow::Result<Exit> {
    let id = submit(desk, target, args.manager.as_deref()).await?;
    follow(desk, &id).await?;
    let scan = desk.scans.get(&Reach::All, &id).await?;
    let alerts = desk.scans.alerts(&Reach::All, &id).await?;
    let verdict = scan.verdict(worst(&alerts), args.fail_on);
    match args.format {
        Format::Table => print!("{}", render::table(&target.title(), &scan, &alerts, args.fail_on, width())),
        Format::Json => println!("{}", whole_answer(desk, &id, verdict).await?),
    }
    Ok(exit(verdict, &scan))
}

fn exit(verdict: Verdict, scan: &Scan) -> Exit {
    match verdict {
        Verdict::Clean => Exit::Clean,
        Verdict::Alerts => Exit::Alerts,
        Verdict::Unknown => {
            tracing::debug!(state = scan.state.as_str(), "no answer");
            Exit::NoAnswer
        }
    }
}

fn worst(alerts: &[JudgedAlert]) -> Option<Priority> {
    alerts.iter().filter(|a| !a.suppressed()).map(JudgedAlert::priority).min()
}

async fn submit(desk: &Desk, target: &Target, manager: Option<&str>) -> anyhow::Result<ScanId> {
    let broken = Broken::default();
    let (status, answer) = ask(desk, submission("http://desk", target, manager, &broken)?).await?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    if status == http::StatusCode::ACCEPTED {
        return Ok(text("id").context("the function submit answered without an id")?.parse()?);
    }
    if let Some(why) = broken.take() {
        bail!("the folder cannot be packed: {why}");
    }
    bail!("{}", text("detail").or(text("title")).unwrap_or("the function submit refused without saying why"))
}

/// The same JSON that a client of `lanner serve` gets, in one object.
async fn whole_answer(desk: &Desk, id: &ScanId, verdict: Verdict) -> anyhow::Result<String> {
    let get = |path: String| http::Request::get(format!("http://desk{path}")).body(Body::default());
    let (_, scan) = ask(desk, get(format!("/v1/scans/{id}"))?).await?;
    let (_, mut alerts) = ask(desk, get(format!("/v1/scans/{id}/alerts?include=suppressed"))?).await?;
    let alerts =
        alerts.get_mut("alerts").map(Value::take).context("the function alerts answered without alerts")?;
    Ok(serde_json::to_string_pretty(&json!({ "scan": scan, "verdict": verdict, "alerts": alerts }))?)
}

async fn ask(desk: &Desk, request: http::Request<Body>) -> anyhow::Result<(http::StatusCode, Value)> {
    let caller = Caller { owner: Owner::local(), reach: Reach::All, request_id: "desk".into() };
    answer::read(desk.functions.handle(request, caller).await, "a function's answer").await
}

/// Follows the scan to its end, a line per phase on a terminal.
async fn follow(desk: &Desk, id: &ScanId) -> anyhow::Result<()> {
    let (scan, mut events) = desk.scans.listen(&Reach::All, id).await?;
    if scan.state.is_final() {
        return Ok(());
    }
    let progress = Progress::new();
    while let Some(event) = events.next().await {
        Step::of_event(&event).inspect(|step| progress.show(step));
        if matches!(&event, ScanEvent::State { state, .. } if state.is_final()) {
            break;
        }
    }
    progress.clear();
    // A listener that lagged behind was dropped before the end: ask now and then instead.
    while !desk.scans.get(&Reach::All, id).await?.state.is_final() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(DEFAULT_WIDTH, |size| match size.ws_col {
        0 => DEFAULT_WIDTH,
        columns => usize::from(columns),
    })
}
