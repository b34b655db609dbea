//! `lanner scan`: one scan from the command line, on a host that lives as long as the scan.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use indicatif::{ProgressBar, ProgressStyle};
use lanner_core::{JudgedAlert, Owner, Priority, Scan, ScanId, ScanState, Verdict};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::render::{self, Seconds};
use super::target::Target;
use super::{Exit, Format, ScanArgs};
use crate::app::Desk;
use crate::http::{Body, Caller};
use crate::scan::{Reach, ScanEvent};

/// The longest answer that a function gives us at the desk.
const MAX_ANSWER: usize = 64 << 20;
const DEFAULT_WIDTH: usize = 160;

pub(super) fn run(args: ScanArgs) -> anyhow::Result<Exit> {
    let target = Target::parse(&args.target)?;
    let config = args.common.config()?;
    let runtime = tokio::runtime::Runtime::new().context("the asynchronous runtime cannot start")?;
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
    runtime.shutdown_timeout(Duration::from_secs(2));
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
        Format::Json => println!("{}", answer(desk, &id, verdict).await?),
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
    let query = manager.map(|m| format!("?manager={m}")).unwrap_or_default();
    let (kind, body) = match target {
        Target::Package(package) => {
            let json = json!({ "package": package.to_string() }).to_string();
            ("application/json", Full::from(json).map_err(|never| match never {}).boxed_unsync())
        }
        Target::Folder(folder) => ("application/gzip", streamed(packed(folder, broken.clone()))),
        Target::Archive(file) => ("application/gzip", streamed(opened(file)?)),
    };
    let request = http::Request::post(format!("http://desk/v1/scans{query}"))
        .header(http::header::CONTENT_TYPE, kind)
        .body(body)
        .context("--manager is not a package manager's name")?;
    let (status, answer) = ask(desk, request).await?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    if status == http::StatusCode::ACCEPTED {
        return Ok(text("id").context("the function submit answered without an id")?.parse()?);
    }
    if let Some(why) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bail!("the folder cannot be packed: {why}");
    }
    bail!("{}", text("detail").or(text("title")).unwrap_or("the function submit refused without saying why"))
}

/// The same JSON that a client of `lanner serve` gets, in one object.
async fn answer(desk: &Desk, id: &ScanId, verdict: Verdict) -> anyhow::Result<String> {
    let get = |path: String| http::Request::get(format!("http://desk{path}")).body(Body::default());
    let (_, scan) = ask(desk, get(format!("/v1/scans/{id}"))?).await?;
    let (_, mut alerts) = ask(desk, get(format!("/v1/scans/{id}/alerts?include=suppressed"))?).await?;
    let alerts =
        alerts.get_mut("alerts").map(Value::take).context("the function alerts answered without alerts")?;
    Ok(serde_json::to_string_pretty(&json!({ "scan": scan, "verdict": verdict, "alerts": alerts }))?)
}

async fn ask(desk: &Desk, request: http::Request<Body>) -> anyhow::Result<(http::StatusCode, Value)> {
    let caller = Caller { owner: Owner::local(), reach: Reach::All, request_id: "desk".into() };
    let response = desk.functions.handle(request, caller).await;
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
    let bytes = body.collect().await.map_err(|e| anyhow!("a function's answer broke off: {e}"))?.to_bytes();
    Ok((status, serde_json::from_slice(&bytes).context("a function's answer is not JSON")?))
}

/// Follows the scan to its end, a line per phase on a terminal.
async fn follow(desk: &Desk, id: &ScanId) -> anyhow::Result<()> {
    let (scan, mut events) = desk.scans.listen(&Reach::All, id).await?;
    if scan.state.is_final() {
        return Ok(());
    }
    let progress = Progress::new();
    while let Some(event) = events.next().await {
        progress.show(&event);
        if matches!(&event, ScanEvent::State { state, .. } if state.is_final()) {
            break;
        }
    }
    progress.bar.finish_and_clear();
    // A listener that lagged behind was dropped before the end: ask now and then instead.
    while !desk.scans.get(&Reach::All, id).await?.state.is_final() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// One line that moves, only on a terminal.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new() -> Self {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message("building the sandbox");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }

    fn show(&self, event: &ScanEvent) {
        match event {
            ScanEvent::State { state: ScanState::Running, .. } => {
                self.bar.set_message("starting the sandbox");
            }
            ScanEvent::State { .. } => {}
            ScanEvent::Phase { name, ended: None, .. } => self.bar.set_message(format!("{name}: running")),
            ScanEvent::Phase { name, started, ended: Some(ended), exit_code, .. } => {
                let how = exit_code.map_or("killed".into(), |c| format!("exit code {c}"));
                let time = Seconds(ended.saturating_sub(*started));
                self.bar.println(format!("phase {name}: {how}, {time}"));
                self.bar.set_message("waiting for the last process");
            }
            ScanEvent::Alert { alert, .. } => {
                let rule = lanner_core::text::escaped(&alert.alert.rule);
                self.bar.println(format!("alert {}: {rule}", alert.priority()));
            }
        }
    }
}

fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(DEFAULT_WIDTH, |size| match size.ws_col {
        0 => DEFAULT_WIDTH,
        columns => usize::from(columns),
    })
}

type Chunks = BoxStream<'static, std::io::Result<Bytes>>;

fn streamed(chunks: Chunks) -> Body {
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data).map_err(Into::into))).boxed_unsync()
}

fn opened(file: &Path) -> anyhow::Result<Chunks> {
    let opened = std::fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(tokio_util::io::ReaderStream::with_capacity(tokio::fs::File::from_std(opened), 64 * 1024).boxed())
}

/// The folder as a gzipped tar, packed in a thread of its own as fast as it is taken. Why it broke off, if it did, is
/// left in the slot: the other side only sees that it did.
fn packed(folder: &Path, broken: Broken) -> Chunks {
    let (chunks, received) = mpsc::channel(8);
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut writer = std::io::BufWriter::with_capacity(64 * 1024, ChunkWriter { chunks: chunks.clone() });
        let packed = lanner_archive::pack(&folder, &mut writer);
        // Whoever refuses a project need not read it to its end: that is no fault of the folder's.
        if let Err(error) = packed
            && !chunks.is_closed()
        {
            let text = format!("{:#}", anyhow::Error::from(error));
            broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
            // Nobody may be left to take it.
            let _ = chunks.blocking_send(Err(std::io::ErrorKind::Other.into()));
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(received).boxed()
}

type Broken = Arc<Mutex<Option<String>>>;

struct ChunkWriter {
    chunks: mpsc::Sender<std::io::Result<Bytes>>,
}

impl std::io::Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let sent = self.chunks.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
