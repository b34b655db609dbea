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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use filter_baseline::api;
use http_body_util::BodyExt;
use lanner::app::Host;
use lanner::config::Config;
use lanner::http::Caller;
use lanner::policy::{Module, Policy, Spec, Upload};
use lanner::scan::ports::{About, Filter, Seen};
use lanner::scan::{Reach, Submission};
use lanner_core::{Alert, JobSpec, Owner, PhaseSpec, Priority, Process, Responsible, ScanId, Subject};

const EVAL: Duration = Duration::from_millis(1500);
const SWAPS: u64 = 200;
/// As the promise has it.
const ALERTS_A_SECOND: u32 = 20_000;
const REQUESTS_A_SECOND: u64 = 500;
const BATCH: usize = 256;

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

async fn eval(policy: &Policy, size: usize) {
    let alerts = alerts(size);
    let (mut native, mut wasm) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        native.push(rate(size, || {
            let decisions = filter_baseline::evaluate(&batch(std::hint::black_box(&alerts)));
            assert_eq!(std::hint::black_box(decisions).len(), size);
        }));
        let (begun, mut judged) = (Instant::now(), 0);
        while begun.elapsed() < EVAL {
            let done = policy.session(about()).judge(alerts.clone()).await;
            assert!(done.failures.is_empty() && done.alerts.len() == size);
            judged += size;
        }
        wasm.push(judged as f64 / begun.elapsed().as_secs_f64());
    }
    let (native, wasm) = (median(native), median(wasm));
    println!(
        "bench policy_eval batch={size} native_alerts_s={native:.0} wasm_alerts_s={wasm:.0} ratio={:.3}",
        wasm / native
    );
}

fn rate(size: usize, once: impl Fn()) -> f64 {
    let (begun, mut done) = (Instant::now(), 0);
    while begun.elapsed() < EVAL {
        once();
        done += size;
    }
    done as f64 / begun.elapsed().as_secs_f64()
}

/// What happened to those who were judged and served.
#[derive(Default)]
struct Seconds {
    batches: Vec<f64>,
    requests: Vec<f64>,
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
            let module = Module::Bytes(variant(&component, round).into());
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
        "bench policy_swap swaps={SWAPS} batches={} requests={} judge_p99_ms={:.1} judge_p99_ratio={:.2} \
         status_p99_ms={:.1} status_p99_ratio={:.2} upload_to_active_ms={:.0} cached_ms={:.1} component_kb={}",
        during.batches.len(),
        during.requests.len(),
        p99(&during.batches) * 1000.0,
        ratio(&during.batches, &still.batches),
        p99(&during.requests) * 1000.0,
        ratio(&during.requests, &still.requests),
        median(fresh),
        median(cached),
        component.len() / 1000,
    );
}

/// Judges and serves at the promised pace; panics on a lost alert, an error, or a batch judged by two sets.
async fn load(host: &Arc<Host>, id: &ScanId, over: Arc<AtomicBool>, most: Option<Duration>) -> Seconds {
    let begun = Instant::now();
    let go_on = move |over: &AtomicBool| {
        !over.load(Ordering::Relaxed) && most.is_none_or(|most| begun.elapsed() < most)
    };
    let judging = tokio::spawn({
        let (host, over) = (host.clone(), over.clone());
        async move {
            let (alerts, mut times) = (alerts(BATCH), Vec::new());
            let mut tick = tokio::time::interval(Duration::from_secs(1) * 256 / ALERTS_A_SECOND);
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
    let errors = Arc::new(AtomicU64::new(0));
    let (mut requests, mut tick) =
        (Vec::new(), tokio::time::interval(Duration::from_micros(1_000_000 / REQUESTS_A_SECOND)));
    while go_on(&over) {
        tick.tick().await;
        let (host, id, errors) = (host.clone(), id.clone(), errors.clone());
        requests.push(tokio::spawn(async move {
            let began = Instant::now();
            let body = lanner::http::Body::default();
            let request = http::Request::get(format!("http://bench/v1/scans/{id}")).body(body).unwrap();
            let caller = Caller { owner: Owner::local(), reach: Reach::All, request_id: "bench".into() };
            let answer = host.functions.handle(request, caller).await;
            let good = answer.status().is_success() && answer.into_body().collect().await.is_ok();
            errors.fetch_add(u64::from(!good), Ordering::Relaxed);
            began.elapsed().as_secs_f64()
        }));
    }
    let mut seconds = Seconds { batches: judging.await.unwrap(), requests: Vec::new() };
    for request in requests {
        seconds.requests.push(request.await.unwrap());
    }
    assert_eq!(errors.load(Ordering::Relaxed), 0, "every request is answered");
    seconds
}

/// A scan to ask after, that nobody runs.
async fn queued(host: &Host) -> ScanId {
    let spec = JobSpec {
        manager: "npm".into(),
        subject: Subject::Project { name: Some("a".into()) },
        tools: vec!["node".into()],
        probe: None,
        phases: vec![PhaseSpec { name: "install".into(), argv: vec!["node".into()] }],
        env: vec![],
        proxy_env: vec![],
        package_roots: vec![],
        manifests: vec![],
        files: vec![],
    };
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

/// The words of the native filter: what it needs is made as the host makes it for the component.
fn batch(alerts: &[Alert]) -> api::Batch {
    let mut processes: Vec<api::Process> = Vec::new();
    let mut places = std::collections::HashMap::new();
    let converted = alerts
        .iter()
        .map(|alert| {
            let place = |p| {
                *places.entry(p).or_insert_with(|| {
                    processes.push(of_process(p));
                    u32::try_from(processes.len() - 1).unwrap()
                })
            };
            let ancestry = alert.ancestry.iter().map(place).collect();
            of_alert(alert, ancestry)
        })
        .collect();
    let (scan, manager, subject) = (about().scan.to_string(), "npm".into(), "a".into());
    api::Batch { scan, manager, subject, processes, alerts: converted }
}

fn of_process(process: &Process) -> api::Process {
    api::Process {
        pid: process.pid,
        name: process.name.clone(),
        exe: process.exe.clone(),
        cmdline: process.cmdline.clone(),
        cwd: process.cwd.clone(),
    }
}

fn of_alert(alert: &Alert, ancestry: Vec<u32>) -> api::Alert {
    api::Alert {
        id: alert.id,
        time: alert.time,
        last_time: alert.last_time,
        rule: alert.rule.clone(),
        priority: filter_baseline::Priority::Warning,
        output: alert.output.clone(),
        fields: alert.output_fields.iter().map(|(n, v)| (n.clone(), v.to_string())).collect(),
        tags: alert.tags.clone(),
        source: alert.source.clone(),
        sensor: alert.sensor.clone(),
        count: alert.count,
        ancestry,
        package: alert
            .package
            .as_ref()
            .map(|p| api::Responsible { name: p.name.clone(), folder: p.folder.clone() }),
        fingerprint: alert.fingerprint(),
        seen_before: 0,
    }
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
