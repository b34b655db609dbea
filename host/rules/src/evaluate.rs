//! Compiled conditions over one event.
//!
//! This runs at every open of a package manager: the event's type selects the rules that can match at all, shared parts
//! are evaluated once, and nothing is allocated until a rule matches. It never fails.

use std::sync::Arc;

use crate::plan::{Check, Node, NodeId, Plan, Subject};
use crate::{Event, Value};

/// A condition ready to run. Nodes are shared between the conditions of a rule set.
#[derive(Debug)]
pub(crate) struct Condition {
    kind: ConditionKind,
    /// Where the answer is kept during one event, if more than one place asks.
    slot: Option<Slot>,
}

#[derive(Debug)]
enum ConditionKind {
    Constant(bool),
    Check(Arc<Check>),
    Not(Arc<Condition>),
    And(Box<[Arc<Condition>]>),
    Or(Box<[Arc<Condition>]>),
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    word: usize,
    bit: u64,
}

/// Answers of shared nodes: known or not, and which. On the stack; nodes beyond it are evaluated again.
pub(crate) struct Memo {
    known: [u64; MEMO_WORDS],
    value: [u64; MEMO_WORDS],
}

const MEMO_WORDS: usize = 16;

/// Turns the plan's nodes into conditions; nodes that no root reaches are left out.
pub(crate) fn build(plan: &Plan, roots: &[NodeId]) -> Vec<Option<Arc<Condition>>> {
    let mut uses = vec![0_u32; plan.len()];
    for root in roots {
        count_uses(plan, *root, &mut uses);
    }
    let mut built: Vec<Option<Arc<Condition>>> = Vec::with_capacity(plan.len());
    let mut slots = 0;
    // A node is made after its parts, so its id is larger than theirs.
    for (id, uses) in uses.iter().enumerate() {
        if *uses == 0 {
            built.push(None);
            continue;
        }
        let part = |id: &NodeId| built.get(*id).cloned().flatten();
        let kind = match plan.node(id) {
            Node::Constant(value) => ConditionKind::Constant(*value),
            Node::Check(check) => ConditionKind::Check(Arc::clone(check)),
            Node::Not(inner) => match part(inner) {
                Some(inner) => ConditionKind::Not(inner),
                None => ConditionKind::Constant(false),
            },
            Node::And(inner) => ConditionKind::And(inner.iter().filter_map(part).collect()),
            Node::Or(inner) => ConditionKind::Or(inner.iter().filter_map(part).collect()),
        };
        let slot = (*uses > 1 && slots < MEMO_WORDS * 64).then(|| {
            slots += 1;
            Slot { word: (slots - 1) / 64, bit: 1 << ((slots - 1) % 64) }
        });
        built.push(Some(Arc::new(Condition { kind, slot })));
    }
    built
}

fn count_uses(plan: &Plan, root: NodeId, uses: &mut [u32]) {
    let mut todo = vec![root];
    while let Some(id) = todo.pop() {
        let Some(count) = uses.get_mut(id) else { continue };
        *count = count.saturating_add(1);
        if *count > 1 {
            continue;
        }
        match plan.node(id) {
            Node::Constant(_) | Node::Check(_) => {}
            Node::Not(inner) => todo.push(*inner),
            Node::And(inner) | Node::Or(inner) => todo.extend_from_slice(inner),
        }
    }
}

impl Memo {
    pub(crate) fn new() -> Self {
        Self { known: [0; MEMO_WORDS], value: [0; MEMO_WORDS] }
    }

    fn get(&self, slot: Slot) -> Option<bool> {
        let known = self.known.get(slot.word)? & slot.bit != 0;
        known.then(|| self.value.get(slot.word).is_some_and(|word| word & slot.bit != 0))
    }

    fn set(&mut self, slot: Slot, answer: bool) {
        if let Some(word) = self.known.get_mut(slot.word) {
            *word |= slot.bit;
        }
        if let Some(word) = self.value.get_mut(slot.word).filter(|_| answer) {
            *word |= slot.bit;
        }
    }
}

impl Condition {
    pub(crate) fn holds(&self, event: &dyn Event, memo: &mut Memo) -> bool {
        let Some(slot) = self.slot else { return self.answer(event, memo) };
        if let Some(known) = memo.get(slot) {
            return known;
        }
        let answer = self.answer(event, memo);
        memo.set(slot, answer);
        answer
    }

    fn answer(&self, event: &dyn Event, memo: &mut Memo) -> bool {
        match &self.kind {
            ConditionKind::Constant(value) => *value,
            ConditionKind::Check(check) => match check.subject {
                Subject::Field(index) => check.test.matches(&event.field(index)),
                Subject::EventType => check.test.matches(&Value::Text(event.event_type().as_bytes().into())),
            },
            ConditionKind::Not(inner) => !inner.holds(event, memo),
            ConditionKind::And(inner) => inner.iter().all(|part| part.holds(event, memo)),
            ConditionKind::Or(inner) => inner.iter().any(|part| part.holds(event, memo)),
        }
    }
}
