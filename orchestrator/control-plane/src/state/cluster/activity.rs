//! Activity of functions: counters since this control plane began, and the functions that were active lately.
//!
//! Kept for `GET /v1/top`: choosing the most active functions must not look at all of them, since the owner task makes
//! no decision meanwhile.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, VecDeque},
    num::NonZeroU32,
};

use model::FunctionId;
use policy::autoscale::Demand;

use super::{
    super::Now,
    function::{Function, Functions},
};
use crate::registry::Registry;

/// Entries kept: twice as many as functions that can be active at once, 4 MiB.
const MAX_ENTRIES: usize = 1 << 18;
/// A function with waiting or running invocations is sampled each second, so one without samples for this long has none.
const BUSY_WINDOW_S: u32 = 10;

/// Counts of one function.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::state) struct Activity {
    /// Invocations that data planes have reported in samples.
    pub(in crate::state) invocations: u64,
    /// Those of them that were cold starts.
    pub(in crate::state) cold: u32,
    /// Creations started.
    pub(in crate::state) creations: u32,
    /// Creations that failed.
    pub(in crate::state) creations_failed: u32,
    /// The second of its last activity; `None` before the first.
    active: Option<Second>,
}

/// A second of the control plane's time, counted from one so that an `Option` of it takes no more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Second(NonZeroU32);

/// A hundred thousand idle functions have one each.
const _: () = assert!(size_of::<Activity>() <= 24);

/// Functions by the second of their activity, oldest first. Only a function's newest entry counts.
#[derive(Debug, Default)]
pub(in crate::state) struct Recent {
    entries: VecDeque<(Second, FunctionId)>,
}

impl Activity {
    /// Records that the function does something now. Returns true if it did nothing in this second before.
    fn touch(&mut self, now: Now) -> bool {
        let second = Some(Second::of(now));
        std::mem::replace(&mut self.active, second) != second
    }
}

impl Recent {
    /// Adds an entry; of `most` that there are already, only those that still count are kept, and half of `most` at most.
    fn add(&mut self, entry: (Second, FunctionId), most: usize, counts: impl Fn(&(Second, FunctionId)) -> bool) {
        if self.entries.len() >= most {
            self.entries.retain(counts);
            let surplus = self.entries.len().saturating_sub(most / 2);
            self.entries.drain(..surplus);
        }
        self.entries.push_back(entry);
    }

    /// Functions by their last activity, the latest first, each once.
    fn by_activity<'a>(&'a self, functions: &'a Functions) -> impl Iterator<Item = (Second, &'a Function)> {
        let newest = |&(second, id): &(Second, FunctionId)| {
            let function = functions.get(id).filter(|function| !function.removed)?;
            (function.activity.active == Some(second)).then_some((second, function))
        };
        self.entries.iter().rev().filter_map(newest)
    }

    fn busy_lately<'a>(&'a self, functions: &'a Functions, now: Now) -> impl Iterator<Item = &'a Function> {
        let since = Second::of(now).minus(BUSY_WINDOW_S);
        self.by_activity(functions).take_while(move |(second, _)| *second >= since).map(|(_, function)| function)
    }

    /// Records that a function is active now.
    pub(in crate::state) fn note(&mut self, functions: &mut Functions, now: Now, id: FunctionId) {
        if !functions.known_mut(id).is_some_and(|function| function.activity.touch(now)) {
            return;
        }
        let counts = |(second, id): &(Second, FunctionId)| {
            functions.get(*id).is_some_and(|function| function.activity.active == Some(*second))
        };
        self.add((Second::of(now), id), MAX_ENTRIES, counts);
    }

    /// At most `limit` functions: those with most waiting and running invocations, then those active last, then in the
    /// order of their names.
    pub(in crate::state) fn most_active<'a>(
        &'a self,
        functions: &'a Functions,
        registry: &Registry,
        now: Now,
        limit: usize,
    ) -> Vec<&'a Function> {
        let since = Second::of(now).minus(BUSY_WINDOW_S);
        let by_activity = self.by_activity(functions).zip(0..);
        let lately = by_activity.take_while(|((second, _), place)| *second >= since || *place < limit);
        let mut chosen: Vec<&Function> = lately.map(|((_, function), _)| function).collect();
        chosen.sort_by_key(|function| {
            let Demand { waiting, running } = function.demand();
            let id = function.registered.id;
            (Reverse((waiting.saturating_add(running), function.activity.active)), id)
        });
        chosen.truncate(limit);
        let known: BTreeSet<_> = chosen.iter().map(|function| function.registered.id).collect();
        let others = registry.functions().map(|registered| registered.id).filter(|id| !known.contains(id));
        let missing = limit - chosen.len();
        chosen.extend(others.filter_map(|id| functions.get(id)).take(missing));
        chosen
    }

    /// Waiting and running invocations of all functions, as last reported.
    pub(in crate::state) fn total_demand(&self, functions: &Functions, now: Now) -> Demand {
        let mut total = Demand { waiting: 0, running: 0 };
        for demand in self.busy_lately(functions, now).map(Function::demand) {
            total.waiting = total.waiting.saturating_add(demand.waiting);
            total.running = total.running.saturating_add(demand.running);
        }
        total
    }
}

impl Second {
    fn of(now: Now) -> Self {
        let whole = u32::try_from(now.us / 1_000_000).unwrap_or(u32::MAX);
        Self(NonZeroU32::MIN.saturating_add(whole))
    }

    /// Returns the second that was `seconds` before, or the first one.
    fn minus(self, seconds: u32) -> Self {
        Self(NonZeroU32::new(self.0.get().saturating_sub(seconds)).unwrap_or(NonZeroU32::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: u32) -> Second {
        Second(NonZeroU32::new(number).unwrap())
    }

    #[test]
    fn memory_is_bounded_and_the_newest_entries_stay() {
        let mut recent = Recent::default();
        // Function 0 is active in each second, the others once each.
        for number in 1..=1000 {
            for id in [0, u64::from(number)] {
                let counts = |&(then, id): &(Second, FunctionId)| id.0 != 0 || then >= second(number).minus(1);
                recent.add((second(number), FunctionId(id)), 16, counts);
            }
            assert!(recent.entries.len() <= 16);
        }
        assert_eq!(recent.entries.back(), Some(&(second(1000), FunctionId(1000))));
        assert!((997..=1000).all(|id| recent.entries.contains(&(second(id), FunctionId(u64::from(id))))), "{recent:?}");
    }

    #[test]
    fn a_function_is_remembered_once_a_second() {
        let mut activity = Activity::default();
        let touched = [0, 999_999, 1_000_000, 1_500_000].map(|us| activity.touch(Now::at_us(us)));
        assert_eq!(touched, [true, false, true, false]);
    }
}
