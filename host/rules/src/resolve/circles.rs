//! Lists within lists and macros within macros: put in or measured, with circles found and told by name.

use std::collections::HashMap;

use super::Resolver;
use crate::condition::{self, Expr};
use crate::diagnostics::Diagnostics;
use crate::limits::{MAX_LIST, MAX_NESTING, MAX_VALUES};

impl<'a> Resolver<'a> {
    /// Puts lists into lists. A name that is no list is a value.
    pub(super) fn resolve_lists(&mut self, diagnostics: &mut Diagnostics) {
        for name in self.document.lists.keys() {
            let mut path = Vec::new();
            self.list(name, &mut path, diagnostics);
        }
    }

    fn list(&mut self, name: &'a str, path: &mut Vec<&'a str>, diagnostics: &mut Diagnostics) {
        if self.lists.contains_key(name) {
            return;
        }
        path.push(name);
        let document = self.document;
        let mut values = Vec::new();
        for (item, place) in document.lists.get(name).map(|list| list.items.as_slice()).unwrap_or_default() {
            let Some((inner, _)) = document.lists.get_key_value(item.as_str()) else {
                values.push(plain_item(item));
                continue;
            };
            if let Some(start) = path.iter().position(|name| name == inner) {
                let cycle = path.get(start..).unwrap_or_default().join("` -> `");
                diagnostics.at(place, format!("lists name each other in a circle: `{cycle}` -> `{inner}`"));
                continue;
            }
            if path.len() >= MAX_NESTING {
                diagnostics.at(place, format!("lists are nested deeper than {MAX_NESTING} at `{inner}`"));
                continue;
            }
            self.list(inner, path, diagnostics);
            let inner = self.lists.get(inner.as_str()).map(Vec::as_slice).unwrap_or_default();
            values.extend_from_slice(inner);
            self.values += inner.len();
            if values.len() > MAX_LIST || self.values > MAX_VALUES {
                diagnostics.at(
                    place,
                    format!(
                        "list `{name}` has more than {MAX_LIST} values, or all lists more than {MAX_VALUES}"
                    ),
                );
                values.clear();
                break;
            }
        }
        path.pop();
        self.lists.insert(name, values);
    }

    /// Walks macros through macros, so that resolving them later always ends and never goes deep.
    pub(super) fn find_cycles(&mut self, diagnostics: &mut Diagnostics) {
        let mut depths = HashMap::new();
        let names: Vec<&'a str> = self.parsed.keys().copied().collect();
        for name in names {
            let mut path = Vec::new();
            self.depth(name, &mut path, &mut depths, diagnostics);
        }
    }

    /// How many macros are nested below this one.
    fn depth(
        &mut self,
        name: &'a str,
        path: &mut Vec<&'a str>,
        depths: &mut HashMap<&'a str, usize>,
        diagnostics: &mut Diagnostics,
    ) -> usize {
        if let Some(depth) = depths.get(name) {
            return *depth;
        }
        let mut uses = Vec::new();
        if let Some(expr) = self.parsed.get(name) {
            macro_uses(expr, &mut uses);
        }
        path.push(name);
        let mut deepest = 0;
        for (inner, at) in uses {
            let Some((inner, _)) = self.document.macros.get_key_value(inner.as_str()) else { continue };
            let here = self.document.macros.get(name).map(|text| text.place(at));
            let Some(here) = here else { continue };
            if let Some(start) = path.iter().position(|name| name == inner) {
                let cycle = path.get(start..).unwrap_or_default().join("` -> `");
                diagnostics.at(&here, format!("macros use each other in a circle: `{cycle}` -> `{inner}`"));
                self.broken.insert(name);
                continue;
            }
            if path.len() >= MAX_NESTING {
                diagnostics.at(&here, format!("macros are nested deeper than {MAX_NESTING} at `{inner}`"));
                self.broken.insert(name);
                continue;
            }
            deepest = deepest.max(1 + self.depth(inner, path, depths, diagnostics));
        }
        path.pop();
        if deepest >= MAX_NESTING && self.broken.insert(name) {
            let here = self.document.macros.get(name).map(|text| text.place(0));
            if let Some(here) = here {
                diagnostics.at(&here, format!("macros are nested deeper than {MAX_NESTING} at `{name}`"));
            }
        }
        depths.insert(name, deepest);
        deepest
    }
}

fn macro_uses(expr: &Expr, uses: &mut Vec<(String, usize)>) {
    match expr {
        Expr::And(terms) | Expr::Or(terms) => terms.iter().for_each(|term| macro_uses(term, uses)),
        Expr::Not(inner) => macro_uses(inner, uses),
        Expr::Macro { name, at } => uses.push((name.clone(), *at)),
        Expr::Exists { .. } | Expr::Compare { .. } | Expr::CompareList { .. } => {}
    }
}

/// Falco's files quote items twice (`'"a b"'`) to carry them through its text substitution.
fn plain_item(item: &str) -> String {
    match item.chars().next().filter(|c| *c == '"' || *c == '\'') {
        Some(quote) => match condition::unquote(item, quote) {
            Some((text, length)) if length == item.len() => text,
            _ => item.to_owned(),
        },
        None => item.to_owned(),
    }
}
