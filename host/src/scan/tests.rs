//! The flow against a store in memory and a runner that plays a script.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use lanner_core::evidence::{Gap, GapKind};
use lanner_core::*;
use tokio_util::sync::CancellationToken;

use super::ports::*;
use super::*;

mod agreement;
mod place;
mod rejudge;
mod resume;

#[derive(Default)]
struct Memory {
    scans: Mutex<BTreeMap<ScanId, Scan>>,
    alerts: Mutex<BTreeMap<(ScanId, u64), JudgedAlert>>,
    keys: Mutex<BTreeMap<(Owner, String), ScanId>>,
    /// Once set, alerts can no longer be stored.
    full: Mutex<bool>,
    /// So many times the disk is full when a scan's state is to be stored.
    full_puts: Mutex<usize>,
    rejudgement: Mutex<Option<Rejudgement>>,
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, T> {
    std::future::ready(value).boxed()
}

impl Store for Memory {
    fn create(&self, scan: Scan, key: Option<String>) -> BoxFuture<'static, Result<Created, StoreError>> {
        if let Some(key) = key {
            let mut keys = self.keys.lock().unwrap();
            if let Some(earlier) = keys.get(&(scan.owner.clone(), key.clone())) {
                return ready(Ok(Created::Earlier(earlier.clone())));
            }
            keys.insert((scan.owner.clone(), key), scan.id.clone());
        }
        self.scans.lock().unwrap().insert(scan.id.clone(), scan);
        ready(Ok(Created::New))
    }

    fn put(&self, scan: Scan) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut full = self.full_puts.lock().unwrap();
        if *full > 0 {
            *full -= 1;
            return ready(Err(StoreError::Full));
        }
        self.scans.lock().unwrap().insert(scan.id.clone(), scan);
        ready(Ok(()))
    }

    fn get(&self, id: ScanId) -> BoxFuture<'static, Result<Option<Scan>, StoreError>> {
        ready(Ok(self.scans.lock().unwrap().get(&id).cloned()))
    }

    fn list(
        &self,
        owner: Option<Owner>,
        before: Option<ScanId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Scan>, StoreError>> {
        let scans = self.scans.lock().unwrap();
        let newest = scans.values().rev();
        let mine = newest.filter(|s| owner.as_ref().is_none_or(|o| *o == s.owner));
        ready(Ok(mine.filter(|s| before.as_ref().is_none_or(|b| s.id < *b)).take(limit).cloned().collect()))
    }

    fn unfinished(&self) -> BoxFuture<'static, Result<Vec<Scan>, StoreError>> {
        ready(Ok(self.scans.lock().unwrap().values().filter(|s| !s.state.is_final()).cloned().collect()))
    }

    fn put_alerts(&self, id: ScanId, alerts: Vec<JudgedAlert>) -> BoxFuture<'static, Result<(), StoreError>> {
        if *self.full.lock().unwrap() {
            return ready(Err(StoreError::Full));
        }
        self.alerts.lock().unwrap().extend(alerts.into_iter().map(|a| ((id.clone(), a.alert.id), a)));
        ready(Ok(()))
    }

    fn alerts(&self, id: ScanId) -> BoxFuture<'static, Result<Vec<JudgedAlert>, StoreError>> {
        let alerts = self.alerts.lock().unwrap();
        ready(Ok(alerts.iter().filter(|((scan, _), _)| *scan == id).map(|(_, a)| a.clone()).collect()))
    }

    fn seen(&self, _: Owner, _: String, _: ScanId, _: usize) -> BoxFuture<'static, Result<Seen, StoreError>> {
        ready(Ok(Seen::new()))
    }

    fn put_rejudgement(&self, it: Rejudgement) -> BoxFuture<'static, Result<(), StoreError>> {
        *self.rejudgement.lock().unwrap() = Some(it);
        ready(Ok(()))
    }

    fn rejudgement(&self) -> BoxFuture<'static, Result<Option<Rejudgement>, StoreError>> {
        ready(Ok(self.rejudgement.lock().unwrap().clone()))
    }

    fn delete(&self, id: ScanId) -> BoxFuture<'static, Result<(), StoreError>> {
        self.scans.lock().unwrap().remove(&id);
        ready(Ok(()))
    }

    fn expired(&self, keep: usize, older_than: Nanos) -> BoxFuture<'static, Result<Vec<ScanId>, StoreError>> {
        let scans = self.scans.lock().unwrap();
        let last = scans.values().rev().filter(|s| s.state.is_final());
        let expired = last.enumerate().filter(|(n, s)| *n >= keep || s.ended.is_some_and(|e| e < older_than));
        ready(Ok(expired.map(|(_, s)| s.id.clone()).collect()))
    }
}

#[derive(Default)]
struct NoBlob {
    swept: Mutex<Vec<SourceRef>>,
}

impl Blob for NoBlob {
    fn put(
        &self,
        _: BoxStream<'static, Result<bytes::Bytes, std::io::Error>>,
    ) -> BoxFuture<'static, Result<StoredSource, BlobError>> {
        ready(Err(BlobError::TooLarge(0)))
    }

    fn path(&self, _: &SourceRef) -> PathBuf {
        PathBuf::new()
    }

    fn delete(&self, _: &SourceRef) -> BoxFuture<'static, Result<(), StoreError>> {
        ready(Ok(()))
    }

    fn sweep(&self, used: Vec<SourceRef>) -> BoxFuture<'static, Result<(), StoreError>> {
        *self.swept.lock().unwrap() = used;
        ready(Ok(()))
    }
}

/// Sends its reports, then (if `hangs`) waits to be cancelled.
#[derive(Clone, Default)]
struct Script {
    reports: Vec<Report>,
    hangs: bool,
    ran: Arc<Mutex<Vec<ScanId>>>,
}

impl Runner for Script {
    fn run(&self, job: Job, reports: ReportSender, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        let script = self.clone();
        async move {
            script.ran.lock().unwrap().push(job.scan.id.clone());
            for report in script.reports {
                reports.send(report).await.unwrap();
            }
            if script.hangs {
                cancel.cancelled().await;
            }
        }
        .boxed()
    }

    fn recover(&self, _: Vec<Left>) -> BoxFuture<'static, ()> {
        ready(())
    }
}

/// Suppresses alerts of the rule `known`; loses every alert of the rule `lost`.
struct Knows;

impl Filter for Knows {
    fn session(&self, _: About) -> Box<dyn Judge> {
        Box::new(Self)
    }
}

impl Judge for Knows {
    fn judge(&mut self, alerts: Vec<Alert>) -> BoxFuture<'_, Judged> {
        let judge = |alert: Alert| {
            let known = alert.rule == "known";
            let action = if known { Action::Suppress } else { Action::Keep };
            let decision = Decision {
                filter: "f".into(),
                revision: 1,
                digest: "sha256:0".into(),
                action,
                reason: "known".into(),
                tags: vec![],
                pin: false,
                overruled: String::new(),
            };
            JudgedAlert { alert, decisions: vec![decision] }
        };
        let alerts = alerts.into_iter().filter(|a| a.rule != "lost").map(judge).collect();
        ready(Judged { alerts, failures: vec![] })
    }

    fn filters(&self) -> Vec<FilterRef> {
        vec![FilterRef { filter: "f".into(), revision: 1, digest: "sha256:0".into() }]
    }

    fn grants(&self) -> BTreeMap<String, Grant> {
        [("f".to_owned(), Grant::default())].into()
    }
}

fn alert(id: u64, rule: &str) -> Report {
    Report::Alert(Box::new(Alert {
        id,
        time: 1,
        last_time: 1,
        count: 1,
        rule: rule.into(),
        priority: Priority::Warning,
        output: String::new(),
        output_fields: BTreeMap::new(),
        tags: vec![],
        source: "syscall".into(),
        hostname: "h".into(),
        sensor: "builtin".into(),
        also_seen_by: vec![],
        ancestry: vec![],
        package: None,
    }))
}

fn whole(between: Vec<Report>, exit_code: i32) -> Vec<Report> {
    let name = || "install".to_owned();
    let sensor = || "builtin".to_owned();
    let mut reports = vec![
        Report::Started { isolation: Isolation::Namespaces },
        Report::StartMark { sensor: sensor() },
        Report::PhaseStarted { name: name(), time: 5 },
    ];
    reports.extend(between);
    reports.push(Report::PhaseEnded(PhaseResult {
        name: name(),
        started: 9,
        ended: Some(9),
        exit_code: Some(exit_code),
        signal: None,
        output_tail: String::new(),
    }));
    reports.push(Report::Quiet { sensor: sensor(), events: 7, processes: 2 });
    reports.push(Report::EndMark { sensor: sensor() });
    reports
}

fn submission(owner: &str, key: Option<&str>) -> Submission {
    let phases = vec![PhaseSpec { name: "install".into(), argv: vec!["npm".into(), "ci".into()] }];
    let spec =
        JobSpec { tools: vec!["npm".into()], phases, ..JobSpec::new("npm", Subject::Project { name: None }) };
    Submission { owner: Owner(owner.into()), spec, source: None, key: key.map(Into::into) }
}

struct Bench {
    scans: Scans,
    store: Arc<Memory>,
    runner: Script,
    blob: Arc<NoBlob>,
}

/// Of a scan of which nobody else knows, for tests of what waits at one.
pub(crate) fn fence() -> witness::Fence {
    witness::Fence::new(bench(Script::default()).scans, ScanId::new(1, [1; 10]))
}

fn bench(runner: Script) -> Bench {
    bench_on(Arc::default(), runner, None)
}

/// On what another life of the host has stored.
fn bench_on(store: Arc<Memory>, runner: Script, witness: Option<witness::WitnessPatience>) -> Bench {
    let blob = Arc::new(NoBlob::default());
    let scans = scans_on(&store, &blob, Arc::new(runner.clone()), Settings { witness, ..settings() });
    Bench { scans, store, runner, blob }
}

fn scans_on(store: &Arc<Memory>, blob: &Arc<NoBlob>, runner: Arc<dyn Runner>, settings: Settings) -> Scans {
    let ports = Ports { store: store.clone(), blob: blob.clone(), runner, filter: Arc::new(Knows) };
    Scans::new(ports, settings)
}

fn settings() -> Settings {
    let max_age = Duration::from_secs(3600);
    let patience = Patience { pause: Duration::from_millis(20), whole: Duration::from_secs(600) };
    Settings { queue: 3, parallel: 2, keep: 2, max_age, patience, witness: None }
}

impl Bench {
    /// Submits one scan and runs the flow until it has ended.
    async fn one(&self) -> Scan {
        let id = self.scans.submit(submission("me", None)).await.unwrap();
        self.settled(&id).await
    }

    async fn settled(&self, id: &ScanId) -> Scan {
        let wait = async {
            loop {
                let scan = self.scans.get(&Reach::All, id).await.unwrap();
                if scan.state.is_final() && self.scans.load().running == 0 {
                    return scan;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = self.scans.clone().run(CancellationToken::new()) => unreachable!("nobody stopped it"),
            scan = wait => scan,
        }
    }
}

#[tokio::test]
async fn a_whole_run_finishes_and_its_alerts_are_judged() {
    let repeated = Report::AlertRepeated { sensor: "builtin".into(), id: 41, count: 12, last_time: 99 };
    let bench = bench(Script {
        reports: whole(vec![alert(41, "bad"), alert(42, "known"), repeated], 0),
        ..Script::default()
    });
    let scan = bench.one().await;
    assert_eq!((scan.state, scan.reason.as_str()), (ScanState::Finished, ""));
    assert_eq!(scan.counts, Counts { kept: 1, suppressed: 1, events: 7 });
    assert_eq!((scan.phases[0].started, scan.phases[0].ended), (5, Some(9)));
    let alerts = bench.scans.alerts(&Reach::All, &scan.id).await.unwrap();
    assert_eq!(
        alerts.iter().map(|a| (a.alert.id, a.alert.count, a.suppressed())).collect::<Vec<_>>(),
        [(1, 12, false), (2, 1, true)]
    );
    let worst = bench.scans.worst(&Reach::All, &scan.id).await.unwrap();
    assert_eq!(scan.verdict(worst, Priority::Notice), Verdict::Alerts);
}

/// The same alert at another time: a late one.
fn late(time: i64, rule: &str) -> Alert {
    let Report::Alert(alert) = alert(0, rule) else { unreachable!("made as an alert") };
    Alert { time, last_time: time, sensor: "falco:node".into(), ..*alert }
}

#[tokio::test]
async fn a_late_alert_is_judged_like_the_others() {
    let bench = bench(Script { reports: whole(vec![], 0), ..Script::default() });
    let id = bench.one().await.id;
    for alert in [late(5, "known"), late(6, "bad"), late(7, "lost"), late(6, "bad")] {
        bench.scans.late(&id, alert).await.unwrap();
    }
    let scan = bench.scans.get(&Reach::All, &id).await.unwrap();
    assert_eq!(
        (scan.state, scan.counts),
        (ScanState::Finished, Counts { kept: 2, suppressed: 1, events: 7 })
    );
    assert_eq!(scan.filters.len(), 1, "{:?}", scan.filters);
    let failures: Vec<_> = scan.filter_failures.iter().map(|f| (f.reason.as_str(), f.alerts)).collect();
    assert_eq!(failures, [("the filters did not answer for every alert", 1)]);
    let alerts = bench.scans.alerts(&Reach::All, &id).await.unwrap();
    let seen: Vec<_> = alerts.iter().map(|a| (a.alert.id, a.suppressed(), a.decisions.len())).collect();
    assert_eq!(seen, [(1, true, 1), (2, false, 1), (3, false, 0)]);
    let worst = bench.scans.worst(&Reach::All, &id).await.unwrap();
    assert_eq!(scan.verdict(worst, Priority::Notice), Verdict::Alerts);
}

#[tokio::test]
async fn late_alerts_do_not_get_a_filter_round_its_share() {
    let bench = bench(Script { reports: whole(vec![alert(1, "known")], 0), ..Script::default() });
    let id = bench.one().await.id;
    for time in 5..8 {
        bench.scans.late(&id, late(time, "known")).await.unwrap();
    }
    let scan = bench.scans.get(&Reach::All, &id).await.unwrap();
    assert_eq!(scan.counts, Counts { kept: 4, suppressed: 0, events: 7 });
    let alerts = bench.scans.alerts(&Reach::All, &id).await.unwrap();
    let why = "this filter suppressed 4 of 4 alerts, more than the 50 % that it may";
    assert!(alerts.iter().all(|a| a.decisions[0].overruled == why), "{alerts:?}");
}

#[tokio::test]
async fn a_late_alert_needs_a_scan_that_has_ended() {
    let bench = bench(Script { hangs: true, ..Script::default() });
    let id = bench.scans.submit(submission("me", None)).await.unwrap();
    let refused = bench.scans.late(&id, late(5, "bad")).await.unwrap_err();
    assert_eq!(refused.to_string(), "the scan is about to end: try again");
    let refused = bench.scans.late(&ScanId::new(1, [1; 10]), late(5, "bad")).await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no such scan");
}

#[tokio::test]
async fn alerts_count_when_the_installation_fails() {
    let bench = bench(Script { reports: whole(vec![alert(1, "bad")], 1), ..Script::default() });
    let scan = bench.one().await;
    assert_eq!((scan.state, scan.counts.kept), (ScanState::Failed, 1));
    assert_eq!(scan.reason, "the phase install failed with exit code 1");
}

#[tokio::test]
async fn a_run_without_its_end_mark_is_incomplete_by_name() {
    let mut reports = whole(vec![], 0);
    reports.pop();
    let scan = bench(Script { reports, ..Script::default() }).one().await;
    assert_eq!(scan.state, ScanState::Incomplete);
    assert_eq!(scan.reason, "a sensor did not report the end mark: builtin");
}

#[tokio::test]
async fn a_runner_that_says_nothing_is_no_clean_scan() {
    let scan = bench(Script::default()).one().await;
    assert_eq!((scan.state, scan.evidence.gaps[0].kind), (ScanState::Incomplete, GapKind::NoSensor));
}

#[tokio::test]
async fn alerts_that_a_filter_loses_or_a_store_refuses_are_not_lost_quietly() {
    let bench =
        bench(Script { reports: whole(vec![alert(1, "lost"), alert(2, "bad")], 0), ..Script::default() });
    let scan = bench.one().await;
    assert_eq!((scan.counts.kept, scan.filter_failures[0].alerts), (2, 2));

    *bench.store.full.lock().unwrap() = true;
    let scan = bench.one().await;
    assert_eq!(scan.state, ScanState::Incomplete);
    assert_eq!(scan.reason, "what was seen could not be stored: alerts");
}

#[tokio::test]
async fn a_full_disk_delays_an_answer_and_does_not_lose_it() {
    let bench = bench(Script { reports: whole(vec![], 0), ..Script::default() });
    *bench.store.full_puts.lock().unwrap() = 2;
    assert_eq!(bench.one().await.state, ScanState::Finished);
    assert_eq!(*bench.store.full_puts.lock().unwrap(), 0);
}

#[tokio::test]
async fn the_queue_is_bounded_and_a_key_is_honoured_per_owner() {
    let bench = bench(Script::default());
    let first = bench.scans.submit(submission("me", Some("k"))).await.unwrap();
    assert_eq!(bench.scans.submit(submission("me", Some("k"))).await.unwrap(), first);
    assert_ne!(bench.scans.submit(submission("you", Some("k"))).await.unwrap(), first);
    bench.scans.submit(submission("me", None)).await.unwrap();
    let full = bench.scans.submit(submission("me", None)).await;
    assert!(matches!(full, Err(SubmitError::QueueFull(3))), "{full:?}");
    assert_eq!(bench.scans.load().queued, 3);
}

#[tokio::test]
async fn somebody_elses_scan_is_unknown() {
    let bench = bench(Script::default());
    let id = bench.scans.submit(submission("me", None)).await.unwrap();
    let you = Reach::Own(Owner("you".into()));
    assert!(matches!(bench.scans.get(&you, &id).await, Err(QueryError::Unknown)));
    assert!(matches!(bench.scans.delete(&you, &id).await, Err(QueryError::Unknown)));
    assert!(bench.scans.list(&you, None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_queued_scan_is_cancelled_at_once_and_a_running_one_by_its_runner() {
    let bench = bench(Script { hangs: true, ..Script::default() });
    let queued = bench.scans.submit(submission("me", None)).await.unwrap();
    bench.scans.delete(&Reach::All, &queued).await.unwrap();
    assert_eq!(bench.scans.get(&Reach::All, &queued).await.unwrap().state, ScanState::Cancelled);
    assert_eq!(bench.scans.load().queued, 0);

    let running = bench.scans.submit(submission("me", None)).await.unwrap();
    let cancel = async {
        while bench.runner.ran.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        bench.scans.delete(&Reach::All, &running).await.unwrap();
    };
    let scan = tokio::join!(bench.settled(&running), cancel).0;
    assert_eq!((scan.state, scan.reason.as_str()), (ScanState::Cancelled, "cancelled while it ran"));
}

#[tokio::test]
async fn after_a_restart_queued_scans_run_and_running_ones_are_incomplete() {
    let before = bench(Script::default());
    let queued = before.scans.submit(submission("me", None)).await.unwrap();
    let running = before.scans.submit(submission("me", None)).await.unwrap();
    let mut scan = before.scans.get(&Reach::All, &running).await.unwrap();
    scan.state = ScanState::Running;
    before.store.put(scan).await.unwrap();

    let runner = Script { reports: whole(vec![], 0), ..Script::default() };
    let after = bench_on(before.store.clone(), runner, None);
    after.scans.recover().await.unwrap();
    let scan = after.scans.get(&Reach::All, &running).await.unwrap();
    assert_eq!((scan.state, scan.evidence.gaps[0].kind), (ScanState::Incomplete, GapKind::HostRestarted));
    assert_eq!(after.settled(&queued).await.state, ScanState::Finished);
}

#[tokio::test]
async fn when_the_host_stops_running_scans_end_incomplete_and_queued_ones_stay() {
    let bench = bench(Script { hangs: true, reports: whole(vec![], 0), ..Script::default() });
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.scans.submit(submission("me", None)).await.unwrap());
    }
    let stop = CancellationToken::new();
    let stopper = async {
        while bench.runner.ran.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    tokio::join!(bench.scans.clone().run(stop.clone()), stopper);
    let states: Vec<_> = bench.store.scans.lock().unwrap().values().map(|s| s.state).collect();
    assert_eq!(states.iter().filter(|s| **s == ScanState::Incomplete).count(), 2, "{states:?}");
    assert_eq!(states.iter().filter(|s| **s == ScanState::Queued).count(), 1, "{states:?}");
    let late = bench.scans.submit(submission("me", None)).await;
    assert!(matches!(late, Err(SubmitError::Stopping)), "{late:?}");
}

#[tokio::test]
async fn listeners_hear_of_every_step_and_of_the_end() {
    use futures::StreamExt;
    let bench = bench(Script { reports: whole(vec![alert(1, "bad")], 0), ..Script::default() });
    let id = bench.scans.submit(submission("me", None)).await.unwrap();
    let (_, events) = bench.scans.listen(&Reach::All, &id).await.unwrap();
    bench.settled(&id).await;
    let kinds: Vec<_> = events
        .map(|e| match e {
            ScanEvent::State { state, .. } => state.as_str().to_owned(),
            ScanEvent::Phase { name, ended, .. } => format!("{name} {}", ended.is_some()),
            ScanEvent::Alert { alert, .. } => alert.alert.rule,
        })
        .collect()
        .await;
    assert_eq!(kinds, ["running", "install false", "bad", "install true", "finished"]);
}

#[tokio::test]
async fn old_scans_are_recycled_and_sources_in_use_are_named() {
    let bench = bench(Script { reports: whole(vec![], 0), ..Script::default() });
    for _ in 0..4 {
        bench.one().await;
    }
    let mut last = bench.scans.list(&Reach::All, None, 1).await.unwrap().remove(0);
    last.source = Some(SourceRef { digest: "sha256:1".into(), bytes: 1, key: "k".into() });
    bench.store.put(last.clone()).await.unwrap();
    bench.scans.recycle().await.unwrap();
    assert_eq!(bench.scans.list(&Reach::All, None, 10).await.unwrap().len(), 2);
    assert_eq!(*bench.blob.swept.lock().unwrap(), [last.source.unwrap()]);
}

#[tokio::test]
async fn a_gap_in_the_middle_makes_a_whole_run_incomplete() {
    let gap = Report::Gap(Gap { kind: GapKind::Limit, detail: "memory".into() });
    let scan = bench(Script { reports: whole(vec![gap], 0), ..Script::default() }).one().await;
    assert_eq!((scan.state, scan.reason.as_str()), (ScanState::Incomplete, "a limit was hit: memory"));
}
