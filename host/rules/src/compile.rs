//! From documents to a rule set: resolve what rules say, simplify it for each event type, index by type.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::diagnostics::Diagnostics;
use crate::document::{Document, RawRule};
use crate::evaluate::{self, Condition};
use crate::limits::{MAX_CHECKS, MAX_DEPTH, MAX_PARTS, MAX_TYPES};
use crate::output::{self, Part};
use crate::plan::{KnownType, NodeId, Plan};
use crate::resolve::{self, Resolver};
use crate::{Diagnostic, FieldName, Rule, RuleSet, Source};

/// A rule with what evaluation needs of it.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) rule: Rule,
    pub(crate) output: Vec<Piece>,
}

#[derive(Debug)]
pub(crate) enum Piece {
    Literal(String),
    Field(usize),
    EventType,
}

/// The rules that can match events of one type, in file order, each with its condition for that type.
pub(crate) type Candidates = Vec<(usize, Arc<Condition>)>;

/// A rule's condition for each type that it names, and for all others.
struct Specialised {
    named: HashMap<String, NodeId>,
    otherwise: NodeId,
}

pub(crate) fn compile(
    sources: &[Source<'_>],
    known: &dyn Fn(&FieldName) -> bool,
) -> Result<RuleSet, Vec<Diagnostic>> {
    let mut diagnostics = Diagnostics::default();
    let document = Document::read(sources, &mut diagnostics);
    let mut resolver = Resolver::new(&document, known, &mut diagnostics);
    let mut rules = Vec::new();
    let mut roots = Vec::new();
    for raw in &document.rules {
        if !raw.enabled {
            // Not compiled, but a condition that is no condition is still worth a word.
            resolve::parse(&raw.condition, &format!("rule `{}`", raw.name), &mut diagnostics);
            continue;
        }
        let root = resolver.rule(&raw.name, &raw.condition, &mut diagnostics);
        if resolver.plan.is_too_large(root) {
            let message =
                format!("rule `{}` makes more than {MAX_CHECKS} checks with its macros put in", raw.name);
            diagnostics.at(&raw.condition.place(0), message);
        }
        if resolver.plan.is_too_deep(root) {
            let message =
                format!("rule `{}` is nested deeper than {MAX_DEPTH} with its macros put in", raw.name);
            diagnostics.at(&raw.condition.place(0), message);
        }
        let output = pieces(raw, known, &mut resolver.plan, &mut diagnostics);
        roots.push(root);
        rules.push(Compiled { rule: describe(raw), output });
    }
    let mut plan = resolver.plan;
    if !diagnostics.is_empty() {
        // Nor would it be safe to go on: the bounds on depth and size may be what was reported.
        return Err(diagnostics.into_found());
    }
    let specialised = specialise(&mut plan, &roots, &document, &mut diagnostics);
    if !diagnostics.is_empty() {
        return Err(diagnostics.into_found());
    }
    Ok(index(plan, rules, &specialised))
}

fn describe(raw: &RawRule) -> Rule {
    Rule {
        name: raw.name.clone(),
        description: raw.description.clone(),
        priority: raw.priority,
        tags: raw.tags.clone(),
        source: raw.source.clone(),
    }
}

fn pieces(
    raw: &RawRule,
    known: &dyn Fn(&FieldName) -> bool,
    plan: &mut Plan,
    diagnostics: &mut Diagnostics,
) -> Vec<Piece> {
    // A leading `*` tells old Falco to print also when fields are missing, which we always do.
    let text = raw.output.value.trim_end();
    let stripped = text.strip_prefix('*').unwrap_or(text);
    let offset = text.len() - stripped.len();
    let parts = match output::parse(stripped) {
        Ok(parts) => parts,
        Err(error) => {
            let place = raw.output.place(offset + error.at);
            diagnostics.at(&place, format!("output of rule `{}`: {}", raw.name, error.message));
            return Vec::new();
        }
    };
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Literal(text) => pieces.push(Piece::Literal(text)),
            Part::Field(field) if field.is_event_type() && known(&field) => pieces.push(Piece::EventType),
            Part::Field(field) if known(&field) => pieces.push(Piece::Field(plan.field(&field))),
            Part::Field(field) => {
                let at = text.find(&format!("%{}", field.name)).unwrap_or_default();
                let message = format!(
                    "output of rule `{}`: there is no field `{field}` in the events of this sensor",
                    raw.name
                );
                diagnostics.at(&raw.output.place(at), message);
            }
        }
    }
    pieces
}

/// Puts each event type into the conditions that name it.
fn specialise(
    plan: &mut Plan,
    roots: &[NodeId],
    document: &Document,
    diagnostics: &mut Diagnostics,
) -> Vec<Specialised> {
    let named: Vec<_> = roots.iter().map(|root| plan.named_types(*root)).collect();
    let all: BTreeSet<&String> = named.iter().flatten().collect();
    let mut specialised: Vec<_> =
        roots.iter().map(|root| Specialised { named: HashMap::new(), otherwise: *root }).collect();
    if all.len() > MAX_TYPES {
        let message = format!("the rules name {} event types, more than {MAX_TYPES}", all.len());
        return whole_file(document, message, diagnostics);
    }
    let mut known = HashMap::new();
    for (root, entry) in roots.iter().zip(&mut specialised) {
        entry.otherwise = plan.for_type(*root, KnownType::Unnamed, &mut known);
    }
    for event_type in all {
        let mut known = HashMap::new();
        for ((root, named), entry) in roots.iter().zip(&named).zip(&mut specialised) {
            if named.binary_search(event_type).is_ok() {
                let id = plan.for_type(*root, KnownType::Named(event_type), &mut known);
                entry.named.insert(event_type.clone(), id);
            }
            if plan.is_full() {
                let message = format!("the rules need more than {MAX_PARTS} parts: split them");
                return whole_file(document, message, diagnostics);
            }
        }
    }
    specialised
}

fn whole_file(document: &Document, message: String, diagnostics: &mut Diagnostics) -> Vec<Specialised> {
    let source = document.rules.first().map(|rule| rule.condition.place(0).source);
    diagnostics.add(source.as_deref().unwrap_or_default(), 0, message);
    Vec::new()
}

fn index(mut plan: Plan, rules: Vec<Compiled>, specialised: &[Specialised]) -> RuleSet {
    let never = plan.constant(false);
    let roots: Vec<NodeId> = specialised
        .iter()
        .flat_map(|rule| rule.named.values().chain([&rule.otherwise]).copied())
        .filter(|root| *root != never)
        .collect();
    let conditions = evaluate::build(&plan, &roots);
    let candidates = |root_of: &dyn Fn(&Specialised) -> NodeId| -> Candidates {
        let all = specialised.iter().enumerate().map(|(rule, entry)| (rule, root_of(entry)));
        let possible = all.filter(|(_, root)| *root != never);
        possible.filter_map(|(rule, root)| Some((rule, conditions.get(root)?.clone()?))).collect()
    };
    let types: BTreeSet<&String> = specialised.iter().flat_map(|rule| rule.named.keys()).collect();
    let by_type = types
        .into_iter()
        .map(|name| {
            let of_type = |rule: &Specialised| rule.named.get(name).copied().unwrap_or(rule.otherwise);
            (name.as_str().into(), candidates(&of_type))
        })
        .collect();
    let otherwise = candidates(&|rule| rule.otherwise);
    let fields = plan.into_fields();
    let field_names = fields.iter().map(ToString::to_string).collect();
    RuleSet { fields, field_names, rules, by_type, otherwise }
}
