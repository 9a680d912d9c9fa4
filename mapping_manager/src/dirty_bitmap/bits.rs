//! How a page is marked and taken, without a lock and without losing a write.
//!
//! Whoever writes has the bytes written, then [`written`], then [`mark`]. Whoever copies has
//! [`take`], then [`taken`], then reads the bytes. Of the two fences one comes first: either the
//! copier's, and then `mark` finds the bit taken and sets it again; or the writer's, and then the
//! copier reads the bytes. `tests/dirty_model.rs` walks through every order.

use crate::sync::{AtomicU64, Ordering, fence};

/// Has the bytes be there for all to see before a bit is looked at. Without it the look may
/// overtake the write, find a bit that is just being taken, and leave it at that.
#[inline]
pub(crate) fn written() {
    fence(Ordering::SeqCst);
}

/// Sets bits. Most are set already: a look leaves the cache line with every processor that has it.
#[inline]
pub(crate) fn mark(word: &AtomicU64, bits: u64) {
    if word.load(Ordering::Relaxed) & bits != bits {
        word.fetch_or(bits, Ordering::Relaxed);
    }
}

/// Clears bits, and returns those that were set. One that is being set is this look's or the
/// next's.
#[inline]
pub(crate) fn take(word: &AtomicU64, bits: u64) -> u64 {
    match word.load(Ordering::Relaxed) & bits {
        0 => 0,
        _ => word.fetch_and(!bits, Ordering::Relaxed) & bits,
    }
}

/// Has the bytes be read after the bits were cleared.
#[inline]
pub(crate) fn taken() {
    fence(Ordering::SeqCst);
}
