//! Any bytes as stored alerts, as `lanner policy test` reads them from files: what is read is the same when it is written and
//! read again, and the rules for decisions hold over it.
#![no_main]

use std::collections::BTreeMap;

use lanner_core::decision::enforce_shares;
use lanner_core::{Grant, JudgedAlert};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mut alerts) = serde_json::from_slice::<Vec<JudgedAlert>>(data) else { return };
    let written = serde_json::to_vec(&alerts).unwrap();
    assert_eq!(serde_json::from_slice::<Vec<JudgedAlert>>(&written).unwrap(), alerts);
    for alert in &mut alerts {
        let fingerprint = alert.alert.fingerprint();
        assert!(fingerprint.len() == 16 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()));
        let given = std::mem::take(&mut alert.decisions);
        let fresh = given.into_iter().map(|mut decision| {
            decision.overruled.clear();
            (decision, Grant::default())
        });
        alert.decide(fresh.collect());
        let urgent = alert.priority() < Grant::default().priority;
        assert!(!(urgent && alert.suppressed()), "more than was granted");
    }
    let names = alerts.iter().flat_map(|a| &a.decisions).map(|d| d.filter.clone());
    let grants: BTreeMap<_, _> = names.map(|name| (name, Grant { percent: 0, ..Grant::default() })).collect();
    enforce_shares(&mut alerts, &grants);
    for name in grants.keys() {
        let by = |a: &&JudgedAlert| a.decisions.iter().any(|d| d.filter == *name && d.suppresses());
        assert!(alerts.iter().filter(by).count() <= lanner_core::decision::SMALL);
    }
});
