//! `kill -9` of the host at any moment of a batch: whatever it took has its answer, and that answer is the right one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lanner_tests::Random;
use lanner_tests::serve::{Serve, curl_json};
use serde_json::Value;

use crate::service::{packed, poll, submit};

/// Scans submitted before each kill: more than run at once, so that some wait whenever the host dies, and at the end.
const A_ROUND: usize = 3;
const CONFIG: &str = "[scan]\nparallel = 2\n";

/// Rule and responsible package of each kept alert.
type Alerts = BTreeSet<(String, String)>;

/// `LANNER_KILLS` sets how often; 50 is what was promised, fewer keep a quick run quick.
fn kills() -> usize {
    std::env::var("LANNER_KILLS").ok().and_then(|k| k.parse().ok()).unwrap_or(12)
}

fn alerts(serve: &Serve, id: &str) -> Alerts {
    let (_, answer) = curl_json(&[&format!("{}/v1/scans/{id}/alerts", serve.url)]).unwrap();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let kept = answer["alerts"].as_array().unwrap();
    kept.iter().map(|a| (text(&a["rule"]), text(&a["package"]["name"]))).collect()
}

fn scan(serve: &Serve, id: &str) -> Value {
    curl_json(&[&format!("{}/v1/scans/{id}", serve.url)]).unwrap().1
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

#[test]
fn a_host_that_is_killed_at_any_moment_answers_for_every_scan_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = folder.path().join("lanner.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let start = || Serve::start(&data, &["--config", config.to_str().unwrap()]).unwrap();
    let sample = packed("npmrc-token", folder.path());
    let take = |serve: &Serve| {
        let (status, answer) = submit(&format!("{}/v1/scans", serve.url), &sample);
        assert_eq!(status, 202, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    };

    let serve = start();
    let undisturbed = take(&serve);
    poll(&serve, &undisturbed);
    assert_eq!(scan(&serve, &undisturbed)["state"], "finished");
    let expected = alerts(&serve, &undisturbed);
    assert!(expected.contains(&("Read decoy credentials".into(), "left-padding".into())), "{expected:?}");
    assert_eq!(serve.stop().unwrap(), Some(0));

    let (mut taken, mut killed, mut waited): (Vec<String>, Vec<i64>, usize) = Default::default();
    let mut random = Random(u64::from(std::process::id()));
    for round in 0..kills() {
        let serve = start();
        for _ in 0..A_ROUND {
            taken.push(take(&serve));
        }
        // Any moment of a start, a run or a settlement.
        std::thread::sleep(Duration::from_millis(random.number() % 900));
        let (_, page) = curl_json(&[&format!("{}/v1/scans?limit=100", serve.url)]).unwrap();
        let queued = page["scans"].as_array().unwrap().iter().filter(|s| s["state"] == "queued").count();
        waited += queued;
        serve.kill().unwrap();
        killed.push(now());
        eprintln!("killed in round {round}, {} scans taken, {queued} of them waiting", taken.len());
    }

    let serve = start();
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for id in &taken {
        poll(&serve, id);
        let (scan, found) = (scan(&serve, id), alerts(&serve, id));
        let state = scan["state"].as_str().unwrap().to_owned();
        match state.as_str() {
            "finished" => assert_eq!(found, expected, "{id} is not what an undisturbed scan is: {scan}"),
            "incomplete" => {
                let time =
                    |key: &str| scan[key].as_i64().unwrap_or_else(|| panic!("{id} has no {key}: {scan}"));
                let (started, ended) = (time("started_ns"), time("ended_ns"));
                let interrupted = killed.iter().any(|kill| (started..=ended).contains(kill));
                assert!(interrupted, "{id} was running at no kill and must have finished: {scan}");
                assert!(found.is_subset(&expected), "{id}: {found:?}");
            }
            other => panic!("{id} ended {other}: {scan}"),
        }
        *ends.entry(state).or_default() += 1;
    }
    eprintln!(
        "after {} kills, with {waited} scans waiting at them: {ends:?}, each finished one with {expected:?}",
        kills()
    );
    assert!(waited > 0 && ends.get("finished") >= Some(&kills()), "too few scans waited: {ends:?}");
    assert_eq!(serve.stop().unwrap(), Some(0));
}
