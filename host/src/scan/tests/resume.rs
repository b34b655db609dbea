//! A scan whose runner left a passage goes on in the next life of the host, and counts nothing twice.

use serde_json::json;

use super::*;

/// The first life of a scan: these reports, and then the host is gone.
async fn left(reports: Vec<Report>) -> (Bench, ScanId) {
    let bench = bench(Script { reports, hangs: true, ..Script::default() });
    let id = bench.scans.submit(submission("me", None)).await.unwrap();
    let stop = CancellationToken::new();
    let stopper = async {
        while bench.scans.get(&Reach::All, &id).await.unwrap().phases.is_empty() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    tokio::join!(bench.scans.clone().run(stop.clone()), stopper);
    (bench, id)
}

/// The next life, on what the one before has stored.
fn next(before: &Bench, reports: Vec<Report>, witness: Option<witness::WitnessPatience>) -> Bench {
    bench_on(before.store.clone(), Script { reports, ..Script::default() }, witness)
}

fn begun() -> Vec<Report> {
    vec![
        Report::Passage(json!({ "pod": 1 })),
        Report::Started { isolation: Isolation::Container },
        Report::StartMark { sensor: "builtin".into() },
        alert(1, "bad"),
        alert(2, "known"),
        Report::PhaseStarted { name: "install".into(), time: 5 },
        Report::Taken(5),
    ]
}

/// From behind the number 3: what the first life could not say that it had stored comes again.
fn rest(more: Vec<Report>) -> Vec<Report> {
    let again = vec![alert(2, "known"), alert(3, "bad"), Report::Taken(7)];
    let end = whole(vec![], 0).into_iter().skip(3);
    again.into_iter().chain(more).chain(end).collect()
}

#[tokio::test]
async fn it_goes_on_where_it_was_and_counts_nothing_twice() {
    let (before, id) = left(begun()).await;
    let scan = before.scans.get(&Reach::All, &id).await.unwrap();
    assert_eq!(scan.state, ScanState::Running);
    assert_eq!(scan.passage, Some(Passage { note: json!({ "pod": 1 }), taken: 5 }));

    let repeated = Report::AlertRepeated { sensor: "builtin".into(), id: 1, count: 9, last_time: 50 };
    let after = next(&before, rest(vec![repeated]), None);
    after.scans.recover().await.unwrap();
    let scan = after.settled(&id).await;
    assert_eq!((scan.state, scan.reason.as_str()), (ScanState::Finished, ""));
    assert_eq!((scan.passage, scan.phases.len()), (None, 1));
    assert_eq!(scan.counts, Counts { kept: 2, suppressed: 1, events: 7 });
    let alerts = after.scans.alerts(&Reach::All, &id).await.unwrap();
    let seen: Vec<_> = alerts.iter().map(|a| (a.alert.id, a.alert.count, a.suppressed())).collect();
    assert_eq!(seen, [(1, 9, false), (2, 1, true), (3, 1, false)]);
    assert_eq!(*after.runner.ran.lock().unwrap(), [id]);
}

#[tokio::test]
async fn another_alert_under_a_number_that_is_taken_is_kept_and_a_gap() {
    let (before, id) = left(begun()).await;
    let after = next(&before, rest(vec![alert(1, "worse")]), None);
    after.scans.recover().await.unwrap();
    let scan = after.settled(&id).await;
    assert_eq!(scan.state, ScanState::Incomplete);
    assert_eq!(scan.reason, "the agent's stream did not make sense: two alerts have the same number");
    assert_eq!(scan.counts.kept, 3);
}

#[tokio::test]
async fn what_another_sensor_had_a_part_in_does_not_go_on() {
    let witness = witness::WitnessPatience { start: Duration::ZERO, end: Duration::ZERO };
    let of_falco = Report::Alert(Box::new(Alert { id: 1, ..late(1, "bad") }));
    let with_falco: Vec<_> = [of_falco].into_iter().chain(begun()).collect();
    for (reports, witness) in [(begun(), Some(witness)), (with_falco, None)] {
        let (before, id) = left(reports).await;
        let after = next(&before, rest(vec![]), witness);
        after.scans.recover().await.unwrap();
        let scan = after.scans.get(&Reach::All, &id).await.unwrap();
        let gap = scan.evidence.gaps.first().map(|gap| gap.kind);
        assert_eq!((scan.state, gap), (ScanState::Incomplete, Some(GapKind::HostRestarted)));
        assert_eq!(scan.passage, None);
    }
}

#[tokio::test]
async fn a_scan_with_a_gap_ends_with_the_host() {
    let gap = Report::Gap(Gap { kind: GapKind::Limit, detail: "memory".into() });
    let (before, id) = left([gap].into_iter().chain(begun()).collect()).await;
    let scan = before.scans.get(&Reach::All, &id).await.unwrap();
    assert_eq!((scan.state, scan.reason.as_str()), (ScanState::Incomplete, "a limit was hit: memory"));
}

/// The runner hears of what is on disk, and of nothing before.
#[tokio::test]
async fn what_is_stored_is_told_to_the_runner() {
    struct Waits;
    impl Runner for Waits {
        fn run(&self, mut job: Job, reports: ReportSender, _: CancellationToken) -> BoxFuture<'static, ()> {
            async move {
                assert_eq!(*job.stored.borrow(), 0);
                for report in begun() {
                    reports.send(report).await.unwrap();
                }
                job.stored.wait_for(|stored| *stored == 5).await.unwrap();
                let left = whole(vec![], 0).into_iter().skip(3);
                for report in left {
                    reports.send(report).await.unwrap();
                }
            }
            .boxed()
        }

        fn recover(&self, _: Vec<Left>) -> BoxFuture<'static, ()> {
            ready(())
        }
    }
    let mut bench = bench(Script::default());
    bench.scans = scans_on(&bench.store, &bench.blob, Arc::new(Waits), settings());
    assert_eq!(bench.one().await.state, ScanState::Finished);
}
