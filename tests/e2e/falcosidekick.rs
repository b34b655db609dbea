//! Falcosidekick between Falco and our intake: recorded alerts go in at its end, and each must be counted at ours.

use std::path::Path;
use std::time::{Duration, Instant};

use lanner_tests::serve::{Serve, curl, curl_json};
use lanner_tests::sidekick::{Sidekick, find, recorded};
use lanner_tests::{skipped, wire};
use serde_json::{Value, json};

const SENSOR: &str = "/intake/falco?sensor=sidekick";

fn serve(folder: &Path) -> (Serve, std::net::SocketAddr) {
    let config = folder.join("lanner.toml");
    std::fs::write(&config, "[intake]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let serve = Serve::start_with_intake(&folder.join("data"), &args).unwrap();
    let intake = serve.intake.as_deref().unwrap().parse().unwrap();
    (serve, intake)
}

/// Asks again until the answer is as it must be.
fn eventually(what: &str, url: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let (status, answer) = curl_json(&[url]).unwrap();
        assert_eq!(status, 200, "{answer}");
        if holds(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {answer}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn every_alert_is_counted(sidekick: impl Fn(std::net::SocketAddr) -> Sidekick) {
    let folder = tempfile::tempdir().unwrap();
    let (serve, intake) = serve(folder.path());
    let sidekick = sidekick(intake);
    let stock = recorded("stock").unwrap();
    let alerts = [stock.clone(), recorded("typed").unwrap()].concat();
    let internal = recorded("internal").unwrap();
    let mut bare: Value = serde_json::from_str(&stock[0]).unwrap();
    bare["output_fields"] = json!({});
    let bare = vec![bare.to_string(); 3];
    // As Falco does: one alert a POST, one connection.
    let mut falco = wire::connect(sidekick.address()).unwrap();
    for body in alerts.iter().chain(&internal).chain(&bare) {
        wire::post(&mut falco, "/", "falcosecurity/falco", body.as_bytes()).unwrap();
    }
    let sent = alerts.len() + internal.len();
    let counted = |answer: &Value| answer["sensors"][0]["alerts"] == json!(sent);
    let sensors = eventually("not all came", &format!("{}/v1/sensors", serve.url), counted);
    let sensor = &sensors["sensors"][0];
    assert_eq!(sensors["sensors"].as_array().unwrap().len(), 1, "{sensors}");
    assert_eq!((&sensor["name"], &sensor["door"]), (&json!("sidekick"), &json!("falcosidekick")), "{sensor}");
    // What comes through it adds alerts; it never closes a scan's evidence.
    assert_eq!((&sensor["vouches"], &sensor["refused"]), (&json!(false), &json!(0)), "{sensor}");
    // None is of a scan, and none is gone: what Falco says of itself is no alert.
    let unmatched = format!("{}/v1/alerts/unmatched", serve.url);
    let nobodys =
        eventually("not all are shown", &unmatched, |answer| answer["total"] == json!(alerts.len()));
    let rules = |all: &[Value]| {
        let mut rules: Vec<String> = all.iter().map(|a| a["rule"].as_str().unwrap().to_owned()).collect();
        rules.sort();
        rules
    };
    let posted: Vec<Value> = alerts.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    assert_eq!(rules(nobodys["samples"].as_array().unwrap()), rules(&posted));
    let (_, metrics) = curl(&[&format!("{}/metrics", serve.admin)]).unwrap();
    for line in [
        format!("lanner_intake_alerts_received_total{{door=\"Falcosidekick\"}} {sent}"),
        format!("lanner_intake_alerts_unmatched_total {}", alerts.len()),
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    assert_eq!(serve.stop().unwrap(), Some(0));
}

#[test]
fn every_alert_that_falcosidekick_posts_is_counted() {
    match find() {
        Ok(program) => every_alert_is_counted(|to| Sidekick::start(&program, to, SENSOR).unwrap()),
        Err(why) => skipped("every_alert_that_falcosidekick_posts_is_counted", &why),
    }
}

/// The stand-in's share: our own side of that door, on every machine.
#[test]
fn every_alert_in_the_shape_that_falcosidekick_posts_is_counted() {
    every_alert_is_counted(|to| Sidekick::stand_in(to, SENSOR).unwrap());
}
