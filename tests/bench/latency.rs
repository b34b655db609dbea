//! From an alert's arrival at the intake to its event in the scan's stream: 1,000 a second into one running scan, posted as
//! Falco posts them, read as a browser reads server-sent events.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lanner_tests::archive_of;
use lanner_tests::serve::{Serve, curl_json};

use super::{answer, part};

const A_SECOND: u32 = 1000;
const ALERTS: usize = 5000;
const PROJECT: &[u8] = br#"{"name":"a","version":"1.0.0","scripts":{"preinstall":"sleep 20"}}"#;

pub(crate) fn alert_latency(folder: &Path) -> Result<()> {
    // Free a moment ago; nobody else is asking for ports here.
    let intake = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = folder.join("latency.toml");
    std::fs::write(&config, format!("[intake]\nlisten = \"{intake}\"\n"))?;
    let serve = Serve::start(&folder.join("latency"), &["--config", &config.display().to_string()])?;
    let archive = folder.join("sleeps.tgz");
    std::fs::write(&archive, archive_of("package.json", PROJECT)?)?;
    let (body, url) = (format!("@{}", archive.display()), format!("{}/v1/scans", serve.url));
    let (_, answer) =
        curl_json(&["-X", "POST", "--data-binary", &body, "-H", "content-type: application/gzip", &url])?;
    let id = answer.get("id").and_then(|i| i.as_str()).context("no id")?.to_owned();
    let mut events = listen(&serve.url, &id)?;
    until(&mut events, "event: phase")?;
    let sent = Mutex::new(vec![None; ALERTS]);
    let latencies = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&intake.to_string(), &id, &sent));
        let latencies = receive(&mut events, &sent);
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        latencies
    })?;
    println!(
        "bench alert_latency alerts={ALERTS} a_second={A_SECOND} p50_ms={:.1} p99_ms={:.1} max_ms={:.1}",
        part(&latencies, 50),
        part(&latencies, 99),
        part(&latencies, 100)
    );
    Ok(())
}

fn listen(url: &str, id: &str) -> Result<BufReader<TcpStream>> {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET /v1/scans/{id}/events HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    Ok(BufReader::new(stream))
}

fn until(events: &mut BufReader<TcpStream>, start: &str) -> Result<()> {
    let mut line = String::new();
    while !line.starts_with(start) {
        line.clear();
        ensure!(events.read_line(&mut line)? > 0, "the events ended");
    }
    Ok(())
}

fn send(intake: &str, id: &str, sent: &Mutex<Vec<Option<Instant>>>) -> Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(intake)?);
    stream.get_ref().set_nodelay(true)?;
    let begun = Instant::now();
    for n in 0..ALERTS {
        let due = Duration::from_secs(1) / A_SECOND * u32::try_from(n)?;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let alert = serde_json::json!({
            "rule": "Latency", "priority": "Notice", "source": "syscall", "output": format!("node read {n}"), "tags": [],
            "hostname": "node-1", "time": "2026-11-24T07:55:35.060658807Z",
            "output_fields": {
                "evt.time": n + 1, "container.id": "842477b01e66", "container.name": format!("lanner-{id}"),
                "fd.name": format!("/latency/{n}"), "proc.name": "node",
            },
        });
        let body = alert.to_string();
        let head = format!(
            "POST /intake/falco HTTP/1.1\r\nhost: h\r\nuser-agent: falcosecurity/falco\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if let Some(time) = sent.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.get_mut(n) {
            *time = Some(Instant::now());
        }
        stream.get_mut().write_all((head + &body).as_bytes())?;
        answer(&mut stream)?;
    }
    Ok(())
}

/// Milliseconds of each alert, sorted.
fn receive(events: &mut BufReader<TcpStream>, sent: &Mutex<Vec<Option<Instant>>>) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    let mut line = String::new();
    while latencies.len() < ALERTS {
        line.clear();
        ensure!(events.read_line(&mut line)? > 0, "the events ended after {}", latencies.len());
        let arrived = Instant::now();
        let Some((_, rest)) = line.split_once("/latency/") else { continue };
        let n: usize = rest.split('"').next().unwrap_or_default().parse()?;
        let sent = sent.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.get(n).copied().flatten();
        latencies.push((arrived - sent.context("it was not sent")?).as_secs_f64() * 1000.0);
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}
