//! Counts the panics of this thread. tokio catches the panic of a task, so a component could lose a task unnoticed; a
//! run with a panic fails.

use std::{cell::Cell, sync::Once};

thread_local! {
    // A run is one thread, so a count per thread separates runs of parallel tests.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

static HOOK: Once = Once::new();

/// Starts to count. The default report is still printed.
pub(crate) fn watch() {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
}

/// Panics of this thread since the count started.
pub(crate) fn count() -> u32 {
    PANICS.get()
}
