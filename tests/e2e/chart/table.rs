//! The table in the chart's README: a line for each value, made from `values.yaml`'s `# -- ` comments.

use super::chart;

const BEGIN: &str = "<!-- values: begin -->\n";
const END: &str = "<!-- values: end -->\n";

/// Key, default and what the comment above it says. A value with a comment of its own is not looked into.
fn rows(values: &str) -> Vec<(String, String, String)> {
    let lines: Vec<&str> = values.lines().collect();
    let mut above: Vec<(usize, &str)> = Vec::new();
    let mut rows = Vec::new();
    let mut comment = None;
    let mut inside = None;
    for (at, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if inside.is_some_and(|outer| depth > outer) || text.is_empty() {
            continue;
        }
        inside = None;
        if let Some(said) = text.strip_prefix("# -- ") {
            comment = Some(said);
            continue;
        }
        if text.starts_with('#') {
            continue;
        }
        let (key, value) = text.split_once(':').unwrap_or_else(|| panic!("no key: {line}"));
        above.retain(|(d, _)| *d < depth);
        let path: Vec<&str> = above.iter().map(|(_, k)| *k).chain([key]).collect();
        match comment.take() {
            Some(said) => {
                inside = Some(depth);
                let value = value.trim();
                let default =
                    if value.is_empty() { nested(&lines[at + 1..], depth) } else { value.to_owned() };
                rows.push((path.join("."), default, said.to_owned()));
            }
            None => assert!(value.trim().is_empty(), "{} has no comment", path.join(".")),
        }
        above.push((depth, key));
    }
    rows
}

/// A block below a key, on one line: enough of YAML's two forms for a reader.
fn nested(lines: &[&str], depth: usize) -> String {
    let block = lines.iter().take_while(|l| l.len() - l.trim_start().len() > depth).map(|l| l.trim());
    block.collect::<Vec<_>>().join(" · ")
}

#[test]
fn the_readme_lists_every_value_as_it_is() {
    let values = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let rows = rows(&values);
    assert!(rows.len() > 80, "{}", rows.len());
    let mut table = "| key | default | what |\n|---|---|---|\n".to_owned();
    for (key, default, what) in &rows {
        table += &format!("| `{key}` | `{default}` | {what} |\n");
    }
    let path = chart().join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (is, after) = rest.split_once(END).unwrap();
    if is != table {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        panic!(
            "charts/lanner/README.md had drifted and is now written anew: look at the difference and commit it"
        );
    }
}

/// What the schema allows is what there is, key by key.
#[test]
fn the_schema_has_the_keys_of_the_values() {
    let values = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let schema = std::fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let rows = rows(&values);
    for (key, ..) in &rows {
        let pointer: String = key.split('.').map(|k| format!("/properties/{k}")).collect();
        assert!(schema.pointer(&pointer).is_some(), "values.schema.json has no {key}");
    }
    let known = |path: &str| rows.iter().any(|(key, ..)| key == path || key.starts_with(&format!("{path}.")));
    let mut open = vec![(String::new(), &schema)];
    while let Some((path, object)) = open.pop() {
        // What is inside a value that has its own line is that line's business.
        if rows.iter().any(|(key, ..)| *key == path) {
            continue;
        }
        for (key, inner) in object["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            assert!(known(&path) || path == "global", "values.yaml has no {path}");
            open.push((path, inner));
        }
    }
}
