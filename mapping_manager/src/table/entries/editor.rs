//! Changing the entries.

use super::{Entries, Position, leak};
use crate::table::chunk::{CHUNK, Chunk, Entry, FEW};
use crate::table::sequence::Changing;
use memory_range::{Access, MemoryRange};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

/// A change of the entries. Readers without a lock look again when it is over.
///
/// The functions that take `count` call it for each entry that comes (1) or goes (-1), so that the
/// uses of a slot can be counted.
pub(crate) struct Editor<'a, S> {
    entries: &'a Entries<S>,
    _changing: Changing<'a>,
}

impl<'a, S> Editor<'a, S> {
    #[inline]
    pub(super) fn new(entries: &'a Entries<S>) -> Self {
        Self {
            entries,
            _changing: entries.sequence.change(),
        }
    }
}

impl<S> Editor<'_, S> {
    /// Puts an entry over whatever is there. It is not empty.
    pub(crate) fn set(&mut self, entry: Entry<S>, count: &mut dyn FnMut(NonNull<S>, i64)) {
        let Entry { start, end, .. } = entry;
        count(entry.slot, 1);
        let mut at = self.entries.position_to_change(start);
        match self.entries.get(at) {
            // In the most frequent case, a new value for an old range, nothing has to move.
            Some(old) if (old.start, old.end) == (start, end) => {
                self.put(at, entry);
                count(old.slot, -1);
                return;
            }
            Some(old) if old.start < end => {
                self.remove(start, end, count);
                at = self.insert(entry);
            }
            _ => at = self.insert_at(at, entry),
        }
        self.join_around(at, count);
    }

    /// Takes out whatever is there.
    pub(crate) fn remove(&mut self, start: u64, end: u64, count: &mut dyn FnMut(NonNull<S>, i64)) {
        loop {
            let at = self.entries.position_to_change(start);
            let Some(old) = self.entries.get(at).filter(|old| old.start < end) else {
                return;
            };
            match (old.start < start, end < old.end) {
                (false, false) => {
                    self.take(at);
                    count(old.slot, -1);
                }
                (true, false) => self.put(at, old.until(start)),
                (false, true) => self.put(at, old.from(end)),
                (true, true) => {
                    count(old.slot, 1);
                    self.put(at, old.until(start));
                    self.insert_at(self.entries.next(at), old.from(end));
                }
            }
            if end <= old.end {
                return;
            }
        }
    }

    /// Changes the access of one entry, which stays where it is.
    pub(crate) fn set_access(&mut self, at: Position, access: Access) {
        if let Some(chunk) = self.entries.chunk(at.chunk) {
            chunk.set_access(at.index, access);
        }
    }

    /// Changes the access of whatever is there.
    pub(crate) fn protect(
        &mut self,
        range: MemoryRange,
        access: Access,
        count: &mut dyn FnMut(NonNull<S>, i64),
    ) {
        let mut start = range.start();
        while start < range.end() {
            let mut at = self.entries.position(start);
            let here = self.entries.get(at);
            let Some(old) = here.filter(|old| old.start < range.end()) else {
                return;
            };
            start = old.end;
            if old.access == access {
                continue;
            }
            // What lies outside keeps its access.
            let mut part = Entry { access, ..old };
            if range.end() < old.end {
                count(old.slot, 1);
                part = part.until(range.end());
                self.put(at, part);
                self.insert_at(self.entries.next(at), old.from(range.end()));
                at = self.entries.position(old.start);
            }
            if old.start < range.start() {
                count(old.slot, 1);
                part = part.from(range.start());
                self.put(at, old.until(range.start()));
                at = self.insert_at(self.entries.next(at), part);
            } else {
                self.put(at, part);
            }
            self.join_around(at, count);
        }
    }

    /// Joins an entry with its neighbours, where they continue one another.
    fn join_around(&mut self, at: Position, count: &mut dyn FnMut(NonNull<S>, i64)) {
        let Some(mut entry) = self.entries.get(at) else {
            return;
        };
        let mut at = at;
        let next_at = self.entries.next(at);
        if let Some(next) = self.entries.get(next_at)
            && entry.is_continued_by(&next)
        {
            entry = entry.until(next.end);
            self.put(at, entry);
            self.take(next_at);
            count(next.slot, -1);
            at = self.entries.position(entry.start);
        }
        if let Some(before_at) = self.entries.previous(at)
            && let Some(before) = self.entries.get(before_at)
            && before.is_continued_by(&entry)
        {
            self.put(before_at, before.until(entry.end));
            self.take(at);
            count(entry.slot, -1);
        }
    }

    fn insert(&mut self, entry: Entry<S>) -> Position {
        self.insert_at(self.entries.position(entry.start), entry)
    }

    /// Changes an entry where it is. Its place among the others stays the same.
    fn put(&mut self, at: Position, entry: Entry<S>) {
        if let Some(chunk) = self.entries.chunk(at.chunk) {
            chunk.set(at.index, entry);
            if at.index == 0 {
                self.entries.index().set_head(at.chunk, entry.start);
            }
        }
    }

    /// Puts an entry in front of the one at the position. Returns where it is.
    fn insert_at(&mut self, at: Position, entry: Entry<S>) -> Position {
        let Position {
            mut chunk,
            mut index,
        } = at;
        // At the start of a chunk everything in it would move; at the end of the one before nothing.
        if index == 0
            && let Some(before) = chunk.checked_sub(1)
        {
            chunk = before;
            index = self.entries.chunk(before).map_or(0, Chunk::len);
        }
        let is_last = chunk + 1 >= self.entries.index().len();
        match self.entries.chunk(chunk) {
            None => {
                return self.add_chunk(0, entry);
            }
            Some(full) if full.len() == CHUNK => {
                // Filling a table in ascending order must not leave half-empty chunks behind.
                if is_last && index == CHUNK {
                    return self.add_chunk(chunk + 1, entry);
                }
                self.split_chunk(chunk);
                let lower = self.entries.chunk(chunk).map_or(0, Chunk::len);
                if let Some(above) = index.checked_sub(lower)
                    && above > 0
                {
                    chunk += 1;
                    index = above;
                }
            }
            Some(_) => {}
        }
        if let Some(place) = self.entries.chunk(chunk) {
            place.insert(index, entry);
        }
        if index == 0 {
            self.entries.index().set_head(chunk, entry.start);
        }
        Position { chunk, index }
    }

    /// Takes the entry at the position out.
    fn take(&mut self, at: Position) {
        let Some(chunk) = self.entries.chunk(at.chunk) else {
            return;
        };
        chunk.remove(at.index);
        match chunk.get(0) {
            None => {
                self.drop_chunk(at.chunk);
                return;
            }
            Some(first) if at.index == 0 => self.entries.index().set_head(at.chunk, first.start),
            Some(_) => {}
        }
        self.join_if_few(at.chunk);
        if let Some(before) = at.chunk.checked_sub(1) {
            self.join_if_few(before);
        }
    }

    /// Moves the upper half of a chunk into one of its own.
    fn split_chunk(&mut self, at: usize) {
        let upper = self.free_chunk();
        let Some(lower) = self.entries.chunk(at) else {
            return;
        };
        // SAFETY: `free_chunk` returns chunks that are not freed before the entries are (E1).
        lower.move_tail(CHUNK / 2, unsafe { upper.as_ref() });
        self.add_to_index(at + 1, upper);
    }

    /// Adds a chunk that holds one entry. Returns where that is.
    fn add_chunk(&mut self, at: usize, entry: Entry<S>) -> Position {
        let chunk = self.free_chunk();
        // SAFETY: as in `split_chunk`.
        unsafe { chunk.as_ref() }.insert(0, entry);
        self.add_to_index(at, chunk);
        Position {
            chunk: at,
            index: 0,
        }
    }

    fn add_to_index(&mut self, at: usize, chunk: NonNull<Chunk<S>>) {
        if self.entries.index().is_full() {
            let grown = leak(self.entries.index().grown());
            self.entries.owned().indices.push(grown);
            // Release: whoever loads the address finds the index made.
            self.entries.index.store(grown.as_ptr(), Ordering::Release);
        }
        // SAFETY: as in `split_chunk`.
        let head = unsafe { chunk.as_ref() }.get(0);
        let head = head.map_or(0, |first| first.start);
        self.entries.index().insert(at, head, chunk);
    }

    fn drop_chunk(&mut self, at: usize) {
        if let Some(chunk) = self.entries.index().chunk(at) {
            self.entries.index().remove(at);
            self.entries.owned().free.push(chunk);
        }
    }

    fn free_chunk(&mut self) -> NonNull<Chunk<S>> {
        let mut owned = self.entries.owned();
        owned.free.pop().unwrap_or_else(|| {
            let chunk = leak(Chunk::new());
            owned.chunks.push(chunk);
            chunk
        })
    }

    /// Joins a chunk with the one behind it if both have few entries.
    fn join_if_few(&mut self, at: usize) {
        if let (Some(lower), Some(upper)) = (self.entries.chunk(at), self.entries.chunk(at + 1))
            && lower.len() < FEW
            && upper.len() < FEW
        {
            upper.move_tail(0, lower);
            self.drop_chunk(at + 1);
        }
    }
}
