//! What has to be decided on once an input was handled: the functions to which something happened, and whether there is new
//! room. Handlers note it and decide nothing, so each may change no more than what its input is about, and a function to
//! which much happens at once is decided on once.

use model::FunctionId;

use super::{Now, State};

/// What happened since functions were last decided on.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// With the time when the cause was read from the network, in microseconds. A function may be in it several times.
    functions: Vec<(FunctionId, u64)>,
    /// Whether functions that found no room may find some.
    has_room: bool,
}

impl State {
    /// Something happened to a function: it is decided on at the end of this input. `read_us` is when the cause was read from
    /// the network.
    pub(super) fn touch(&mut self, id: FunctionId, read_us: u64) {
        self.touched.functions.push((id, read_us));
    }

    /// The same for several.
    pub(super) fn touch_all(&mut self, ids: impl IntoIterator<Item = FunctionId>, read_us: u64) {
        self.touched.functions.extend(ids.into_iter().map(|id| (id, read_us)));
    }

    /// Room was made: functions that found none are tried again at the end of this input.
    pub(super) fn touch_room(&mut self) {
        self.touched.has_room = true;
    }

    /// Decides on what was touched: each function once, in a fixed order, by its earliest cause; then on those that found no
    /// room, if there is some.
    pub(super) fn decide_touched(&mut self, now: Now) {
        let mut functions = std::mem::take(&mut self.touched.functions);
        functions.sort_unstable();
        functions.dedup_by_key(|(id, _)| *id);
        for (id, read_us) in functions.drain(..) {
            self.decide(now, id, read_us);
        }
        if std::mem::take(&mut self.touched.has_room) {
            self.retry_unschedulable(now);
        }
        debug_assert!(self.touched.functions.is_empty(), "deciding is no cause for a decision");
        // Its memory is used again.
        self.touched.functions = functions;
    }
}
