//! Functions with demand that no node has room for, in the order in which they are tried again.
//!
//! [`policy::adaptive_lifo`] decides which of them is next. Functions are kept by the size of their sandboxes: where a
//! small one has room a large one may have none, and if one of a size found no room, the others of that size need not
//! be tried.

use std::{collections::BTreeMap, time::Duration};

use model::{FunctionId, Resources};
use policy::adaptive_lifo::{AdaptiveLifo, End};

use super::super::{Map, Now};

/// The functions without room.
#[derive(Debug, Default)]
pub(in crate::state) struct Unschedulable {
    entries: Map<FunctionId, Entry>,
    lines: BTreeMap<(u64, u64), Line>,
    /// Demands so far.
    demands: u64,
    order: AdaptiveLifo,
}

/// A function that is tried again.
pub(in crate::state) struct Attempt {
    pub(in crate::state) id: FunctionId,
    /// A creation of it was started.
    pub(in crate::state) is_served: bool,
    entry: Entry,
    /// The order from then on if it is served.
    order: AdaptiveLifo,
}

/// One function's wait.
#[derive(Clone, Copy, Debug)]
struct Entry {
    size: Resources,
    since_us: u64,
    /// Its first and its newest demand, as numbers in the order of all demands.
    first: u64,
    newest: u64,
}

/// Functions whose sandboxes have one size, by their first demand and by their newest.
#[derive(Debug, Default)]
struct Line {
    by_first: BTreeMap<u64, FunctionId>,
    by_newest: BTreeMap<u64, FunctionId>,
}

impl Unschedulable {
    #[cfg(test)]
    pub(super) fn functions(&self) -> impl Iterator<Item = FunctionId> {
        self.entries.keys().copied()
    }

    /// Number of functions.
    pub(in crate::state) fn len(&self) -> usize {
        self.entries.len()
    }

    /// There was no room for a sandbox of `size`, which `id` demands now.
    pub(in crate::state) fn note(&mut self, now: Now, id: FunctionId, size: Resources) {
        self.demands += 1;
        let newest = self.demands;
        let entry = match self.remove(id) {
            Some(before) => Entry { size, newest, ..before },
            None => Entry { size, since_us: now.us, first: newest, newest },
        };
        self.insert(id, entry);
    }

    /// It is served, or wants nothing any more.
    pub(in crate::state) fn forget(&mut self, id: FunctionId) {
        self.remove(id);
    }

    /// Takes the function that is tried next, of those that need less than what of the sizes `missed` found no room. It is
    /// noted again if it finds none.
    pub(in crate::state) fn take_next(&mut self, now: Now, missed: &[Resources]) -> Option<Attempt> {
        let (id, order) = self.next(now, missed)?;
        let entry = self.remove(id)?;
        Some(Attempt { id, is_served: false, entry, order })
    }

    /// An attempt is over. Returns the size for which there is no room, if there is none.
    pub(in crate::state) fn finish(&mut self, attempt: Attempt) -> Option<Resources> {
        let Attempt { id, is_served, entry, order } = attempt;
        if is_served {
            self.order = order;
        }
        let still_unschedulable = self.remove(id)?;
        // It keeps its place, as this was no new demand. What it still wants after it was served has just begun to wait.
        self.insert(id, if is_served { still_unschedulable } else { entry });
        Some(entry.size)
    }

    fn insert(&mut self, id: FunctionId, entry: Entry) {
        let line = self.lines.entry(key(entry.size)).or_default();
        line.by_first.insert(entry.first, id);
        line.by_newest.insert(entry.newest, id);
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, id: FunctionId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(line) = self.lines.get_mut(&key(entry.size)) {
            line.by_first.remove(&entry.first);
            line.by_newest.remove(&entry.newest);
            if line.by_first.is_empty() {
                self.lines.remove(&key(entry.size));
            }
        }
        Some(entry)
    }

    /// The function that is tried next, of those that need less than the sizes `missed`, which found no room; and the
    /// order from then on if it is served.
    fn next(&self, now: Now, missed: &[Resources]) -> Option<(FunctionId, AdaptiveLifo)> {
        let lines = self.lines.iter().filter(|(size, _)| !missed.iter().any(|missed| is_within(*missed, **size)));
        let lines = lines.map(|(_, line)| line);
        let (_, oldest) = lines.clone().filter_map(|line| line.by_first.first_key_value()).min()?;
        let since_us = self.entries.get(oldest).map_or(now.us, |entry| entry.since_us);
        let mut order = self.order.clone();
        let next = match order.serve(Duration::from_micros(now.us.saturating_sub(since_us))) {
            End::Oldest => oldest,
            End::Newest => lines.filter_map(|line| line.by_newest.last_key_value()).max()?.1,
        };
        Some((*next, order))
    }
}

fn key(size: Resources) -> (u64, u64) {
    (size.cpu_millicores, size.memory_mib)
}

/// Returns true if a sandbox of `size` needs at least as much as one that found no room.
fn is_within(missed: Resources, (cpu_millicores, memory_mib): (u64, u64)) -> bool {
    missed.cpu_millicores <= cpu_millicores && missed.memory_mib <= memory_mib
}

#[cfg(test)]
mod tests {
    use policy::adaptive_lifo::{LONG_WAIT, VERY_LONG_WAIT};
    use service::micros;

    use super::*;

    fn at(us: u64) -> Now {
        Now::at_us(us)
    }

    fn size(cpu_millicores: u64, memory_mib: u64) -> Resources {
        Resources { cpu_millicores, memory_mib }
    }

    /// Three functions, noted in the order of their ids.
    fn three() -> Unschedulable {
        let mut unschedulable = Unschedulable::default();
        for (id, size) in [(1, size(100, 100)), (2, size(900, 100)), (3, size(100, 100))] {
            unschedulable.note(at(id), FunctionId(id), size);
        }
        unschedulable
    }

    fn next(unschedulable: &Unschedulable, now: Now, missed: &[Resources]) -> Option<FunctionId> {
        unschedulable.next(now, missed).map(|(id, _)| id)
    }

    #[test]
    fn the_first_come_is_first_and_new_demand_does_not_cost_it_its_position() {
        let mut unschedulable = three();
        unschedulable.note(at(9), FunctionId(1), size(100, 100));
        assert_eq!(next(&unschedulable, at(10), &[]), Some(FunctionId(1)));
        unschedulable.forget(FunctionId(1));
        assert_eq!(next(&unschedulable, at(10), &[]), Some(FunctionId(2)));
        assert_eq!(unschedulable.len(), 2);
    }

    #[test]
    fn the_newest_demand_is_first_when_somebody_has_waited_for_long() {
        let mut unschedulable = three();
        let late = at(micros(LONG_WAIT) + 2);
        assert_eq!(next(&unschedulable, late, &[]), Some(FunctionId(3)));
        unschedulable.note(late, FunctionId(1), size(100, 100));
        assert_eq!(next(&unschedulable, late, &[]), Some(FunctionId(1)), "it was demanded again");
        unschedulable.forget(FunctionId(1));
        assert_eq!(
            next(&unschedulable, late, &[]),
            Some(FunctionId(2)),
            "the oldest has waited for less than a second now"
        );
    }

    #[test]
    fn what_needs_as_much_as_one_that_found_no_room_is_passed_over() {
        let unschedulable = three();
        assert_eq!(next(&unschedulable, at(9), &[size(100, 100)]), None);
        assert_eq!(next(&unschedulable, at(9), &[size(500, 50)]), Some(FunctionId(1)));
        let mut unschedulable = three();
        unschedulable.forget(FunctionId(1));
        assert_eq!(
            next(&unschedulable, at(9), &[size(500, 50)]),
            Some(FunctionId(3)),
            "a smaller one behind a larger one"
        );
    }

    #[test]
    fn one_whose_size_finds_no_room_does_not_make_the_others_wait_for_newer_ones() {
        let mut unschedulable = Unschedulable::default();
        unschedulable.note(at(1), FunctionId(1), size(900, 900));
        let late = micros(VERY_LONG_WAIT) + 10;
        (2..4).for_each(|id| unschedulable.note(at(late), FunctionId(id), size(100, 100)));
        let (first, order) = unschedulable.next(at(late + 9), &[]).unwrap();
        assert_eq!(first, FunctionId(1));
        // The newest one would be next if all had waited for as long.
        unschedulable.order = order;
        assert_eq!(
            next(&unschedulable, at(late + 9), &[size(900, 900)]),
            Some(FunctionId(2)),
            "these have come just now"
        );
    }
}
