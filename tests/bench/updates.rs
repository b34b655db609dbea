//! What updating a function costs those who are served meanwhile: 1,000 requests a second for 60 s, with 20 updates of the
//! function that answers them. Each is pushed to a real registry (TLS, a password), signed, and goes through every check, a
//! canary among them. Then a start with the registry gone beside one with the registry there.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lanner_tests::registry::{Registry, Secured, signing_key};
use lanner_tests::serve::{Serve, curl_json};
use lanner_tests::{lanner, root, run};
use serde_json::Value;

use super::{ROUNDS, answer_with, median, part};

const A_SECOND: u32 = 1000;
const CLIENTS: u32 = 8;
const UPDATES: u32 = 20;
const STILL: Duration = Duration::from_secs(15);
const TIME: Duration = Duration::from_secs(60);
const SIGNED: &str = "[verify]\nkeys = [\"KEY\"]\nrequired-for = [\"*\"]\n";

struct Stage {
    folder: PathBuf,
    /// Of the function.
    at: String,
    key: PathBuf,
    config: PathBuf,
    component: Vec<u8>,
}

pub(crate) fn function_update(folder: &Path) -> Result<()> {
    let Some((registry, secured)) = Registry::start_secured(folder)? else {
        println!("bench function_update skipped: docker-registry is not on this machine");
        return Ok(());
    };
    let (key, public) = signing_key(folder).context("openssl makes the keys")?;
    let stage = Stage::new(folder, &registry.host, &secured, key, &public)?;
    stage.push(0)?;
    let serve = stage.serve()?;
    let failed = AtomicU64::new(0);
    let still = load(&serve.url, STILL, &failed, &AtomicBool::new(false))?;
    let over = AtomicBool::new(false);
    let (during, active) = std::thread::scope(|scope| -> Result<_> {
        let under = scope.spawn(|| load(&serve.url, TIME, &failed, &over));
        let active = update(&stage, &serve);
        // If an update failed, nobody has to wait for the rest.
        over.store(active.is_err(), Ordering::Relaxed);
        let during = under.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
        Ok((during, active?))
    })?;
    let failed = failed.load(Ordering::Relaxed);
    ensure!(failed == 0, "{failed} requests failed");
    let p99 = |times: &[f64]| part(times, 99);
    println!(
        "bench function_update updates={UPDATES} requests={} failed={failed} p99_ms={:.1} p99_ratio={:.2} \
         detect_to_active_ms={:.0} of_which_canary_ms=1000",
        during.len(),
        p99(&during),
        p99(&during) / p99(&still),
        median(active),
    );
    let serving = shown(&serve)?;
    ensure!(serve.stop()? == Some(0), "it did not stop in order");
    stage.starts(registry, &serving)
}

impl Stage {
    fn new(folder: &Path, host: &str, secured: &Secured, key: PathBuf, public: &Path) -> Result<Self> {
        let config = folder.join("updates.toml");
        let (ca_file, docker_config) = (&secured.ca_file, &secured.docker_config);
        let text = format!(
            "[functions]\npoll = 0\ncanary_percent = 10\ncanary_seconds = 1\ncanary_requests = 30\n\
             [registry]\nca_files = [{ca_file:?}]\ndocker_config = {docker_config:?}\n\
             [functions.source]\nstatus = {{ registry = {host:?}, package = \"team:status\", version = \"1\" }}\n{}",
            SIGNED.replace("KEY", &public.display().to_string())
        );
        std::fs::write(&config, text)?;
        let at = format!("{host}/team/status:1");
        let component = std::fs::read(root().join("target/guests/status.wasm"))?;
        Ok(Self { folder: folder.to_owned(), at, key, config, component })
    }

    fn serve(&self) -> Result<Serve> {
        Serve::start(&self.folder.join("updates"), &["--config", &self.config.display().to_string()])
    }

    /// The same code under another digest, signed.
    fn push(&self, number: u8) -> Result<()> {
        let file = self.folder.join("status.wasm");
        std::fs::write(&file, [&self.component, [0, 3, 1, b'n', number].as_slice()].concat())?;
        let function = |verb: &str, args: &[&str]| -> Result<()> {
            let mut command = Command::new(lanner()?);
            let output = run(command.args(["function", verb]).args(args).arg("--config").arg(&self.config))?;
            ensure!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        };
        function("push", &[&self.at, &file.display().to_string()])?;
        function("sign", &["--key", &self.key.display().to_string(), &self.at])
    }

    /// Milliseconds from exec to the first answer, in turns with the registry there and gone.
    fn starts(&self, registry: Registry, serving: &Value) -> Result<()> {
        let port = registry.host.rsplit(':').next().context("a port")?.parse()?;
        drop(registry);
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            gone.push(self.start(serving)?);
            let _registry = Registry::again(&self.folder, port)?;
            there.push(self.start(serving)?);
        }
        let (there, gone) = (median(there), median(gone));
        println!(
            "bench cold_start_registry_gone there_ms={there:.0} gone_ms={gone:.0} ratio={:.2}",
            gone / there
        );
        Ok(())
    }

    fn start(&self, serving: &Value) -> Result<f64> {
        let begun = Instant::now();
        let serve = self.serve()?;
        let is_so = shown(&serve)?;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        ensure!(is_so == *serving, "another one serves: {is_so}");
        ensure!(serve.stop()? == Some(0), "it did not stop in order");
        Ok(took)
    }
}

/// Milliseconds from each notification to the revision that serves.
fn update(stage: &Stage, serve: &Serve) -> Result<Vec<f64>> {
    let begun = Instant::now();
    let mut active = Vec::new();
    for number in 1..=UPDATES {
        std::thread::sleep((TIME * (number - 1) / UPDATES).saturating_sub(begun.elapsed()));
        stage.push(u8::try_from(number)?)?;
        let before = shown(serve)?;
        let detected = Instant::now();
        let (status, _) = curl_json(&["-X", "POST", &format!("{}/v1/functions/refresh", serve.url)])?;
        ensure!(status == 202, "{status}");
        while shown(serve)? == before {
            if detected.elapsed() > Duration::from_secs(20) {
                let (_, view) = curl_json(&[&format!("{}/v1/functions/status", serve.url)])?;
                bail!("update {number} did not come: {view}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        active.push(detected.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(active)
}

/// The digest that serves.
fn shown(serve: &Serve) -> Result<Value> {
    let (_, view) = curl_json(&[&format!("{}/v1/functions/status", serve.url)])?;
    Ok(view.pointer("/active/digest").context("no revision is active")?.clone())
}

/// At the promised pace, for the time or until it is over; milliseconds of each, sorted.
fn load(url: &str, time: Duration, failed: &AtomicU64, over: &AtomicBool) -> Result<Vec<f64>> {
    let address = url.trim_start_matches("http://");
    let begun = Instant::now();
    let client = || -> Result<Vec<f64>> {
        let mut stream = BufReader::new(TcpStream::connect(address)?);
        stream.get_ref().set_nodelay(true)?;
        let request = format!("GET /v1/scans/none HTTP/1.1\r\nhost: {address}\r\n\r\n");
        let mut times = Vec::new();
        while begun.elapsed() < time && !over.load(Ordering::Relaxed) {
            let due = Duration::from_secs(1) / A_SECOND * CLIENTS * u32::try_from(times.len())?;
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            let asked = Instant::now();
            stream.get_mut().write_all(request.as_bytes())?;
            // There is no such scan, which the function has to look up to say.
            failed.fetch_add(u64::from(answer_with(&mut stream, " 404 ").is_err()), Ordering::Relaxed);
            times.push(asked.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(times)
    };
    let times: Result<Vec<Vec<f64>>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let panicked = |_| anyhow::anyhow!("a client panicked");
        clients.into_iter().map(|c| c.join().map_err(panicked)?).collect()
    });
    let mut times = times?.concat();
    times.sort_by(f64::total_cmp);
    Ok(times)
}
