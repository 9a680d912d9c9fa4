//! The list of chunks, which can be read while it is changed.

use super::chunk::{Chunk, count_below};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Chunks in ascending order, each with the first address in it. Its capacity is fixed.
pub(super) struct Index<S> {
    len: AtomicUsize,
    heads: Box<[AtomicU64]>,
    chunks: Box<[AtomicPtr<Chunk<S>>]>,
}

impl<S> Index<S> {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self {
            len: AtomicUsize::new(0),
            heads: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
            chunks: (0..capacity)
                .map(|_| AtomicPtr::new(ptr::null_mut()))
                .collect(),
        }
    }

    /// A copy with room for more.
    pub(super) fn grown(&self) -> Self {
        let grown = Self::with_capacity(self.heads.len().saturating_mul(2));
        for at in 0..self.len() {
            self.copy(at, &grown, at);
        }
        grown.len.store(self.len(), Ordering::Relaxed);
        grown
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed).min(self.heads.len())
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == self.heads.len()
    }

    /// The last chunk that starts at or below the address; the first one if none does.
    #[inline(always)]
    pub(super) fn find(&self, addr: u64) -> usize {
        let heads = self.heads.get(..self.len()).unwrap_or_default();
        count_below(heads, |head| head <= addr).saturating_sub(1)
    }

    #[inline(always)]
    pub(super) fn chunk(&self, at: usize) -> Option<NonNull<Chunk<S>>> {
        if at >= self.len() {
            return None;
        }
        // Acquire: the chunk is made before its address is stored.
        NonNull::new(self.chunks.get(at)?.load(Ordering::Acquire))
    }

    pub(super) fn set_head(&self, at: usize, head: u64) {
        if let Some(place) = self.heads.get(at) {
            place.store(head, Ordering::Relaxed);
        }
    }

    /// Puts a chunk in front of the one at `at`. The index is not full.
    pub(super) fn insert(&self, at: usize, head: u64, chunk: NonNull<Chunk<S>>) {
        let len = self.len();
        for at in (at..len).rev() {
            self.copy(at, self, at + 1);
        }
        self.set_head(at, head);
        if let Some(place) = self.chunks.get(at) {
            place.store(chunk.as_ptr(), Ordering::Release);
        }
        self.len
            .store((len + 1).min(self.heads.len()), Ordering::Relaxed);
    }

    /// Takes a chunk out.
    pub(super) fn remove(&self, at: usize) {
        let len = self.len();
        for at in at + 1..len {
            self.copy(at, self, at - 1);
        }
        self.len.store(len.saturating_sub(1), Ordering::Relaxed);
    }

    fn copy(&self, from: usize, to: &Self, at: usize) {
        if let (Some(head), Some(chunk)) = (self.heads.get(from), self.chunks.get(from)) {
            to.set_head(at, head.load(Ordering::Relaxed));
            if let Some(place) = to.chunks.get(at) {
                place.store(chunk.load(Ordering::Relaxed), Ordering::Release);
            }
        }
    }
}
