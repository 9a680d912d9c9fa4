//! A sorted run of entries that can be read while it is changed.

use memory_range::Access;
use std::hint::select_unpredictable;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// The most entries of a chunk. Unit tests want many chunks with few entries.
pub(super) const CHUNK: usize = if cfg!(test) { 4 } else { 64 };

/// A chunk with fewer entries than this is joined with a neighbour that has fewer, too.
pub(super) const FEW: usize = CHUNK / 4 + 1;

/// What is mapped at a range of guest physical addresses. One that was read without the lock may be
/// put together from several, until the sequence says that it isn't; `slot` is a slot of the
/// table even then.
#[derive(Debug)]
pub(crate) struct Entry<S> {
    /// The first address.
    pub(crate) start: u64,
    /// The first address past it.
    pub(crate) end: u64,
    /// Where in the backing it starts; page aligned.
    pub(crate) offset: u64,
    /// Whether it can be written now.
    pub(crate) access: Access,
    /// The slot of its backing.
    pub(crate) slot: NonNull<S>,
}

// Not derived: that would ask the same of `S`.
impl<S> Clone for Entry<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Entry<S> {}

impl<S> PartialEq for Entry<S> {
    fn eq(&self, other: &Self) -> bool {
        let key = |entry: &Self| {
            (
                entry.start,
                entry.end,
                entry.offset,
                entry.access,
                entry.slot,
            )
        };
        key(self) == key(other)
    }
}

impl<S> Entry<S> {
    /// The offset in the backing of an address in the entry.
    #[inline(always)]
    pub(crate) fn offset_at(&self, addr: u64) -> u64 {
        // Neither wraps in an entry that is whole: the reservation refused an offset that would.
        self.offset.wrapping_add(addr.wrapping_sub(self.start))
    }

    /// The lower part of two.
    pub(super) fn until(self, end: u64) -> Self {
        Self { end, ..self }
    }

    /// The upper part of two.
    pub(super) fn from(self, start: u64) -> Self {
        Self {
            start,
            offset: self.offset_at(start),
            ..self
        }
    }

    /// Says whether `next` goes on where this ends, in addresses and in the backing.
    pub(super) fn is_continued_by(&self, next: &Self) -> bool {
        self.end == next.start
            && self.slot == next.slot
            && self.access == next.access
            && self.offset_at(self.end) == next.offset
    }
}

/// Up to [`CHUNK`] entries in ascending order.
///
/// Each field is an atomic, loaded and stored relaxed: the table's sequence tells a reader whether
/// what it has put together is true. Only the slots' addresses are stored with release and loaded
/// with acquire, since a reader follows them before it asks.
pub(super) struct Chunk<S> {
    len: AtomicUsize,
    // Apart from the rest, so that a search touches few cache lines.
    ends: [AtomicU64; CHUNK],
    rest: [Rest<S>; CHUNK],
}

/// The rest of an entry, in one cache line.
#[repr(align(32))]
struct Rest<S> {
    start: AtomicU64,
    /// The offset, and in its lowest bit (it is page aligned) whether the entry can be written.
    offset: AtomicU64,
    slot: AtomicPtr<S>,
}

impl<S> Rest<S> {
    const fn new() -> Self {
        Self {
            start: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            slot: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

const WRITABLE: u64 = 1;

impl<S> Chunk<S> {
    pub(super) fn new() -> Self {
        Self {
            len: AtomicUsize::new(0),
            ends: [const { AtomicU64::new(0) }; CHUNK],
            rest: [const { Rest::new() }; CHUNK],
        }
    }

    /// The number of entries.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed).min(CHUNK)
    }

    /// The index of the first entry that ends above the address, or the length.
    #[inline(always)]
    pub(super) fn find(&self, addr: u64) -> usize {
        let ends = self.ends.get(..self.len()).unwrap_or_default();
        count_below(ends, |end| end <= addr)
    }

    #[inline(always)]
    pub(super) fn get(&self, index: usize) -> Option<Entry<S>> {
        if index >= self.len() {
            return None;
        }
        let end = self.ends.get(index)?.load(Ordering::Relaxed);
        let rest = self.rest.get(index)?;
        let offset = rest.offset.load(Ordering::Relaxed);
        Some(Entry {
            start: rest.start.load(Ordering::Relaxed),
            end,
            offset: offset & !WRITABLE,
            access: Access::from_writable(offset & WRITABLE != 0),
            slot: NonNull::new(rest.slot.load(Ordering::Acquire))?,
        })
    }

    /// Stores an entry. Nothing happens past the capacity.
    pub(super) fn set(&self, index: usize, entry: Entry<S>) {
        let writable = u64::from(entry.access.is_writable());
        if let (Some(end), Some(rest)) = (self.ends.get(index), self.rest.get(index)) {
            end.store(entry.end, Ordering::Relaxed);
            rest.start.store(entry.start, Ordering::Relaxed);
            rest.offset
                .store(entry.offset | writable, Ordering::Relaxed);
            rest.slot.store(entry.slot.as_ptr(), Ordering::Release);
        }
    }

    /// Stores the access of an entry.
    pub(super) fn set_access(&self, index: usize, access: Access) {
        if let Some(rest) = self.rest.get(index) {
            let offset = rest.offset.load(Ordering::Relaxed) & !WRITABLE;
            let writable = u64::from(access.is_writable());
            rest.offset.store(offset | writable, Ordering::Relaxed);
        }
    }

    /// Puts an entry in front of the one at `index`. The chunk is not full.
    pub(super) fn insert(&self, index: usize, entry: Entry<S>) {
        let len = self.len();
        for at in (index..len).rev() {
            self.copy(at, self, at + 1);
        }
        self.set(index, entry);
        self.len.store((len + 1).min(CHUNK), Ordering::Relaxed);
    }

    /// Takes an entry out.
    pub(super) fn remove(&self, index: usize) {
        let len = self.len();
        for at in index + 1..len {
            self.copy(at, self, at - 1);
        }
        self.len.store(len.saturating_sub(1), Ordering::Relaxed);
    }

    /// Moves the entries from `index` on to the end of another chunk, which has room for them.
    pub(super) fn move_tail(&self, index: usize, to: &Self) {
        let (len, to_len) = (self.len(), to.len());
        for at in index..len {
            self.copy(at, to, to_len + at - index);
        }
        let moved = len.saturating_sub(index);
        to.len.store((to_len + moved).min(CHUNK), Ordering::Relaxed);
        self.len.store(index.min(len), Ordering::Relaxed);
    }

    fn copy(&self, from: usize, to: &Self, index: usize) {
        let word = |from: &AtomicU64, to: &AtomicU64| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        if let (Some(from), Some(to)) = (self.ends.get(from), to.ends.get(index)) {
            word(from, to);
        }
        if let (Some(from), Some(to)) = (self.rest.get(from), to.rest.get(index)) {
            word(&from.start, &to.start);
            word(&from.offset, &to.offset);
            // Only changes come here, so the slot's memory is visible to this thread.
            to.slot
                .store(from.slot.load(Ordering::Relaxed), Ordering::Release);
        }
    }
}

/// How many words there are, from the first on, that are below something. They are sorted, unless a
/// change is under way: then the answer means nothing, but is no more than their number.
#[inline(always)]
pub(super) fn count_below(words: &[AtomicU64], is_below: impl Fn(u64) -> bool) -> usize {
    let is_below = |at: usize| {
        let word = words.get(at);
        word.is_some_and(|word| is_below(word.load(Ordering::Relaxed)))
    };
    let (mut first, mut len) = (0, words.len());
    while len > 1 {
        let half = len / 2;
        // Which half it is no one can predict, and a wrong guess costs more than all the rest.
        first = select_unpredictable(is_below(first + half - 1), first + half, first);
        len -= half;
    }
    first + usize::from(is_below(first))
}
