//! System calls that fail when a unit test says so.

use std::cell::Cell;
use std::io;

/// Which of the next calls of this thread fails, and how.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Failure {
    /// How many calls succeed before it.
    pub(crate) after: u32,
    pub(crate) errno: i32,
    /// Whether a call that was to replace a mapping takes it away before it fails.
    pub(crate) leaves_hole: bool,
}

thread_local! {
    static NEXT: Cell<Option<Failure>> = const { Cell::new(None) };
    static STRICT: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Has this thread believe that the kernel counts private memory strictly, or does not.
pub(crate) fn set_overcommit_strict(strict: bool) {
    STRICT.set(Some(strict));
}

pub(crate) fn overcommit_is_strict() -> Option<bool> {
    STRICT.get()
}

/// Makes one call of this thread fail.
pub(crate) fn fail(failure: Failure) {
    NEXT.set(Some(failure));
}

/// Calls the failure off; says whether it has happened.
pub(crate) fn happened() -> bool {
    NEXT.take().is_none()
}

pub(super) fn failure_point(target: Option<(*mut u8, usize)>) -> io::Result<()> {
    let Some(failure) = NEXT.get() else {
        return Ok(());
    };
    if let Some(after) = failure.after.checked_sub(1) {
        NEXT.set(Some(Failure { after, ..failure }));
        return Ok(());
    }
    NEXT.set(None);
    if let (true, Some((addr, len))) = (failure.leaves_hole, target) {
        // SAFETY: the caller of `map` owns what it was going to replace.
        let unmapped = unsafe { libc::munmap(addr.cast(), len) };
        assert_eq!(unmapped, 0);
    }
    Err(io::Error::from_raw_os_error(failure.errno))
}
