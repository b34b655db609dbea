//! The translation by small rules and dialects: what is renamed, what is refused and with which sentence. Our own rules
//! are translated in `tests/it/falco.rs`.

use super::*;

const DIALECT: &str = "- macro: in_scan\n  condition: proc.aname = lanner\n";

fn rules(condition: &str) -> String {
    format!(
        "- macro: ours\n  condition: lanner.ours = true\n- list: twos\n  items: [a, b]\n- rule: R\n  desc: d\n  condition: \
         {condition}\n  output: \"%proc.name did | at=%lanner.at res=%evt.res\"\n  priority: NOTICE\n"
    )
}

fn run(rules: &str, dialect: &str) -> Result<String, String> {
    let rules = Source { name: "rules.yaml", text: rules };
    let dialect = Source { name: "dialect.yaml", text: dialect };
    translate(rules, dialect).map_err(|found| found.iter().map(ToString::to_string).collect())
}

#[test]
fn names_are_prefixed_and_outputs_say_whose_they_are() {
    let dialect = format!("{DIALECT}- macro: ours\n  condition: proc.name in (twos)\n");
    let text = run(&rules("evt.type = open and ours and proc.args = twos"), &dialect).unwrap();
    assert!(text.contains("- list: lanner_twos\n  items:\n    [a, b]\n"), "{text}");
    assert!(
        text.contains("- macro: lanner_ours\n  condition: >\n    proc.name in (lanner_twos)\n"),
        "{text}"
    );
    assert!(text.contains("lanner_in_scan and (evt.type = open and lanner_ours and proc.args = "), "{text}");
    assert!(text.contains("\"%proc.name did | res=%evt.res pid=%proc.pid "), "{text}");
    assert!(!text.contains("%lanner."), "{text}");
}

#[test]
fn a_rule_that_falco_cannot_answer_needs_a_word_in_the_dialect() {
    let unknown = run(&rules("evt.type = open and ours"), DIALECT).unwrap_err();
    let expected = "rule `R` asks, by macro `ours`, for the field `lanner.ours`, which Falco does not have: give \
                    dialect.yaml a macro `ours` of its own, or the rule with `enabled: false` and a `desc` that says why";
    assert!(unknown.contains(expected), "{unknown}");
    let inline = run(&rules("evt.type = open and lanner.x = 1"), DIALECT).unwrap_err();
    assert!(inline.contains("rule `R` asks for the field `lanner.x`"), "{inline}");
    let event = run(&rules("evt.type in (open, dns)"), DIALECT).unwrap_err();
    assert!(event.contains("rule `R` asks for the event type `dns`, which Falco does not have"), "{event}");
    let output = rules("evt.type = open").replace("%evt.res", "%dns.name");
    let output = run(&output, DIALECT).unwrap_err();
    assert!(output.contains("rule `R` asks for the field `dns.name`"), "{output}");
}

#[test]
fn a_rule_is_left_out_with_its_reason() {
    let without = format!("{DIALECT}- rule: R\n  enabled: false\n");
    let found = run(&rules("evt.type = dns"), &without).unwrap_err();
    assert!(found.contains("rule `R` is left out: say why in its `desc`"), "{found}");
    let more = "- rule: S\n  desc: d\n  condition: evt.type = open\n  output: o\n  priority: NOTICE\n";
    let all = rules("evt.type = dns") + more;
    let text = run(&all, &format!("{without}  desc: no such event\n")).unwrap();
    assert!(text.contains("# - R: no such event\n"), "{text}");
    assert!(!text.contains("- rule: R"), "{text}");
}

#[test]
fn a_dialect_that_does_nothing_is_wrong() {
    let found =
        run(&rules("evt.type = open"), &format!("{DIALECT}- macro: oours\n  condition: evt.type = open\n"));
    assert!(found.unwrap_err().contains("no rule uses the macro `oours`: it replaces nothing"));
    let found = run(&rules("evt.type = open"), "- rule: S\n  enabled: false\n  desc: d\n").unwrap_err();
    assert!(found.contains("rule `S` has no `condition`"), "{found}");
    assert!(found.contains("there is no macro `in_scan`, which keeps rules to our containers"), "{found}");
    let found = run(&rules("evt.type = open and nothing"), DIALECT).unwrap_err();
    assert!(found.contains("there is no macro `nothing`"), "{found}");
}

#[test]
fn a_space_within_quotes_stays_where_it_is() {
    let long = format!("evt.type = open and proc.args glob \"* {}  b *\"", "a ".repeat(80));
    let text = run(&rules(&format!("'{long}'")), DIALECT).unwrap();
    assert!(text.lines().any(|line| line.contains(&format!("\"* {}  b *\"", "a ".repeat(80)))), "{text}");
}
