//! What rules say and which events they match.

use std::borrow::Cow;

use lanner_rules::{MAX_OUTPUT, Priority, RuleSet, Source, Value};

use crate::support::{address, compile, evaluate, holds, list, rule, text};

#[test]
fn not_binds_tighter_than_and_and_and_tighter_than_or() {
    let values = [("proc.name", text("sh"))];
    assert!(holds("proc.name = sh or proc.name = x and proc.name = y", "open", &values));
    assert!(!holds("(proc.name = sh or proc.name = x) and proc.name = y", "open", &values));
    assert!(holds("not proc.name = x and proc.name = sh", "open", &values));
    assert!(!holds("not (proc.name = x or proc.name = sh)", "open", &values));
    assert!(holds("not not proc.name = sh", "open", &values));
}

#[test]
fn text_operators_compare_bytes() {
    let values = [("fd.name", text("/home/a/.ssh/id_RSA"))];
    for condition in [
        "fd.name = /home/a/.ssh/id_RSA",
        "fd.name == \"/home/a/.ssh/id_RSA\"",
        "fd.name != /etc/passwd",
        "fd.name contains '.ssh/'",
        "fd.name icontains ID_rsa",
        "fd.name startswith /home/",
        "fd.name endswith _RSA",
        "fd.name glob /home/*/id_???",
        "fd.name iglob */ID_RSA",
        "fd.name pmatch (/etc, /home/a)",
        "fd.name pmatch (/home/a/.ssh/id_RSA)",
        "fd.name in (/etc/passwd, \"/home/a/.ssh/id_RSA\")",
        "fd.name intersects (/home/a/.ssh/id_RSA)",
        "fd.name exists",
        "fd.name bcontains 2e737368",
        "fd.name bstartswith 2f68",
    ] {
        assert!(holds(condition, "open", &values), "{condition}");
    }
    for condition in [
        "fd.name = /home/a/.ssh/id_rsa",
        "fd.name contains .SSH",
        "fd.name startswith home",
        "fd.name glob /home/*.pub",
        "fd.name pmatch (/home/a/.ss, /hom)",
        "fd.name in ()",
        "fd.name bcontains ff",
    ] {
        assert!(!holds(condition, "open", &values), "{condition}");
    }
}

#[test]
fn numbers_are_compared_as_numbers() {
    let values = [("fd.num", Value::Number(9))];
    for condition in
        ["fd.num = 9", "fd.num >= 9", "fd.num > 8", "fd.num < 10", "fd.num<=9", "fd.num!=10", "fd.num=0x9"]
    {
        assert!(holds(condition, "open", &values), "{condition}");
    }
    for condition in ["fd.num > 9", "fd.num < 9", "fd.num = 10", "fd.num = nine", "fd.num in (1, 2)"] {
        assert!(!holds(condition, "open", &values), "{condition}");
    }
    assert!(holds("fd.num in (1, 9)", "open", &values));
    assert!(holds("fd.num >= -1", "open", &values));
}

#[test]
fn flags_are_compared_with_true_and_false() {
    assert!(holds("lanner.decoy = true", "open", &[("lanner.decoy", Value::Flag(true))]));
    assert!(!holds("lanner.decoy = true", "open", &[("lanner.decoy", Value::Flag(false))]));
    assert!(holds("lanner.decoy != true", "open", &[("lanner.decoy", Value::Flag(false))]));
    assert!(holds("lanner.decoy in (true, false)", "open", &[("lanner.decoy", Value::Flag(false))]));
}

#[test]
fn addresses_are_compared_with_addresses_and_networks() {
    let values = [("fd.sip", address("127.0.0.53"))];
    assert!(holds("fd.sip in (\"127.0.0.0/8\", \"::1\")", "connect", &values));
    assert!(holds("fd.sip = 127.0.0.53", "connect", &values));
    assert!(holds("fd.sip != 127.0.0.1", "connect", &values));
    assert!(!holds("fd.sip in (10.0.0.0/8)", "connect", &values));
    assert!(holds("fd.sip startswith 127.", "connect", &values));
    assert!(holds("fd.sip = 127.0.0.1", "connect", &[("fd.sip", address("::ffff:127.0.0.1"))]));
}

#[test]
fn a_list_fulfils_a_test_when_one_of_its_values_does() {
    let values = [("proc.aname", list(&["sh", "npm install", "bash"]))];
    assert!(holds("proc.aname = bash", "execve", &values));
    assert!(holds("proc.aname in (fish, sh)", "execve", &values));
    assert!(holds("proc.aname startswith npm", "execve", &values));
    assert!(!holds("proc.aname != bash", "execve", &values));
    assert!(!holds("proc.aname in (fish)", "execve", &values));
}

#[test]
fn a_missing_field_is_unequal_to_everything_and_fulfils_nothing_else() {
    for condition in ["proc.tty != 0", "not proc.tty = 0", "not proc.tty exists", "not proc.tty in (0)"] {
        assert!(holds(condition, "open", &[]), "{condition}");
    }
    for condition in [
        "proc.tty = 0",
        "proc.tty exists",
        "proc.tty < 1",
        "proc.tty >= 0",
        "proc.tty contains \"\"",
        "proc.tty startswith \"\"",
        "proc.tty glob *",
        "proc.tty in (0, \"\", \"<NA>\")",
    ] {
        assert!(!holds(condition, "open", &[]), "{condition}");
    }
}

#[test]
fn fields_have_arguments() {
    let values = [("proc.aname[2]", text("npm")), ("proc.env[NODE_OPTIONS]", text("--require x"))];
    assert!(holds("proc.aname[2] = npm and not proc.aname[3] exists", "execve", &values));
    assert!(holds("proc.env[\"NODE_OPTIONS\"] contains require", "execve", &values));
}

#[test]
fn quoted_texts_hold_what_bare_ones_cannot() {
    let values = [("proc.cmdline", text("sh -c \"a, (b) = c\""))];
    assert!(holds(r#"proc.cmdline = "sh -c \"a, (b) = c\"""#, "execve", &values));
    assert!(holds("proc.cmdline contains \"(b) = c\"", "execve", &values));
    assert!(holds(r"proc.cmdline contains 'a,'", "execve", &values));
}

#[test]
fn lists_and_macros_are_put_in_wherever_they_are_defined() {
    let rules = compile(
        "
- rule: R
  desc: d
  condition: spawned and proc.name in (tools, make) and proc.pname in shells
  output: o
  priority: NOTICE
- macro: spawned
  condition: started or evt.type = fork
- macro: started
  condition: evt.type in (execve, execveat)
- list: tools
  items: [gcc, shells, '\"a b\"', 7z]
- list: shells
  items: [sh, bash]
",
    );
    let run = |name, parent| {
        evaluate(&rules, "execve", &[("proc.name", text(name)), ("proc.pname", text(parent))]).len()
    };
    for name in ["gcc", "bash", "make", "a b", "7z"] {
        assert_eq!(run(name, "sh"), 1, "{name}");
    }
    assert_eq!(run("shells", "sh"), 0);
    assert_eq!(run("gcc", "shells"), 0);
}

#[test]
fn a_quoted_word_is_never_a_list() {
    let yaml = format!("- list: shells\n  items: [sh]\n{}", rule("proc.name in (\"shells\")", "o"));
    assert_eq!(evaluate(&compile(&yaml), "execve", &[("proc.name", text("shells"))]).len(), 1);
    assert_eq!(evaluate(&compile(&yaml), "execve", &[("proc.name", text("sh"))]).len(), 0);
}

#[test]
fn later_files_replace_append_and_switch_off() {
    let first = "
- list: names
  items: [a]
- macro: named
  condition: proc.name in (names)
- rule: One
  desc: d
  condition: named
  output: one
  priority: INFO
- rule: Two
  desc: d
  condition: named
  output: two
  priority: CRITICAL
  tags: [t]
- rule: Three
  desc: d
  condition: named
  output: three
  priority: debug
  enabled: false
";
    let second = "
- list: names
  items: [b]
  append: true
- macro: named
  condition: or proc.name = c
  append: true
- rule: One
  condition: and evt.type = open
  append: true
- rule: Two
  enabled: false
- rule: Three
  enabled: true
";
    let sources = [Source { name: "first", text: first }, Source { name: "second", text: second }];
    let rules = RuleSet::compile(&sources, &|_| true).unwrap();
    let names: Vec<_> = rules.rules().map(|rule| (rule.name.as_str(), rule.priority)).collect();
    assert_eq!(names, [("One", Priority::Informational), ("Three", Priority::Debug)]);
    for name in ["a", "b", "c"] {
        let of_type = |event_type| evaluate(&rules, event_type, &[("proc.name", text(name))]).len();
        assert_eq!((of_type("open"), of_type("execve")), (2, 1), "{name}");
    }
}

#[test]
fn every_matching_rule_matches_in_file_order() {
    let yaml = "
- rule: B
  desc: d
  condition: evt.type = open
  output: b
  priority: DEBUG
- rule: A
  desc: d
  condition: fd.name startswith /
  output: a
  priority: ALERT
";
    let rules = compile(yaml);
    let found = evaluate(&rules, "open", &[("fd.name", text("/x"))]);
    assert_eq!(found.iter().map(|found| found.rule.name.as_str()).collect::<Vec<_>>(), ["B", "A"]);
    assert_eq!(evaluate(&rules, "connect", &[("fd.name", text("/x"))]).len(), 1);
}

#[test]
fn only_types_that_a_rule_can_match_are_watched() {
    let yaml = rule("evt.type in (open, connect) and not evt.type = connect and fd.name exists", "o");
    let rules = compile(&yaml);
    assert!(rules.watches("open"));
    assert!(!rules.watches("connect"));
    assert!(!rules.watches("execve"));
    let rules = compile(&rule("evt.type startswith open or evt.type != bind and proc.name = x", "o"));
    assert!(rules.watches("openat2"));
    assert!(rules.watches("execve"));
    assert!(!rules.watches("bind"));
}

#[test]
fn a_type_that_no_rule_names_is_compared_all_the_same() {
    assert!(holds("evt.type startswith open", "openat2", &[]));
    assert!(!holds("evt.type startswith open", "connect", &[]));
    assert!(holds("evt.type != open", "connect", &[]));
    assert!(holds("evt.type exists", "connect", &[]));
    assert!(holds("evt.type glob *at and not evt.type = openat", "unlinkat", &[]));
}

#[test]
fn outputs_are_filled_in() {
    let output = "%proc.name (%proc.aname[2]) opened %fd.name:%fd.num. %%done 100% %evt.type %proc.tty %fd.sip %proc.aname";
    let rules = compile(&rule("evt.type = open", output));
    let values = [
        ("proc.name", text("node")),
        ("proc.aname[2]", text("npm")),
        ("fd.name", text("/x")),
        ("fd.num", Value::Number(-1)),
        ("fd.sip", address("::1")),
        ("proc.aname", list(&["a", "b"])),
    ];
    let found = evaluate(&rules, "open", &values);
    let line = String::from_utf8(found[0].output.clone()).unwrap();
    assert_eq!(line, "node (npm) opened /x:-1. %done 100% open <NA> ::1 a,b");
    let names: Vec<_> = found[0].fields.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["proc.name", "proc.aname[2]", "fd.name", "fd.num", "evt.type", "proc.tty", "fd.sip", "proc.aname"]
    );
    assert_eq!(found[0].fields[4].1, text("open"));
    assert_eq!(found[0].fields[5].1, Value::Missing);
}

#[test]
fn an_output_names_each_field_once_and_a_leading_star_is_dropped() {
    let rules = compile(&rule("evt.type = open", "*%proc.name and %proc.name"));
    let found = evaluate(&rules, "open", &[("proc.name", text("a"))]);
    assert_eq!(found[0].output, b"a and a");
    assert_eq!(found[0].fields.len(), 1);
}

#[test]
fn what_is_filled_in_stays_one_line_of_bytes() {
    let rules = compile(&rule("evt.type = open", "%fd.name"));
    let name = Value::Text(Cow::Borrowed(b"a\nb\r\t\x1b[31m\x7f\xc2\x9b\xe2\x80\xa8\xff\xc3\xa9" as &[u8]));
    let found = evaluate(&rules, "open", &[("fd.name", name)]);
    assert_eq!(found[0].output, b"a\\nb\\r\\t\\x1b[31m\\x7f\\xc2\\x9b\\xe2\\x80\\xa8\xff\xc3\xa9");
}

#[test]
fn long_outputs_are_cut_between_characters() {
    let rules = compile(&rule("evt.type = open", "%fd.name"));
    let found = evaluate(&rules, "open", &[("fd.name", text(&"é".repeat(100_000)))]);
    assert!(found[0].output.len() <= MAX_OUTPUT);
    let line = str::from_utf8(&found[0].output).unwrap();
    assert!(line.ends_with("é..."));
    let found = evaluate(&rules, "open", &[("fd.name", text(&"\n".repeat(100_000)))]);
    assert!(found[0].output.len() <= MAX_OUTPUT);
    let Value::Text(kept) = &found[0].fields[0].1 else { panic!("not a text") };
    assert_eq!(kept.len(), MAX_OUTPUT);
}

#[test]
fn a_shared_macro_answers_alike_in_every_rule() {
    // More shared nodes than a memo has room for: the answers must not depend on it.
    let mut yaml = String::new();
    for index in 0..1_500 {
        yaml += &format!("- macro: m{index}\n  condition: proc.name = n{index} and fd.num = {index}\n");
        for copy in ["a", "b"] {
            yaml += &format!(
                "- rule: {copy}{index}\n  desc: d\n  condition: m{index} or fd.name = {copy}\n  output: o\n  priority: DEBUG\n"
            );
        }
    }
    let yaml = yaml.replace("- rule: b1499", "- rule: last");
    let rules = RuleSet::compile(&[Source { name: "r", text: &yaml }], &|_| true);
    // 3000 rules are more than a file may have.
    assert!(rules.is_err());
    let cut = yaml.find("- macro: m900").unwrap();
    let rules = compile(&yaml[..cut]);
    let found = evaluate(&rules, "open", &[("proc.name", text("n899")), ("fd.num", Value::Number(899))]);
    assert_eq!(found.iter().map(|found| found.rule.name.as_str()).collect::<Vec<_>>(), ["a899", "b899"]);
}
