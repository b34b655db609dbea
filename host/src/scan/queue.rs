//! Which scan runs next: owners take turns, so that one who submits a thousand delays another by one scan and not by a
//! thousand. Among an owner's own, first come, first served.
//!
//! An index and nothing more: what it holds is on disk.

use std::collections::{BTreeMap, VecDeque};

use lanner_core::{Owner, ScanId};

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// No owner is here without a scan.
    waiting: BTreeMap<Owner, VecDeque<ScanId>>,
    /// Whose turn was the last.
    last: Option<Owner>,
    length: usize,
}

impl Queue {
    pub(super) fn push(&mut self, owner: Owner, scan: ScanId) {
        self.waiting.entry(owner).or_default().push_back(scan);
        self.length += 1;
    }

    pub(super) fn pop(&mut self) -> Option<ScanId> {
        let owner = self.turn()?;
        let scans = self.waiting.get_mut(&owner)?;
        let scan = scans.pop_front()?;
        if scans.is_empty() {
            self.waiting.remove(&owner);
        }
        self.last = Some(owner);
        self.length -= 1;
        Some(scan)
    }

    /// The next owner after the last one, in the order of their names, round and round.
    fn turn(&self) -> Option<Owner> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.last.as_ref().and_then(|last| {
            let mut behind = self.waiting.range::<Owner, _>((Excluded(last), Unbounded));
            behind.next()
        });
        after.or_else(|| self.waiting.first_key_value()).map(|(owner, _)| owner.clone())
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, scan: &ScanId) -> bool {
        let before = self.length;
        self.waiting.values_mut().for_each(|scans| scans.retain(|queued| queued != scan));
        self.waiting.retain(|_, scans| !scans.is_empty());
        self.length = self.waiting.values().map(VecDeque::len).sum();
        self.length < before
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
