//! Goes through entries that lie side by side.

use super::chunks::Entry;
use alloc::vec::Vec;
use core::slice;

/// The entries from a position on that start below an address, in ascending order.
///
/// Forward, it looks at an entry when it is asked for, and at nothing behind the last.
pub(super) struct Span<'a, V> {
    front: slice::Iter<'a, Entry<V>>,
    /// The chunks behind `front` of which no entry was asked for yet. All but the last of them lie
    /// below the address.
    between: &'a [Vec<Entry<V>>],
    /// Of the chunk behind those; all lie below the address.
    back: slice::Iter<'a, Entry<V>>,
    below: u64,
}

impl<'a, V> Span<'a, V> {
    /// Goes through the rest of a chunk, and then through `further` ones, the last of which has the
    /// first entry that starts at or above the address, if there is one.
    pub(super) fn new(first: &'a [Entry<V>], further: &'a [Vec<Entry<V>>], below: u64) -> Self {
        Self {
            front: first.iter(),
            between: further,
            back: [].iter(),
            below,
        }
    }

    /// Of entries in ascending order, those that start below the address.
    fn cut(&self, entries: &'a [Entry<V>]) -> slice::Iter<'a, Entry<V>> {
        let end = entries.partition_point(|(range, _)| range.start() < self.below);
        entries[..end].iter()
    }
}

impl<'a, V> Iterator for Span<'a, V> {
    type Item = &'a Entry<V>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.front.next() {
                if entry.0.start() < self.below {
                    return Some(entry);
                }
                // All that follow start above the address, too.
                self.front = [].iter();
                self.between = &[];
                return None;
            }
            let Some((chunk, rest)) = self.between.split_first() else {
                return self.back.next();
            };
            self.front = chunk.iter();
            self.between = rest;
        }
    }
}

impl<V> DoubleEndedIterator for Span<'_, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.back.next_back() {
                return Some(entry);
            }
            let Some((chunk, rest)) = self.between.split_last() else {
                break;
            };
            self.back = self.cut(chunk);
            self.between = rest;
        }
        match self.front.next_back() {
            Some((range, _)) if range.start() >= self.below => {
                self.front = self.cut(self.front.as_slice());
                self.front.next_back()
            }
            entry => entry,
        }
    }
}

impl<V> Clone for Span<'_, V> {
    // Not derived: the values need not be `Clone`.
    fn clone(&self) -> Self {
        Self {
            front: self.front.clone(),
            between: self.between,
            back: self.back.clone(),
            below: self.below,
        }
    }
}
