//! What the lock-free parts are written with.
//!
//! The model of the lease protocol (`tests/lease_model.rs`) compiles the same files with loom's
//! types in the place of these.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

use std::cell::UnsafeCell;

/// Contents that a protocol, and not the compiler, guards.
pub(crate) struct GuardedCell<T>(UnsafeCell<T>);

impl<T> GuardedCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Lends a pointer to read through.
    #[inline(always)]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Lends a pointer to write through.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
