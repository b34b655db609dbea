//! `lanner policy test`: a filter on past alerts, at the desk: from files, or from a host; nothing is changed there.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use lanner_core::{Grant, JudgedAlert, Priority, ScanId};
use serde_json::{Value, json};

use super::super::Exit;
use super::super::remote::Remote;
use super::show;
use crate::capability::view;
use crate::config::Config;
use crate::engine::{Engine, Wasm};
use crate::policy::Desk;
use crate::policy::ports::Difference;
use crate::scan::ports::{About, Seen};

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArgs {
    /// The component
    file: PathBuf,
    /// A file with its settings as JSON
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// A folder of answers of `lanner scan --format json`
    #[arg(long, value_name = "DIR", conflicts_with = "from_host")]
    scans: Option<PathBuf>,
    /// The last scans of the host at --url
    #[arg(long)]
    from_host: bool,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    suppress_percent: u8,
    #[arg(long, default_value = "warning")]
    suppress_priority: Priority,
    /// One JSON document instead of lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

const HOST_SCANS: usize = 100;
const MAX_FILE: u64 = 64 << 20;

/// One scan's alerts.
struct Past {
    name: String,
    about: About,
    alerts: Vec<JudgedAlert>,
}

pub(super) fn run(args: &TestArgs) -> anyhow::Result<Exit> {
    let wasm =
        std::fs::read(&args.file).with_context(|| format!("{} cannot be read", args.file.display()))?;
    let wasm = Wasm::new(wasm);
    let settings = args.settings.as_deref().map_or_else(|| Ok(json!({})), super::settings)?;
    let past = match (&args.scans, args.from_host) {
        (Some(folder), _) => of_folder(folder)?,
        (None, true) => of_host(&args.remote)?,
        (None, false) => Vec::new(),
    };
    let runtime = tokio::runtime::Runtime::new().context("the asynchronous runtime cannot start")?;
    let tested = runtime.block_on(test(args, &wasm, settings, past));
    runtime.shutdown_background();
    tested
}

async fn test(args: &TestArgs, wasm: &Wasm, settings: Value, past: Vec<Past>) -> anyhow::Result<Exit> {
    let config = Config::load(None)?;
    let engine = Engine::new(config.cache_dir.as_deref().map(|d| d.join("compiled")).as_deref())?;
    let apart = config.apart(std::env::current_exe().context("this program's own path is unknown")?);
    let grant = Grant { percent: args.suppress_percent, priority: args.suppress_priority };
    let name = "under-test".parse()?;
    let desk = Desk::load(&engine, &apart, name, wasm, settings, grant).await.map_err(|e| anyhow!("{e}"))?;
    let failed = |e| anyhow!("the filter failed: {e}");
    let (mut alerts, mut found) = desk.fixed().await.map_err(failed)?;
    for scan in &past {
        alerts += scan.alerts.len();
        found.extend(desk.compare(&scan.name, &scan.about, scan.alerts.clone()).await.map_err(failed)?);
    }
    show(args, &desk, past.len(), alerts, &found);
    Ok(Exit::Clean)
}

fn show(args: &TestArgs, desk: &Desk, scans: usize, alerts: usize, found: &[Difference]) {
    let revision = desk.revision();
    if args.json {
        let all = json!({
            "description": revision.spec.description, "digest": revision.digest, "scans": scans, "alerts": alerts,
            "changes": found,
        });
        println!("{all:#}");
        return;
    }
    println!(
        "{} {}: {}",
        revision.spec.description.name, revision.spec.description.version, revision.spec.description.summary
    );
    println!("{} of {alerts} alerts (the fixed set and {scans} scans) would count otherwise", found.len());
    show::differences(&found.iter().map(|d| json!(d)).collect::<Vec<_>>());
}

fn of_folder(folder: &Path) -> anyhow::Result<Vec<Past>> {
    let unreadable = || format!("{} cannot be read", folder.display());
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(unreadable)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()
        .with_context(unreadable)?;
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    ensure!(
        !paths.is_empty(),
        "{} has no .json file: keep answers of `lanner scan --format json`",
        folder.display()
    );
    paths.iter().map(|path| of_file(path).with_context(|| path.display().to_string())).collect()
}

fn of_file(path: &Path) -> anyhow::Result<Past> {
    let length = std::fs::metadata(path)?.len();
    ensure!(length <= MAX_FILE, "it has {length} bytes, more than {MAX_FILE}");
    let document: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    past(name, document.get("scan").unwrap_or(&Value::Null), document.get("alerts"))
}

fn of_host(remote: &Remote) -> anyhow::Result<Vec<Past>> {
    let page = remote.get(&format!("/v1/scans?limit={HOST_SCANS}"))?;
    let scans = page.get("scans").and_then(Value::as_array).context("the host lists no scans")?;
    let of = |scan: &Value| {
        let id = scan.get("id").and_then(Value::as_str).context("a scan has an id")?;
        let answer = remote.get(&format!("/v1/scans/{id}/alerts?include=suppressed"))?;
        past(id.to_owned(), scan, answer.get("alerts"))
    };
    scans.iter().map(of).collect()
}

fn past(name: String, scan: &Value, alerts: Option<&Value>) -> anyhow::Result<Past> {
    let Some(alerts) = alerts.and_then(Value::as_array) else { bail!("it has no alerts") };
    let text = |pointer: &str| scan.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let about = About {
        scan: text("/id").parse().unwrap_or_else(|_| ScanId::new(0, [0; 10])),
        manager: text("/manager"),
        subject: text("/subject/name"),
        seen: Seen::new(),
    };
    let alerts =
        alerts.iter().map(view::alert_of).collect::<Result<_, _>>().context("an alert is not right")?;
    Ok(Past { name, about, alerts })
}
