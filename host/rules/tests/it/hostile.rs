//! Rules files and events that were made to hurt.

use std::time::{Duration, Instant};

use lanner_rules::{Match, RuleSet, Source, Value};
use proptest::prelude::*;

use crate::support::{compile, evaluate, lines, rule, try_compile};

fn first_complaint(yaml: &str) -> String {
    let begin = Instant::now();
    let found = try_compile(yaml).err().unwrap_or_default();
    assert!(begin.elapsed() < Duration::from_secs(20), "took {:?}", begin.elapsed());
    lines(&found[..found.len().min(1)])
}

#[test]
fn deep_parentheses_are_refused() {
    let deep = format!("{}proc.name = a{}", "(".repeat(50_000), ")".repeat(50_000));
    assert!(first_complaint(&rule(&deep, "o")).contains("nested deeper than 64"));
    let deep = format!("{} proc.name = a", "not ".repeat(50_000));
    assert!(first_complaint(&rule(&deep, "o")).contains("nested deeper than 64"));
    let fair = format!("{}proc.name = a{}", "(".repeat(60), ")".repeat(60));
    compile(&rule(&fair, "o"));
}

#[test]
fn long_chains_of_macros_and_lists_are_refused() {
    let mut yaml = rule("m5000", "o");
    yaml += "- macro: m0\n  condition: evt.type = open\n";
    for index in 1..=5_000 {
        yaml += &format!("- macro: m{index}\n  condition: m{} or fd.num = {index}\n", index - 1);
    }
    assert!(first_complaint(&yaml).contains("macros are nested deeper than 64"));
    let mut yaml = rule("proc.name in (l5000)", "o");
    yaml += "- list: l0\n  items: [a]\n";
    for index in 1..=5_000 {
        yaml += &format!("- list: l{index}\n  items: [l{}]\n", index - 1);
    }
    assert!(first_complaint(&yaml).contains("lists are nested deeper than 64"));
}

#[test]
fn macros_within_deep_conditions_do_not_exhaust_the_stack() {
    let mut yaml = rule("m40", "o");
    yaml += "- macro: m0\n  condition: evt.type = open\n";
    for index in 1..=40 {
        let mut condition = format!("m{}", index - 1);
        for level in 0..60 {
            condition = if level % 2 == 0 {
                format!("(fd.num = {level} and {condition})")
            } else {
                format!("(fd.num = {level} or {condition})")
            };
        }
        yaml += &format!("- macro: m{index}\n  condition: {condition}\n");
    }
    assert!(first_complaint(&yaml).contains("nested deeper than 256 with its macros put in"));
}

#[test]
fn doubling_macros_and_lists_are_refused() {
    let mut yaml = rule("m40", "o");
    yaml += "- macro: m0\n  condition: fd.num = 1 and proc.name = a\n";
    for index in 1..=40 {
        yaml += &format!(
            "- macro: m{index}\n  condition: (fd.num = {index} or m{0}) and (fd.num < {index} or m{0})\n",
            index - 1
        );
    }
    assert!(first_complaint(&yaml).contains("more than 50000 checks"));
    let mut yaml = rule("proc.name in (l40)", "o");
    yaml += "- list: l0\n  items: [a, b]\n";
    for index in 1..=40 {
        yaml += &format!("- list: l{index}\n  items: [l{0}, l{0}]\n", index - 1);
    }
    assert!(first_complaint(&yaml).contains("more than 50000 values"));
}

#[test]
fn circles_are_refused_by_name() {
    let yaml = format!(
        "{}- macro: a\n  condition: a\n- list: x\n  items: [y]\n- list: y\n  items: [x]\n",
        rule("a", "o")
    );
    let found = lines(&try_compile(&yaml).unwrap_err());
    assert!(found.contains("macros use each other in a circle: `a` -> `a`"), "{found}");
    assert!(found.contains("lists name each other in a circle: `x` -> `y` -> `x`"), "{found}");
}

#[test]
fn large_files_are_refused() {
    let yaml = "# ".repeat(600_000);
    assert!(first_complaint(&yaml).contains("more than 1048576: split it"));
    let yaml = format!("- list: l\n  items: [{}]", "a,".repeat(250_000));
    assert!(first_complaint(&yaml).contains("more than 200000 YAML nodes"));
    let many: String = (0..3_000)
        .map(|index| rule("evt.type = open", "o").replace("- rule: R", &format!("- rule: R{index}")))
        .collect();
    assert!(first_complaint(&many).contains("more than 2000 rules"));
}

#[test]
fn many_types_in_many_rules_are_refused() {
    let types: Vec<_> = (0..2_000).map(|index| format!("t{index}")).collect();
    let yaml = rule(&format!("evt.type in ({})", types.join(", ")), "o");
    assert!(first_complaint(&yaml).contains("name 2000 event types, more than 1024"));
    let types: Vec<_> = (0..1_000).map(|index| format!("t{index}")).collect();
    let checks: Vec<_> =
        (0..5_000).map(|index| format!("(evt.type = t{} or fd.num < {index})", index % 1_000)).collect();
    let yaml = rule(&format!("evt.type in ({}) and {}", types.join(", "), checks.join(" and ")), "o");
    assert!(first_complaint(&yaml).contains("more than 2000000 parts"));
}

#[test]
fn complaints_are_bounded_and_printable() {
    let many: String = (0..2_000).map(|index| format!("- list: l{index}\n")).collect();
    let found = try_compile(&many).unwrap_err();
    assert_eq!(found.len(), 201);
    assert_eq!(found[200].message, "1800 more diagnostics are not shown");
    let yaml = format!("- rule: \"\\e[31m{}\"\n", "x".repeat(10_000));
    for diagnostic in try_compile(&yaml).unwrap_err() {
        assert!(diagnostic.message.len() < 1_000);
        assert!(!diagnostic.message.contains(char::is_control), "{}", diagnostic.message);
    }
}

/// The fields that generated conditions and outputs name, in the order of generated values.
const FIELDS: [&str; 4] = ["fd.name", "proc.aname[2]", "fd.num", "a.b"];

fn matches<'r>(rules: &'r RuleSet, event_type: &str, values: &[Value<'static>]) -> Vec<Match<'r>> {
    let values: Vec<_> = FIELDS.into_iter().zip(values.iter().cloned()).collect();
    evaluate(rules, event_type, &values)
}

fn value() -> impl Strategy<Value = Value<'static>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        Just(Value::Missing),
        bytes().prop_map(|bytes| Value::Text(bytes.into())),
        "[a-c/.]{0,12}".prop_map(|text| Value::Text(text.into_bytes().into())),
        any::<i64>().prop_map(Value::Number),
        any::<bool>().prop_map(Value::Flag),
        any::<[u8; 4]>().prop_map(|bytes| Value::Address(bytes.into())),
        any::<[u8; 16]>().prop_map(|bytes| Value::Address(bytes.into())),
        proptest::collection::vec(bytes(), 0..4)
            .prop_map(|list| Value::List(list.into_iter().map(Into::into).collect())),
    ]
}

fn operand() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c/.*?\\[\\]!-]{1,8}",
        "\"[ -!#-\\[\\]-~é]{0,8}\"",
        any::<i32>().prop_map(|number| number.to_string()),
        Just("true".to_owned()),
        Just("10.0.0.0/8".to_owned()),
        Just("::1".to_owned()),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let field =
        prop_oneof![Just("evt.type"), Just("fd.name"), Just("proc.aname[2]"), Just("fd.num"), Just("a.b")];
    let one = prop_oneof![
        Just("="),
        Just("!="),
        Just("contains"),
        Just("icontains"),
        Just("startswith"),
        Just("endswith"),
        Just("glob"),
        Just("iglob")
    ];
    let many = prop_oneof![Just("in"), Just("intersects"), Just("pmatch")];
    let check = prop_oneof![
        (field.clone(), one, operand()).prop_map(|(field, op, operand)| format!("{field} {op} {operand}")),
        (field.clone(), many, proptest::collection::vec(operand(), 0..4))
            .prop_map(|(field, op, operands)| format!("{field} {op} ({})", operands.join(", "))),
        (field.clone(), prop_oneof![Just("<"), Just(">="), Just("<="), Just(">")], any::<i32>())
            .prop_map(|(field, op, number)| format!("{field} {op} {number}")),
        field.prop_map(|field| format!("{field} exists")),
    ];
    check.prop_recursive(5, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4)
                .prop_map(|terms| format!("({})", terms.join(" and "))),
            proptest::collection::vec(inner.clone(), 1..4)
                .prop_map(|terms| format!("({})", terms.join(" or "))),
            inner.prop_map(|term| format!("not ({term})")),
        ]
    })
}

fn answer(condition: &str, event_type: &str, values: &[Value<'static>]) -> bool {
    let rules = compile(&rule(condition, "%fd.name %evt.type"));
    let found = matches(&rules, event_type, values);
    assert!(found.is_empty() || rules.watches(event_type));
    !found.is_empty()
}

proptest! {
    #[test]
    fn compiling_any_text_ends(text in "\\PC{0,200}|[-a-z:\\[\\]{}>|'\" \n=.()]{0,200}") {
        let _ = RuleSet::compile(&[Source { name: "any", text: &text }], &|_| true);
    }

    #[test]
    fn compiling_any_condition_ends(condition in "[-a-z.=<>!()\\[\\]\", '0-9/*]{0,120}|((and|or|not|in|a\\.b|=|\\(|\\)|,|\"x\"|y) ){0,40}", output in ".{0,60}") {
        let _ = try_compile(&rule(&condition.replace('\n', " "), &output.replace('\n', " ")));
    }

    /// The graph with its sharing, uniting and reordering says the same as the condition's parts say by themselves.
    #[test]
    fn conditions_obey_boolean_algebra(
        a in condition(),
        b in condition(),
        values in proptest::collection::vec(value(), FIELDS.len()),
        event_type in prop_oneof![Just("open"), Just("a"), Just("connect")],
    ) {
        let answer = |condition: &str| answer(condition, event_type, &values);
        let (left, right) = (answer(&a), answer(&b));
        prop_assert_eq!(answer(&format!("({a}) and ({b})")), left && right);
        prop_assert_eq!(answer(&format!("({a}) or ({b})")), left || right);
        prop_assert_eq!(answer(&format!("not ({a})")), !left);
        prop_assert_eq!(answer(&format!("not (not ({a}) or not ({b}))")), left && right);
    }

    #[test]
    fn outputs_of_any_event_are_one_bounded_line(values in proptest::collection::vec(value(), FIELDS.len())) {
        let rules = compile(&rule("evt.type = open", "%fd.name %fd.num %proc.aname[2] %a.b"));
        let found = matches(&rules, "open", &values);
        prop_assert_eq!(found.len(), 1);
        prop_assert!(found[0].output.len() <= lanner_rules::MAX_OUTPUT);
        prop_assert!(!found[0].output.iter().any(|byte| *byte < 0x20 || *byte == 0x7f));
    }
}
