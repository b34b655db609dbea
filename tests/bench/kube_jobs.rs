//! Scale without nodes: thousands of scans at the same time, each a Job of a real API server with the real Job controller. What
//! is measured is the host: its memory, its watches, and what it asked of the API server by that server's own audit log.
//!
//! The pods are simulated here (`nodes`, `pod`): each comes to the door by its own TLS connection with what its manifest gives
//! it, fetches the project and speaks as an agent whose package does nothing. It takes a gRPC client and the messages of the
//! wire, and a client of the API server, which tests otherwise do without: curl cannot play a thousand pods.
//!
//! First all Jobs are there and no pod runs, then as many at a time as the door has places for. `LANNER_JOBS` sets how many
//! scans, `LANNER_PODS` how many pods run at the same time, `LANNER_PHASE` how many seconds each takes.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use lanner_tests::archive_of;
use lanner_tests::serve::{Serve, curl, curl_json};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{CLIENTS, answer_with};
use nodes::Nodes;
use stage::{NAMESPACE, Stage};

mod audit;
mod nodes;
mod pod;
mod stage;

const JOBS: usize = 5000;
const PODS: usize = 1000;
/// Seconds.
const PHASE: usize = 2;
/// One of Jobs, one of pods.
const WATCHES: usize = 2;
const CALLS_PER_SCAN: usize = 4;
/// For each of: all Jobs are there, all scans are over, all Jobs are gone; and so much more a scan.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_A_SCAN: Duration = Duration::from_millis(250);
const PROJECT: &[u8] = br#"{"name":"a","version":"1.0.0"}"#;

pub(crate) fn kube_jobs(folder: &Path) -> Result<()> {
    let (jobs, pods) = (number("LANNER_JOBS", JOBS)?, number("LANNER_PODS", PODS)?);
    let phase = Duration::from_secs(number("LANNER_PHASE", PHASE)?.try_into()?);
    let Some(stage) = Stage::set(&folder.join("kube_jobs"))? else {
        println!("bench kube_jobs skipped: no cluster runs on this machine");
        return Ok(());
    };
    let serve = stage.serve(jobs)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let nodes = Nodes::new(runtime.block_on(client(&stage.cluster.kubeconfig))?, NAMESPACE, pods, phase);
    let (gate, closed) = watch::channel(false);
    let running = runtime.spawn(nodes.clone().run(closed));
    let mut run = Run { stage, serve, runtime, nodes, running, jobs };
    let result = run.measure(&gate);
    result.with_context(|| format!("the host's log ends with:\n{}", run.stage.log()))?;
    ensure!(run.serve.stop()? == Some(0), "it did not stop in order");
    Ok(())
}

fn number(name: &str, default: usize) -> Result<usize> {
    std::env::var(name)
        .map_or(Ok(default), |text| text.parse())
        .with_context(|| format!("{name} is a number"))
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    Ok(Client::try_from(kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?)?)
}

struct Run {
    stage: Stage,
    serve: Serve,
    runtime: Runtime,
    nodes: Nodes,
    running: JoinHandle<Result<()>>,
    jobs: usize,
}

impl Run {
    fn measure(&mut self, gate: &watch::Sender<bool>) -> Result<()> {
        let jobs = self.jobs;
        let (before, begun) = (self.used()?, Instant::now());
        submit(&self.serve.url, jobs)?;
        let submitted = begun.elapsed().as_secs_f64();
        self.until("all Jobs have their pod", |run| Ok(run.nodes.counts().0 == jobs))?;
        let (waiting, created) = (self.used()?, begun.elapsed().as_secs_f64());
        gate.send(true)?;
        self.until("all scans are over", |run| Ok(run.open()? == 0))?;
        let (after, seconds) = (self.used()?, begun.elapsed().as_secs_f64());
        let finished = self.finished()?;
        self.until("all Jobs are gone", |run| Ok(run.stage.left()? == 0))?;
        let calls = self.stage.calls()?;
        let count = u32::try_from(jobs).map(f64::from)?;
        #[expect(clippy::cast_precision_loss, reason = "a ratio is no exact number")]
        let per_scan = calls.all as f64 / count;
        println!(
            "bench kube_jobs jobs={jobs} finished={finished} api_calls_per_scan={per_scan:.3} watches={} rss_mib={} \
             rss_mib_before={} seconds={seconds:.1}",
            calls.watches, after.peak_mib, before.mib
        );
        println!(
            "bench kube_jobs_host submitted_s={submitted:.1} created_s={created:.1} scans_a_second={:.0} rss_mib_all_jobs={} \
             rss_mib_after={} cpu_ms_a_scan={:.1} cpu_ms_a_job={:.1}",
            count / (seconds - created),
            waiting.mib,
            after.mib,
            (after.cpu - before.cpu) * 1000.0 / count,
            (waiting.cpu - before.cpu) * 1000.0 / count,
        );
        println!("bench kube_jobs_calls {:?}", calls.by);
        ensure!(finished == jobs, "{finished} of {jobs} scans are finished and clean");
        ensure!(calls.all <= CALLS_PER_SCAN * jobs, "{} calls of the API for {jobs} scans", calls.all);
        ensure!(calls.watches <= WATCHES, "{} watches were open at the same time", calls.watches);
        Ok(())
    }

    /// Bounded, and by the nodes' life too.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let (begun, patience) = (Instant::now(), PATIENCE + PATIENCE_A_SCAN * u32::try_from(self.jobs)?);
        while !is_so(self)? {
            if self.running.is_finished() {
                self.runtime.block_on(&mut self.running)??;
            }
            if begun.elapsed() > patience {
                bail!(
                    "not in time: {what}; of {} pods {:?} were made and ended",
                    self.jobs,
                    self.nodes.counts()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Scans that have no answer yet.
    fn open(&self) -> Result<u64> {
        let (_, text) = curl(&[&format!("{}/metrics", self.serve.admin)])?;
        let gauge = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            Ok(line.with_context(|| format!("no {name}"))?.trim().parse()?)
        };
        Ok(gauge("lanner_scan_queued")? + gauge("lanner_scan_running")?)
    }

    /// Scans that are finished and clean; one that is not is shown.
    fn finished(&self) -> Result<usize> {
        let (mut finished, mut seen, mut before) = (0, 0, String::new());
        while seen < self.jobs {
            let (_, page) = curl_json(&[&format!("{}/v1/scans?limit=100{before}", self.serve.url)])?;
            let scans = page.get("scans").and_then(Value::as_array).context("no scans")?;
            let good = scans.iter().filter(|scan| is_clean(scan)).count();
            if good < scans.len() && finished == seen {
                eprintln!("not clean: {:?}", scans.iter().find(|scan| !is_clean(scan)));
            }
            (finished, seen) = (finished + good, seen + scans.len());
            match page.get("next").and_then(Value::as_str) {
                Some(id) => before = format!("&before={id}"),
                None => break,
            }
        }
        ensure!(seen == self.jobs, "{seen} of {} scans are there", self.jobs);
        Ok(finished)
    }

    fn used(&self) -> Result<Used> {
        let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.serve.pid()));
        let (status, stat) = (of("status")?, of("stat")?);
        let mib = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).with_context(|| name.to_owned())?;
            Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
        };
        // Behind the name in brackets, which may have spaces: the 12th and 13th are ticks, of which a second has 100.
        let numbers = stat.rsplit(')').next().context("stat")?;
        let ticks = numbers.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        let cpu = ticks.sum::<Result<f64, _>>()? / 100.0;
        Ok(Used { mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")?, cpu })
    }
}

/// By the host, so far.
struct Used {
    mib: u64,
    peak_mib: u64,
    /// Seconds.
    cpu: f64,
}

fn is_clean(scan: &Value) -> bool {
    let at = |path: &str| scan.pointer(path);
    at("/state") == Some(&"finished".into())
        && at("/evidence/complete") == Some(&true.into())
        && at("/counts/kept") == Some(&0.into())
        && at("/filter_failures").and_then(Value::as_array).is_some_and(Vec::is_empty)
}

/// By a few clients, each as quick as it is answered.
fn submit(url: &str, jobs: usize) -> Result<()> {
    let address = url.trim_start_matches("http://");
    let archive = archive_of("package.json", PROJECT)?;
    let head = format!(
        "POST /v1/scans HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/gzip\r\ncontent-length: {}\r\n\r\n",
        archive.len()
    );
    let request = [head.as_bytes(), &archive].concat();
    let taken = AtomicUsize::new(0);
    let client = || -> Result<()> {
        let mut stream = BufReader::new(TcpStream::connect(address)?);
        stream.get_ref().set_nodelay(true)?;
        stream.get_ref().set_read_timeout(Some(Duration::from_secs(60)))?;
        while taken.fetch_add(1, Ordering::Relaxed) < jobs {
            stream.get_mut().write_all(&request)?;
            answer_with(&mut stream, " 202 ")?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|c| c.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })
}
