//! Hands one value from one thread to another that waits with a deadline.

use crate::unresolved::Unresolved;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Takes one value, once.
pub(crate) struct Slot<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

enum State<T> {
    Open,
    Filled(T),
    Dropped,
    /// Nobody waits any more.
    Closed,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State::Open),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_wanted(&self) -> bool {
        matches!(*self.lock(), State::Open)
    }

    pub(crate) fn fill(&self, value: T) {
        self.end(State::Filled(value));
    }

    /// Says that no value will come, unless one has.
    pub(crate) fn abandon(&self) {
        self.end(State::Dropped);
    }

    /// Says that nobody waits.
    pub(crate) fn close(&self) {
        self.end(State::Closed);
    }

    fn end(&self, end: State<T>) {
        let mut state = self.lock();
        if matches!(*state, State::Open) {
            *state = end;
            self.changed.notify_all();
        }
    }

    /// Waits for the value. After the deadline a value is dropped as it comes.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn take(&self, deadline: Instant) -> Result<T, Unresolved> {
        let mut state = self.lock();
        loop {
            match core::mem::replace(&mut *state, State::Closed) {
                State::Filled(value) => return Ok(value),
                State::Dropped => return Err(Unresolved::Dropped),
                State::Closed => return Err(Unresolved::Late),
                State::Open => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Unresolved::Late);
            }
            *state = State::Open;
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
