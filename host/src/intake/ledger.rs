//! What was received from one relay, and up to where all of it is dealt with.
//!
//! A line is dealt with when its alert is stored, or counted and shown as nobody's. Lines may be dealt with in any order;
//! what is acknowledged is the longest unbroken row of them, so that a relay may forget it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    received: u64,
    acknowledged: u64,
    /// Dealt with, beyond the first that is not.
    done: BTreeSet<u64>,
}

/// The duty to say that a line is dealt with. One that is dropped is never acknowledged, and the line comes again.
#[derive(Debug)]
pub(crate) struct Ticket {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Ledger {
    pub(super) fn new(acknowledged: u64) -> Arc<Self> {
        let state = State { received: acknowledged, acknowledged, done: BTreeSet::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// The last line received, and the last of those that are all dealt with.
    pub(super) fn levels(&self) -> (u64, u64) {
        let state = self.state();
        (state.received, state.acknowledged)
    }

    /// A ticket for this line if it is the next one.
    pub(super) fn receive(self: &Arc<Self>, number: u64) -> Option<Ticket> {
        let mut state = self.state();
        if number != state.received + 1 {
            return None;
        }
        state.received = number;
        Some(Ticket { ledger: self.clone(), number })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    pub(crate) fn done(self) {
        let mut state = self.ledger.state();
        state.done.insert(self.number);
        while state.done.first() == Some(&(state.acknowledged + 1)) {
            state.done.pop_first();
            state.acknowledged += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unbroken_row_is_acknowledged_and_only_the_next_line_is_received() {
        let ledger = Ledger::new(10);
        assert!(ledger.receive(10).is_none() && ledger.receive(12).is_none());
        let tickets: Vec<_> = (11..=13).map(|n| ledger.receive(n).unwrap()).collect();
        let [first, second, third] = tickets.try_into().unwrap();
        third.done();
        assert_eq!(ledger.levels(), (13, 10));
        first.done();
        assert_eq!(ledger.levels(), (13, 11));
        drop(second);
        assert_eq!(ledger.levels(), (13, 11), "a lost ticket is no acknowledgement");
    }
}
