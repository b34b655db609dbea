//! What judging by WebAssembly costs against the same logic compiled natively, and what swapping a filter costs those who
//! are being judged and served meanwhile. One run, one machine; ratios count.
//!
//! Prints `bench policy_eval …` for batches of 1, 16 and 256 alerts, and `bench policy_swap …`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run says so and stops")]
#![expect(clippy::disallowed_methods, reason = "a benchmark's tasks are awaited in it")]
#![expect(clippy::cast_precision_loss, reason = "rates are no exact numbers")]
#![expect(clippy::indexing_slicing, reason = "the places are those of the loop above")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use filter_baseline::api;
use http_body_util::BodyExt;
use lanner::app::Host;
use lanner::config::Config;
use lanner::engine::Wasm;
use lanner::http::Caller;
use lanner::policy::{Module, Policy, Spec, Upload};
use lanner::scan::ports::{About, Filter, Seen};
use lanner::scan::{Reach, Submission};
use lanner_core::{
    Action, Alert, Decision, Grant, JobSpec, JudgedAlert, Owner, PhaseSpec, Priority, Process, Responsible,
    ScanId, Subject,
};

const EVAL: Duration = Duration::from_millis(1000);
/// As long as any.
const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
const SWAPS: u64 = 200;
/// As the promise has it.
const ALERTS_A_SECOND: u32 = 20_000;
const REQUESTS_A_SECOND: u64 = 500;
const BATCH: usize = 256;
/// Requests at the same time.
const CLIENTS: usize = 64;

fn main() -> std::process::ExitCode {
    // The host compiles uploads in a child that is its own program: here that is this one.
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|verb| verb == "compile") {
        return lanner::engine::compile_main(&arguments[2..]);
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut config = Config::load(None).unwrap();
        config.cache_dir = Some(folder.path().join("cache"));
        let host = Host::open(&config, &folder.path().join("data")).await.unwrap();
        for size in [1, 16, BATCH] {
            eval(&host.policy, size).await;
        }
        swap(host).await;
    });
    std::process::ExitCode::SUCCESS
}

/// From alerts to judged alerts, both ways: the same table is made of the alerts, the same logic decides, and its decisions
/// are composed by the same rules. What differs is the component: its instance, the way in, its code, the way out, and that
/// its answer is checked.
async fn eval(policy: &Policy, size: usize) {
    let alerts = alerts(size);
    let (mut native, mut wasm) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        native.push(rate(&alerts, async |alerts| judged_natively(alerts)).await);
        let judged = async |alerts| {
            let done = policy.session(about()).judge(alerts).await;
            assert!(done.failures.is_empty(), "{:?}", done.failures);
            done.alerts
        };
        wasm.push(rate(&alerts, judged).await);
    }
    let (native, wasm) = (median(native), median(wasm));
    println!(
        "bench policy_eval batch={size} native_alerts_s={native:.0} wasm_alerts_s={wasm:.0} ratio={:.3}",
        wasm / native
    );
}

/// In CPU time of this thread, on which all of it runs; making the alerts and dropping what was judged is not counted.
async fn rate(alerts: &[Alert], judge: impl AsyncFn(Vec<Alert>) -> Vec<JudgedAlert>) -> f64 {
    let (mut busy, mut done) = (Duration::ZERO, 0);
    while busy < EVAL {
        let given = std::hint::black_box(alerts.to_vec());
        let began = used();
        let judged = judge(given).await;
        busy += used().saturating_sub(began);
        assert_eq!(judged.len(), alerts.len());
        done += judged.len();
    }
    done as f64 / busy.as_secs_f64()
}

/// CPU time of this thread until now.
fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn judged_natively(alerts: Vec<Alert>) -> Vec<JudgedAlert> {
    let decisions = filter_baseline::evaluate(&Table::of(&alerts));
    let judge = |(alert, decided): (Alert, api::Decision)| {
        let action = match decided.action {
            api::Action::Suppress => Action::Suppress,
            _ => Action::Keep,
        };
        let decision = Decision {
            filter: "baseline".into(),
            revision: 1,
            digest: DIGEST.into(),
            action,
            reason: decided.reason,
            tags: decided.tags,
            pin: decided.pin,
            overruled: String::new(),
        };
        let mut judged = JudgedAlert::unjudged(alert);
        judged.decide(vec![(decision, Grant { percent: 100, priority: Priority::Warning })]);
        judged
    };
    alerts.into_iter().zip(decisions).map(judge).collect()
}

/// What happened to those who were judged and served.
#[derive(Default)]
struct Seconds {
    batches: Vec<f64>,
    requests: Vec<f64>,
    whole: f64,
}

async fn swap(host: Host) {
    let host = Arc::new(host);
    let id = queued(&host).await;
    let component = std::fs::read(guest()).unwrap();
    let still = load(&host, &id, Arc::new(AtomicBool::new(false)), Some(Duration::from_secs(8))).await;

    let over = Arc::new(AtomicBool::new(false));
    let under = tokio::spawn({
        let (host, id, over) = (host.clone(), id.clone(), over.clone());
        async move { load(&host, &id, over, None).await }
    });
    let (mut fresh, mut cached) = (Vec::new(), Vec::new());
    for round in 0..SWAPS {
        let begun = Instant::now();
        if round % 4 == 0 {
            let module = Module::Bytes(Wasm::new(variant(&component, round)));
            let upload = Upload {
                name: "swapped".parse().unwrap(),
                module,
                spec: Spec::default(),
                by: "bench".into(),
                dry_run: false,
            };
            host.policy.upload(upload).await.unwrap();
            fresh.push(begun.elapsed().as_secs_f64() * 1000.0);
        } else if round > 4 {
            host.policy.rollback(&"swapped".parse().unwrap(), None, "bench").await.unwrap();
            cached.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    over.store(true, Ordering::Relaxed);
    let during = under.await.unwrap();
    let ratio = |a: &[f64], b: &[f64]| p99(a) / p99(b);
    println!(
        "bench policy_swap swaps={SWAPS} alerts_s={:.0} requests_s={:.0} p99_ratio={:.2} \
         judge_p99_ms={:.1} judge_p99_ratio={:.2} status_p99_ms={:.1} status_p99_ratio={:.2} \
         upload_to_active_ms={:.0} cached_ms={:.1} component_kb={}",
        (during.batches.len() * BATCH) as f64 / during.whole,
        during.requests.len() as f64 / during.whole,
        ratio(&during.batches, &still.batches).max(ratio(&during.requests, &still.requests)),
        p99(&during.batches) * 1000.0,
        ratio(&during.batches, &still.batches),
        p99(&during.requests) * 1000.0,
        ratio(&during.requests, &still.requests),
        median(fresh),
        median(cached),
        component.len() / 1000,
    );
}

/// Judges and serves at the promised pace, or as near to it as the machine comes: the line says both. Panics on a lost alert, an error, or a batch judged by two sets.
async fn load(host: &Arc<Host>, id: &ScanId, over: Arc<AtomicBool>, most: Option<Duration>) -> Seconds {
    let begun = Instant::now();
    let go_on = move |over: &AtomicBool| {
        !over.load(Ordering::Relaxed) && most.is_none_or(|most| begun.elapsed() < most)
    };
    let judging = tokio::spawn({
        let (host, over) = (host.clone(), over.clone());
        async move {
            let (alerts, mut times) = (alerts(BATCH), Vec::new());
            let mut tick = pace(Duration::from_secs(1) * 256 / ALERTS_A_SECOND);
            while go_on(&over) {
                tick.tick().await;
                let began = Instant::now();
                let mut session = host.policy.session(about());
                let filters = session.filters();
                let judged = session.judge(alerts.clone()).await;
                times.push(began.elapsed().as_secs_f64());
                assert!(judged.failures.is_empty(), "{:?}", judged.failures);
                assert_eq!(judged.alerts.len(), BATCH);
                for (place, alert) in judged.alerts.iter().enumerate() {
                    assert_eq!(alert.alert.id, alerts[place].id);
                    let digests = alert.decisions.iter().map(|d| (d.revision, &d.digest));
                    assert!(digests.eq(filters.iter().map(|f| (f.revision, &f.digest))), "one set a batch");
                }
            }
            times
        }
    });
    let clients = Arc::new(tokio::sync::Semaphore::new(CLIENTS));
    let mut requests = Vec::new();
    let mut tick = pace(Duration::from_micros(1_000_000 / REQUESTS_A_SECOND));
    while go_on(&over) {
        tick.tick().await;
        let (host, id, clients) = (host.clone(), id.clone(), clients.clone());
        requests.push(tokio::spawn(async move {
            // Waiting for a client that is free counts.
            let began = Instant::now();
            let _client = clients.acquire().await.unwrap();
            let body = lanner::http::Body::default();
            let request = http::Request::get(format!("http://bench/v1/scans/{id}")).body(body).unwrap();
            let caller = Caller { owner: Owner::local(), reach: Reach::All, request_id: "bench".into() };
            let answer = host.functions.handle(request, caller).await;
            let status = answer.status();
            let body = answer.into_body().collect().await.map(|body| body.to_bytes());
            assert!(status.is_success() && body.is_ok(), "{status}: {body:?}");
            began.elapsed().as_secs_f64()
        }));
    }
    let mut seconds = Seconds { batches: judging.await.unwrap(), ..Seconds::default() };
    for request in requests {
        seconds.requests.push(request.await.unwrap());
    }
    seconds.whole = begun.elapsed().as_secs_f64();
    seconds
}

/// What a starved machine missed is not made up for in one heap.
fn pace(each: Duration) -> tokio::time::Interval {
    let mut tick = tokio::time::interval(each);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    tick
}

/// A scan to ask after, that nobody runs.
async fn queued(host: &Host) -> ScanId {
    let subject = Subject::Project { name: Some("a".into()) };
    let phases = vec![PhaseSpec { name: "install".into(), argv: vec!["node".into()] }];
    let spec = JobSpec { tools: vec!["node".into()], phases, ..JobSpec::new("npm", subject) };
    host.scans.submit(Submission { owner: Owner::local(), spec, source: None, key: None }).await.unwrap()
}

fn guest() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/filter-baseline.wasm")
}

/// The same code under another digest: a custom section with a number at the end.
fn variant(component: &[u8], number: u64) -> Vec<u8> {
    [component, &[0, 10, 1, b'n'], &number.to_le_bytes()].concat()
}

fn about() -> About {
    About { scan: ScanId::new(1, [1; 10]), manager: "npm".into(), subject: "a".into(), seen: Seen::new() }
}

/// Alerts as a scan gives them: few processes, many files.
fn alerts(count: usize) -> Vec<Alert> {
    let process = |pid, name: &str| Process {
        pid,
        name: name.into(),
        exe: format!("/usr/bin/{name}"),
        cmdline: format!("{name} install.js --production"),
        cwd: "/home/lena/app/node_modules/addon".into(),
    };
    let field = |n: usize| {
        [
            ("fd.name", format!("/home/lena/app/x{n}")),
            ("proc.name", "node".into()),
            ("proc.cmdline", "node x".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into()
    };
    (1..=count)
        .map(|n| Alert {
            id: n as u64,
            time: 1,
            last_time: 2,
            count: 1,
            rule: if n % 4 == 0 { "File in memory" } else { "Name lookup" }.into(),
            priority: Priority::Warning,
            output: format!("node looked up a name {n} | command=node install.js parent=sh package=addon"),
            output_fields: field(n),
            tags: vec!["network".into(), "dns".into()],
            source: "syscall".into(),
            hostname: "laptop".into(),
            sensor: "builtin".into(),
            also_seen_by: vec![],
            ancestry: vec![process(9, "node"), process(8, "sh"), process(7, "make"), process(1, "npm")],
            package: Some(Responsible { name: "addon".into(), folder: "node_modules/addon".into() }),
        })
        .collect()
}

/// The words of the native filter: its batch is made as the host makes it for the component.
struct Table<'a> {
    batch: api::Batch,
    places: std::collections::HashMap<&'a Process, u32>,
    last: (&'a [Process], api::Span),
}

impl<'a> Table<'a> {
    fn of(alerts: &'a [Alert]) -> api::Batch {
        let mut table = Self {
            batch: api::Batch::of(&[]),
            places: Default::default(),
            last: (&[], api::Span { start: 0, count: 0 }),
        };
        table.batch.texts.reserve(alerts.len() * 512);
        for alert in alerts {
            let alert = table.alert(alert);
            table.batch.alerts.push(alert);
        }
        table.batch
    }

    fn alert(&mut self, alert: &'a Alert) -> api::Alert {
        let (fields, tags) = (self.batch.fields.len(), self.batch.tags.len());
        for (name, value) in &alert.output_fields {
            let (name, start) = (self.text(name), self.batch.texts.len());
            serde_json::to_writer(&mut self.batch.texts, value).unwrap();
            let value = span(start, self.batch.texts.len());
            self.batch.fields.push(api::Field { name, value });
        }
        for tag in &alert.tags {
            let tag = self.text(tag);
            self.batch.tags.push(tag);
        }
        api::Alert {
            id: alert.id,
            time: alert.time,
            last_time: alert.last_time,
            rule: self.text(&alert.rule),
            priority: filter_baseline::Priority::Warning,
            output: self.text(&alert.output),
            fields: span(fields, self.batch.fields.len()),
            tags: span(tags, self.batch.tags.len()),
            source: self.text(&alert.source),
            sensor: self.text(&alert.sensor),
            count: alert.count,
            ancestry: self.ancestry(&alert.ancestry),
            package: alert
                .package
                .as_ref()
                .map(|p| api::Responsible { name: self.text(&p.name), folder: self.text(&p.folder) }),
            fingerprint: self.text(&alert.fingerprint()),
            seen_before: 0,
        }
    }

    fn ancestry(&mut self, line: &'a [Process]) -> api::Span {
        if self.last.0 != line {
            let first = self.batch.ancestry.len();
            for process in line {
                let known = self.places.get(process).copied();
                let place = known.unwrap_or_else(|| self.process(process));
                self.batch.ancestry.push(place);
            }
            self.last = (line, span(first, self.batch.ancestry.len()));
        }
        self.last.1
    }

    fn process(&mut self, process: &'a Process) -> u32 {
        let place = u32::try_from(self.batch.processes.len()).unwrap();
        let [name, exe, cmdline, cwd] =
            [&process.name, &process.exe, &process.cmdline, &process.cwd].map(|text| self.text(text));
        self.batch.processes.push(api::Process { pid: process.pid, name, exe, cmdline, cwd });
        self.places.insert(process, place);
        place
    }

    fn text(&mut self, text: &str) -> api::Span {
        let start = self.batch.texts.len();
        self.batch.texts.extend_from_slice(text.as_bytes());
        span(start, self.batch.texts.len())
    }
}

fn span(start: usize, end: usize) -> api::Span {
    api::Span { start: u32::try_from(start).unwrap(), count: u32::try_from(end - start).unwrap() }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn p99(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * 99 / 100).min(sorted.len() - 1)]
}
