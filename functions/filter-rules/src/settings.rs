//! The settings: rules, each parsed and checked. Every mistake names the rule, and the place in its expression.

use cel::IdedExpr as Expression;
use cel::parser::Parser;
use serde::Deserialize;
use shared_filter::{PRIORITIES, Priority, priority};

use crate::check;

pub(crate) struct Settings {
    pub(crate) rules: Vec<Rule>,
}

pub(crate) struct Rule {
    pub(crate) when: Expression,
    pub(crate) then: Then,
    pub(crate) because: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Then {
    Suppress,
    Keep,
    Pin,
    Priority(Priority),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    rules: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    when: String,
    then: String,
    because: String,
}

const MAX_RULES: usize = 100;
const MAX_WHEN: usize = 2_000;
/// Of the 1,024 bytes of a decision's reason.
const MAX_BECAUSE: usize = 900;
/// Brackets in brackets, and cases in cases: the parser calls itself for each, and a filter's stack is small.
const MAX_DEPTH: usize = 12;

impl Settings {
    pub(crate) fn read(json: &str) -> Result<Self, String> {
        let document: Document =
            serde_json::from_str(json).map_err(|e| format!("the settings do not fit: {e}"))?;
        let count = document.rules.len();
        if count == 0 || count > MAX_RULES {
            return Err(format!("rules has {count} rules: give 1 to {MAX_RULES}"));
        }
        let rule = |(i, w): (usize, Written)| w.compile().map_err(|e| format!("rules[{i}].{e}"));
        let rules = document.rules.into_iter().enumerate().map(rule).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }
}

impl Written {
    fn compile(self) -> Result<Rule, String> {
        let then = then(&self.then)
            .ok_or_else(|| format!("then: {:?} is none of {}", self.then, words().join(", ")))?;
        if self.because.trim().is_empty() || self.because.len() > MAX_BECAUSE {
            return Err(format!("because: give a reason of 1 to {MAX_BECAUSE} bytes"));
        }
        Ok(Rule {
            when: expression(&self.when).map_err(|e| format!("when{e}"))?,
            then,
            because: self.because,
        })
    }
}

fn expression(text: &str) -> Result<Expression, String> {
    if text.len() > MAX_WHEN {
        return Err(format!(": more than {MAX_WHEN} bytes"));
    }
    if too_deep(text) {
        return Err(format!(": brackets or cases in more than {MAX_DEPTH} others"));
    }
    let parser = Parser::new().error_recovery_limit(1);
    let (expression, places) = parser.parse_with_source_info(text).map_err(|errors| {
        let first = errors.errors.first();
        let (line, column) = first.map_or((1, 1), |e| e.pos);
        let what = first.map_or_else(String::new, |e| e.msg.replace('\n', " "));
        format!(":{line}:{}: {what}", column.max(1))
    })?;
    check::condition(&expression, &places, text)?;
    Ok(expression)
}

/// Counted before anything is parsed, and so also where a text holds brackets.
fn too_deep(text: &str) -> bool {
    let mut depth = 0usize;
    let mut deepest = 0;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest > MAX_DEPTH || text.matches('?').count() > MAX_DEPTH
}

const ACTIONS: [(&str, Then); 3] = [("suppress", Then::Suppress), ("keep", Then::Keep), ("pin", Then::Pin)];

fn then(word: &str) -> Option<Then> {
    let action = ACTIONS.iter().find(|(w, _)| *w == word).map(|(_, then)| *then);
    action.or_else(|| priority(word).map(Then::Priority))
}

fn words() -> Vec<&'static str> {
    ACTIONS.iter().map(|(w, _)| *w).chain(PRIORITIES.iter().map(|(w, _)| *w)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        Settings::read(json).err().unwrap()
    }

    fn when(text: &str) -> String {
        let good = r#"{"when":"true","then":"keep","because":"x"}"#;
        let rule = serde_json::json!({ "when": text, "then": "keep", "because": "x" });
        refused(&format!(r#"{{"rules":[{good},{rule}]}}"#))
    }

    #[test]
    fn settings_that_cannot_be_used_are_refused_by_name() {
        assert!(refused("{}").contains("missing field `rules`"));
        assert_eq!(refused(r#"{"rules":[]}"#), "rules has 0 rules: give 1 to 100");
        let rule = |then: &str, because: &str| {
            refused(&format!(r#"{{"rules":[{{"when":"true","then":"{then}","because":"{because}"}}]}}"#))
        };
        assert!(
            rule("drop", "x")
                .starts_with("rules[0].then: \"drop\" is none of suppress, keep, pin, emergency")
        );
        assert_eq!(rule("keep", " "), "rules[0].because: give a reason of 1 to 900 bytes");
        assert_eq!(rule("keep", &"x".repeat(901)), "rules[0].because: give a reason of 1 to 900 bytes");
        assert!(
            refused(r#"{"rules":[{"when":"true","then":"keep","because":"x","if":1}]}"#)
                .contains("unknown field `if`")
        );
    }

    #[test]
    fn a_mistake_in_an_expression_is_named_with_its_rule_and_place() {
        for (text, said) in [
            ("alert.rule ==", "rules[1].when:1:14: Syntax error: mismatched input '<EOF>'"),
            ("alert.rol == \"x\"", "rules[1].when:1:6: alert has no rol: it has "),
            ("alret.rule == \"x\"", "rules[1].when:1:1: nothing is called alret"),
            ("alert.rule", "rules[1].when:1:6: this is text, and not true or false"),
            ("true &&\n alert.count", "rules[1].when:2:7: this is a whole number, and not true or false"),
            ("alert.count == \"3\"", "rules[1].when:1:13: a whole number is compared with text"),
            ("alert.rule.matches(\"x\")", "rules[1].when:1:19: matches is no function here"),
            ("alert.rule.startsWith(1)", "rules[1].when:1:23: this is a whole number, and not text"),
            ("alert.fields[alert.rule] == \"\"", "rules[1].when:1:13: a field's name is written as a text"),
            ("\"x\" in alert.fields", "rules[1].when:1:5: `in` looks in a list"),
            ("1.5 > 1.0", "rules[1].when:1:1: this kind of value is not used in rules"),
            ("[1, \"a\"] == [1]", "rules[1].when:1:5: a list holds one kind of value"),
            ("alert.tags.exists(t, t == 1)", "rules[1].when:1:24: text is compared with a whole number"),
        ] {
            let refusal = when(text);
            assert!(refusal.starts_with(said), "{text}: {refusal}");
        }
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_refused() {
        assert_eq!(when(&"x".repeat(2_001)), "rules[1].when: more than 2000 bytes");
        let brackets = |depth| format!("{}1{} == 2", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(when(&brackets(13)), "rules[1].when: brackets or cases in more than 12 others");
        assert!(expression(&brackets(12)).is_ok());
        let cases = format!("{}true", "true ? false : ".repeat(13));
        assert_eq!(when(&cases), "rules[1].when: brackets or cases in more than 12 others");
        let sum = format!("{}1 == 2", "1+".repeat(200));
        assert!(when(&sum).ends_with("more than 64 operations in one another"), "{}", when(&sum));
    }

    #[test]
    fn the_schema_is_json_and_names_every_word() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../settings.schema.json")).unwrap();
        let listed = schema.pointer("/properties/rules/items/properties/then/enum").unwrap();
        assert_eq!(*listed, serde_json::json!(words()));
    }
}
