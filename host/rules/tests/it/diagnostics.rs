//! Each kind of bad rules file, and what its author is told.

use insta::assert_snapshot;
use lanner_rules::{RuleSet, Source};

use crate::support::{lines, rule, try_compile};

fn refused(yaml: &str) -> String {
    lines(&try_compile(yaml).err().unwrap_or_default())
}

fn refused_condition(condition: &str) -> String {
    refused(&rule(condition, "o"))
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    assert_snapshot!(refused("
- list: shells
  itms: [sh]
- macro: broken
  condition: (proc.name = sh
- macro: a
  condition: b
- macro: b
  condition: proc.name = x or a
- rule: First
  desc: d
  condition: >
    evt.type = open and
    unknown.field = 1 and
    shell_procs
  output: \"%unknown.other %proc.name\"
  priority: LOUD
- rule: Second
  desc: d
  condition: evt.type = open and
    proc.name in shels and unknown.third exists or brokn or a
  output: o
  priority: NOTICE
- rule: Third
  condition: proc.name is sh
  output: o
  priority: NOTICE
"), @r##"
    rules.yaml:2: list `shells` has no `items`
    rules.yaml:3: list `shells` has the unknown key `itms`; known are `list`, `items`, `append`
    rules.yaml:5: macro `broken`: unbalanced `(`: it is never closed
    rules.yaml:9: macros use each other in a circle: `a` -> `b` -> `a`
    rules.yaml:14: rule `First`: there is no field `unknown.field` in the events of this sensor
    rules.yaml:15: rule `First`: there is no macro `shell_procs`; define it with `- macro:`
    rules.yaml:16: output of rule `First`: there is no field `unknown.other` in the events of this sensor
    rules.yaml:17: rule `First` has the unknown priority `LOUD`; known are EMERGENCY, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFORMATIONAL, DEBUG
    rules.yaml:21: rule `Second`: there is no list `shels`; a single value needs parentheses: `(shels)`
    rules.yaml:21: rule `Second`: there is no field `unknown.third` in the events of this sensor
    rules.yaml:21: rule `Second`: there is no macro `brokn`; did you mean `broken`?
    rules.yaml:24: rule `Third` has no `desc`
    rules.yaml:25: rule `Third`: unknown operator `is` after `proc.name`; known are =, !=, <, <=, >, >=, exists, contains, bcontains, icontains, startswith, bstartswith, endswith, glob, iglob, in, intersects, pmatch
    "##);
}

#[test]
fn conditions_that_are_none() {
    let conditions = [
        "",
        "and",
        "proc.name",
        "proc.name =",
        "proc.name = sh and",
        "proc.name = sh proc.pname = sh",
        "proc.name = sh)",
        "((proc.name = sh)",
        "proc.name in (sh, bash",
        "proc.name in (sh bash)",
        "proc.name in (sh,)",
        "proc.name = \"sh",
        "proc.name regex ^sh$",
        "proc.name => sh",
        "name = sh",
        "tolower(proc.name) = sh",
        "proc.aname[2 = sh",
        "fd.num > many",
        "fd.name bcontains xyz",
        "proc.name in \"shells\"",
        "5 = 5",
    ];
    let told: String = conditions
        .iter()
        .map(|condition| format!("{condition}\n    {}", refused_condition(condition)))
        .collect();
    assert_snapshot!(told, @r##"

        rules.yaml:3: rule `R`: expected a field, a macro, `not` or `(`, found the end
    and
        rules.yaml:3: rule `R`: expected a field, a macro or `(` before `and`
    proc.name
        rules.yaml:3: rule `R`: `proc.name` stands alone: compare it, as in `proc.name = true`, or write `proc.name exists`
    proc.name =
        rules.yaml:3: rule `R`: expected a value for `proc.name`, found the end
    proc.name = sh and
        rules.yaml:3: rule `R`: expected a field, a macro, `not` or `(`, found the end
    proc.name = sh proc.pname = sh
        rules.yaml:3: rule `R`: expected `and`, `or` or the end of the condition, found `proc.pname`
    proc.name = sh)
        rules.yaml:3: rule `R`: unbalanced `)`: no `(` was opened for it
    ((proc.name = sh)
        rules.yaml:3: rule `R`: unbalanced `(`: it is never closed
    proc.name in (sh, bash
        rules.yaml:3: rule `R`: unbalanced `(`: the list is never closed
    proc.name in (sh bash)
        rules.yaml:3: rule `R`: expected `,` or `)` in the list, found `bash`
    proc.name in (sh,)
        rules.yaml:3: rule `R`: expected a value for `proc.name`, found `)`
    proc.name = "sh
        rules.yaml:3: rule `R`: the quote " is never closed
    proc.name regex ^sh$
        rules.yaml:3: rule `R`: unknown operator `regex` after `proc.name`; known are =, !=, <, <=, >, >=, exists, contains, bcontains, icontains, startswith, bstartswith, endswith, glob, iglob, in, intersects, pmatch
    proc.name => sh
        rules.yaml:3: rule `R`: expected `and`, `or` or the end of the condition, found `sh`
    name = sh
        rules.yaml:3: rule `R`: `name` is not a field (fields have a dot, as `proc.name`) and cannot be compared with `=`
    tolower(proc.name) = sh
        rules.yaml:3: rule `R`: functions such as `tolower(...)` are not supported; compare the field itself
    proc.aname[2 = sh
        rules.yaml:3: rule `R`: the argument of `proc.aname` is not closed: write `proc.aname[1]`
    fd.num > many
        rules.yaml:3: rule `R`: `fd.num` is compared with `many`, which is not a number
    fd.name bcontains xyz
        rules.yaml:3: rule `R`: `fd.name` is compared with `xyz`, which is not hexadecimal
    proc.name in "shells"
        rules.yaml:3: rule `R`: there is no list `shells`; a single value needs parentheses: `(shells)`
    5 = 5
        rules.yaml:3: rule `R`: expected a field, a macro, `not` or `(`, found `5`
    "##);
}

#[test]
fn outputs_that_are_none() {
    let outputs = ["%proc", "50%off", "%proc.name %unknown.field", "%proc.aname[2"];
    let told: String = outputs
        .iter()
        .map(|output| format!("{output}\n    {}", refused(&rule("evt.type = open", output))))
        .collect();
    assert_snapshot!(told, @r##"
    %proc
        rules.yaml:4: output of rule `R`: `%proc` is not a field; write `%proc.name`, or `%%` for a percent sign
    50%off
        rules.yaml:4: output of rule `R`: `%off` is not a field; write `%proc.name`, or `%%` for a percent sign
    %proc.name %unknown.field
        rules.yaml:4: output of rule `R`: there is no field `unknown.field` in the events of this sensor
    %proc.aname[2
        rules.yaml:4: output of rule `R`: `%proc.aname[2` is not a field; write `%proc.name`, or `%%` for a percent sign
    "##);
}

#[test]
fn objects_that_are_none() {
    let files = [
        "rule: R",
        "- [a]",
        "- foo: 1",
        "- rule:",
        "- rule: R\n  desc: d",
        "- list: l\n  items: a",
        "- list: l\n  items: [[a]]",
        "- list: l\n  items: [a]\n  items: [b]",
        "- list: l\n  items: [a]\n  append: true",
        "- macro: m\n  condition: [a]",
        "- macro: m\n  condition: a\n  override: {condition: replace}",
        "- rule: R\n  desc: d\n  condition: evt.type = open\n  output: o\n  priority: DEBUG\n  exceptions: []",
        "- rule: R\n  desc: d\n  condition: evt.type = open\n  output: o\n  priority: DEBUG\n  enabled: perhaps",
        "- rule: R\n  desc: d\n  condition: evt.type = open\n  output: o\n  priority: DEBUG\n  tags: a",
        "- rule: R\n  condition: and evt.type = open\n  append: true",
        "- required_engine_version: new",
        "- rule: R\n   desc: d\n  bad",
        "- &a [*a]",
        "a: \"\u{1}\"",
    ];
    let told: String =
        files.iter().map(|file| format!("{}\n    {}", file.replace('\n', "|"), refused(file))).collect();
    assert_snapshot!(told, @r##"
    rule: R
        rules.yaml:1: a rules file is a sequence: begin each object with `- rule:`, `- macro:` or `- list:`
    - [a]
        rules.yaml:1: expected a mapping with one of the keys `rule`, `macro`, `list`
    - foo: 1
        rules.yaml:1: expected one of the keys `rule`, `macro`, `list`, `required_engine_version`, `required_plugin_versions`
    - rule:
        rules.yaml:1: `rule` needs a name
    - rule: R|  desc: d
        rules.yaml:1: rule `R` has no `condition`
    rules.yaml:1: rule `R` has no `output`
    rules.yaml:1: rule `R` has no `priority`
    - list: l|  items: a
        rules.yaml:2: list `l`: `items` is a sequence, as in `items: [a, b]`
    - list: l|  items: [[a]]
        rules.yaml:2: list `l`: an item is one value
    - list: l|  items: [a]|  items: [b]
        rules.yaml:3: list `l` has the key `items` twice
    - list: l|  items: [a]|  append: true
        rules.yaml:1: list `l` appends to a list that is not defined
    - macro: m|  condition: [a]
        rules.yaml:2: macro `m`: `condition` is a text
    - macro: m|  condition: a|  override: {condition: replace}
        rules.yaml:3: macro `m`: `override` is not supported yet; write the condition out, or use `append`
    - rule: R|  desc: d|  condition: evt.type = open|  output: o|  priority: DEBUG|  exceptions: []
        rules.yaml:6: rule `R`: `exceptions` is not supported yet; write the condition out, or use `append`
    - rule: R|  desc: d|  condition: evt.type = open|  output: o|  priority: DEBUG|  enabled: perhaps
        rules.yaml:6: rule `R`: `enabled` is true or false
    - rule: R|  desc: d|  condition: evt.type = open|  output: o|  priority: DEBUG|  tags: a
        rules.yaml:6: rule `R`: `tags` is a sequence of texts
    - rule: R|  condition: and evt.type = open|  append: true
        rules.yaml:1: rule `R` appends to a rule that is not defined
    - required_engine_version: new
        rules.yaml:1: `required_engine_version` is a number or MAJOR.MINOR.PATCH
    - rule: R|   desc: d|  bad
        rules.yaml:2: not YAML: mapping values are not allowed in this context
    - &a [*a]
        rules.yaml:1: YAML aliases are not taken in rules files: write the value out, or use a list or macro
    a: ""
        rules.yaml:1: not YAML: unexpected character: `\u{1}'
    "##);
}

#[test]
fn what_is_not_a_mistake_is_accepted() {
    let yaml = "
- required_engine_version: 0.57.0
- required_engine_version: 13
- required_plugin_versions:
    - name: container
      version: 0.4.0
- list: nothing
  items: []
- list: null_items
  items:
- macro: unused
  condition: unknown.field = 1 and nowhere
- rule: Disabled
  desc: d
  condition: unknown.field = 1
  output: '%unknown.field'
  priority: INFO
  enabled: false
---
- rule: R
  desc: d
  condition: proc.name in (nothing, null_items, sh)
  output: o
  priority: informational
  warn_evttypes: false
  source: syscall
";
    assert_eq!(refused(yaml), "");
    assert_eq!(refused(""), "");
    assert_eq!(refused("# nothing\n"), "");
}

#[test]
fn diagnostics_name_the_file() {
    let good = rule("evt.type = open", "o");
    let sources =
        [Source { name: "good.yaml", text: &good }, Source { name: "dir/bad.yaml", text: "\n\n- list: l\n" }];
    let found = RuleSet::compile(&sources, &|_| true).unwrap_err();
    assert_eq!(lines(&found), "dir/bad.yaml:3: list `l` has no `items`\n");
}

#[test]
fn appended_text_keeps_its_line_and_file() {
    let first = rule("evt.type = open", "o");
    let second =
        "- rule: R\n  append: true\n  condition: >\n    and proc.name = x\n    and unknown.field = 1\n";
    let sources = [Source { name: "first", text: &first }, Source { name: "second", text: second }];
    let found = RuleSet::compile(&sources, &|field| field.name != "unknown.field").unwrap_err();
    assert_eq!(
        lines(&found),
        "second:5: rule `R`: there is no field `unknown.field` in the events of this sensor\n"
    );
}
