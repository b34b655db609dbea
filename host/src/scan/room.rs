//! How many scans run beside each other: as many as the settings say, or as many as there was room for when a runner last had
//! none for more. Whatever ends makes room for another; beyond that one at a time tries whether there is more by now.
//!
//! It decides and nothing more: who asks it holds the scans, and the clock.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    /// Between two that try.
    pause: Duration,
    found: Option<Found>,
    /// Nobody has had a place since then.
    none_since: Option<Instant>,
}

#[derive(Debug)]
struct Found {
    /// So many had a place when another one had none.
    places: usize,
    /// From then on one more may try.
    again: Instant,
}

impl Room {
    pub(super) fn new(most: usize, pause: Duration) -> Self {
        Self { most, pause, found: None, none_since: None }
    }

    /// Whether another may begin beside so many; whoever asks then begins it.
    pub(super) fn takes_one(&mut self, running: usize, now: Instant) -> bool {
        let Some(again) = self.again(running) else { return running < self.most };
        let is_over = now >= again;
        if is_over {
            self.found = Some(Found { places: running + 1, again: now + self.pause });
        }
        is_over
    }

    /// One that had begun was told that there is no room beside so many others.
    pub(super) fn is_full(&mut self, others: usize, now: Instant) {
        self.found = Some(Found { places: others, again: now + self.pause });
        self.none_since.get_or_insert(now);
    }

    /// One had a place: there may be more.
    pub(super) fn had_one(&mut self, now: Instant) {
        self.none_since = None;
        self.ask_again(now);
    }

    /// The next may try without a pause.
    pub(super) fn ask_again(&mut self, now: Instant) {
        if let Some(found) = &mut self.found {
            found.again = now;
        }
    }

    /// For how long nobody has had a place, though somebody asked.
    pub(super) fn none_for(&self, now: Instant) -> Duration {
        self.none_since.map(|since| now - since).unwrap_or_default()
    }

    /// When another may begin beside so many, should nothing end before; nothing where that is no question of time.
    pub(super) fn again(&self, running: usize) -> Option<Instant> {
        let found = self.found.as_ref().filter(|found| running >= found.places && running < self.most);
        found.map(|found| found.again)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    /// Somewhere with so many places, and scans without end that want one.
    struct Somewhere {
        room: Room,
        places: usize,
        running: usize,
        refused: usize,
        now: Instant,
    }

    impl Somewhere {
        fn new(most: usize, places: usize) -> Self {
            Self { room: Room::new(most, PAUSE), places, running: 0, refused: 0, now: Instant::now() }
        }

        /// All begin that may, as one does that asks before the first has its answer; then each has its answer.
        fn turn(&mut self) {
            let mut begun = 0;
            while self.room.takes_one(self.running + begun, self.now) {
                begun += 1;
                assert!(self.running + begun <= self.room.most, "more than {}", self.room.most);
            }
            for left in (0..begun).rev() {
                if self.running < self.places {
                    self.running += 1;
                    self.room.had_one(self.now);
                } else {
                    self.refused += 1;
                    self.room.is_full(self.running + left, self.now);
                }
            }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }
    }

    #[test]
    fn a_quota_is_found_once_and_then_tried_by_one_at_a_time() {
        let mut cluster = Somewhere::new(50, 10);
        cluster.turn();
        assert_eq!((cluster.running, cluster.refused), (10, 40));
        for _ in 0..10 {
            cluster.turn();
        }
        assert_eq!(cluster.refused, 40, "nobody tries before the pause is over");
        for _ in 0..6 {
            cluster.pass(PAUSE);
            cluster.turn();
        }
        assert_eq!((cluster.running, cluster.refused), (10, 46));
        // One that ends makes room at once.
        cluster.running -= 1;
        cluster.turn();
        assert_eq!(cluster.running, 10);
    }

    #[test]
    fn a_quota_that_grows_is_used_soon() {
        let mut cluster = Somewhere::new(50, 0);
        cluster.turn();
        assert_eq!((cluster.running, cluster.refused), (0, 50));
        cluster.places = 100;
        cluster.pass(PAUSE);
        assert_eq!(cluster.room.none_for(cluster.now), PAUSE);
        for _ in 0..50 {
            cluster.turn();
        }
        assert_eq!((cluster.running, cluster.refused), (50, 50));
        assert_eq!(cluster.room.none_for(cluster.now), Duration::ZERO);
    }

    proptest! {
        /// Whatever a quota does and whatever ends when: the bound holds, few ask in vain, and no place stays empty for ever.
        #[test]
        fn the_bound_holds_and_places_are_used(
            most in 1usize..30,
            steps in prop::collection::vec((0usize..40, 0usize..10, 0u64..8), 1..60),
        ) {
            let mut cluster = Somewhere::new(most, most);
            let (mut seconds, mut ended) = (0, 0);
            for (places, ends, passed) in steps {
                cluster.places = places;
                let ends = ends.min(cluster.running);
                cluster.running -= ends;
                ended += ends;
                cluster.pass(Duration::from_secs(passed));
                seconds += passed;
                cluster.turn();
            }
            let tries = usize::try_from(seconds / PAUSE.as_secs()).unwrap() + 1;
            prop_assert!(cluster.refused <= 2 * (most + ended) + tries, "{} in vain", cluster.refused);
            for _ in 0..=most {
                cluster.pass(PAUSE);
                cluster.turn();
            }
            prop_assert_eq!(cluster.running.max(cluster.places.min(most)), cluster.running);
        }
    }
}
