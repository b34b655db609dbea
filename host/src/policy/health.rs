//! Whether a filter is well: after failures in a row it is taken out for a while, longer each time. Pure: times are
//! arguments.

use std::time::{Duration, Instant};

/// Failures in a row that take a filter out.
pub(super) const IN_A_ROW: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// After so many good batches a filter's past is forgotten.
const FORGOTTEN: u32 = 100;

#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    successes: u32,
    /// How often it was taken out.
    times_out: u32,
    out_until: Option<Instant>,
}

impl Health {
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        if self.successes >= FORGOTTEN && self.out_until.is_none() {
            self.times_out = 0;
        }
    }

    /// Whether this failure is the one that takes it out.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.successes = 0;
        if self.failures < IN_A_ROW || self.out_until.is_some() {
            return false;
        }
        self.postpone(now);
        true
    }

    /// Tried again in vain: the next pause is twice as long.
    pub(super) fn postpone(&mut self, now: Instant) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.times_out.min(16)).min(LONGEST_PAUSE);
        self.times_out = self.times_out.saturating_add(1);
        self.out_until = now.checked_add(pause);
    }

    pub(super) fn back(&mut self) {
        self.failures = 0;
        self.out_until = None;
    }

    pub(super) fn is_out(&self) -> bool {
        self.out_until.is_some()
    }

    /// Out, and its pause is over.
    pub(super) fn due(&self, now: Instant) -> bool {
        self.out_until.is_some_and(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_take_a_filter_out_and_each_time_for_longer() {
        let start = Instant::now();
        let mut health = Health::default();
        for _ in 0..3 {
            for _ in 1..IN_A_ROW {
                assert!(!health.failed(start));
            }
            health.succeeded();
        }
        assert!(!health.is_out());
        for pause in [10, 20, 40] {
            let taken = (0..IN_A_ROW).filter(|_| health.failed(start)).count();
            assert_eq!(taken, 1, "taken out once");
            assert!(!health.due(start + Duration::from_secs(pause - 1)));
            assert!(health.due(start + Duration::from_secs(pause)));
            health.back();
        }
        (0..FORGOTTEN).for_each(|_| health.succeeded());
        (0..IN_A_ROW).for_each(|_| {
            assert!(health.failures < IN_A_ROW && health.failed(start) == (health.failures == IN_A_ROW));
        });
        assert!(health.due(start + Duration::from_secs(10)), "its past is forgotten");
        (0..40).for_each(|_| health.postpone(start));
        assert!(health.due(start + LONGEST_PAUSE), "no pause is longer");
    }
}
