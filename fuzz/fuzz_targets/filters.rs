//! Any text as the settings of the filters in Rust, and any spans as a batch: settings are taken or refused with a sentence,
//! and what is taken decides about every alert, with a reason that the host takes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shared_filter::Plain;
use shared_filter::api::{Action, Batch, Decision, Span};

fuzz_target!(|data: &[u8]| {
    let (seed, settings) = data.split_at(data.len().min(24));
    let Ok(settings) = str::from_utf8(settings) else { return };
    let batch = batch(seed);
    let filters: [(fn(&str) -> _, fn(&Batch, &str) -> _); 2] = [
        (filter_rules::validate, filter_rules::evaluate),
        (filter_severity::validate, filter_severity::evaluate),
    ];
    for (validate, evaluate) in filters {
        let decisions = evaluate(&batch, settings);
        match validate(settings) {
            Ok(()) => check(&batch, &decisions),
            Err(why) => assert!(!why.is_empty() && decisions.is_empty()),
        }
    }
});

/// A plain batch, in which the seed points alerts elsewhere.
fn batch(seed: &[u8]) -> Batch {
    let one = Plain {
        rule: "Name lookup",
        fields: &[("fd.sip.name", "\"registry.example\""), ("n", "7")],
        tags: &["network", "dns"],
        ancestry: &[("node", "/usr/bin/node", "node a.js"), ("npm", "/usr/bin/npm", "npm")],
        package: Some(("esbuild", "node_modules/esbuild")),
        ..Plain::default()
    };
    let mut batch = Batch::of(&[Plain { id: 2, ..one.clone() }, one]);
    let mut spans = seed.chunks_exact(8).map(|bytes| {
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Span { start: number(0), count: number(4) }
    });
    if let Some(alert) = batch.alerts.first_mut() {
        for place in [&mut alert.rule, &mut alert.fields, &mut alert.ancestry] {
            if let Some(span) = spans.next() {
                *place = span;
            }
        }
    }
    batch
}

fn check(batch: &Batch, decisions: &[Decision]) {
    assert_eq!(decisions.len(), batch.alerts.len());
    for (decision, alert) in decisions.iter().zip(&batch.alerts) {
        assert_eq!(decision.id, alert.id);
        assert!(decision.reason.len() <= 1024);
        assert!(decision.tags.len() <= 16 && decision.tags.iter().all(|t| t.len() <= 64));
        assert!(!matches!(decision.action, Action::Suppress) || !decision.reason.trim().is_empty());
    }
}
