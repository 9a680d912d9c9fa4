//! Sorted, disjoint entries that are looked up without a lock while they change.

mod editor;
#[cfg(test)]
mod tests;

pub(crate) use editor::Editor;

use super::chunk::{Chunk, Entry};
use super::index::Index;
use super::sequence::Sequence;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries by address.
///
/// An entry that is put in becomes one with neighbours that it continues. One that changes where it
/// is does not: what is switched to and fro, as firmware does with segments of RAM, finds an entry
/// of its own, and nothing moves.
///
/// A sorted list, cut into chunks: to find an entry takes two binary searches, and a change moves
/// entries within one chunk. Once in a few dozen changes the list of chunks moves.
///
/// Invariants:
///
/// - E1: What readers may follow a pointer to, the index and the chunks, is in `owned`, and is not
///   freed before this is. An index that was outgrown stays; a chunk that was emptied is used again.
/// - E2: Everything else that readers look at is an atomic. What they make of it is true if the
///   sequence has not changed meanwhile.
/// - E3: While no change is made, entries are not empty, sorted and disjoint, no chunk is empty, and
///   no two neighbouring chunks have few entries.
pub(crate) struct Entries<S> {
    sequence: Sequence,
    index: AtomicPtr<Index<S>>,
    /// The position at which a change was made last, for whoever makes the next: it is often there,
    /// too. It may be no position any more.
    recent: [AtomicUsize; 2],
    owned: Mutex<Owned<S>>,
}

/// What keeps E1.
struct Owned<S> {
    indices: Vec<NonNull<Index<S>>>,
    chunks: Vec<NonNull<Chunk<S>>>,
    /// Those of the chunks that hold no entries.
    free: Vec<NonNull<Chunk<S>>>,
}

// SAFETY: the pointers are to what only this owns, made of atomics. Of the slots only addresses are
// here.
unsafe impl<S: Send + Sync> Send for Owned<S> {}

/// A place in the list. It is valid until an entry is put in or taken out.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Position {
    chunk: usize,
    index: usize,
}

impl<S> Entries<S> {
    pub(crate) fn new() -> Self {
        let index = leak(Index::with_capacity(if cfg!(test) { 1 } else { 16 }));
        Self {
            sequence: Sequence::new(),
            index: AtomicPtr::new(index.as_ptr()),
            recent: [const { AtomicUsize::new(0) }; 2],
            owned: Mutex::new(Owned {
                indices: vec![index],
                chunks: Vec::new(),
                free: Vec::new(),
            }),
        }
    }

    /// What tells a reader whether what it found is true.
    #[inline(always)]
    pub(crate) fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// The first entry that ends above the address.
    #[inline(always)]
    pub(crate) fn find(&self, addr: u64) -> Option<Entry<S>> {
        self.get(self.position(addr))
    }

    /// The entry that is of just this range, and where it is.
    #[inline]
    pub(crate) fn exact(&self, start: u64, end: u64) -> Option<(Position, Entry<S>)> {
        let at = self.position_to_change(start);
        let entry = self.get(at)?;
        ((entry.start ^ start) | (entry.end ^ end) == 0).then_some((at, entry))
    }

    /// The entry that holds an address, together with neighbours that continue it. The caller
    /// excludes changes.
    pub(crate) fn joined_at(&self, addr: u64) -> Option<Entry<S>> {
        let mut at = self.position(addr);
        let mut joined = self.get(at).filter(|entry| entry.start <= addr)?;
        let mut after = self.next(at);
        while let Some(next) = self.get(after)
            && joined.is_continued_by(&next)
        {
            joined = joined.until(next.end);
            after = self.next(after);
        }
        while let Some(before_at) = self.previous(at)
            && let Some(before) = self.get(before_at)
            && before.is_continued_by(&joined)
        {
            joined = before.until(joined.end);
            at = before_at;
        }
        Some(joined)
    }

    /// Every entry by address, where neighbours that continue one another are one. The caller
    /// excludes changes.
    pub(crate) fn joined(&self) -> impl Iterator<Item = Entry<S>> {
        let mut entries = self.iter_from(0).peekable();
        std::iter::from_fn(move || {
            let mut joined = entries.next()?;
            while let Some(next) = entries.next_if(|next| joined.is_continued_by(next)) {
                joined = joined.until(next.end);
            }
            Some(joined)
        })
    }

    /// Every entry that ends above an address, in ascending order. The caller excludes changes, or
    /// expects nonsense.
    pub(crate) fn iter_from(&self, addr: u64) -> impl Iterator<Item = Entry<S>> {
        let mut at = self.position(addr);
        std::iter::from_fn(move || {
            let entry = self.get(at)?;
            at = self.next(at);
            Some(entry)
        })
    }

    /// The parts of entries that lie between two addresses, in ascending order. The caller excludes
    /// changes, or expects nonsense.
    pub(crate) fn parts(&self, start: u64, end: u64) -> impl Iterator<Item = Entry<S>> {
        let entries = self.iter_from(start);
        let inside = entries.take_while(move |entry| entry.start < end);
        inside.map(move |mut entry| {
            if entry.start < start {
                entry = entry.from(start);
            }
            entry.until(entry.end.min(end))
        })
    }

    /// Begins a change.
    ///
    /// # Safety
    ///
    /// No other change is made as long as the editor lives: readers would take what two changes have
    /// made for the truth.
    #[inline]
    pub(crate) unsafe fn edit(&self) -> Editor<'_, S> {
        Editor::new(self)
    }

    /// What is owned. Only some changes need it, so that its lock is taken then.
    fn owned(&self) -> MutexGuard<'_, Owned<S>> {
        // A list of what is owned is whole whatever panicked.
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline(always)]
    fn index(&self) -> &Index<S> {
        // Acquire: the index is made before its address is stored.
        // SAFETY: the pointer is to an index that is not freed before `self` is (E1).
        unsafe { &*self.index.load(Ordering::Acquire) }
    }

    #[inline(always)]
    fn chunk(&self, at: usize) -> Option<&Chunk<S>> {
        let chunk = self.index().chunk(at)?;
        // SAFETY: the pointer is to a chunk that is not freed before `self` is (E1).
        Some(unsafe { chunk.as_ref() })
    }

    /// The place of the first entry that ends above the address.
    #[inline(always)]
    fn position(&self, addr: u64) -> Position {
        let at = self.index().find(addr);
        match self.chunk(at) {
            Some(chunk) => match chunk.find(addr) {
                // Behind the last of a chunk comes the first of the next.
                index if index >= chunk.len() => Position {
                    chunk: at + 1,
                    index: 0,
                },
                index => Position { chunk: at, index },
            },
            None => Position {
                chunk: at,
                index: 0,
            },
        }
    }

    /// As [`position`](Self::position), for who is about to change what starts there, and excludes
    /// other changes.
    #[inline]
    fn position_to_change(&self, start: u64) -> Position {
        let [chunk, index] = &self.recent;
        let recent = Position {
            chunk: chunk.load(Ordering::Relaxed),
            index: index.load(Ordering::Relaxed),
        };
        // Nothing that ends above its start is before it.
        if self.get(recent).is_some_and(|entry| entry.start == start) {
            return recent;
        }
        let at = self.position(start);
        chunk.store(at.chunk, Ordering::Relaxed);
        index.store(at.index, Ordering::Relaxed);
        at
    }

    /// The place behind that of an entry.
    fn next(&self, at: Position) -> Position {
        match self.chunk(at.chunk) {
            Some(chunk) if at.index + 1 < chunk.len() => Position {
                index: at.index + 1,
                ..at
            },
            _ => Position {
                chunk: at.chunk + 1,
                index: 0,
            },
        }
    }

    /// The place of the entry in front.
    fn previous(&self, at: Position) -> Option<Position> {
        if let Some(index) = at.index.checked_sub(1) {
            return Some(Position { index, ..at });
        }
        let before = at.chunk.checked_sub(1)?;
        let index = self.chunk(before)?.len().checked_sub(1)?;
        Some(Position {
            chunk: before,
            index,
        })
    }

    #[inline(always)]
    fn get(&self, at: Position) -> Option<Entry<S>> {
        self.chunk(at.chunk)?.get(at.index)
    }
}

impl<S> Drop for Entries<S> {
    fn drop(&mut self) {
        let owned = self.owned.get_mut();
        let owned = owned.unwrap_or_else(PoisonError::into_inner);
        for index in owned.indices.drain(..) {
            // SAFETY: `leak` made it, and `self`, through which readers find it, is going away.
            drop(unsafe { Box::from_raw(index.as_ptr()) });
        }
        for chunk in owned.chunks.drain(..) {
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(chunk.as_ptr()) });
        }
    }
}

fn leak<T>(value: T) -> NonNull<T> {
    NonNull::from(Box::leak(Box::new(value)))
}
