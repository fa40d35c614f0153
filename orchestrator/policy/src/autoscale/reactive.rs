//! Autoscaling `reactive`, the default: demand is an event.
//!
//! Waiting invocations beyond free and starting capacity create sandboxes at once, and never more than these. Sandboxes
//! are scaled down if the greatest demand of the last stable window did not need them, and the last ones after the
//! keep-alive without demand. Only demand creates sandboxes, a window never does.

use std::time::Duration;

use model::Scaling;

use super::{Decision, Demand, Policy, Rule, Sample, Supply, peaks::Peaks};

pub(super) const POLICY: Policy = Policy {
    name: "reactive",
    about: "starts what waiting invocations lack at once; gives up what a whole stable window did not need",
    uses_keep_alive: true,
    start: |scaling, _| Box::new(Reactive::new(scaling)),
};

/// Report period of data planes: a peak is known at most that late and is held that much longer.
const SAMPLE_PERIOD_MS: u64 = 1_000;
/// A data plane without a report for this long has no peak any more: two reports and the time that one may be late.
const SOURCE_STALE_MS: u64 = 3 * SAMPLE_PERIOD_MS;
/// Retry period while surplus was not removed yet (busy, or idle too briefly).
const SURPLUS_RETRY_MS: u64 = 1_000;
/// Longest window, about a year: far from the range of milliseconds, so that sums cannot overflow.
const MAX_WINDOW_MS: u64 = 1 << 35;
/// Resolution of peaks within the stable window, which bounds their memory.
const BUCKETS_PER_WINDOW: u64 = 64;

/// The autoscaler of one function.
#[derive(Debug)]
struct Reactive {
    min: u32,
    max: u32,
    stable_window_ms: u64,
    keep_alive_ms: u64,
    /// The greatest demand (waiting + running) of each bucket of the window, by the end of the bucket in milliseconds.
    /// In invocations rather than sandboxes, so that it stays valid when the concurrency changes.
    peaks: Peaks,
    /// The newest peak of each data plane that has one; empty when idle.
    sources: Vec<Source>,
    /// Last known demand; `None` before the function is first seen.
    last_active_ms: Option<u64>,
    /// The last decision saw demand.
    is_busy: bool,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    name: u32,
    peak: u32,
    at_ms: u64,
}

impl Reactive {
    fn new(scaling: &Scaling) -> Self {
        let mut new = Self {
            min: 0,
            max: 0,
            stable_window_ms: 0,
            keep_alive_ms: 0,
            peaks: Peaks::default(),
            sources: Vec::new(),
            last_active_ms: None,
            is_busy: false,
        };
        new.retune(scaling, 0);
        new
    }

    /// Records a total of waiting and running invocations.
    fn note(&mut self, now_ms: u64, invocations: u32) {
        let bucket_ms = (self.stable_window_ms / BUCKETS_PER_WINDOW).max(1);
        // At the end of the bucket, so that a peak is held for a whole window at least.
        self.peaks.record(now_ms.next_multiple_of(bucket_ms), invocations);
    }

    /// Milliseconds for which a peak is held.
    fn hold_ms(&self) -> u64 {
        self.stable_window_ms + SAMPLE_PERIOD_MS
    }

    /// Forgets everything older than the window.
    fn forget(&mut self, now_ms: u64) {
        self.peaks.forget_before((now_ms + 1).saturating_sub(self.hold_ms()));
        self.sources.retain(|source| source.at_ms + SOURCE_STALE_MS > now_ms);
        if self.sources.is_empty() {
            // Most functions are idle, so they keep no memory for this.
            self.sources = Vec::new();
        }
    }

    /// Milliseconds since the last demand, updated with the current one.
    fn idle_ms(&mut self, now_ms: u64, is_busy: bool) -> u64 {
        let was_busy = std::mem::replace(&mut self.is_busy, is_busy);
        // Sandboxes found for the first time may just have been used.
        if is_busy || was_busy || self.last_active_ms.is_none() {
            self.last_active_ms = Some(now_ms);
        }
        now_ms.saturating_sub(self.last_active_ms.unwrap_or(now_ms))
    }

    /// Milliseconds until fewer sandboxes may be desired without an event: the peak leaves the window, the keep-alive
    /// ends, or surplus has become idle.
    fn again_in_ms(&self, now_ms: u64, idle_ms: u64, exists: u32, wanted: u32) -> Option<u64> {
        if exists <= self.min {
            return None;
        }
        let surplus = (exists > wanted).then_some(SURPLUS_RETRY_MS);
        let keep_alive = (!self.is_busy && idle_ms < self.keep_alive_ms).then(|| self.keep_alive_ms - idle_ms);
        let window = self.peaks.max_key().map(|key| (key + self.hold_ms()).saturating_sub(now_ms));
        [surplus, keep_alive, window].into_iter().flatten().min().map(|ms| ms.max(1))
    }
}

impl Rule for Reactive {
    fn retune(&mut self, scaling: &Scaling, _concurrency: u32) {
        self.max = scaling.upper_bound();
        self.min = scaling.min.min(self.max);
        self.stable_window_ms = window_ms(scaling.stable_window);
        self.keep_alive_ms = window_ms(scaling.keep_alive());
    }

    fn record(&mut self, now_ms: u64, source: u32, sample: &Sample) {
        self.forget(now_ms);
        let peak = sample.peak.max(sample.waiting.saturating_add(sample.running));
        if peak > 0 || sample.requests > 0 {
            self.last_active_ms = Some(now_ms);
        }
        self.sources.retain(|known| known.name != source);
        if peak == 0 {
            return;
        }
        self.sources.push(Source { name: source, peak, at_ms: now_ms });
        // Peaks of several data planes may have been at different times: their sum is an upper bound.
        let together = self.sources.iter().fold(0u32, |sum, source| sum.saturating_add(source.peak));
        self.note(now_ms, together);
    }

    fn decide(&mut self, now_ms: u64, demand: Demand, supply: Supply) -> Decision {
        let concurrency = u64::from(supply.concurrency.max(1));
        let exists = supply.ready.saturating_add(supply.starting);
        let demanded = demand.waiting.saturating_add(demand.running);
        let idle_ms = self.idle_ms(now_ms, demanded > 0);
        self.forget(now_ms);
        if demanded > 0 {
            self.note(now_ms, demanded);
        } else if idle_ms >= self.keep_alive_ms {
            // After the keep-alive without demand nothing is held, even by a longer window.
            self.peaks.clear();
        }

        let free = (u64::from(supply.ready) * concurrency).saturating_sub(demand.running.into());
        let lacking = u64::from(demand.waiting).saturating_sub(free).div_ceil(concurrency);
        let needed_now = supply.ready.saturating_add(u32::try_from(lacking).unwrap_or(u32::MAX));
        // Without a lack, demand justifies no creation: sandboxes that exist are kept by the window or the keep-alive.
        let needed_now = if lacking > 0 { needed_now } else { 0 };
        let held = u64::from(self.peaks.max()).div_ceil(concurrency);
        // The keep-alive holds one sandbox.
        let kept = held.max(u64::from(idle_ms < self.keep_alive_ms));
        // A window holds sandboxes that exist but never creates any.
        let kept = u32::try_from(kept).unwrap_or(u32::MAX).min(exists);

        // After an update that lowered `max`: then the surplus is drained, busy or not.
        let is_beyond_bound = exists > self.max;
        let wanted = if is_beyond_bound { self.max } else { needed_now.max(kept).clamp(self.min, self.max) };
        Decision {
            sandboxes: wanted,
            creations: needed_now.max(self.min).min(self.max).saturating_sub(supply.ready),
            // The data plane knows the last request best, and so has the final decision about the last sandboxes.
            min_idle_ms: if wanted == 0 { self.keep_alive_ms } else { 0 },
            drain: is_beyond_bound,
            again_in_ms: self.again_in_ms(now_ms, idle_ms, exists, wanted),
        }
    }

    fn on_demand(&self) -> bool {
        true
    }

    fn tick_ms(&self) -> Option<u64> {
        None
    }
}

fn window_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).map_or(MAX_WINDOW_MS, |ms| ms.min(MAX_WINDOW_MS))
}
