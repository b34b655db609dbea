//! Faults by seed: each run says what state it must come to. Where the fault can be survived, the scan ends `finished`
//! with exactly its alerts; where it cannot, it ends `incomplete`, and what had arrived is there all the same.
//!
//! `LANNER_FAULT_SEEDS=FROM..TO` runs others than the few that every test run has.

use std::path::Path;
use std::time::Duration;

use lanner::intake::Bounds;
use lanner_core::evidence::GapKind;
use lanner_core::{Scan, ScanState};

use crate::stage::{Setting, Stage, event};

mod ways;

/// Scans at the same time, each on a stage of its own.
const LANES: u64 = 4;
/// A dozen of each fault.
const SEEDS: std::ops::Range<u64> = 0..312;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Http,
    Relay,
    Grpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Slow,
    Doubled,
    Early,
    Forged,
    Sidekick,
    HungUp,
    HalfBody,
    Garbage,
    Drops,
    NoEnd,
    /// There is no place for any alert.
    Overload,
    /// The spool is given up and begun anew where it was acknowledged.
    SenderRestarted,
    HostRestarted,
    Rotated,
    Truncated,
    /// Texts that are not UTF-8.
    Bytes,
    /// The connection ends, and Falco stays.
    Cut,
    /// Falco ends, and what it had not handed out is gone.
    Restarted,
}

/// Each door with each fault that it can have, and whether the scan can be finished all the same.
#[rustfmt::skip]
const FAULTS: [(Door, Fault, bool); 26] = [
    (Door::Http, Fault::None, true),
    (Door::Http, Fault::Slow, true),
    (Door::Http, Fault::Doubled, true),
    (Door::Http, Fault::Early, true),
    (Door::Http, Fault::Forged, true),
    (Door::Http, Fault::Sidekick, true),
    (Door::Http, Fault::HungUp, false),
    (Door::Http, Fault::HalfBody, false),
    (Door::Http, Fault::Garbage, false),
    (Door::Http, Fault::Drops, false),
    (Door::Http, Fault::NoEnd, false),
    (Door::Http, Fault::Overload, false),
    (Door::Relay, Fault::None, true),
    (Door::Relay, Fault::SenderRestarted, true),
    (Door::Relay, Fault::Rotated, true),
    (Door::Relay, Fault::Truncated, false),
    (Door::Relay, Fault::HostRestarted, false),
    (Door::Grpc, Fault::None, true),
    (Door::Grpc, Fault::Slow, true),
    (Door::Grpc, Fault::Early, true),
    (Door::Grpc, Fault::Doubled, true),
    (Door::Grpc, Fault::Forged, true),
    (Door::Grpc, Fault::Bytes, true),
    (Door::Grpc, Fault::Cut, false),
    (Door::Grpc, Fault::Restarted, false),
    (Door::Grpc, Fault::Drops, false),
];

impl Fault {
    /// What needs a host of its own, because it shuts others out or ends them.
    fn is_the_hosts(self) -> bool {
        matches!(self, Self::Overload | Self::HostRestarted)
    }
}

/// Small numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// One scan and what must come of it.
#[derive(Debug)]
struct Run {
    seed: u64,
    door: Door,
    fault: Fault,
    survivable: bool,
    container: String,
    /// Files of the alerts that Falco's side was told were taken.
    taken: Vec<String>,
    alerts: u64,
    /// After which alert it happens.
    at: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let (door, fault, survivable) = FAULTS[usize::try_from(seed).unwrap() % FAULTS.len()];
        let alerts = 1 + dice.below(20);
        let at = dice.below(alerts);
        let container = format!("{:012x}", seed + 1);
        Self { seed, door, fault, survivable, container, taken: vec![], alerts, at }
    }

    fn event(&self, n: u64) -> (String, serde_json::Value) {
        let file = format!("/f{n}");
        let time = i64::try_from(self.seed * 1000 + n + 10).unwrap();
        (file.clone(), event("Read", &self.container, &file, time))
    }

    async fn check(mut self, stage: &Stage, folder: &Path) {
        let scan = match self.door {
            Door::Http => self.over_http(stage).await,
            Door::Relay => self.over_relay(stage, folder).await,
            Door::Grpc => self.over_grpc(stage, folder).await,
        };
        self.compare(stage, &scan).await;
    }

    /// With a host of its own.
    async fn check_alone(mut self, folder: &Path) {
        if self.fault == Fault::HostRestarted {
            let (stage, scan) = self.over_a_restart(folder).await;
            self.compare(&stage, &scan).await;
            return stage.close().await;
        }
        let bounds = Bounds { alerts: 0, ..Bounds::default() };
        let stage = Stage::open(&folder.join("data"), Setting { bounds, ..setting() }).await;
        let scan = self.over_http(&stage).await;
        assert_eq!(scan.evidence.gaps[0].kind, GapKind::Limit, "{self:?}");
        // Lost, and counted.
        assert_eq!(stage.overflowed(), self.taken.len() as u64, "{self:?}");
        self.taken.clear();
        self.compare(&stage, &scan).await;
        stage.close().await;
    }

    async fn compare(&self, stage: &Stage, scan: &Scan) {
        let expected = if self.survivable { ScanState::Finished } else { ScanState::Incomplete };
        assert_eq!(scan.state, expected, "{self:?}: {}", scan.reason);
        let mut taken = self.taken.clone();
        taken.sort();
        // A scan that lost its witness does not wait for the rest; what comes later is added to it.
        let mut alerts = stage.alerts(&scan.id).await;
        for _ in 0..400 {
            if self.survivable || alerts.iter().filter(|a| a.0 == "Read").count() >= taken.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
            alerts = stage.alerts(&scan.id).await;
        }
        let got: Vec<String> = alerts.iter().filter(|a| a.0 == "Read").map(|a| a.1.clone()).collect();
        assert_eq!(got, taken, "{self:?}: lost or doubled");
        assert!(alerts.iter().all(|a| a.2 == 1), "{self:?}: {alerts:?}");
    }
}

fn setting() -> Setting {
    Setting { end: Duration::from_millis(1500), ..Setting::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_makes_a_scan_falsely_clean_lose_an_alert_or_hang() {
    let seeds = seeds();
    let lanes = (0..LANES).map(|lane| {
        let seeds = seeds.clone();
        async move {
            let folder = tempfile::tempdir().unwrap();
            let stage = Stage::open(&folder.path().join("data"), setting()).await;
            for seed in seeds.filter(|s| s % LANES == lane) {
                let run = Run::new(seed);
                let own = folder.path().join(seed.to_string());
                std::fs::create_dir(&own).unwrap();
                if run.fault.is_the_hosts() {
                    run.check_alone(&own).await;
                } else {
                    run.check(&stage, &own).await;
                }
            }
            stage.close().await;
        }
    });
    futures::future::join_all(lanes).await;
    println!("{} seeded runs: 0 falsely clean, 0 lost, 0 hung", seeds.count());
}

fn seeds() -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "the one switch of this test")]
    let given = std::env::var("LANNER_FAULT_SEEDS").ok();
    let range = given.and_then(|g| {
        let (from, to) = g.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    range.unwrap_or(SEEDS)
}
