//! Two sensors that tell of the same are one alert with both named.

use lanner_core::agree::Witness;

use super::*;

fn seen(sensor: &str, id: u64, file: &str, time: i64) -> Alert {
    let Report::Alert(mut alert) = alert(id, "Read credentials") else { unreachable!("it is one") };
    alert.sensor = sensor.into();
    (alert.time, alert.last_time) = (time, time);
    alert.output = format!("{sensor} {file} {time}");
    alert.output_fields =
        [("proc.name".to_owned(), "node".into()), ("fd.name".to_owned(), file.into())].into();
    *alert
}

fn report(alert: Alert) -> Report {
    Report::Alert(Box::new(alert))
}

#[tokio::test]
async fn what_both_saw_is_one_alert_and_what_one_saw_is_its_own() {
    let reports = vec![
        report(seen("builtin", 1, "/a", 1)),
        report(seen("falco:n", 1, "/a", 2)),
        report(seen("falco:n", 2, "/b", 3)),
        Report::AlertRepeated { sensor: "falco:n".into(), id: 1, count: 4, last_time: 9 },
        Report::AlertRepeated { sensor: "builtin".into(), id: 1, count: 2, last_time: 8 },
        report(seen("builtin", 2, "/b", 10)),
        report(seen("builtin", 3, "/c", 11)),
    ];
    let bench = bench(Script { reports: whole(reports, 0), ..Script::default() });
    let scan = bench.one().await;
    assert_eq!((scan.state, scan.counts.kept), (ScanState::Finished, 3));
    let alerts = bench.scans.alerts(&Reach::All, &scan.id).await.unwrap();
    let shown: Vec<_> = alerts
        .iter()
        .map(|a| (a.alert.sensor.as_str(), a.alert.count, a.alert.last_time, a.alert.also_seen_by.clone()))
        .collect();
    let other = |sensor: &str, count, last_time| vec![Witness { sensor: sensor.into(), count, last_time }];
    assert_eq!(
        shown,
        [
            ("builtin", 2, 8, other("falco:n", 4, 9)),
            ("falco:n", 1, 3, other("builtin", 1, 10)),
            ("builtin", 1, 11, vec![])
        ]
    );
    let sensors: Vec<_> =
        scan.evidence.sensors.iter().map(|s| (s.name.as_str(), s.alerts, s.alone)).collect();
    assert_eq!(sensors, [("builtin", 3, 1), ("falco", 2, 0)]);
}

#[tokio::test]
async fn one_sensor_never_agrees_with_itself_nor_a_lesser_alert_with_a_graver_one() {
    let mut grave = seen("falco:n", 1, "/a", 2);
    grave.priority = Priority::Critical;
    let reports =
        vec![report(seen("builtin", 1, "/a", 1)), report(seen("builtin", 2, "/a", 2)), report(grave)];
    let bench = bench(Script { reports: whole(reports, 0), ..Script::default() });
    assert_eq!(bench.one().await.counts.kept, 3);
}

#[tokio::test]
async fn a_late_alert_of_the_other_sensor_is_counted_once() {
    let reports = whole(vec![report(seen("builtin", 1, "/a", 1))], 0);
    let bench = bench(Script { reports, ..Script::default() });
    let id = bench.one().await.id;
    for time in [5, 5, 6] {
        bench.scans.late(&id, seen("falco:n", 0, "/a", time)).await.unwrap();
    }
    let alerts = bench.scans.alerts(&Reach::All, &id).await.unwrap();
    let also: Vec<_> = alerts.iter().map(|a| a.alert.also_seen_by.clone()).collect();
    assert_eq!(also, [vec![Witness { sensor: "falco:n".into(), count: 2, last_time: 6 }]]);
}

#[tokio::test]
async fn the_second_of_its_kind_from_one_sensor_stays_an_alert_of_its_own() {
    for [first, second] in [["builtin", "falco:n"], ["falco:n", "builtin"]] {
        let reports = vec![
            report(seen(first, 1, "/a", 1)),
            Report::AlertRepeated { sensor: first.into(), id: 1, count: 3, last_time: 2 },
            report(seen(second, 1, "/a", 3)),
            Report::AlertRepeated { sensor: second.into(), id: 1, count: 5, last_time: 4 },
            // The same rule, process and target, and yet another: of another package, say.
            report(seen(second, 2, "/a", 5)),
        ];
        let bench = bench(Script { reports: whole(reports, 0), ..Script::default() });
        let scan = bench.one().await;
        let alerts = bench.scans.alerts(&Reach::All, &scan.id).await.unwrap();
        let shown: Vec<_> = alerts
            .iter()
            .map(|a| (a.alert.sensor.as_str(), a.alert.count, a.alert.also_seen_by.clone()))
            .collect();
        let witness = vec![Witness { sensor: second.into(), count: 5, last_time: 4 }];
        assert_eq!(shown, [(first, 3, witness), (second, 1, vec![])]);
    }
}
