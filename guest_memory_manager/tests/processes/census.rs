//! What this process holds, and who may count it.

use crate::fixture::{AMPLE, C_SEGMENT, F_SEGMENT, Fixture};
use guest_memory_manager::RamVisibility;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A deadline that no test lives to see: nothing ends by it unnoticed.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

static TURN: Mutex<()> = Mutex::new(());

/// Waits for the other tests of this program.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    // A test that failed has spoilt nothing but its own.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Descriptors, and mappings of memory without a name in any file system.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    descriptors: usize,
    mappings: usize,
}

impl Census {
    pub(crate) fn take() -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        Self {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            mappings: maps.lines().filter(|line| line.contains("memfd:")).count(),
        }
    }
}

/// Makes each change once: what is mapped again after a while does not merge with its neighbours in the
/// kernel's list, so the first time makes a difference.
pub(crate) fn change_once(fixture: &Fixture) {
    for segment in [C_SEGMENT, F_SEGMENT] {
        for visibility in [RamVisibility::Unmapped, RamVisibility::ReadWrite] {
            fixture.set(segment, visibility);
        }
    }
}

/// Waits until this process holds what it held before: what ends on other threads ends soon.
#[track_caller]
pub(crate) fn nothing_is_left(before: Census) {
    wait_until(
        || Census::take() == before,
        || format!("{:?}, and before {before:?}", Census::take()),
    );
}

/// Waits for a condition; `state` tells how it stands where that takes too long.
#[track_caller]
pub(crate) fn wait_until(condition: impl Fn() -> bool, state: impl Fn() -> String) {
    let until = Instant::now() + AMPLE;
    while !condition() {
        assert!(Instant::now() < until, "{}", state());
        std::thread::sleep(Duration::from_millis(1));
    }
}
