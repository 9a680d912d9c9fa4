//! One change at a time, and none from inside another.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use thiserror::Error;

/// Why a manager cannot be changed or read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LockError {
    /// This thread is inside a change already: a listener or the sink called back.
    #[error("a change cannot be made from inside another one (a listener's callback)")]
    Reentrant,
    /// A listener or the sink panicked in the middle of a change, so that nobody knows how
    /// much of it was done.
    #[error("an earlier change was broken off by a panic")]
    Poisoned,
}

/// A mutex that answers its own holder with an error rather than with a deadlock.
pub(crate) struct ChangeLock<T> {
    /// The holder's [`thread_token`], or 0.
    holder: AtomicU64,
    /// How many threads wait.
    waiting: AtomicUsize,
    state: Mutex<T>,
}

impl<T> ChangeLock<T> {
    pub(crate) fn new(state: T) -> Self {
        Self {
            holder: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn lock(&self) -> Result<ChangeGuard<'_, T>, LockError> {
        let me = thread_token();
        // Relaxed is enough: only this thread can have stored its own token, and it cleared
        // it before it let go of the mutex.
        if self.holder.load(Ordering::Relaxed) == me {
            return Err(LockError::Reentrant);
        }
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(_)) => return Err(LockError::Poisoned),
            Err(TryLockError::WouldBlock) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let state = self.state.lock();
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                state.map_err(|_| LockError::Poisoned)?
            }
        };
        self.holder.store(me, Ordering::Relaxed);
        Ok(ChangeGuard {
            holder: &self.holder,
            state,
        })
    }
}

impl<T> ChangeLock<T> {
    /// Lets those go first who wait, for whoever has let go and is about to lock again: the mutex
    /// itself would give it to him who comes back at once, over and over.
    ///
    /// They get a while for it, and no more, so that nobody is kept away for ever.
    pub(crate) fn let_others(&self) {
        const TURNS: usize = 1000;
        for _ in 0..TURNS {
            if self.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            std::thread::yield_now();
        }
    }
}

pub(crate) struct ChangeGuard<'a, T> {
    holder: &'a AtomicU64,
    state: MutexGuard<'a, T>,
}

impl<T> Deref for ChangeGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T> DerefMut for ChangeGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

impl<T> Drop for ChangeGuard<'_, T> {
    fn drop(&mut self) {
        // Before the mutex is released: fields are dropped after this body.
        self.holder.store(0, Ordering::Relaxed);
    }
}

/// A number that no other thread has or ever had; never 0.
fn thread_token() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static TOKEN: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    TOKEN.with(|token| *token)
}
