//! One rules file, object by object: keys checked, kinds of values checked, `append` and `enabled` carried out.
//!
//! Nothing stops at the first mistake: what can be read is kept, so that later passes find theirs as well.

use std::sync::Arc;

use super::{Document, List, Place, RawRule, Text};
use crate::Priority;
use crate::diagnostics::Diagnostics;
use crate::limits::{MAX_RULES, MAX_SOURCE};
use crate::yaml::{self, Kind, Node};

const LIST_KEYS: &[&str] = &["list", "items", "append"];
const MACRO_KEYS: &[&str] = &["macro", "condition", "append"];
const RULE_KEYS: &[&str] = &[
    "rule",
    "desc",
    "condition",
    "output",
    "priority",
    "tags",
    "source",
    "enabled",
    "append",
    "warn_evttypes",
];

/// Reads one file.
pub(super) struct Reader<'a> {
    name: Arc<str>,
    document: &'a mut Document,
    diagnostics: &'a mut Diagnostics,
}

/// One object of the file: its keys, checked against those that its kind has.
struct Object<'n> {
    entries: &'n [(Node, Node)],
    line: usize,
    label: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(name: &str, document: &'a mut Document, diagnostics: &'a mut Diagnostics) -> Self {
        Self { name: name.into(), document, diagnostics }
    }

    fn report(&mut self, line: usize, message: impl Into<String>) {
        self.diagnostics.add(&self.name, line, message);
    }

    pub(super) fn file(&mut self, text: &str) {
        if text.len() > MAX_SOURCE {
            let size = text.len();
            return self.report(0, format!("the file has {size} bytes, more than {MAX_SOURCE}: split it"));
        }
        let roots = match yaml::parse(text) {
            Ok(roots) => roots,
            Err(fault) => return self.report(fault.line, fault.message),
        };
        for root in &roots {
            match &root.kind {
                Kind::Sequence(objects) => objects.iter().for_each(|object| self.object(object)),
                _ if root.is_null() => {}
                _ => self.report(
                    root.line,
                    "a rules file is a sequence: begin each object with `- rule:`, `- macro:` or `- list:`",
                ),
            }
        }
    }

    fn object(&mut self, node: &Node) {
        let Kind::Mapping(entries) = &node.kind else {
            return self.report(node.line, "expected a mapping with one of the keys `rule`, `macro`, `list`");
        };
        let Some(kind) = entries.first().and_then(|_| {
            let keys = ["rule", "macro", "list", "required_engine_version", "required_plugin_versions"];
            keys.into_iter().find(|key| find(entries, key).is_some())
        }) else {
            let message = "expected one of the keys `rule`, `macro`, `list`, `required_engine_version`, \
                           `required_plugin_versions`";
            return self.report(node.line, message);
        };
        let Some(value) = find(entries, kind) else { return };
        match kind {
            "required_engine_version" => self.engine_version(value),
            // A plugin brings fields; a rule that needs one of them is refused for that field, by name.
            "required_plugin_versions" => {}
            _ => {
                let Some(name) = value
                    .scalar()
                    .map(|scalar| scalar.text.trim())
                    .filter(|name| !name.is_empty() && !value.is_null())
                else {
                    return self.report(value.line, format!("`{kind}` needs a name"));
                };
                let object = Object { entries, line: node.line, label: format!("{kind} `{name}`") };
                match kind {
                    "list" => self.list(name, &object),
                    "macro" => self.macro_(name, &object),
                    _ => self.rule(name, &object),
                }
            }
        }
    }

    fn engine_version(&mut self, value: &Node) {
        let text = value.scalar().map_or("", |scalar| scalar.text.as_str());
        let parts = text.split('.').count();
        let numeric = text.split('.').all(|part| part.parse::<u32>().is_ok());
        if !(numeric && matches!(parts, 1 | 3)) {
            self.report(value.line, "`required_engine_version` is a number or MAJOR.MINOR.PATCH");
        }
    }

    /// Refuses keys that this kind of object does not have, and keys given twice.
    fn check_keys(&mut self, object: &Object<'_>, allowed: &[&str]) {
        let mut seen: Vec<&str> = Vec::new();
        for (key, _) in object.entries {
            let text = key.scalar().map_or("", |scalar| scalar.text.as_str());
            let label = &object.label;
            if seen.contains(&text) {
                self.report(key.line, format!("{label} has the key `{text}` twice"));
            } else if matches!(text, "exceptions" | "override") {
                let message = format!(
                    "{label}: `{text}` is not supported yet; write the condition out, or use `append`"
                );
                self.report(key.line, message);
            } else if !allowed.contains(&text) {
                let known = allowed.join("`, `");
                self.report(key.line, format!("{label} has the unknown key `{text}`; known are `{known}`"));
            }
            seen.push(text);
        }
    }

    fn list(&mut self, name: &str, object: &Object<'_>) {
        self.check_keys(object, LIST_KEYS);
        let append = self.flag(object, "append").unwrap_or(false);
        let Some(node) = find(object.entries, "items") else {
            return self.report(object.line, format!("{} has no `items`", object.label));
        };
        let mut items = Vec::new();
        match &node.kind {
            Kind::Sequence(nodes) => {
                for item in nodes {
                    match item.scalar() {
                        Some(scalar) => {
                            items.push((
                                scalar.text.clone(),
                                Place { source: Arc::clone(&self.name), line: item.line },
                            ));
                        }
                        None => self.report(item.line, format!("{}: an item is one value", object.label)),
                    }
                }
            }
            _ if node.is_null() => {}
            _ => self
                .report(node.line, format!("{}: `items` is a sequence, as in `items: [a, b]`", object.label)),
        }
        match self.document.lists.get_mut(name) {
            Some(list) if append => list.items.append(&mut items),
            None if append => {
                self.report(object.line, format!("{} appends to a list that is not defined", object.label));
            }
            _ => {
                self.document.lists.insert(name.to_owned(), List { items });
            }
        }
    }

    fn macro_(&mut self, name: &str, object: &Object<'_>) {
        self.check_keys(object, MACRO_KEYS);
        let append = self.flag(object, "append").unwrap_or(false);
        let Some(condition) = self.required(object, "condition") else { return };
        match self.document.macros.get_mut(name) {
            Some(text) if append => text.append(condition),
            None if append => {
                self.report(object.line, format!("{} appends to a macro that is not defined", object.label));
            }
            _ => {
                self.document.macros.insert(name.to_owned(), condition);
            }
        }
    }

    fn rule(&mut self, name: &str, object: &Object<'_>) {
        self.check_keys(object, RULE_KEYS);
        let enabled = self.flag(object, "enabled");
        let append = self.flag(object, "append").unwrap_or(false);
        let earlier = self.document.rules.iter().position(|rule| rule.name == name);
        if append {
            return self.append_rule(earlier, object);
        }
        let has_condition = find(object.entries, "condition").is_some();
        if let (Some(enabled), false, Some(index)) = (enabled, has_condition, earlier) {
            // A description that comes with it says why.
            let why = self.optional(object, "desc");
            if let Some(rule) = self.document.rules.get_mut(index) {
                rule.enabled = enabled;
                if let Some(why) = why {
                    why.value.trim().clone_into(&mut rule.description);
                }
            }
            return;
        }
        let texts = ["condition", "output", "desc", "priority"].map(|key| self.required(object, key));
        let [condition, output, description, priority] = texts;
        let priority = priority.map(|text| self.priority(text.value.trim(), object));
        let (Some(condition), Some(output)) = (condition, output) else { return };
        let rule = RawRule {
            name: name.to_owned(),
            description: description.map(|text| text.value.trim().to_owned()).unwrap_or_default(),
            condition,
            output,
            // What is missing has been reported; the rule goes on so that its condition is checked as well.
            priority: priority.unwrap_or(Priority::Debug),
            tags: self.tags(object),
            source: self.optional(object, "source").map_or_else(|| "syscall".to_owned(), |text| text.value),
            enabled: enabled.unwrap_or(true),
        };
        let count = self.document.rules.len();
        match earlier.and_then(|index| self.document.rules.get_mut(index)) {
            Some(place) => *place = rule,
            None if count >= MAX_RULES => self.report(object.line, format!("more than {MAX_RULES} rules")),
            None => self.document.rules.push(rule),
        }
    }

    fn priority(&mut self, given: &str, object: &Object<'_>) -> Priority {
        parse_priority(given).unwrap_or_else(|| {
            let line = find(object.entries, "priority").map_or(object.line, |node| node.line);
            let message = format!(
                "{} has the unknown priority `{given}`; known are EMERGENCY, ALERT, CRITICAL, ERROR, WARNING, NOTICE, \
                 INFORMATIONAL, DEBUG",
                object.label
            );
            self.report(line, message);
            Priority::Debug
        })
    }

    fn append_rule(&mut self, earlier: Option<usize>, object: &Object<'_>) {
        for key in ["desc", "output", "priority", "tags", "source", "enabled"] {
            if let Some(node) = find(object.entries, key) {
                self.report(
                    node.line,
                    format!("{}: `append` takes a `condition` only, not `{key}`", object.label),
                );
            }
        }
        let Some(condition) = self.required(object, "condition") else { return };
        match earlier.and_then(|index| self.document.rules.get_mut(index)) {
            Some(rule) => rule.condition.append(condition),
            None => {
                self.report(object.line, format!("{} appends to a rule that is not defined", object.label));
            }
        }
    }

    fn tags(&mut self, object: &Object<'_>) -> Vec<String> {
        let Some(node) = find(object.entries, "tags") else { return Vec::new() };
        match &node.kind {
            Kind::Sequence(nodes) if nodes.iter().all(|tag| tag.scalar().is_some()) => {
                nodes.iter().filter_map(|tag| tag.scalar().map(|scalar| scalar.text.clone())).collect()
            }
            _ if node.is_null() => Vec::new(),
            _ => {
                self.report(node.line, format!("{}: `tags` is a sequence of texts", object.label));
                Vec::new()
            }
        }
    }

    fn required(&mut self, object: &Object<'_>, key: &str) -> Option<Text> {
        let text = self.optional(object, key);
        if text.is_none() && find(object.entries, key).is_none_or(|node| node.is_null()) {
            self.report(object.line, format!("{} has no `{key}`", object.label));
        }
        text
    }

    fn optional(&mut self, object: &Object<'_>, key: &str) -> Option<Text> {
        let node = find(object.entries, key).filter(|node| !node.is_null())?;
        let Some(scalar) = node.scalar() else {
            self.report(node.line, format!("{}: `{key}` is a text", object.label));
            return None;
        };
        Some(Text::new(&self.name, &scalar.text, scalar.lines.clone()))
    }

    fn flag(&mut self, object: &Object<'_>, key: &str) -> Option<bool> {
        let node = find(object.entries, key)?;
        match node.scalar().map(|scalar| scalar.text.to_ascii_lowercase()).as_deref() {
            Some("true" | "yes" | "on") => Some(true),
            Some("false" | "no" | "off") => Some(false),
            _ => {
                self.report(node.line, format!("{}: `{key}` is true or false", object.label));
                None
            }
        }
    }
}

fn find<'n>(entries: &'n [(Node, Node)], key: &str) -> Option<&'n Node> {
    entries
        .iter()
        .find(|(name, _)| name.scalar().is_some_and(|scalar| scalar.text == key))
        .map(|(_, value)| value)
}

fn parse_priority(text: &str) -> Option<Priority> {
    let priority = match text.to_ascii_uppercase().as_str() {
        "EMERGENCY" => Priority::Emergency,
        "ALERT" => Priority::Alert,
        "CRITICAL" => Priority::Critical,
        "ERROR" => Priority::Error,
        "WARNING" => Priority::Warning,
        "NOTICE" => Priority::Notice,
        "INFO" | "INFORMATIONAL" => Priority::Informational,
        "DEBUG" => Priority::Debug,
        _ => return None,
    };
    Some(priority)
}
