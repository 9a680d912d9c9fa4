//! How a range map keeps its entries: a sorted list, cut into chunks.
//!
//! A sorted `Vec` answers faster than any tree, but to insert into it means to move all that lies
//! behind. So here no `Vec` is longer than [`CHUNK`]: a map of few entries is one sorted `Vec`, and a
//! map of many is a sorted `Vec` of them, found by its first address. A change moves entries within
//! one chunk; only when a chunk is split, emptied or joined does the short list of chunks move, and
//! that takes many changes to happen again.

use super::span::Span;
use crate::MemoryRange;
use alloc::vec;
use alloc::vec::Vec;

/// The most entries of a chunk. Longer chunks make changes slower and searches no faster. Unit
/// tests want many chunks with few entries.
const CHUNK: usize = if cfg!(test) { 8 } else { 64 };

/// A chunk with fewer entries than this is joined with a neighbour that has fewer, too.
const FEW: usize = CHUNK / 4;

/// A range and its value.
pub(super) type Entry<V> = (MemoryRange, V);

/// Entries in ascending order. It does not know how to cut one: that is the map's part.
///
/// Invariants, as long as no caller inserts an entry at a wrong position:
/// 1. Ranges are not empty, sorted and disjoint, within a chunk and from one chunk to the next.
/// 2. No chunk is empty or longer than [`CHUNK`], and no two neighbours are both shorter than [`FEW`].
/// 3. `heads[i]` is the start of the first range in `chunks[i]`.
/// 4. `len` is the number of entries.
#[derive(Clone)]
pub(super) struct Chunks<V> {
    heads: Vec<u64>,
    chunks: Vec<Vec<Entry<V>>>,
    len: usize,
    /// Where the last change was: the next one is often there, too. It may be no position any more.
    recent: Position,
}

/// The place of an entry, or the place behind the last one: chunk `chunks.len()`, index 0.
///
/// It is valid until the next change.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    chunk: usize,
    index: usize,
}

impl<V> Chunks<V> {
    pub(super) const fn new() -> Self {
        Self {
            heads: Vec::new(),
            chunks: Vec::new(),
            len: 0,
            recent: Position { chunk: 0, index: 0 },
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn first(&self) -> Position {
        Position { chunk: 0, index: 0 }
    }

    /// Finds the first entry that ends above the address: the one that holds it, or else the first
    /// one behind it.
    #[inline]
    pub(super) fn find(&self, addr: u64) -> Position {
        match self.get(self.recent) {
            // Nothing that ends above its start is before it.
            Some((range, _)) if range.start() == addr => self.recent,
            _ => self.find_elsewhere(addr),
        }
    }

    // Apart, so that whoever changes the same entry to and fro has little code to run.
    #[inline(never)]
    fn find_elsewhere(&self, addr: u64) -> Position {
        self.find_recent(addr).unwrap_or_else(|| self.search(addr))
    }

    /// As [`find`](Self::find), for who will change what is there.
    #[inline]
    pub(super) fn find_to_change(&mut self, addr: u64) -> Position {
        let at = self.find(addr);
        self.recent = at;
        at
    }

    /// What [`find`](Self::find) returns, wherever it is.
    fn search(&self, addr: u64) -> Position {
        // An entry that holds the address is in the last chunk that starts at or below it.
        let Some(chunk) = self
            .heads
            .partition_point(|head| *head <= addr)
            .checked_sub(1)
        else {
            return self.first();
        };
        let index = self.chunks[chunk].partition_point(|(range, _)| range.end() <= addr);
        self.position(chunk, index)
    }

    /// What [`find`](Self::find) returns, if it is the entry that was changed last, or the one behind
    /// it in its chunk.
    fn find_recent(&self, addr: u64) -> Option<Position> {
        let Position { chunk, index } = self.recent;
        let entries = self.chunks.get(chunk)?;
        let index = match entries.get(index)? {
            (range, _) if range.end() <= addr => index + 1,
            _ => index,
        };
        let (range, _) = entries.get(index)?;
        // Whatever ends at or below the address is before the entry found, and so nothing behind.
        let is_first = match index.checked_sub(1) {
            Some(before) => entries[before].0.end() <= addr,
            None => chunk == 0 || range.start() <= addr,
        };
        (is_first && addr < range.end()).then_some(Position { chunk, index })
    }

    /// Finds the first entry that starts at or above the address.
    pub(super) fn find_start(&self, addr: u64) -> Position {
        let Some(chunk) = self
            .heads
            .partition_point(|head| *head < addr)
            .checked_sub(1)
        else {
            return self.first();
        };
        let index = self.chunks[chunk].partition_point(|(range, _)| range.start() < addr);
        self.position(chunk, index)
    }

    /// Returns the position of a place in a chunk, which may be the one behind its last entry.
    fn position(&self, chunk: usize, index: usize) -> Position {
        if index < self.chunks[chunk].len() {
            Position { chunk, index }
        } else {
            Position {
                chunk: chunk + 1,
                index: 0,
            }
        }
    }

    #[inline]
    pub(super) fn get(&self, at: Position) -> Option<&Entry<V>> {
        self.chunks.get(at.chunk)?.get(at.index)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: Position) -> Option<&mut Entry<V>> {
        self.chunks.get_mut(at.chunk)?.get_mut(at.index)
    }

    /// Returns the position of the entry in front of the one at the position.
    pub(super) fn before(&self, at: Position) -> Option<Position> {
        if let Some(index) = at.index.checked_sub(1) {
            return Some(Position { index, ..at });
        }
        let chunk = at.chunk.checked_sub(1)?;
        let index = self.chunks.get(chunk)?.len().checked_sub(1)?;
        Some(Position { chunk, index })
    }

    /// Removes the entry at the position, and has the one in front of it reach as far.
    pub(super) fn absorb(&mut self, at: Position) {
        let end = self.get(at).map(|(range, _)| range.end());
        if let (Some(end), Some(before)) = (end, self.before(at))
            && let Some((range, _)) = self.get_mut(before)
            && let Ok(both) = MemoryRange::try_new(range.start()..end)
        {
            // Its start stays, and so does its place among the others.
            *range = both;
            self.remove(at);
            self.recent = before;
        }
    }

    /// Returns the entries from the position on that start below the address.
    pub(super) fn span(&self, front: Position, below: u64) -> Span<'_, V> {
        let first = self.chunks.get(front.chunk).map_or(&[][..], Vec::as_slice);
        let first = first.get(front.index..).unwrap_or_default();
        // Few entries are asked for at a time, as a rule, and all are in one chunk.
        let further = match first.last() {
            Some((last, _)) if last.start() < below => {
                let back = self.find_start(below).chunk.min(self.chunks.len() - 1);
                self.chunks.get(front.chunk + 1..=back).unwrap_or_default()
            }
            _ => &[],
        };
        Span::new(first, further, below)
    }

    /// Inserts an entry in front of the one at the position.
    pub(super) fn insert(&mut self, at: Position, entry: Entry<V>) {
        let Position {
            mut chunk,
            mut index,
        } = at;
        // At the start of a chunk everything in it would move; at the end of the one before nothing.
        if index == 0 && chunk > 0 {
            chunk -= 1;
            index = self.chunks[chunk].len();
        }
        self.len += 1;
        self.recent = Position { chunk, index };
        let is_last = chunk + 1 >= self.chunks.len();
        match self.chunks.get_mut(chunk) {
            None => {
                self.add_chunk(0, vec![entry]);
                return;
            }
            Some(entries) if entries.len() < CHUNK => entries.insert(index, entry),
            // Filling a map in ascending order must not leave half-empty chunks behind.
            Some(entries) if is_last && index == entries.len() => {
                self.add_chunk(chunk + 1, vec![entry]);
            }
            Some(entries) => {
                let mut upper = entries.split_off(CHUNK / 2);
                match index.checked_sub(entries.len()) {
                    Some(index) => upper.insert(index, entry),
                    None => entries.insert(index, entry),
                }
                self.add_chunk(chunk + 1, upper);
            }
        }
        self.heads[chunk] = self.chunks[chunk][0].0.start();
    }

    /// Removes the entry at the position.
    pub(super) fn remove(&mut self, at: Position) -> Option<Entry<V>> {
        let entries = self.chunks.get_mut(at.chunk)?;
        if at.index >= entries.len() {
            return None;
        }
        let removed = entries.remove(at.index);
        self.len -= 1;
        self.recent = at;
        match entries.first() {
            Some((first, _)) => self.heads[at.chunk] = first.start(),
            None => {
                self.heads.remove(at.chunk);
                self.chunks.remove(at.chunk);
                return Some(removed);
            }
        }
        if entries.len() < FEW {
            self.join_if_few(at.chunk);
            if let Some(before) = at.chunk.checked_sub(1) {
                self.join_if_few(before);
            }
        }
        Some(removed)
    }

    fn add_chunk(&mut self, chunk: usize, entries: Vec<Entry<V>>) {
        self.heads.insert(chunk, entries[0].0.start());
        self.chunks.insert(chunk, entries);
    }

    /// Joins a chunk with the one behind it if both have few entries.
    fn join_if_few(&mut self, chunk: usize) {
        let is_few = |chunk: usize| {
            let entries = self.chunks.get(chunk);
            entries.is_some_and(|entries| entries.len() < FEW)
        };
        if is_few(chunk) && is_few(chunk + 1) {
            self.heads.remove(chunk + 1);
            let mut upper = self.chunks.remove(chunk + 1);
            self.chunks[chunk].append(&mut upper);
        }
    }
}

#[cfg(test)]
impl<V> Chunks<V> {
    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Checks every invariant.
    pub(super) fn check(&self) {
        let entries: Vec<MemoryRange> = self.chunks.iter().flatten().map(|entry| entry.0).collect();
        assert!(entries.iter().all(|range| !range.is_empty()));
        assert!(entries.is_sorted_by(|low, high| low.end() <= high.start()));
        let lengths: Vec<usize> = self.chunks.iter().map(Vec::len).collect();
        assert!(
            lengths.iter().all(|len| (1..=CHUNK).contains(len)),
            "{lengths:?}"
        );
        let both_few = |pair: &[usize]| pair.iter().all(|len| *len < FEW);
        assert!(!lengths.windows(2).any(both_few), "{lengths:?}");
        let heads: Vec<u64> = self.chunks.iter().map(|chunk| chunk[0].0.start()).collect();
        assert_eq!(self.heads, heads);
        for addr in entries
            .iter()
            .flat_map(|range| [range.start(), range.end()])
        {
            for addr in [addr.saturating_sub(1), addr, addr.saturating_add(1)] {
                assert_eq!(self.find(addr), self.search(addr));
            }
        }
        assert_eq!(self.len, entries.len());
    }
}
