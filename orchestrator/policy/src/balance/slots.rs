//! Slot accounting of one function in one data plane: the slots granted and in use per sandbox.
//!
//! Owns the rule that a sandbox never gets more invocations than granted slots, also while grants shrink.

use std::collections::{BTreeMap, BTreeSet};

use rand_pcg::Pcg32;

use super::{
    Balance, InUse,
    free::{FreeSandboxes, reorder},
};

/// Slots by sandbox (`K`). Every operation costs O(log sandboxes).
///
/// `now_ms` is in milliseconds since an origin that the caller chooses and keeps, and never decreases.
#[derive(Debug)]
pub struct Slots<K> {
    policy: &'static Balance,
    /// Concurrency that the policy was instantiated for.
    concurrency: u32,
    sandboxes: BTreeMap<K, Sandbox>,
    /// Open sandboxes with a free slot, in the policy's order.
    free: FreeSandboxes<K>,
    /// Idle sandboxes with granted slots, ordered by the start of idleness.
    idle: BTreeSet<(u64, K)>,
    /// All granted slots.
    held_total: u64,
    /// All slots in use.
    in_use_total: u64,
    /// Free slots of open sandboxes.
    free_total: u64,
    /// Event counter, for the policy's order.
    events: u64,
    /// Generator for policies that sample.
    random: Pcg32,
}

#[derive(Clone, Copy, Debug)]
struct Sandbox {
    slots: u32,
    open: bool,
    used: InUse,
    /// Time of the last release or grant of a slot.
    idle_since_ms: u64,
}

impl Sandbox {
    fn free(&self) -> u32 {
        if self.open { self.slots.saturating_sub(self.used.in_use) } else { 0 }
    }

    /// Its input to the policy; `None` without a free slot.
    fn usage_if_free(&self) -> Option<InUse> {
        (self.free() > 0).then_some(self.used)
    }

    /// Returns true if slots are granted and none is in use.
    fn is_idle(&self) -> bool {
        self.used.in_use == 0 && self.slots > 0
    }
}

impl<K: Copy + Ord> Slots<K> {
    /// Creates an empty book. `concurrency` is the number of slots of one sandbox over all data planes; `random` drives
    /// policies that sample.
    #[must_use]
    pub fn new(policy: &'static Balance, concurrency: u32, random: Pcg32) -> Self {
        Self {
            policy,
            concurrency,
            sandboxes: BTreeMap::new(),
            free: FreeSandboxes::new((policy.order)(concurrency)),
            idle: BTreeSet::new(),
            held_total: 0,
            in_use_total: 0,
            free_total: 0,
            events: 0,
            random,
        }
    }

    /// Replaces policy and concurrency from the next choice on. Costs O(sandboxes × log sandboxes) if one changes,
    /// otherwise nothing.
    pub fn set_policy(&mut self, policy: &'static Balance, concurrency: u32) {
        // By address: there is one static for each policy.
        if std::ptr::eq(policy, self.policy) && concurrency == self.concurrency {
            return;
        }
        self.policy = policy;
        self.concurrency = concurrency;
        self.free = FreeSandboxes::new((policy.order)(concurrency));
        for (&key, sandbox) in &self.sandboxes {
            self.free.update(key, None, sandbox.usage_if_free());
        }
    }

    /// The current policy.
    #[must_use]
    pub fn policy(&self) -> &'static Balance {
        self.policy
    }

    /// Sets the granted slots of a sandbox. A new sandbox is open, and idle from `now_ms` on. A known one keeps its
    /// slots in use, and no more are acquired until their number is below `slots`.
    pub fn insert(&mut self, key: K, slots: u32, now_ms: u64) {
        if self.change(key, |sandbox| sandbox.slots = slots).is_none() {
            let used = InUse { in_use: 0, acquired: 0, released: 0 };
            let sandbox = Sandbox { slots, open: true, used, idle_since_ms: now_ms };
            self.sandboxes.insert(key, sandbox);
            self.account(key, None, Some(sandbox));
        }
    }

    /// Opens a sandbox for new invocations, or closes it (suspended, draining); running ones continue. Unknown
    /// sandboxes are ignored.
    pub fn set_open(&mut self, key: K, open: bool) {
        self.change(key, |sandbox| sandbox.open = open);
    }

    /// Removes a sandbox and returns its slots in use, if it was known. A later `release` of it is ignored.
    pub fn remove(&mut self, key: K) -> Option<u32> {
        let sandbox = self.sandboxes.remove(&key)?;
        self.account(key, Some(sandbox), None);
        Some(sandbox.used.in_use)
    }

    /// Acquires a slot of the sandbox that the policy prefers; `None` if no open one has a free slot.
    pub fn acquire(&mut self) -> Option<K> {
        let key = self.free.choose(&[], &mut self.random)?;
        self.take(key);
        Some(key)
    }

    /// As [`Self::acquire`], but never of a sandbox in `others` (a short list of those tried before).
    pub fn acquire_other_than(&mut self, others: &[K]) -> Option<K> {
        let key = self.free.choose(others, &mut self.random)?;
        self.take(key);
        Some(key)
    }

    /// Releases a slot. Returns true if it can be acquired again at once; false if its sandbox is closed, has lost that
    /// slot, is unknown or had none in use.
    pub fn release(&mut self, key: K, now_ms: u64) -> bool {
        let Some(sandbox) = self.sandboxes.get_mut(&key).filter(|sandbox| sandbox.used.in_use > 0) else {
            return false;
        };
        let before = *sandbox;
        self.events += 1;
        sandbox.used.in_use -= 1;
        sandbox.used.released = self.events;
        sandbox.idle_since_ms = now_ms;
        let after = *sandbox;
        // A slot that was revoked while in use does not become free.
        let is_free = after.free() > before.free();
        self.in_use_total -= 1;
        self.free_total += u64::from(is_free);
        self.arrange(key, Some(&before), Some(&after));
        is_free
    }

    /// Slots in use of a sandbox.
    #[must_use]
    pub fn in_use(&self, key: K) -> u32 {
        self.sandboxes.get(&key).map_or(0, |sandbox| sandbox.used.in_use)
    }

    /// Granted slots of a sandbox; `None` if it is unknown.
    #[must_use]
    pub fn held(&self, key: K) -> Option<u32> {
        self.sandboxes.get(&key).map(|sandbox| sandbox.slots)
    }

    /// Slots in use of all sandboxes.
    #[must_use]
    pub fn in_use_total(&self) -> u64 {
        self.in_use_total
    }

    /// Slots that could be acquired now.
    #[must_use]
    pub fn free_total(&self) -> u64 {
        self.free_total
    }

    /// Granted slots of all sandboxes, open or closed.
    #[must_use]
    pub fn held_total(&self) -> u64 {
        self.held_total
    }

    /// Number of known sandboxes, open or closed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sandboxes.len()
    }

    /// Returns true if no sandbox is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty()
    }

    /// The known sandboxes by key, with their granted slots.
    pub fn iter(&self) -> impl Iterator<Item = (K, u32)> + '_ {
        self.sandboxes.iter().map(|(&key, sandbox)| (key, sandbox.slots))
    }

    /// The sandbox that has been idle longest, if for at least `min_idle_ms`: the first one to return.
    #[must_use]
    pub fn longest_idle(&self, min_idle_ms: u64, now_ms: u64) -> Option<K> {
        let &(since_ms, key) = self.idle.first()?;
        (now_ms.saturating_sub(since_ms) >= min_idle_ms).then_some(key)
    }

    /// Since when the sandbox of [`Self::longest_idle`] has been idle, which says when to check again.
    #[must_use]
    pub fn idle_since_ms(&self) -> Option<u64> {
        self.idle.first().map(|&(since_ms, _)| since_ms)
    }

    /// Acquires a slot of a sandbox that has a free one.
    fn take(&mut self, key: K) {
        let Some(sandbox) = self.sandboxes.get_mut(&key) else { return };
        let before = *sandbox;
        self.events += 1;
        sandbox.used.in_use += 1;
        sandbox.used.acquired = self.events;
        let after = *sandbox;
        self.in_use_total += 1;
        self.free_total -= 1;
        self.arrange(key, Some(&before), Some(&after));
    }

    /// Changes a known sandbox, updates orders and totals, and returns the new state.
    fn change(&mut self, key: K, change: impl FnOnce(&mut Sandbox)) -> Option<Sandbox> {
        let sandbox = self.sandboxes.get_mut(&key)?;
        let before = *sandbox;
        change(sandbox);
        let after = *sandbox;
        self.account(key, Some(before), Some(after));
        Some(after)
    }

    /// Updates orders and totals for a changed sandbox; `None` means absent.
    fn account(&mut self, key: K, before: Option<Sandbox>, after: Option<Sandbox>) {
        let sum = |of: fn(&Sandbox) -> u32, total: u64| {
            total - u64::from(before.as_ref().map_or(0, of)) + u64::from(after.as_ref().map_or(0, of))
        };
        self.held_total = sum(|sandbox| sandbox.slots, self.held_total);
        self.in_use_total = sum(|sandbox| sandbox.used.in_use, self.in_use_total);
        self.free_total = sum(Sandbox::free, self.free_total);
        self.arrange(key, before.as_ref(), after.as_ref());
    }

    /// Updates the orders for a changed sandbox.
    fn arrange(&mut self, key: K, before: Option<&Sandbox>, after: Option<&Sandbox>) {
        self.free.update(key, before.and_then(Sandbox::usage_if_free), after.and_then(Sandbox::usage_if_free));
        let entry = |sandbox: &Sandbox| sandbox.is_idle().then_some((sandbox.idle_since_ms, key));
        reorder(&mut self.idle, before.and_then(entry), after.and_then(entry));
    }
}
