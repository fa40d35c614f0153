//! Counts panics of this thread. A runtime swallows the panic of a task, so a part could lose a task without notice;
//! a run in which anything panicked has failed.

use std::{cell::Cell, sync::Once};

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

static HOOK: Once = Once::new();

/// Begins to count; the default report is still printed.
pub(crate) fn watch() {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
}

/// Panics of this thread since counting began.
pub(crate) fn count() -> u32 {
    PANICS.get()
}
