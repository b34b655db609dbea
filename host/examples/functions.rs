//! What updating a function costs those who are served meanwhile: 1,000 requests a second for 60 s, with 20 updates of the
//! function that answers them, each of which goes through every check, a canary among them. One run, one machine.
//!
//! Prints `bench function_update …`; the ratio is to the same load without updates, before them.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run says so and stops")]
#![expect(clippy::disallowed_methods, reason = "a benchmark's tasks are awaited in it")]
#![expect(clippy::indexing_slicing, reason = "a sorted list has its places")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use lanner::app::Host;
use lanner::config::Config;
use lanner::function::{CanarySettings, Functions, Outcome};
use lanner::http::{Body, Caller};
use lanner::manifest::Source;
use lanner::scan::Reach;
use lanner_core::{Name, Owner};

const REQUESTS_A_SECOND: u32 = 1000;
const UPDATES: u32 = 20;
const STILL: Duration = Duration::from_secs(15);
const TIME: Duration = Duration::from_secs(60);
const CANARY: CanarySettings = CanarySettings { percent: 10, time: Duration::from_millis(500), requests: 30 };

fn main() -> std::process::ExitCode {
    // The host compiles updates in a child that is its own program: here that is this one.
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|verb| verb == "compile") {
        return lanner::engine::compile_main(&arguments[2..]);
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure(folder.path()));
    std::process::ExitCode::SUCCESS
}

async fn measure(folder: &Path) {
    let wasm = folder.join("status.wasm");
    let component = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/status.wasm"));
    let component = component.unwrap();
    std::fs::write(&wasm, &component).unwrap();
    let name: Name = "status".parse().unwrap();
    let mut config = Config::load(None).unwrap();
    config.cache_dir = Some(folder.join("cache"));
    config.functions.canary = CANARY;
    config.functions.sources = [(name.clone(), Source::Path(wasm.clone()))].into();
    let functions = Host::open(&config, &folder.join("data")).await.unwrap().functions;

    let failed = Arc::new(AtomicU64::new(0));
    let still = load(&functions, STILL, &failed).await;
    let under = tokio::spawn({
        let (functions, failed) = (functions.clone(), failed.clone());
        async move { load(&functions, TIME, &failed).await }
    });
    let (begun, mut active) = (Instant::now(), Vec::new());
    for number in 0..UPDATES {
        let due = TIME * number / UPDATES;
        tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        // A custom section with a number: the same code under another digest.
        let update = [&component, [0, 6, 1, b'n'].as_slice(), &number.to_le_bytes()].concat();
        std::fs::write(&wasm, update).unwrap();
        let detected = Instant::now();
        let outcome = functions.check(&name, false, "bench").await.unwrap();
        assert!(matches!(outcome, Outcome::Active(_)), "{outcome:?}");
        active.push(detected.elapsed());
    }
    let during = under.await.unwrap();
    let failed = failed.load(Ordering::Relaxed);
    assert_eq!(failed, 0, "every request is answered");
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    println!(
        "bench function_update updates={UPDATES} requests={} failed={failed} p99_ms={:.1} p99_ratio={:.2} \
         detect_to_active_ms={:.0} of_which_canary_ms={}",
        during.len(),
        ms(at(&during, 99)),
        ms(at(&during, 99)) / ms(at(&still, 99)),
        ms(at(&active, 50)),
        CANARY.time.as_millis(),
    );
}

/// At the promised pace; how long each took.
async fn load(functions: &Functions, time: Duration, failed: &Arc<AtomicU64>) -> Vec<Duration> {
    let (begun, mut requests) = (Instant::now(), Vec::new());
    let mut tick = tokio::time::interval(Duration::from_secs(1) / REQUESTS_A_SECOND);
    while begun.elapsed() < time {
        tick.tick().await;
        let (functions, failed) = (functions.clone(), failed.clone());
        requests.push(tokio::spawn(async move {
            let began = Instant::now();
            let request = http::Request::get("http://bench/v1/scans/none").body(Body::default()).unwrap();
            let caller = Caller { owner: Owner::local(), reach: Reach::All, request_id: "bench".into() };
            let answer = functions.handle(request, caller).await;
            // There is no such scan, which the function has to look up to say.
            let good =
                answer.status() == http::StatusCode::NOT_FOUND && answer.into_body().collect().await.is_ok();
            failed.fetch_add(u64::from(!good), Ordering::Relaxed);
            began.elapsed()
        }));
    }
    let mut times = Vec::new();
    for request in requests {
        times.push(request.await.unwrap());
    }
    times
}

fn at(times: &[Duration], part: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * part / 100).min(sorted.len() - 1)]
}
