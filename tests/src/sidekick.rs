//! Falcosidekick between Falco and whoever takes its webhook.
//!
//! The program itself is used where the machine has it: `LANNER_FALCOSIDEKICK` names it, or it is on the search path. It is
//! a program of others with hundreds of modules behind it, and is neither built nor kept here. Where it is not, a test can
//! have a stand-in for the one thing of it that our intake meets, what its webhook output does to an alert; that stand-in
//! proves nothing about the program, and nothing is measured with it.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::wire::{self, Listener, Sink};

const PROGRAM: &str = "LANNER_FALCOSIDEKICK";
const START: Duration = Duration::from_secs(30);
const ALERTS: u64 = 20_000;
const CLIENTS: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(120);

/// The program, or why there is none.
pub fn find() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(PROGRAM).map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("{} of {PROGRAM} is no file", path.display()))
        };
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&folders).map(|folder| folder.join("falcosidekick")).find(|p| p.is_file());
    found.ok_or_else(|| {
        format!("falcosidekick is not on this machine: put it on the search path, or set {PROGRAM}")
    })
}

/// Something that takes Falco's alerts and posts them on.
pub enum Sidekick {
    Program(Child, SocketAddr),
    StandIn(Listener),
}

impl Sidekick {
    /// The program, with its webhook output to `address` and `path`.
    pub fn start(program: &PathBuf, to: SocketAddr, path: &str) -> Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new(program)
            .env_clear()
            .env("LISTENADDRESS", free.ip().to_string())
            .env("LISTENPORT", free.port().to_string())
            .env("WEBHOOK_ADDRESS", format!("http://{to}{path}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| program.display().to_string())?;
        // Owned from here on, so that it is stopped whatever happens.
        let mut this = Self::Program(child, free);
        let begun = Instant::now();
        while wire::connect(free).is_err() {
            ensure!(begun.elapsed() < START, "{} does not listen on {free}", program.display());
            if let Self::Program(child, _) = &mut this {
                let ended = child.try_wait()?;
                ensure!(ended.is_none(), "{} ended at once: {ended:?}", program.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(this)
    }

    /// Does to an alert what the webhook output does: adds a `uuid`, sorts the tags, leaves out what has no fields, and
    /// posts each on its own.
    pub fn stand_in(to: SocketAddr, path: &str) -> Result<Self> {
        let path = path.to_owned();
        let listener = Listener::start(move |mut stream| {
            while let Ok(Some(body)) = wire::posted(&mut stream) {
                if wire::ok(&mut stream).is_err() {
                    break;
                }
                if let Some(alert) = enriched(&body) {
                    let sent = wire::connect(to)
                        .and_then(|mut out| wire::post(&mut out, &path, "Falcosidekick", &alert));
                    if let Err(error) = sent {
                        eprintln!("the stand-in could not post an alert: {error:#}");
                    }
                }
            }
        })?;
        Ok(Self::StandIn(listener))
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Program(_, address) => *address,
            Self::StandIn(listener) => listener.address,
        }
    }
}

impl Drop for Sidekick {
    fn drop(&mut self) {
        if let Self::Program(child, _) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn enriched(body: &[u8]) -> Option<Vec<u8>> {
    let mut alert: Value = serde_json::from_slice(body).ok()?;
    if alert.get("output_fields")?.as_object()?.is_empty() {
        return None;
    }
    if let Some(tags) = alert.get_mut("tags").and_then(Value::as_array_mut) {
        tags.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    alert.as_object_mut()?.insert("uuid".into(), "5d2c1b9e-3f47-4d7a-9a37-0c6d1f0e7b21".into());
    Some(alert.to_string().into_bytes())
}

/// How many alerts a second Falcosidekick passes on to a webhook that does nothing.
pub fn bench() -> Result<()> {
    let program = match find() {
        Ok(program) => program,
        Err(why) => {
            println!("bench falcosidekick_http skipped: {why}");
            return Ok(());
        }
    };
    let sink = Sink::start()?;
    let sidekick = Sidekick::start(&program, sink.listener.address, "/")?;
    println!("bench falcosidekick_http alerts_s={:.0}", measure(&sidekick, &sink, ALERTS)?);
    Ok(())
}

/// Alerts a second, from the first that is posted to the last that the sink has.
fn measure(sidekick: &Sidekick, sink: &Sink, alerts: u64) -> Result<f64> {
    let (address, alert) = (sidekick.address(), alert()?);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let client = || -> Result<()> {
            let mut stream = wire::connect(address)?;
            for _ in 0..alerts / CLIENTS {
                let status = wire::post(&mut stream, "/", "falcosecurity/falco", alert.as_bytes())?;
                ensure!(status == 200, "{status}");
            }
            Ok(())
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|c| c.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })?;
    let sent = alerts / CLIENTS * CLIENTS;
    while sink.received.load(Ordering::Acquire) < sent {
        let received = sink.received.load(Ordering::Acquire);
        ensure!(begun.elapsed() < PATIENCE, "{received} of {sent} alerts came through");
        std::thread::sleep(Duration::from_millis(1));
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
    Ok(sent as f64 / begun.elapsed().as_secs_f64())
}

/// One that Falco really raised.
fn alert() -> Result<String> {
    recorded("stock")?.into_iter().next().context("a recording has alerts")
}

/// The bodies that Falco posted, by the recording's name.
pub fn recorded(name: &str) -> Result<Vec<String>> {
    let path = crate::root().join(format!("host/core/testdata/falco/{name}.http.jsonl"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let body = |line: &str| -> Result<String> {
        let post: Value = serde_json::from_str(line)?;
        Ok(post.get("body").and_then(Value::as_str).context("a post has a body")?.to_owned())
    };
    text.lines().map(body).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_alert_without_fields_is_left_out_and_the_others_are_enriched() {
        assert_eq!(enriched(br#"{"rule":"r","output_fields":{}}"#), None);
        assert_eq!(enriched(b"07:51:48 no JSON"), None);
        let alert = enriched(br#"{"rule":"r","output_fields":{"a":1},"tags":["b","a"]}"#).unwrap();
        let alert: Value = serde_json::from_slice(&alert).unwrap();
        assert_eq!((&alert["tags"][0], &alert["output_fields"]["a"]), (&"a".into(), &1.into()));
        assert!(alert["uuid"].is_string());
    }

    #[test]
    fn what_is_measured_is_what_the_sink_has() {
        let sink = Sink::start().unwrap();
        let sidekick = Sidekick::stand_in(sink.listener.address, "/").unwrap();
        assert!(measure(&sidekick, &sink, 160).unwrap() > 0.0);
        assert_eq!(sink.received.load(Ordering::Acquire), 160);
    }

    #[test]
    fn a_program_that_ends_at_once_is_an_error_and_not_a_wait() {
        let begun = Instant::now();
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let error = Sidekick::start(&"/bin/true".into(), nowhere, "/").err().unwrap();
        assert!(format!("{error:#}").contains("/bin/true"), "{error:#}");
        assert!(begun.elapsed() < START);
    }
}
