//! An index over what is free on each node: finds one with room for a request when there is one.
//!
//! A segment tree over node keys; each inner node holds the greatest free CPU and the greatest free memory below it.
//! Setting a leaf costs O(log n). A search goes down only where both maxima suffice, which is O(log n) as long as nodes
//! with much free CPU tend to have much free memory too. Its worst case is O(n), when every part of the cluster has
//! nodes with only CPU left beside nodes with only memory left; about 5 ns for each node then.

use model::Resources;

/// The index. Positions that were never set have no room at all.
#[derive(Debug, Default)]
pub(super) struct FitTree {
    /// A binary heap layout: the root at 1, the children of `i` at `2i` and `2i + 1`, the leaves from `leaves` on.
    /// `None` is a position without a node to place on; it fits nothing, not even an empty request.
    room: Vec<Option<Resources>>,
    /// Number of leaves: 0 or a power of two.
    leaves: usize,
}

impl FitTree {
    /// Sets the room at `at`; `None` removes it.
    pub(super) fn set(&mut self, at: usize, room: Option<Resources>) {
        if at >= self.leaves {
            if room.is_none() {
                return;
            }
            self.grow(at + 1);
        }
        let mut i = self.leaves + at;
        self.room[i] = room;
        while i > 1 {
            i /= 2;
            let merged = merge(self.room[2 * i], self.room[2 * i + 1]);
            // Nothing changes above this node either.
            if merged == self.room[i] {
                return;
            }
            self.room[i] = merged;
        }
    }

    /// Returns false if no position has room: the greatest CPU or the greatest memory of all is too little.
    pub(super) fn may_fit_anywhere(&self, request: Resources) -> bool {
        self.leaves > 0 && self.may_fit(1, request)
    }

    /// The first position with room for `request` that is `wanted`, from `start` on and then from 0.
    pub(super) fn find(&self, start: usize, request: Resources, wanted: impl Fn(usize) -> bool) -> Option<usize> {
        let start = start.min(self.leaves);
        self.first_fit_in(start, self.leaves, request, &wanted)
            .or_else(|| self.first_fit_in(0, start, request, &wanted))
    }

    /// The first such position in `from..to`.
    fn first_fit_in(
        &self,
        from: usize,
        to: usize,
        request: Resources,
        wanted: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut at = from;
        while at < to {
            // The largest aligned subtree that begins at `at`: climb while `at` is a left child.
            let mut i = self.leaves + at;
            let mut span = 1;
            while i.is_multiple_of(2) && i > 1 {
                i /= 2;
                span *= 2;
            }
            // Descend to the first child that may fit; a leaf that fits is the result.
            while self.may_fit(i, request) && span > 1 {
                i *= 2;
                span /= 2;
            }
            if self.may_fit(i, request) && wanted(at) {
                return Some(at);
            }
            at += span;
        }
        None
    }

    fn may_fit(&self, i: usize, request: Resources) -> bool {
        self.room[i].is_some_and(|room| request.fits_in(room))
    }

    fn grow(&mut self, needed: usize) {
        // Doubled and built anew, since the position of every node depends on the number of leaves.
        let leaves = needed.next_power_of_two();
        let mut room = vec![None; 2 * leaves];
        room[leaves..leaves + self.leaves].copy_from_slice(&self.room[self.leaves..]);
        for i in (1..leaves).rev() {
            room[i] = merge(room[2 * i], room[2 * i + 1]);
        }
        self.room = room;
        self.leaves = leaves;
    }
}

fn merge(left: Option<Resources>, right: Option<Resources>) -> Option<Resources> {
    match (left, right) {
        (Some(a), Some(b)) => Some(Resources {
            cpu_millicores: a.cpu_millicores.max(b.cpu_millicores),
            memory_mib: a.memory_mib.max(b.memory_mib),
        }),
        (one, other) => one.or(other),
    }
}
