//! A map from disjoint ranges to values.

mod chunks;
mod join;
mod span;
#[cfg(test)]
mod tests;

use crate::MemoryRange;
use crate::RangeValue;
use crate::sorted;
use alloc::vec::Vec;
use chunks::Chunks;
use core::fmt;

/// Says that a range cannot be inserted because part of it is in the map already.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("range {range} overlaps {existing}, which is in the map already")]
pub struct Occupied {
    /// The range that was to be inserted.
    pub range: MemoryRange,
    /// The lowest range in the map that overlaps it.
    pub existing: MemoryRange,
}

/// A map from disjoint ranges to values, in ascending order.
///
/// An entry is a range, never empty, and its value. Entries do not overlap. They may touch, and stay
/// apart when they do, even with equal values: a border that a caller drew is kept until
/// [`merge_adjacent`](Self::merge_adjacent) is asked to remove it.
///
/// Inserting and removing cut entries where they must; [`RangeValue::tail`] says what the value
/// becomes for a part that doesn't start where its entry did. An empty range is no error anywhere:
/// nothing is found in it, inserted or removed.
///
/// Finding takes O(log n) among n entries, and so does a change, but for moving a few dozen entries
/// and, once in a few dozen changes, a list with a pointer for each few dozen entries. Up to about
/// 60 entries the map is a sorted `Vec`.
///
/// ```
/// use memory_range::{MemoryRange, RangeMap};
///
/// let mut map = RangeMap::new();
/// map.insert(MemoryRange::new(0..0xa0000), "ram")?;
/// map.insert(MemoryRange::new(0xf0000..0x100000), "rom")?;
///
/// // An overlap is refused, unless what is there is to be replaced.
/// let window = MemoryRange::new(0x90000..0xb0000);
/// let refused = map.insert(window, "vga").unwrap_err();
/// assert_eq!(refused.existing, MemoryRange::new(0..0xa0000));
/// map.replace(window, "vga");
///
/// assert_eq!(map.get(0x8ffff), Some((MemoryRange::new(0..0x90000), &"ram")));
/// assert_eq!(map.get(0x90000), Some((window, &"vga")));
/// assert_eq!(map.get(0xc0000), None);
///
/// let gaps: Vec<_> = map.gaps(MemoryRange::new(0x80000..0x200000)).collect();
/// assert_eq!(gaps, [MemoryRange::new(0xb0000..0xf0000), MemoryRange::new(0x100000..0x200000)]);
/// # Ok::<(), memory_range::Occupied>(())
/// ```
#[derive(Clone)]
pub struct RangeMap<V> {
    entries: Chunks<V>,
}

/// Entries as they are.
impl<V> RangeMap<V> {
    /// Makes an empty map, without allocating.
    pub const fn new() -> Self {
        Self {
            entries: Chunks::new(),
        }
    }

    /// Returns the number of entries.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether there are no entries.
    pub const fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// Returns the entry that holds the address, whole.
    pub fn get(&self, addr: u64) -> Option<(MemoryRange, &V)> {
        let (range, value) = self.entries.get(self.entries.find(addr))?;
        (range.start() <= addr).then_some((*range, value))
    }

    /// Returns the entry that holds the address, whole, with its value to be changed for all of its
    /// range.
    pub fn get_mut(&mut self, addr: u64) -> Option<(MemoryRange, &mut V)> {
        let at = self.entries.find_to_change(addr);
        let (range, value) = self.entries.get_mut(at)?;
        (range.start() <= addr).then_some((*range, value))
    }

    /// Returns the value of the entry with exactly this range.
    pub fn get_exact(&self, range: MemoryRange) -> Option<&V> {
        let (existing, value) = self.entries.get(self.entries.find(range.start()))?;
        (*existing == range).then_some(value)
    }

    /// Returns all entries in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (MemoryRange, &V)> + Clone {
        self.entries
            .span(self.entries.first(), u64::MAX)
            .map(by_reference)
    }

    /// Returns the entries that overlap the range, in ascending order, whole: the first and the last
    /// may reach out of it.
    pub fn overlapping(
        &self,
        range: MemoryRange,
    ) -> impl DoubleEndedIterator<Item = (MemoryRange, &V)> + Clone {
        // Nothing overlaps an empty range, not even the entry around it.
        let below = if range.is_empty() { 0 } else { range.end() };
        self.entries
            .span(self.entries.find(range.start()), below)
            .map(by_reference)
    }

    /// Returns the lowest entry that overlaps the range, whole: it may reach out of it.
    ///
    /// The same as the first of [`overlapping`](Self::overlapping), for less.
    pub fn first_overlapping(&self, range: MemoryRange) -> Option<(MemoryRange, &V)> {
        let (existing, value) = self.entries.get(self.entries.find(range.start()))?;
        existing.overlaps(&range).then_some((*existing, value))
    }

    /// Returns the parts of the range that no entry holds, in ascending order. They do not touch
    /// each other.
    pub fn gaps(&self, within: MemoryRange) -> impl Iterator<Item = MemoryRange> {
        let held = self.overlapping(within).map(|(range, _)| range);
        sorted::subtract([within], held)
    }

    /// Says whether entries hold every address of the range: of one entry or of several that touch.
    /// It is true for an empty range, which has no address that is missing.
    pub fn covers(&self, range: MemoryRange) -> bool {
        self.gaps(range).next().is_none()
    }

    /// Inserts an entry where there is none. An empty range changes nothing.
    ///
    /// # Errors
    ///
    /// [`Occupied`] when the range overlaps an entry. The map is then as it was.
    pub fn insert(&mut self, range: MemoryRange, value: V) -> Result<(), Occupied> {
        if range.is_empty() {
            return Ok(());
        }
        let at = self.entries.find(range.start());
        if let Some((existing, _)) = self.entries.get(at)
            && existing.overlaps(&range)
        {
            return Err(Occupied {
                range,
                existing: *existing,
            });
        }
        self.entries.insert(at, (range, value));
        Ok(())
    }

    /// Removes the entry with exactly this range and returns its value. `None`, and no change, when
    /// there is no such entry, even where others cover the range.
    pub fn remove_exact(&mut self, range: MemoryRange) -> Option<V> {
        let at = self.entries.find(range.start());
        let (existing, _) = self.entries.get(at)?;
        if *existing != range {
            return None;
        }
        self.entries.remove(at).map(|(_, value)| value)
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries = Chunks::new();
    }

    /// Joins entries that touch wherever `joined` agrees. It is given two neighbours, the lower one
    /// first, and returns the value of both together, or `None` to keep them apart.
    ///
    /// This looks at every entry.
    ///
    /// ```
    /// use memory_range::{MemoryRange, RangeMap};
    ///
    /// let mut map = RangeMap::new();
    /// map.replace(MemoryRange::new(0x1000..0x2000), 'a');
    /// map.replace(MemoryRange::new(0x2000..0x3000), 'a');
    /// map.replace(MemoryRange::new(0x3000..0x4000), 'b');
    /// map.merge_adjacent(|(_, low), (_, high)| (low == high).then_some(*low));
    /// assert_eq!(map.get(0x1000), Some((MemoryRange::new(0x1000..0x3000), &'a')));
    /// assert_eq!(map.len(), 2);
    /// ```
    pub fn merge_adjacent(
        &mut self,
        mut joined: impl FnMut((MemoryRange, &V), (MemoryRange, &V)) -> Option<V>,
    ) {
        let mut start = 0;
        while let Some((low, low_value)) = self.entries.get(self.entries.find(start)) {
            start = low.end();
            let Some((high, high_value)) = self.entries.get(self.entries.find(start)) else {
                break;
            };
            if low.end() == high.start()
                && let Ok(whole) = MemoryRange::try_new(low.start()..high.end())
                && let Some(value) = joined((*low, low_value), (*high, high_value))
            {
                self.entries.remove(self.entries.find(whole.start()));
                self.entries.remove(self.entries.find(start));
                self.entries
                    .insert(self.entries.find(whole.start()), (whole, value));
                // What came of the two may be joined with the next one as well.
                start = whole.start();
            }
        }
    }
}

/// Entries that are cut where they reach out of a range.
impl<V: RangeValue> RangeMap<V> {
    /// Returns the parts of entries that lie in the range, in ascending order, with the values of
    /// the parts.
    pub fn clipped(&self, range: MemoryRange) -> impl Iterator<Item = (MemoryRange, V)> {
        self.overlapping(range).map(move |(whole, value)| {
            let part = whole.intersection(&range);
            (part, value_of_part(whole, value, part))
        })
    }

    /// Inserts an entry in the place of whatever overlaps it: entries inside the range go, entries
    /// that reach out of it keep what lies outside. An empty range changes nothing.
    pub fn replace(&mut self, range: MemoryRange, value: V) {
        if range.is_empty() {
            return;
        }
        let at = self.entries.find_to_change(range.start());
        match self.entries.get_mut(at) {
            // In the most frequent case, a new value for an old range, nothing has to move.
            Some((existing, slot)) if *existing == range => {
                *slot = value;
                return;
            }
            // A part from the middle of an entry: that keeps its place, and is only shortened.
            Some((existing, slot))
                if existing.start() < range.start() && range.end() < existing.end() =>
            {
                let whole = *existing;
                let rests = MemoryRange::try_new(whole.start()..range.start())
                    .and_then(|low| Ok((low, MemoryRange::try_new(range.end()..whole.end())?)));
                if let Ok((low, high)) = rests {
                    // Before the map changes: making a value may panic.
                    let tail = value_of_part(whole, slot, high);
                    *existing = low;
                    let at = self.entries.find(range.start());
                    self.entries.insert(at, (range, value));
                    let at = self.entries.find(high.start());
                    return self.entries.insert(at, (high, tail));
                }
            }
            Some((existing, _)) if existing.overlaps(&range) => {}
            // Nothing is there, and its place is found.
            _ => return self.entries.insert(at, (range, value)),
        }
        while self.take_first(range).is_some() {}
        self.entries
            .insert(self.entries.find(range.start()), (range, value));
    }

    /// Takes what lies in the range out of the map and returns it, in ascending order: the parts
    /// that lie inside, with the values of the parts. Entries that reach out of the range keep what
    /// lies outside.
    pub fn remove(&mut self, range: MemoryRange) -> Vec<(MemoryRange, V)> {
        core::iter::from_fn(|| self.take_first(range)).collect()
    }

    /// Takes the lowest part of an entry that lies in the range out of the map.
    fn take_first(&mut self, range: MemoryRange) -> Option<(MemoryRange, V)> {
        let at = self.entries.find(range.start());
        let (whole, value) = self.entries.get(at)?;
        let (whole, part) = (*whole, whole.intersection(&range));
        if part.is_empty() {
            return None;
        }
        if whole == part {
            return self.entries.remove(at);
        }
        // All values are made before the map changes: making one may panic.
        let taken = value_of_part(whole, value, part);
        let mut rests =
            sorted::subtract([whole], [part]).map(|rest| (rest, value_of_part(whole, value, rest)));
        let rests = [rests.next(), rests.next()];
        self.entries.remove(at);
        for (rest, value) in rests.into_iter().flatten() {
            self.entries
                .insert(self.entries.find(rest.start()), (rest, value));
        }
        Some((part, taken))
    }
}

/// Returns the value that a part of an entry has.
fn value_of_part<V: RangeValue>(whole: MemoryRange, value: &V, part: MemoryRange) -> V {
    match whole.offset_of(part.start()) {
        Some(offset) if offset > 0 => value.tail(offset),
        _ => value.clone(),
    }
}

fn by_reference<V>((range, value): &(MemoryRange, V)) -> (MemoryRange, &V) {
    (*range, value)
}

impl<V> Default for RangeMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: PartialEq> PartialEq for RangeMap<V> {
    // Not derived: how the entries are cut into chunks depends on the map's history.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<V: Eq> Eq for RangeMap<V> {}

impl<V: fmt::Debug> fmt::Debug for RangeMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Inserts one after the other; a later entry replaces what it overlaps of earlier ones.
impl<V: RangeValue> FromIterator<(MemoryRange, V)> for RangeMap<V> {
    fn from_iter<I: IntoIterator<Item = (MemoryRange, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

/// Inserts one after the other; each entry replaces what it overlaps.
impl<V: RangeValue> Extend<(MemoryRange, V)> for RangeMap<V> {
    fn extend<I: IntoIterator<Item = (MemoryRange, V)>>(&mut self, entries: I) {
        for (range, value) in entries {
            self.replace(range, value);
        }
    }
}
