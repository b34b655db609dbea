//! Ratios against a named baseline, measured in one run on one machine. Absolute times mean little here.
//!
//! Each line is `bench NAME key=value …`. Baseline and product take turns, so that a noisy neighbour meets both; the median
//! counts; arguments name the benchmarks, all run without. Loads go to loopback and are bounded in count and time.

#![expect(clippy::disallowed_methods, reason = "benchmarks start processes")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lanner_tests::serve::{Serve, curl_json};
use lanner_tests::{archive_of, lanner, root, run, sidekick};

mod kube_jobs;
mod latency;
mod updates;

const ROUNDS: usize = 5;
const LOAD: Duration = Duration::from_secs(4);
const CLIENTS: usize = 8;

/// In a folder of their own, which all share.
type Bench = fn(&Path) -> Result<()>;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let all: [(&str, Bench); 8] = [
        ("function_status", function_status),
        ("cold_start", cold_start),
        ("alert_latency", latency::alert_latency),
        ("function_update", updates::function_update),
        ("sensor_open", |_| sensor_open()),
        ("sensor_npm", sensor_npm),
        ("falcosidekick", |_| sidekick::bench()),
        ("kube_jobs", kube_jobs::kube_jobs),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for (name, bench) in all {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            bench(folder.path())?;
        }
    }
    Ok(())
}

/// The status route through Wasm against the same answer by a plain handler in the same process.
fn function_status(folder: &Path) -> Result<()> {
    let serve = Serve::start(&folder.join("status"), &["--bench-native"])?;
    let archive = folder.join("p.tgz");
    std::fs::write(&archive, archive_of("package.json", br#"{"name":"a","version":"1.0.0"}"#)?)?;
    let (body, url) = (format!("@{}", archive.display()), format!("{}/v1/scans", serve.url));
    let (_, answer) =
        curl_json(&["-X", "POST", "--data-binary", &body, "-H", "content-type: application/gzip", &url])?;
    let id = answer.get("id").and_then(|i| i.as_str()).context("no id")?.to_owned();
    // The scan itself must not take part in the measurement.
    std::thread::sleep(Duration::from_secs(4));
    let (mut native, mut wasm) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        native.push(load(&serve.url, &format!("/bench/native-status/{id}"))?);
        wasm.push(load(&serve.url, &format!("/v1/scans/{id}"))?);
    }
    let (native, wasm) = (median(native), median(wasm));
    println!("bench function_status native_rps={native:.0} wasm_rps={wasm:.0} ratio={:.2}", wasm / native);
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.pid()))?;
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
    let mib = rss.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0;
    println!("bench loaded_rss mib={mib:.0}");
    Ok(())
}

/// Requests a second over keep-alive connections.
fn load(url: &str, path: &str) -> Result<f64> {
    let address = url.trim_start_matches("http://").to_owned();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let done = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut stream = BufReader::new(TcpStream::connect(&address)?);
                    stream.get_ref().set_nodelay(true)?;
                    while begun.elapsed() < LOAD {
                        stream.get_mut().write_all(request.as_bytes())?;
                        answer(&mut stream)?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        clients.into_iter().try_for_each(|c| c.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
    Ok(done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

fn answer(stream: &mut BufReader<TcpStream>) -> Result<()> {
    answer_with(stream, " 200 ")
}

/// Reads one answer with this status, of known length or in chunks.
fn answer_with(stream: &mut BufReader<TcpStream>, status: &str) -> Result<()> {
    let (mut line, mut length, mut chunked, mut first) = (String::new(), 0, false, true);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let lower = line.trim().to_ascii_lowercase();
        ensure!(!first || lower.contains(status), "{lower}");
        first = false;
        if lower.is_empty() {
            break;
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        chunked |= lower == "transfer-encoding: chunked";
    }
    loop {
        if chunked {
            line.clear();
            stream.read_line(&mut line)?;
            length = usize::from_str_radix(line.trim(), 16)? + 2;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if !chunked || length == 2 {
            return Ok(());
        }
    }
}

/// From exec to the first answered request, compiled functions cached; then what an idle host holds.
fn cold_start(folder: &Path) -> Result<()> {
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let serve = Serve::start(&folder.join(format!("cold{round}")), &[])?;
        let (status, _) = curl_json(&[&format!("{}/v1/scans", serve.url)])?;
        ensure!(status == 200, "{status}");
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        if round + 1 == ROUNDS {
            println!("bench idle_rss mib={}", serve.peak_mib()?);
        }
    }
    println!("bench cold_start ms={:.0}", median(times));
    Ok(())
}

/// 200,000 opens and closes, bare and watched, in one process.
fn sensor_open() -> Result<()> {
    let example = root().join("target/debug/examples/open_close");
    let output = run(&mut Command::new(&example))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|l| l.starts_with("bench sensor_open"));
    println!("{}", line.with_context(|| format!("{}: {text}", example.display()))?);
    Ok(())
}

/// `npm install express` in the sandbox with and without the sensor, and the whole scan against a bare `npm ci`.
fn sensor_npm(folder: &Path) -> Result<()> {
    let project = folder.join("express");
    std::fs::create_dir(&project)?;
    std::fs::write(
        project.join("package.json"),
        r#"{"name":"a","version":"1.0.0","dependencies":{"express":"4.18.2"}}"#,
    )?;
    npm(&project, "install")?;
    let (mut bare, mut watched, mut whole, mut plain) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(phase(&project, &["--unwatched"])?);
        let begun = Instant::now();
        watched.push(phase(&project, &[])?);
        whole.push(begun.elapsed().as_secs_f64());
        plain.push(npm(&project, "ci")?);
    }
    let (bare, watched, whole, plain) = (median(bare), median(watched), median(whole), median(plain));
    println!("bench sensor_npm bare_s={bare:.2} watched_s={watched:.2} ratio={:.2}", watched / bare);
    println!("bench scan_total npm_ci_s={plain:.2} scan_s={whole:.2} ratio={:.2}", whole / plain);
    Ok(())
}

fn npm(project: &Path, verb: &str) -> Result<f64> {
    let begun = Instant::now();
    let mut npm = Command::new("npm");
    npm.args([verb, "--ignore-scripts=false", "--no-audit", "--no-fund"]).current_dir(project);
    let output = npm.stdout(Stdio::null()).output()?;
    ensure!(output.status.success(), "npm {verb}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(begun.elapsed().as_secs_f64())
}

/// How long the install phase took inside the sandbox.
fn phase(project: &Path, args: &[&str]) -> Result<f64> {
    let mut scan = Command::new(lanner()?);
    let output = run(scan.args(["scan", "--format", "json"]).args(args).arg(project))?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let at = |key: &str| json.pointer(&format!("/scan/phases/0/{key}")).and_then(serde_json::Value::as_i64);
    let (started, ended) = (at("started_ns").context("no start")?, at("ended_ns").context("no end")?);
    #[expect(clippy::cast_precision_loss, reason = "seconds are no exact number")]
    Ok((ended - started) as f64 / 1e9)
}

/// Of sorted values, the one that so many in a hundred do not exceed.
fn part(sorted: &[f64], percent: usize) -> f64 {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
