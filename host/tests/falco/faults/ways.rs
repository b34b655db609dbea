//! One scan through each door, with the fault of its run in the middle.

use std::path::Path;
use std::time::Duration;

use lanner::tasks::Supervisor;
use lanner_core::Scan;
use tokio::sync::oneshot;

use super::{Fault, Run, setting};
use crate::doors::{append, relay};
use crate::grpc::{Falco, subscribe};
use crate::stage::{Cue, HttpOutput, PATIENCE, Setting, Stage, mark};

/// When a relay or a subscriber has had its turn.
const TURN: Duration = Duration::from_millis(300);

impl Run {
    async fn start(&self, stage: &Stage) -> String {
        match stage.cue().await {
            Cue::Start(nonce) => nonce,
            _ => panic!("{self:?}: no start"),
        }
    }

    async fn running(&self, stage: &Stage) -> oneshot::Sender<()> {
        match stage.cue().await {
            Cue::Running(end) => end,
            _ => panic!("{self:?}: not run"),
        }
    }

    async fn end(&self, stage: &Stage, running: oneshot::Sender<()>) -> String {
        running.send(()).unwrap();
        match stage.cue().await {
            Cue::End(nonce) => nonce,
            _ => panic!("{self:?}: no end"),
        }
    }

    pub(super) async fn over_http(&mut self, stage: &Stage) -> Scan {
        let mut falco = HttpOutput::new(stage.address);
        let id = stage.submit().await;
        let start = self.start(stage).await;
        if self.fault == Fault::Early {
            let (file, event) = self.event(500);
            assert_eq!(falco.post(event.to_string().as_bytes()).await, Some(200));
            self.taken.push(file);
        }
        falco.post(mark(&start, &self.container, 1).to_string().as_bytes()).await;
        let running = self.running(stage).await;
        for n in 0..self.alerts {
            let (file, event) = self.event(n);
            let body = event.to_string();
            if falco.post(body.as_bytes()).await == Some(200) {
                self.taken.push(file);
            }
            if n == self.at {
                self.strike_http(stage, &mut falco, &body, &start).await;
            }
        }
        let end = self.end(stage, running).await;
        if self.fault != Fault::NoEnd {
            falco.post(mark(&end, &self.container, i64::MAX).to_string().as_bytes()).await;
        }
        stage.settled(&id).await
    }

    async fn strike_http(&mut self, stage: &Stage, falco: &mut HttpOutput, last: &str, start: &str) {
        match self.fault {
            Fault::Slow => tokio::time::sleep(Duration::from_millis(50)).await,
            // Falco sends again what its sink did not answer in time; two doors of one Falco double everything.
            Fault::Doubled => {
                falco.post(last.as_bytes()).await;
                HttpOutput::new(stage.address).post(last.as_bytes()).await;
            }
            Fault::Forged => {
                // A package executes what looks like a mark: the one it may have seen before, and its own.
                falco.post(mark(start, &self.container, 2).to_string().as_bytes()).await;
            }
            Fault::Sidekick => {
                let (file, event) = self.event(600);
                let mut sidekick = HttpOutput::new(stage.address);
                let body = event.to_string();
                let path = "/intake/falco?sensor=sidekick";
                assert_eq!(sidekick.post_as("Falcosidekick", path, body.as_bytes()).await, Some(200));
                self.taken.push(file);
            }
            Fault::HungUp => falco.hang_up(),
            Fault::HalfBody => falco.cut(last.as_bytes()).await,
            Fault::Garbage => drop(falco.post(b"{\"rule\":\"R\",\"outp\xff").await),
            Fault::Drops => {
                let drops = serde_json::json!({
                    "rule": "Falco internal: syscall event drop", "source": "internal", "priority": "Debug",
                });
                falco.post(drops.to_string().as_bytes()).await;
            }
            _ => {}
        }
    }

    pub(super) async fn over_relay(&mut self, stage: &Stage, folder: &Path) -> Scan {
        let mut tasks = relay(stage.address, folder);
        let id = stage.submit().await;
        let start = self.start(stage).await;
        append(folder, &mark(&start, &self.container, 1));
        let running = self.running(stage).await;
        for n in 0..self.alerts {
            let (file, event) = self.event(n);
            append(folder, &event);
            self.taken.push(file);
            if n != self.at {
                continue;
            }
            let log = folder.join("events.jsonl");
            match self.fault {
                Fault::SenderRestarted => {
                    tasks.stop().cancel();
                    tasks.finish(Duration::from_secs(10)).await;
                    // Its reader lets the spool go within a pause of its own.
                    tokio::time::sleep(TURN).await;
                    tasks = relay(stage.address, folder);
                }
                Fault::Rotated => std::fs::rename(&log, folder.join("events.jsonl.1")).unwrap(),
                Fault::Truncated => {
                    // Wait until the relay has read so far, so that the cut is one.
                    tokio::time::sleep(TURN).await;
                    std::fs::write(log, "").unwrap();
                    tokio::time::sleep(TURN).await;
                }
                _ => {}
            }
        }
        let end = self.end(stage, running).await;
        append(folder, &mark(&end, &self.container, i64::MAX));
        let scan = stage.settled(&id).await;
        if !self.survivable {
            // It settled without waiting for the rest, which is still on its way.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tasks.stop().cancel();
        scan
    }

    /// The host ends in the middle of the scan and starts anew; the relay is none the wiser.
    pub(super) async fn over_a_restart(&mut self, folder: &Path) -> (Stage, Scan) {
        let (data, node) = (folder.join("data"), folder.join("node"));
        std::fs::create_dir(&node).unwrap();
        let mut stage = Stage::open(&data, setting()).await;
        let port = stage.address.port();
        let tasks = relay(stage.address, &node);
        let id = stage.submit().await;
        let start = self.start(&stage).await;
        append(&node, &mark(&start, &self.container, 1));
        let _running = self.running(&stage).await;
        for n in 0..self.alerts {
            let (file, mut event) = self.event(n);
            // The host that comes back has no mark to learn the container from.
            event["output_fields"]["container.name"] = format!("lanner-{id}").into();
            append(&node, &event);
            self.taken.push(file);
            if n == self.at {
                stage.close().await;
                stage = Stage::open(&data, Setting { port, ..setting() }).await;
            }
        }
        let scan = stage.settled(&id).await;
        self.compare(&stage, &scan).await;
        tasks.stop().cancel();
        (stage, scan)
    }

    pub(super) async fn over_grpc(&mut self, stage: &Stage, folder: &Path) -> Scan {
        let socket = folder.join("falco.sock");
        let falco = Falco::new(&self.container);
        let mut server = falco.serve(&socket, 43);
        let client = subscribe(stage, &format!("node-{}", self.seed), socket.clone());
        let id = stage.submit().await;
        let start = self.start(stage).await;
        if self.fault == Fault::Early {
            self.fire(&falco, 500);
        }
        falco.mark(&start, 1);
        let running = self.running(stage).await;
        for n in 0..self.alerts {
            self.fire(&falco, n);
            if n == self.at {
                server = self.strike_grpc(&falco, server, &socket, &start).await;
            }
        }
        let end = self.end(stage, running).await;
        falco.mark(&end, i64::from(u32::MAX));
        let scan = stage.settled(&id).await;
        // One that lost its witness did not wait for the rest.
        self.drained(&falco).await;
        client.stop().cancel();
        server.stop().cancel();
        scan
    }

    fn fire(&mut self, falco: &Falco, n: u64) {
        let file = format!("/f{n}");
        falco.fire("Read", &[("fd.name", &file), ("proc.name", "node")], i64::try_from(n + 10).unwrap());
        self.taken.push(file);
    }

    async fn drained(&self, falco: &Falco) {
        let empty = async {
            while !falco.queue.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(TURN).await;
        };
        tokio::time::timeout(PATIENCE, empty).await.unwrap_or_else(|_| panic!("{self:?}: nobody asks"));
    }

    async fn strike_grpc(
        &mut self,
        falco: &Falco,
        server: Supervisor,
        socket: &Path,
        start: &str,
    ) -> Supervisor {
        match self.fault {
            // The kernel's events come in a burst after a pause.
            Fault::Slow => tokio::time::sleep(TURN).await,
            Fault::Doubled => {
                let mut queue = falco.queue.lock().unwrap();
                let last = queue.back().cloned();
                queue.extend(last);
            }
            Fault::Forged => falco.mark(start, 2),
            Fault::Bytes => {
                let mut queue = falco.queue.lock().unwrap();
                for response in queue.iter_mut() {
                    response.output.extend(b"\xff\xfe");
                    response.hostname = b"\xc3\x28".to_vec();
                }
            }
            Fault::Drops => {
                falco.fire("Falco internal: syscall event drop", &[], 5);
                let mut queue = falco.queue.lock().unwrap();
                queue.iter_mut().for_each(|r| {
                    if r.rule.starts_with(b"Falco internal") {
                        r.source = b"internal".to_vec();
                    }
                });
            }
            Fault::Cut => {
                self.drained(falco).await;
                server.stop().cancel();
                drop(server);
                return falco.serve(socket, 43);
            }
            Fault::Restarted => {
                self.drained(falco).await;
                falco.fire("Read", &[("fd.name", "/never handed out")], 9);
                falco.queue.lock().unwrap().clear();
                server.stop().cancel();
                drop(server);
                return falco.serve(socket, 43);
            }
            _ => {}
        }
        server
    }
}
