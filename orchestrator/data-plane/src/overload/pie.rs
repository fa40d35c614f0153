//! The PIE controller (RFC 8033): the share of arrivals to refuse so that the delay of a queue stays near its target.
//!
//! Plain values in and out. The constants are the RFC's, except the target (15 ms there), which fits a server rather
//! than a router: a request costs tens of microseconds where a packet costs one.

/// Target delay, microseconds.
const TARGET_US: f64 = 20_000.0;
/// Minimum time between two updates, microseconds (`T_UPDATE`). A later update counts as several.
pub(super) const UPDATE_US: u64 = 15_000;
/// Length of a burst after a quiet time that is admitted as a whole, microseconds (`MAX_BURST`).
const BURST_US: u64 = 150_000;
/// Gains of the distance from the target and of the trend, per second of delay.
const ALPHA: f64 = 0.125;
const BETA: f64 = 1.25;
/// Updates that a late one counts as, at most.
const MAX_STEPS: f64 = 10.0;
/// Largest change of a share above 0.1.
const STEP: f64 = 0.02;
/// Delay beyond which the share rises whatever the trend, microseconds.
const EXCESS_US: f64 = 250_000.0;
/// Factor of the share per update without delay.
const DECAY: f64 = 0.98;
/// Share below which the controller resets once delay is negligible.
const SMALL: f64 = 0.01;

/// The controller of one queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pie {
    share: f64,
    delay_us: f64,
    burst_us: u64,
}

impl Default for Pie {
    fn default() -> Self {
        Self { share: 0.0, delay_us: 0.0, burst_us: BURST_US }
    }
}

impl Pie {
    /// The share of arrivals to refuse, 0 to 1, after `passed_us` in which the minimum delay was `delay_us`.
    pub(super) fn update(&mut self, delay_us: u64, passed_us: u64) -> f64 {
        let delay_us = delay_us as f64;
        let before_us = std::mem::replace(&mut self.delay_us, delay_us);
        let steps = (passed_us as f64 / UPDATE_US as f64).clamp(1.0, MAX_STEPS);
        let change = (ALPHA * (delay_us - TARGET_US) * steps + BETA * (delay_us - before_us)) / 1e6;
        let change = change * self.caution();
        let change = if self.share >= 0.1 { change.min(STEP * steps) } else { change };
        let excess = if delay_us > EXCESS_US { STEP * steps } else { 0.0 };
        self.share = (self.share + change + excess).clamp(0.0, 1.0);
        // The RFC lets the share decay at a delay of 0, which the scheduling of a task never has.
        let is_quiet = delay_us < TARGET_US / 2.0 && before_us < TARGET_US / 2.0;
        if is_quiet {
            self.share *= DECAY.powf(steps);
        }
        if is_quiet && self.share < SMALL {
            *self = Self { delay_us, ..Self::default() };
            return 0.0;
        }
        self.burst_us = self.burst_us.saturating_sub(passed_us);
        if self.burst_us > 0 { 0.0 } else { self.share }
    }

    /// Small shares change in small steps (RFC 8033, section 4.2).
    fn caution(&self) -> f64 {
        match self.share {
            share if share < 1e-6 => 1.0 / 2048.0,
            share if share < 1e-5 => 1.0 / 512.0,
            share if share < 1e-4 => 1.0 / 128.0,
            share if share < 1e-3 => 1.0 / 32.0,
            share if share < 1e-2 => 1.0 / 8.0,
            share if share < 1e-1 => 1.0 / 2.0,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use service::micros;

    use super::*;

    /// Simulates `seconds` of a queue that is offered `load` times its capacity: the final delay, and the mean refused
    /// share of the second half.
    fn closed_loop(load: f64, seconds: u64) -> (Duration, f64) {
        let (mut pie, mut queue, mut share, mut shares) = (Pie::default(), Duration::ZERO, 0.0, Vec::new());
        for _ in 0..seconds * 1_000_000 / UPDATE_US {
            let update = Duration::from_micros(UPDATE_US);
            queue = (queue + update.mul_f64(load * (1.0 - share))).saturating_sub(update);
            share = pie.update(micros(queue), UPDATE_US);
            shares.push(share);
        }
        let half = &shares[shares.len() / 2..];
        (queue, half.iter().sum::<f64>() / half.len() as f64)
    }

    #[test]
    fn the_excess_is_refused_and_the_delay_stays_near_its_target() {
        for (load, refused) in [(1.25, 0.2), (2.0, 0.5), (4.0, 0.75)] {
            let (delay, share) = closed_loop(load, 20);
            assert!((share - refused).abs() < 0.03, "at {load} times the load {share} was refused, expected {refused}");
            assert!(delay < Duration::from_millis(100), "at {load} times the load the delay is {delay:?}");
        }
    }

    #[test]
    fn below_capacity_and_in_a_short_burst_nothing_is_refused() {
        assert_eq!(closed_loop(0.9, 20).1, 0.0);
        let mut pie = Pie::default();
        for _ in 0..BURST_US / UPDATE_US - 1 {
            assert_eq!(pie.update(200_000, UPDATE_US), 0.0, "a burst");
        }
    }

    #[test]
    fn a_persistent_delay_raises_the_share_within_a_second_and_its_end_clears_it_within_ten() {
        let mut pie = Pie::default();
        let share = (0..66).map(|_| pie.update(200_000, UPDATE_US)).last().unwrap();
        assert!(share > 0.1, "{share} after a second of 200 ms");
        let updates = 10_000_000 / UPDATE_US;
        assert_eq!((0..updates).map(|_| pie.update(0, UPDATE_US)).last().unwrap(), 0.0);
    }
}
