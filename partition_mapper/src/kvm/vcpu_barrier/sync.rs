//! What the protocol is written with. Its model (`tests/vcpu_barrier_model.rs`) compiles the same
//! file with loom's types in the place of these.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
