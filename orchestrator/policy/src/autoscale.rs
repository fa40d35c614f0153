//! Autoscaling: the policies that decide the number of sandboxes of a function, and [`Autoscaler`], which callers hold.
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

/// One data plane's observation of one function over about one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Span in milliseconds; 0 is read as one second.
    pub span_ms: u32,
    /// Time integral of waiting + running over the span: invocations times microseconds.
    pub concurrency_us: u64,
    /// Invocations that arrived within the span.
    pub requests: u32,
    /// Invocations without a slot at its end.
    pub waiting: u32,
    /// Running invocations at its end.
    pub running: u32,
    /// Greatest waiting + running within the span.
    pub peak: u32,
}

/// The current demand for one function, over all data planes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Invocations without a slot.
    pub waiting: u32,
    /// Running invocations.
    pub running: u32,
}

/// The current sandboxes of one function. Those that leave service (draining, being deleted) do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Supply {
    /// Sandboxes in service.
    pub ready: u32,
    /// Sandboxes that are being created.
    pub starting: u32,
    /// Slots of one sandbox; 0 is read as 1.
    pub concurrency: u32,
}

/// The scaling target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Desired sandboxes (ready and starting together), within the function's bounds.
    pub sandboxes: u32,
    /// Number of starting sandboxes that demand still justifies. Creations beyond it that have not begun may be
    /// cancelled; those that have begun count in `sandboxes`, so that they are neither cancelled half-way nor started
    /// again.
    pub creations: u32,
    /// Minimum idle time in milliseconds before a surplus sandbox is removed; 0 is any time.
    pub min_idle_ms: u64,
    /// Surplus is drained even if it is busy; otherwise only idle sandboxes are removed.
    pub drain: bool,
    /// Milliseconds (at least 1) until the next decision, even without an event. `None`: not before an event.
    pub again_in_ms: Option<u64>,
}

/// One autoscaling policy, as listed by [`policies`].
pub struct Policy {
    /// Name in configurations.
    pub name: &'static str,
    /// Description in one line.
    pub about: &'static str,
    /// The policy uses `scale.keep_alive`.
    pub uses_keep_alive: bool,
    start: fn(&Scaling, u32) -> Box<dyn Rule>,
}

/// The interface of a policy; the methods are those of [`Autoscaler`].
trait Rule: fmt::Debug + Send + Sync {
    fn retune(&mut self, scaling: &Scaling, concurrency: u32);
    fn record(&mut self, now_ms: u64, source: u32, sample: &Sample);
    fn decide(&mut self, now_ms: u64, demand: Demand, supply: Supply) -> Decision;
    fn on_demand(&self) -> bool;
    fn tick_ms(&self) -> Option<u64>;
}

/// All policies; the first is the default.
static POLICIES: [Policy; 3] = [reactive::POLICY, kpa::POLICY, dirigent::POLICY];

/// All autoscaling policies; the first is the default.
#[must_use]
pub fn policies() -> &'static [Policy] {
    &POLICIES
}

/// Finds a policy by name.
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
/// Every `now_ms` is in milliseconds since an origin that the caller chooses and keeps, and never decreases. Each call
/// costs O(1) amortised (O(data planes) for `record`). History is allocated when a function becomes active and freed
/// when it is idle.
#[derive(Debug)]
pub struct Autoscaler {
    rule: Box<dyn Rule>,
}

impl Autoscaler {
    /// Creates an autoscaler without history. `concurrency` is the number of slots of one sandbox.
    #[must_use]
    pub fn new(policy: &Policy, scaling: &Scaling, concurrency: u32) -> Self {
        Self { rule: (policy.start)(scaling, concurrency) }
    }

    /// Replaces the parameters and keeps the history. (Another policy needs a new autoscaler.)
    pub fn retune(&mut self, scaling: &Scaling, concurrency: u32) {
        self.rule.retune(scaling, concurrency);
    }

    /// Records a sample of data plane `source`. [`Self::tick_ms`] may change.
    pub fn record(&mut self, now_ms: u64, source: u32, sample: &Sample) {
        self.rule.record(now_ms, source, sample);
    }

    /// Decides the scaling target now.
    #[must_use = "a decision is only carried out by its caller"]
    pub fn decide(&mut self, now_ms: u64, demand: Demand, supply: Supply) -> Decision {
        self.rule.decide(now_ms, demand, supply)
    }

    /// Returns true if a change of demand calls for a decision at once.
    #[must_use]
    pub fn on_demand(&self) -> bool {
        self.rule.on_demand()
    }

    /// Period of decisions without an event, in milliseconds; `None` if [`Decision::again_in_ms`] alone decides.
    /// (`again_in_ms` is never later than the next tick, so a caller may follow it alone.)
    #[must_use]
    pub fn tick_ms(&self) -> Option<u64> {
        self.rule.tick_ms()
    }
}
