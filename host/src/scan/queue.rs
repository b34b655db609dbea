//! Which scan runs next: owners take turns, so that one who submits a thousand delays another by one scan and not by a
//! thousand. Among an owner's own, first come, first served.
//!
//! An index and nothing more: what it holds is on disk.

use std::collections::{BTreeMap, BTreeSet};

use lanner_core::{Owner, ScanId};

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By their ids, which are in the order of their submission. No owner is here without a scan.
    waiting: BTreeMap<Owner, BTreeSet<ScanId>>,
    /// Whose turn was the last.
    last: Option<Owner>,
    /// Whose turn came to nothing, and is still theirs.
    next: Option<Owner>,
    length: usize,
}

impl Queue {
    pub(super) fn push(&mut self, owner: Owner, scan: ScanId) {
        if self.waiting.entry(owner).or_default().insert(scan) {
            self.length += 1;
        }
    }

    /// One that was popped in vain: it is its owner's next again, and the turn was none.
    pub(super) fn put_back(&mut self, owner: Owner, scan: ScanId) {
        self.next = Some(owner.clone());
        self.push(owner, scan);
    }

    pub(super) fn pop(&mut self) -> Option<ScanId> {
        let owner = self.turn()?;
        let scans = self.waiting.get_mut(&owner)?;
        let scan = scans.pop_first()?;
        if scans.is_empty() {
            self.waiting.remove(&owner);
        }
        self.last = Some(owner);
        self.length -= 1;
        Some(scan)
    }

    /// The next owner after the last one, in the order of their names, round and round.
    fn turn(&mut self) -> Option<Owner> {
        use std::ops::Bound::{Excluded, Unbounded};
        if let Some(next) = self.next.take().filter(|next| self.waiting.contains_key(next)) {
            return Some(next);
        }
        let after = self.last.as_ref().and_then(|last| {
            let mut behind = self.waiting.range::<Owner, _>((Excluded(last), Unbounded));
            behind.next()
        });
        after.or_else(|| self.waiting.first_key_value()).map(|(owner, _)| owner.clone())
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, scan: &ScanId) -> bool {
        let was = self.waiting.values_mut().any(|scans| scans.remove(scan));
        self.waiting.retain(|_, scans| !scans.is_empty());
        self.length -= usize::from(was);
        was
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(number: u64) -> ScanId {
        ScanId::new(number, [0; 10])
    }

    fn queue(of: &[(&str, u64)]) -> Queue {
        let mut queue = Queue::default();
        of.iter().for_each(|(owner, number)| queue.push(Owner((*owner).to_owned()), scan(*number)));
        queue
    }

    #[test]
    fn owners_take_turns_and_each_is_served_in_order() {
        let mut queue = queue(&[("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)]);
        let mut order = Vec::new();
        while let Some(next) = queue.pop() {
            order.push(next);
        }
        assert_eq!(order, [1, 4, 5, 2, 6, 3].map(scan));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_is_removed_is_not_run_and_takes_no_turn() {
        let mut queue = queue(&[("a", 1), ("b", 2), ("c", 3)]);
        assert!(queue.remove(&scan(2)) && !queue.remove(&scan(2)));
        assert_eq!(
            (queue.len(), queue.pop(), queue.pop(), queue.pop()),
            (2, Some(scan(1)), Some(scan(3)), None)
        );
    }

    #[test]
    fn what_is_put_back_is_the_next_of_its_owner() {
        let mut queue = queue(&[("a", 1), ("a", 2), ("a", 3), ("b", 4)]);
        let popped = [queue.pop(), queue.pop(), queue.pop()].map(Option::unwrap);
        assert_eq!(popped, [1, 4, 2].map(scan));
        // As they are refused, in whatever order.
        for number in [2, 1] {
            queue.put_back(Owner("a".into()), scan(number));
        }
        assert_eq!(queue.len(), 3);
        assert_eq!([queue.pop(), queue.pop(), queue.pop()].map(Option::unwrap), [1, 2, 3].map(scan));
    }

    /// Where each place that becomes free is followed by one that asks in vain.
    #[test]
    fn a_turn_that_came_to_nothing_is_given_back() {
        let mut queue = queue(&[("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("b", 6)]);
        let mut ran = Vec::new();
        for _ in 0..4 {
            ran.push(queue.pop().unwrap());
            let vain = queue.pop().unwrap();
            let owner = if vain < scan(4) { "a" } else { "b" };
            queue.put_back(Owner(owner.into()), vain);
        }
        assert_eq!(ran, [1, 4, 2, 5].map(scan));
    }

    proptest! {
        /// However many another has, nobody waits for more than one scan of each other owner.
        #[test]
        fn nobody_waits_for_more_than_a_round(pushed in prop::collection::vec(0u8..5, 1..60), popped in 0usize..40) {
            let mut queue = Queue::default();
            for (number, owner) in pushed.iter().enumerate() {
                queue.push(Owner(format!("o{owner}")), scan(number as u64));
            }
            for _ in 0..popped.min(pushed.len()) {
                queue.pop();
            }
            queue.push(Owner("new".into()), scan(1000));
            let others = queue.waiting.len() - 1;
            let place = (0..).take_while(|_| queue.pop() != Some(scan(1000))).count();
            prop_assert!(place <= others, "{place} before it, of {others} owners");
        }
    }
}
