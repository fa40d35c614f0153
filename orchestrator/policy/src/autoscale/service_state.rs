//! The state of a function under `kpa` (activating, active or inactive), which decides when its last sandbox may go.
//!
//! Reimplemented from the behaviour of Knative Serving 1.13, pkg/reconciler/autoscaling/kpa/scaler.go, with
//! target-burst-capacity −1: the activator is always on the path, so that it need not be probed, and the grace period,
//! which counts from when it came onto the path, has passed for every function older than it ("fast path").

use super::Supply;

/// Knative's time-out of an activation: its progress deadline of 600 s and a buffer of 30 s.
const ACTIVATION_TIMEOUT_MS: u64 = 630_000;

/// Parameters of the state besides time and supply, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// Minimum time that a function stays active.
    pub(super) stable_window_ms: u64,
    /// Minimum time that the activator is on the path before the last sandbox goes.
    pub(super) grace_ms: u64,
}

/// The state of one function.
#[derive(Debug)]
pub(super) struct ServiceState {
    phase: Phase,
    /// Start of the phase.
    since_ms: u64,
    /// Time at which the function was first seen, and with it the activator on its path.
    created_ms: u64,
    /// The sandboxes last requested.
    requested: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Sandboxes are desired and none is ready.
    Activating,
    /// Sandboxes are ready.
    Active,
    /// None is desired; the last may still exist.
    Inactive,
}

impl ServiceState {
    /// The state of a function first seen at `now_ms` with that supply.
    pub(super) fn new(now_ms: u64, supply: Supply) -> Self {
        let phase = match supply {
            Supply { ready: 1.., .. } => Phase::Active,
            Supply { starting: 1.., .. } => Phase::Activating,
            _ => Phase::Inactive,
        };
        let requested = supply.ready.saturating_add(supply.starting);
        Self { phase, since_ms: now_ms, created_ms: now_ms, requested }
    }

    /// The sandboxes to request if `desired` are desired, and the milliseconds after which that may change without an
    /// event.
    pub(super) fn requested_sandboxes(
        &mut self,
        now_ms: u64,
        desired: u32,
        supply: Supply,
        context: Context,
    ) -> (u32, Option<u64>) {
        let is_ready = supply.ready > 0;
        if desired > 0 {
            self.enter(if is_ready { Phase::Active } else { Phase::Activating }, now_ms);
            self.requested = desired;
            return (desired, None);
        }
        if self.phase == Phase::Activating && is_ready {
            self.enter(Phase::Active, now_ms);
        }
        let (requested, wait_ms) = self.requested_at_zero(now_ms, context);
        self.requested = requested;
        (requested, (wait_ms > 0).then_some(wait_ms))
    }

    /// The same if none is desired; 0 ms means not without an event.
    fn requested_at_zero(&mut self, now_ms: u64, context: Context) -> (u32, u64) {
        let in_phase_ms = now_ms.saturating_sub(self.since_ms);
        match self.phase {
            Phase::Activating if in_phase_ms < ACTIVATION_TIMEOUT_MS => {
                return (self.requested, ACTIVATION_TIMEOUT_MS - in_phase_ms);
            }
            Phase::Active if in_phase_ms < context.stable_window_ms => {
                return (1, context.stable_window_ms - in_phase_ms);
            }
            Phase::Activating => {
                self.enter(Phase::Inactive, now_ms);
                return (0, 0);
            }
            Phase::Active => self.enter(Phase::Inactive, now_ms),
            Phase::Inactive => {}
        }
        // Being inactive for the grace would do as well, but no function is inactive for longer than it has been
        // proxied.
        let proxied_ms = now_ms.saturating_sub(self.created_ms);
        match context.grace_ms.saturating_sub(proxied_ms) {
            0 => (0, 0),
            wait_ms => (self.requested, wait_ms),
        }
    }

    fn enter(&mut self, phase: Phase, now_ms: u64) {
        if self.phase != phase {
            self.phase = phase;
            self.since_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context = Context { stable_window_ms: 60_000, grace_ms: 30_000 };
    const NONE: Supply = Supply { ready: 0, starting: 0, concurrency: 1 };
    const ONE: Supply = Supply { ready: 1, starting: 0, concurrency: 1 };

    #[test]
    fn an_active_function_keeps_one_until_it_was_active_for_the_stable_window() {
        let mut state = ServiceState::new(0, NONE);
        assert_eq!(state.requested_sandboxes(1_000, 2, NONE, CONTEXT), (2, None));
        assert_eq!(state.requested_sandboxes(2_000, 2, ONE, CONTEXT), (2, None), "active from here on");
        assert_eq!(state.requested_sandboxes(50_000, 0, ONE, CONTEXT), (1, Some(12_000)));
        assert_eq!(state.requested_sandboxes(62_000, 0, ONE, CONTEXT), (0, None), "older than the grace: at once");
    }

    #[test]
    fn a_function_younger_than_the_grace_keeps_its_sandboxes_until_then() {
        let context = Context { stable_window_ms: 6_000, ..CONTEXT };
        let mut state = ServiceState::new(0, NONE);
        assert_eq!(state.requested_sandboxes(0, 2, NONE, context), (2, None));
        assert_eq!(state.requested_sandboxes(1_000, 2, ONE, context), (2, None));
        assert_eq!(
            state.requested_sandboxes(8_000, 0, ONE, context),
            (2, Some(22_000)),
            "inactive, but nothing is scaled yet"
        );
        assert_eq!(state.requested_sandboxes(30_000, 0, ONE, context), (0, None));
    }

    #[test]
    fn an_activation_is_awaited_until_its_deadline() {
        let mut state = ServiceState::new(0, NONE);
        assert_eq!(state.requested_sandboxes(0, 3, NONE, CONTEXT), (3, None));
        assert_eq!(state.requested_sandboxes(10_000, 0, NONE, CONTEXT), (3, Some(620_000)));
        assert_eq!(state.requested_sandboxes(630_000, 0, NONE, CONTEXT), (0, None));
    }

    #[test]
    fn an_activation_that_succeeds_too_late_is_active_from_then_on() {
        let mut state = ServiceState::new(0, NONE);
        assert_eq!(state.requested_sandboxes(0, 3, NONE, CONTEXT), (3, None));
        assert_eq!(state.requested_sandboxes(10_000, 0, NONE, CONTEXT), (3, Some(620_000)));
        assert_eq!(state.requested_sandboxes(100_000, 0, ONE, CONTEXT), (1, Some(60_000)));
        assert_eq!(state.requested_sandboxes(160_000, 0, ONE, CONTEXT), (0, None));
    }

    #[test]
    fn a_function_that_never_was_active_needs_nothing() {
        let context = Context { grace_ms: 0, ..CONTEXT };
        assert_eq!(ServiceState::new(0, NONE).requested_sandboxes(0, 0, NONE, context), (0, None));
    }
}
