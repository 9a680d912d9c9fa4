//! Joins two entries of a range map that meet.

use crate::{RangeMap, RangeValue};

impl<V: RangeValue> RangeMap<V> {
    /// Joins the entry that ends at `addr` with the one that starts there, if `continues` agrees.
    ///
    /// It is given the value of the lower entry, that entry's length in bytes, and the value of the
    /// upper one; the lower one's value then stands for both. Nothing happens where not both are
    /// there. Tells whether they were joined.
    ///
    /// Calling it for both ends of every range that was replaced keeps a map joined throughout,
    /// at a cost that does not grow with the map as that of [`merge_adjacent`] does.
    ///
    /// [`merge_adjacent`]: Self::merge_adjacent
    ///
    /// ```
    /// use memory_range::{MemoryRange, RangeMap};
    ///
    /// let mut map = RangeMap::new();
    /// map.replace(MemoryRange::new(0x1000..0x2000), 'a');
    /// map.replace(MemoryRange::new(0x2000..0x3000), 'a');
    /// assert!(map.join_at(0x2000, |low, _, high| low == high));
    /// assert_eq!(map.get(0x2000), Some((MemoryRange::new(0x1000..0x3000), &'a')));
    /// ```
    pub fn join_at(&mut self, addr: u64, continues: impl FnOnce(&V, u64, &V) -> bool) -> bool {
        let at_high = self.entries.find(addr);
        let next = match self.entries.get(at_high) {
            Some((high, next)) if high.start() == addr => next,
            _ => return false,
        };
        let at_low = self.entries.before(at_high);
        match at_low.and_then(|at| self.entries.get(at)) {
            Some((low, value)) if low.end() == addr && continues(value, low.len(), next) => {}
            _ => return false,
        }
        self.entries.absorb(at_high);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryRange;

    fn map() -> RangeMap<u32> {
        [
            (0x1000..0x2000, 1),
            (0x2000..0x4000, 1),
            (0x5000..0x6000, 1),
        ]
        .into_iter()
        .map(|(range, value)| (MemoryRange::new(range), value))
        .collect()
    }

    #[test]
    fn joins_only_where_two_entries_meet_and_agree() {
        for addr in [
            0,
            1,
            0x1000,
            0x1800,
            0x3000,
            0x4000,
            0x5000,
            0x6000,
            u64::MAX,
        ] {
            let mut map = map();
            assert!(!map.join_at(addr, |_, _, _| true), "{addr:#x}");
            assert_eq!(map.len(), 3);
        }
        let mut map = map();
        assert!(!map.join_at(0x2000, |_, _, _| false));
        assert!(map.join_at(0x2000, |low, len, high| low == high && len == 0x1000));
        let whole = MemoryRange::new(0x1000..0x4000);
        assert_eq!(map.get(0x3fff), Some((whole, &1)));
        assert_eq!(map.len(), 2);
    }

    /// Splits one entry into many and joins them in some order, over many chunks.
    #[test]
    fn what_was_split_is_joined_again_in_any_order() {
        const PAGES: u64 = 100;
        let page = |number: u64| MemoryRange::new(number * 4096..(number + 1) * 4096);
        let whole = MemoryRange::new(0..PAGES * 4096);
        for step in [1, 3, 7, 37, 99] {
            let mut map: RangeMap<u32> = RangeMap::new();
            map.replace(whole, 5);
            // Coprime with the number of pages, so that all are visited.
            for nth in 0..PAGES {
                map.replace(page(nth * step % PAGES), 5);
                map.entries.check();
            }
            assert_eq!(map.len(), 100);
            for nth in 0..PAGES {
                let border = nth * step % PAGES;
                assert_eq!(
                    map.join_at(border * 4096, |low, _, high| low == high),
                    border > 0
                );
                map.entries.check();
            }
            assert_eq!(map.iter().collect::<alloc::vec::Vec<_>>(), [(whole, &5)]);
        }
    }
}
