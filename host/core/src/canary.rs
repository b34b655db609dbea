//! Is the new revision of a function as good as the old one? Both answer a part of the same requests at the same time; this
//! compares how they did. Pure: who asks when, and what becomes of the answer, is the host's business.
//!
//! Errors are judged as soon as they are seen, because each of them met somebody; slowness, when there is enough to compare.

use std::time::Duration;

/// What one revision answered during the canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub requests: u64,
    /// Traps, time-outs and answers of 500 and above.
    pub errors: u64,
    /// Until the answer began.
    pub median: Duration,
    pub p95: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too little was seen to say.
    Undecided,
    Good,
    Bad(String),
}

/// Errors in so many thousand requests are no reason, if the old revision has as many.
const TOLERATED: f64 = 0.001;
/// Errors that are a reason before the time is over.
const ENOUGH_ERRORS: u64 = 3;
/// Requests of each that make times comparable.
const COMPARABLE: u64 = 50;
/// Slower by this factor, and by an amount that is no noise.
const SLOWER: u32 = 3;
const NOISE: Duration = Duration::from_millis(3);

/// `over`: the time is over, so what was seen has to do.
pub fn judge(old: Sample, new: Sample, over: bool) -> Verdict {
    if new.errors > 0 && (over || new.errors >= ENOUGH_ERRORS) && new.rate() > 2.0 * old.rate() + TOLERATED {
        return Verdict::Bad(format!(
            "{} of {} requests failed, against {} of {} with the active revision",
            new.errors, new.requests, old.errors, old.requests
        ));
    }
    if let Some(why) = slower(old, new) {
        return Verdict::Bad(why);
    }
    if over { Verdict::Good } else { Verdict::Undecided }
}

/// Whether answers take much longer; nothing if there is too little to compare.
pub fn slower(old: Sample, new: Sample) -> Option<String> {
    if old.requests < COMPARABLE || new.requests < COMPARABLE {
        return None;
    }
    let much = |old: Duration, new: Duration| new > old * SLOWER + NOISE;
    let text = |what: &str, old: Duration, new: Duration| {
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        format!("{what} answers took {:.1} ms, against {:.1} ms with the active revision", ms(new), ms(old))
    };
    if much(old.median, new.median) {
        return Some(text("half of the", old.median, new.median));
    }
    // The slowest few depend on the machine's mood as well: both have to be far apart.
    much(old.p95 * 2, new.p95).then(|| text("one in twenty", old.p95, new.p95))
}

impl Sample {
    /// From the times of all answers, errors among them.
    pub fn of(mut times: Vec<Duration>, errors: u64) -> Self {
        times.sort_unstable();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
        Self { requests: times.len() as u64, errors, median: at(50), p95: at(95) }
    }

    fn rate(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
        let rate = self.errors as f64 / self.requests.max(1) as f64;
        rate
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(requests: u64, errors: u64, median_ms: u64) -> Sample {
        let median = Duration::from_millis(median_ms);
        Sample { requests, errors, median, p95: median * 2 }
    }

    #[test]
    fn errors_that_the_old_one_does_not_have_are_a_reason_at_once() {
        let old = sample(9000, 0, 2);
        assert_eq!(judge(old, sample(100, 2, 2), false), Verdict::Undecided);
        let why = "3 of 300 requests failed, against 0 of 9000 with the active revision";
        assert_eq!(judge(old, sample(300, 3, 2), false), Verdict::Bad(why.into()));
        assert!(matches!(judge(old, sample(100, 1, 2), true), Verdict::Bad(_)), "the time is over");
        assert_eq!(
            judge(old, sample(5000, 1, 2), true),
            Verdict::Good,
            "one in five thousand is nobody's fault"
        );
        // Where both fail, as on a full disk, the new one is not to blame.
        assert_eq!(judge(sample(9000, 900, 2), sample(1000, 110, 2), true), Verdict::Good);
    }

    #[test]
    fn ten_times_slower_is_a_reason_and_a_little_is_not() {
        let old = sample(500, 0, 2);
        let why = "half of the answers took 20.0 ms, against 2.0 ms with the active revision";
        assert_eq!(judge(old, sample(60, 0, 20), false), Verdict::Bad(why.into()));
        assert_eq!(judge(old, sample(60, 0, 5), true), Verdict::Good);
        assert_eq!(judge(old, sample(20, 0, 20), true), Verdict::Good, "too few to compare");
        let tail = Sample { p95: Duration::from_millis(90), ..sample(60, 0, 2) };
        assert!(matches!(judge(old, tail, false), Verdict::Bad(why) if why.starts_with("one in twenty")));
    }

    #[test]
    fn a_sample_has_its_times_in_order() {
        let times = (1..=100).rev().map(Duration::from_millis).collect();
        let sample = Sample::of(times, 4);
        assert_eq!((sample.requests, sample.errors), (100, 4));
        assert_eq!((sample.median, sample.p95), (Duration::from_millis(51), Duration::from_millis(96)));
        assert_eq!(Sample::of(vec![], 0), Sample::default());
    }

    proptest! {
        #[test]
        fn the_end_always_decides_and_the_same_is_always_good(
            requests in 0u64..100_000, errors in 0u64..100_000, median in 0u64..10_000, other in 0u64..100_000,
        ) {
            let one = sample(requests, errors.min(requests), median);
            prop_assert_eq!(judge(one, one, true), Verdict::Good);
            prop_assert_ne!(judge(sample(other, 0, median), one, true), Verdict::Undecided);
        }
    }
}
