//! Exponential back-off with jitter.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// The delays between attempts that fail one after the other.
#[derive(Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    /// Upper bound of the next delay.
    next: Duration,
    random: Pcg64,
}

impl Backoff {
    /// Begins with delays of at most `initial`, which double until they reach `max`. The seed determines the jitter.
    #[must_use]
    pub fn new(initial: Duration, max: Duration, seed: u64) -> Self {
        Self { initial, max, next: initial, random: Pcg64::seed_from_u64(seed) }
    }

    /// Returns the delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        self.next_delay_below(self.max)
    }

    /// Returns the delay before the next attempt, with another upper bound than usual: the last failure suggests to try
    /// less or more often.
    pub fn next_delay_below(&mut self, max: Duration) -> Duration {
        let bound = self.next.min(max);
        self.next = (bound * 2).min(max);
        // Half of the delay is jitter, so that components that failed together do not try again in step.
        bound.mul_f64(self.random.random_range(0.5..1.0))
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn delays_double_up_to_the_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(ms(50), ms(250), 7);
        for round in 0..2 {
            for bound in [50, 100, 200, 250, 250] {
                let delay = backoff.next_delay();
                assert!((ms(bound) / 2..ms(bound)).contains(&delay), "round {round}: {delay:?} of {bound} ms");
            }
            backoff.reset();
        }
    }

    #[test]
    fn another_bound_applies_to_one_delay() {
        let mut backoff = Backoff::new(ms(200), ms(250), 7);
        let delays = [5000, 5000, 5000, 250, 5000].map(|max| backoff.next_delay_below(ms(max)));
        for (delay, bound) in delays.into_iter().zip([200, 400, 800, 250, 250]) {
            assert!((ms(bound) / 2..ms(bound)).contains(&delay), "{delay:?} of {bound} ms");
        }
    }

    #[test]
    fn a_seed_determines_the_delays() {
        let delays = |seed| {
            let mut backoff = Backoff::new(ms(50), ms(250), seed);
            std::array::from_fn::<_, 4, _>(|_| backoff.next_delay())
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
    }
}
