//! Conditions as a graph of nodes, each made once: a macro that ten rules use is one node, evaluated once per event.
//!
//! Knows boolean algebra, and one thing about events: their type is known beforehand. [`Plan::for_type`] puts the type
//! in and simplifies, so that a rule about `connect` is nothing at all for an `openat`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::{MAX_CHECKS, MAX_DEPTH, MAX_PARTS};
use crate::test::Test;
use crate::{FieldName, Value};

pub(crate) type NodeId = usize;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    Constant(bool),
    Check(Arc<Check>),
    Not(NodeId),
    And(Vec<NodeId>),
    Or(Vec<NodeId>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Check {
    pub(crate) subject: Subject,
    pub(crate) test: Test,
}

/// What a check looks at. The event type is set apart because it is known before any field is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    EventType,
    Field(usize),
}

/// The event type that conditions are simplified for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KnownType<'a> {
    Named(&'a str),
    /// A type that the condition names nowhere.
    Unnamed,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    nodes: Vec<Info>,
    ids: HashMap<Node, NodeId>,
    parts: usize,
    fields: Vec<FieldName>,
    field_ids: HashMap<FieldName, usize>,
}

const MAX_FLATTENED: usize = 32;

#[derive(Debug)]
struct Info {
    node: Node,
    /// Checks under this node, shared ones counted each time: what evaluation could cost at worst.
    checks: u32,
    depth: usize,
    /// A guess at the time that this node takes, to ask the cheap questions first.
    cost: u32,
}

impl Plan {
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        // Ids come from this plan only; the constant stands for none of them.
        self.nodes.get(id).map_or(&Node::Constant(false), |info| &info.node)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.parts >= MAX_PARTS
    }

    pub(crate) fn is_too_large(&self, id: NodeId) -> bool {
        self.nodes.get(id).is_some_and(|info| info.checks > MAX_CHECKS)
    }

    pub(crate) fn is_too_deep(&self, id: NodeId) -> bool {
        self.nodes.get(id).is_some_and(|info| info.depth > MAX_DEPTH)
    }

    pub(crate) fn into_fields(self) -> Vec<FieldName> {
        self.fields
    }

    pub(crate) fn field(&mut self, field: &FieldName) -> usize {
        if let Some(id) = self.field_ids.get(field) {
            return *id;
        }
        let id = self.fields.len();
        self.fields.push(field.clone());
        self.field_ids.insert(field.clone(), id);
        id
    }

    pub(crate) fn subject(&mut self, field: &FieldName) -> Subject {
        if field.is_event_type() { Subject::EventType } else { Subject::Field(self.field(field)) }
    }

    pub(crate) fn constant(&mut self, value: bool) -> NodeId {
        self.intern(Node::Constant(value))
    }

    pub(crate) fn check(&mut self, subject: Subject, test: Test) -> NodeId {
        self.intern(Node::Check(Arc::new(Check { subject, test })))
    }

    pub(crate) fn not(&mut self, id: NodeId) -> NodeId {
        match self.node(id) {
            Node::Constant(value) => {
                let value = !*value;
                self.constant(value)
            }
            Node::Not(inner) => *inner,
            _ => self.intern(Node::Not(id)),
        }
    }

    pub(crate) fn and(&mut self, terms: Vec<NodeId>) -> NodeId {
        self.join(terms, false)
    }

    pub(crate) fn or(&mut self, terms: Vec<NodeId>) -> NodeId {
        self.join(terms, true)
    }

    /// `decides` is the value of a term that settles the whole: true for `or`, false for `and`.
    fn join(&mut self, terms: Vec<NodeId>, decides: bool) -> NodeId {
        let mut flat: Vec<NodeId> = Vec::with_capacity(terms.len());
        for term in terms {
            match self.node(term) {
                Node::Constant(value) if *value == decides => return term,
                Node::Constant(_) => {}
                // Large ones stay apart: copying them into every user of a macro would multiply them.
                Node::Or(inner) | Node::And(inner) if inner.len() > MAX_FLATTENED => flat.push(term),
                Node::Or(inner) if decides => flat.extend_from_slice(inner),
                Node::And(inner) if !decides => flat.extend_from_slice(inner),
                _ => flat.push(term),
            }
        }
        if decides {
            flat.sort_unstable();
            flat.dedup();
            flat = self.unite(flat);
        }
        flat.sort_by_key(|id| (self.nodes.get(*id).map_or(0, |info| info.cost), *id));
        flat.dedup();
        match flat.as_slice() {
            [] => self.constant(!decides),
            [only] => *only,
            _ if decides => self.intern(Node::Or(flat)),
            _ => self.intern(Node::And(flat)),
        }
    }

    /// Joins tests of the same kind on the same subject into one.
    fn unite(&mut self, terms: Vec<NodeId>) -> Vec<NodeId> {
        let mut groups: Vec<(Subject, Vec<NodeId>)> = Vec::new();
        let mut group_of: HashMap<(Subject, u8), usize> = HashMap::new();
        let mut rest = Vec::with_capacity(terms.len());
        for term in terms {
            let kind = match self.node(term) {
                Node::Check(check) => check.test.family().map(|family| (check.subject, family)),
                _ => None,
            };
            let Some((subject, family)) = kind else {
                rest.push(term);
                continue;
            };
            let group = *group_of.entry((subject, family)).or_insert(groups.len());
            match groups.get_mut(group) {
                Some((_, members)) => members.push(term),
                None => groups.push((subject, vec![term])),
            }
        }
        for (subject, members) in groups {
            let tests = members.iter().filter_map(|id| match self.node(*id) {
                Node::Check(check) => Some(&check.test),
                _ => None,
            });
            let united = if members.len() > 1 { Test::any_of(&tests.collect::<Vec<_>>()) } else { None };
            match united {
                Some(test) => rest.push(self.check(subject, test)),
                None => rest.extend(members),
            }
        }
        rest
    }

    fn intern(&mut self, node: Node) -> NodeId {
        if let Some(id) = self.ids.get(&node) {
            return *id;
        }
        let (checks, cost) = match &node {
            Node::Check(check) => (1, check.test.cost() + self.subject_cost(check.subject)),
            _ => (0, 0),
        };
        let mut info = Info { node: node.clone(), checks, depth: 0, cost };
        let parts = match &node {
            Node::Constant(_) | Node::Check(_) => &[],
            Node::Not(inner) => std::slice::from_ref(inner),
            Node::And(inner) | Node::Or(inner) => inner.as_slice(),
        };
        self.parts += 1 + parts.len();
        for part in parts.iter().filter_map(|id| self.nodes.get(*id)) {
            info.checks = info.checks.saturating_add(part.checks);
            info.cost = info.cost.saturating_add(part.cost);
            info.depth = info.depth.max(part.depth + 1);
        }
        let id = self.nodes.len();
        self.ids.insert(node, id);
        self.nodes.push(info);
        id
    }

    /// Fields that a sensor has to look up are asked for last.
    fn subject_cost(&self, subject: Subject) -> u32 {
        let Subject::Field(index) = subject else { return 0 };
        match self.fields.get(index).map_or("", |field| field.name.as_str()) {
            "proc.aname" | "proc.aexepath" | "proc.acmdline" | "proc.env" => 60,
            name if name.starts_with("proc.stdin") || name.starts_with("proc.stdout") => 40,
            name if name.starts_with("proc.p") && name != "proc.pid" => 4,
            "proc.cmdline" | "proc.args" | "lanner.script" => 4,
            _ => 0,
        }
    }

    /// The types that checks of the event type name: for all others the condition is the same.
    pub(crate) fn named_types(&self, root: NodeId) -> Vec<String> {
        let mut seen = vec![false; self.nodes.len()];
        let mut todo = vec![root];
        let mut types = Vec::new();
        while let Some(id) = todo.pop() {
            match seen.get_mut(id) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            match self.node(id) {
                Node::Check(check) if check.subject == Subject::EventType => {
                    types.extend(check.test.named_texts());
                }
                Node::Constant(_) | Node::Check(_) => {}
                Node::Not(inner) => todo.push(*inner),
                Node::And(inner) | Node::Or(inner) => todo.extend_from_slice(inner),
            }
        }
        types.sort();
        types.dedup();
        types
    }

    /// The condition for events of one type. `known` remembers what was simplified for the same type already.
    pub(crate) fn for_type(
        &mut self,
        root: NodeId,
        event_type: KnownType<'_>,
        known: &mut HashMap<NodeId, NodeId>,
    ) -> NodeId {
        if let Some(done) = known.get(&root) {
            return *done;
        }
        let simplified = match self.node(root).clone() {
            Node::Check(check) if check.subject == Subject::EventType => match event_type {
                KnownType::Named(name) => {
                    let matches = check.test.matches(&Value::Text(name.as_bytes().into()));
                    self.constant(matches)
                }
                KnownType::Unnamed if check.test.names_texts_only() => self.constant(false),
                KnownType::Unnamed => root,
            },
            Node::Constant(_) | Node::Check(_) => root,
            Node::Not(inner) => {
                let inner = self.for_type(inner, event_type, known);
                self.not(inner)
            }
            Node::And(inner) => {
                let inner = inner.into_iter().map(|id| self.for_type(id, event_type, known)).collect();
                self.and(inner)
            }
            Node::Or(inner) => {
                let inner = inner.into_iter().map(|id| self.for_type(id, event_type, known)).collect();
                self.or(inner)
            }
        };
        known.insert(root, simplified);
        simplified
    }
}
