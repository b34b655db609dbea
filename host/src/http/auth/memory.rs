//! What was found out of tokens, for a while, by their digests. Bounded: who comes when it is full takes the place of what
//! would have been forgotten next. It has no clock.

use std::collections::HashMap;
use std::time::Instant;

pub(super) type Key = [u8; 32];

pub(super) struct Memory<V> {
    max: usize,
    kept: HashMap<Key, (Instant, V)>,
}

impl<V: Clone> Memory<V> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, kept: HashMap::new() }
    }

    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<V> {
        let (until, value) = self.kept.get(key)?;
        if *until > now {
            return Some(value.clone());
        }
        self.kept.remove(key);
        None
    }

    pub(super) fn put(&mut self, key: Key, value: V, until: Instant, now: Instant) {
        if until <= now {
            return;
        }
        if self.kept.len() >= self.max {
            self.kept.retain(|_, (until, _)| *until > now);
        }
        if self.kept.len() >= self.max {
            let next = self.kept.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| *key);
            if let Some(next) = next {
                self.kept.remove(&next);
            }
        }
        self.kept.insert(key, (until, value));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_found_out_is_forgotten_when_its_time_is_over() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut memory = Memory::new(9);
        memory.put([1; 32], "one", now + second, now);
        assert_eq!(memory.get(&[1; 32], now), Some("one"));
        assert_eq!(memory.get(&[2; 32], now), None);
        assert_eq!(memory.get(&[1; 32], now + second), None);
        assert_eq!(memory.get(&[1; 32], now), None, "it is gone, not only hidden");
        memory.put([1; 32], "late", now, now);
        assert_eq!(memory.get(&[1; 32], now), None);
    }

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let now = Instant::now();
        let mut memory = Memory::new(3);
        for n in 0..100 {
            memory.put([n; 32], n, now + Duration::from_secs(200 - u64::from(n)), now);
            assert!(memory.kept.len() <= 3);
        }
        let there = |memory: &mut Memory<u8>, n: u8| memory.get(&[n; 32], now).is_some();
        assert!(there(&mut memory, 0) && there(&mut memory, 1) && there(&mut memory, 99));
    }
}
