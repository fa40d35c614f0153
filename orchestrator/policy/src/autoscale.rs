//! How many sandboxes a function should have: the autoscaling policies and the one type that callers hold.
//!
//! Owns the vocabulary (samples and demand in, a decision out) and the table of policies; each policy is a file below.

use std::fmt;

use model::Scaling;

mod dirigent;
mod formulas;
mod kpa;
mod peaks;
mod reactive;
mod service_state;
mod window;

/// What one data plane saw of one function over about one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The time it covers, in milliseconds; 0 is read as one second.
    pub span_ms: u32,
    /// Time integral of waiting + running over the span: invocations times microseconds.
    pub concurrency_us: u64,
    /// Invocations that arrived within the span.
    pub requests: u32,
    /// Invocations without a slot, at its end.
    pub waiting: u32,
    /// Invocations running, at its end.
    pub running: u32,
    /// Greatest waiting + running within it.
    pub peak: u32,
}

/// The demand for one function now, summed over all data planes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Invocations without a slot.
    pub waiting: u32,
    /// Invocations running.
    pub running: u32,
}

/// The sandboxes one function has now. Those that are leaving service (draining, being deleted) do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Supply {
    /// Sandboxes that serve.
    pub ready: u32,
    /// Sandboxes that were asked for and do not serve yet.
    pub starting: u32,
    /// Invocations that one sandbox runs at once; 0 is read as 1.
    pub concurrency: u32,
}

/// What to aim at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Sandboxes wanted (ready and starting together), within the function's bounds.
    pub sandboxes: u32,
    /// How many of the starting ones demand still justifies. Creations beyond it that have not begun may be cancelled;
    /// what has begun counts in `sandboxes`, so that it is neither cancelled half-way nor begun again.
    pub creations: u32,
    /// A surplus sandbox is given up only when it has been idle for at least this long, in milliseconds; 0 is any time.
    pub min_idle_ms: u64,
    /// Whether surplus is drained even when it is busy; otherwise only idle sandboxes are given up.
    pub drain: bool,
    /// Decide again after this many milliseconds (at least 1), even without an event. `None`: not before an event.
    pub again_in_ms: Option<u64>,
}

/// One autoscaling policy, as listed by [`policies`].
pub struct Policy {
    /// The name that configurations use.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Whether it looks at `scale.keep_alive`.
    pub uses_keep_alive: bool,
    start: fn(&Scaling, u32) -> Box<dyn Rule>,
}

/// What a policy has to be able to do; the methods are those of [`Autoscaler`].
trait Rule: fmt::Debug + Send + Sync {
    fn retune(&mut self, scaling: &Scaling, concurrency: u32);
    fn record(&mut self, now_ms: u64, source: u32, sample: &Sample);
    fn decide(&mut self, now_ms: u64, demand: Demand, supply: Supply) -> Decision;
    fn on_demand(&self) -> bool;
    fn tick_ms(&self) -> Option<u64>;
}

/// Every policy; the first is the default.
static POLICIES: [Policy; 3] = [reactive::POLICY, kpa::POLICY, dirigent::POLICY];

/// Every autoscaling policy; the first is the default.
#[must_use]
pub fn policies() -> &'static [Policy] {
    &POLICIES
}

/// The policy of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Policy> {
    POLICIES.iter().find(|policy| policy.name == name)
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The autoscaler of one function: its policy, parameters and history.
///
/// `now_ms` is everywhere in milliseconds since an origin that the caller chooses and keeps, and never decreases.
/// Each call costs O(1) amortised (and O(data planes) for `record`); history is allocated when a function becomes
/// active and freed when it is idle.
#[derive(Debug)]
pub struct Autoscaler {
    rule: Box<dyn Rule>,
}

impl Autoscaler {
    /// An autoscaler without history. `concurrency` is what one sandbox runs at once.
    #[must_use]
    pub fn new(policy: &Policy, scaling: &Scaling, concurrency: u32) -> Self {
        Self { rule: (policy.start)(scaling, concurrency) }
    }

    /// Takes new parameters and keeps the history. (Another policy needs a new autoscaler.)
    pub fn retune(&mut self, scaling: &Scaling, concurrency: u32) {
        self.rule.retune(scaling, concurrency);
    }

    /// Takes note of what the data plane `source` saw. Ask [`Self::tick_ms`] again afterwards.
    pub fn record(&mut self, now_ms: u64, source: u32, sample: &Sample) {
        self.rule.record(now_ms, source, sample);
    }

    /// What to aim at now.
    #[must_use = "a decision is only carried out by its caller"]
    pub fn decide(&mut self, now_ms: u64, demand: Demand, supply: Supply) -> Decision {
        self.rule.decide(now_ms, demand, supply)
    }

    /// Whether a change of demand calls for a decision at once.
    #[must_use]
    pub fn on_demand(&self) -> bool {
        self.rule.on_demand()
    }

    /// How often to decide without an event, in milliseconds; `None` when [`Decision::again_in_ms`] says all.
    /// (`again_in_ms` never is later than the next tick, so a caller may follow it alone.)
    #[must_use]
    pub fn tick_ms(&self) -> Option<u64> {
        self.rule.tick_ms()
    }
}
