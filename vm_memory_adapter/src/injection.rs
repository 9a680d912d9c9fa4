//! Failures on demand, for tests; on the thread that asks for them.

use std::cell::Cell;

thread_local! {
    /// After how many failure points which succeed, and how many fail then.
    static PLAN: Cell<(u64, u64)> = const { Cell::new((u64::MAX, 0)) };
}

/// Lets `after` failure points succeed and the `count` next ones fail.
pub(crate) fn fail(after: u64, count: u64) {
    PLAN.set((after, count));
}

/// Lets everything succeed; says whether all that was to fail has.
pub(crate) fn stop() -> bool {
    let (_, left) = PLAN.replace((u64::MAX, 0));
    left == 0
}

/// Whether this failure point is to fail.
pub(crate) fn fails() -> bool {
    match PLAN.get() {
        (0, 0) => false,
        (0, left) => {
            PLAN.set((0, left - 1));
            true
        }
        (after, left) => {
            PLAN.set((after - 1, left));
            false
        }
    }
}
