//! Ranges that are often left and taken again.

use memory_range::{MemoryRange, RangeMap, RangeValue};

/// How many places may be left before those that nobody has taken again are closed.
const MOST_LEFT: usize = 32;

/// A map from disjoint ranges to values, made for slots.
///
/// A change of permissions takes a slot away and gives it again at the same range. So a range that is
/// taken out leaves its place open: when it comes back, nothing has to move, neither now nor then. To
/// who asks, an open place is nothing.
///
/// Invariants:
///
/// - P1: `open` is the number of open places, at most [`MOST_LEFT`].
/// - P2: every open place is in `left`. What else is there has been taken again.
#[derive(Clone)]
pub(crate) struct Places<V> {
    places: RangeMap<Place<V>>,
    left: Vec<MemoryRange>,
    open: usize,
}

#[derive(Copy, Clone)]
enum Place<V> {
    Taken(V),
    Open,
}

// Places are taken and left whole, so no value is ever cut.
impl<V: Copy> RangeValue for Place<V> {}

impl<V> Place<V> {
    fn value(&self) -> Option<&V> {
        match self {
            Self::Taken(value) => Some(value),
            Self::Open => None,
        }
    }
}

impl<V: Copy> Places<V> {
    pub(crate) const fn new() -> Self {
        Self {
            places: RangeMap::new(),
            left: Vec::new(),
            open: 0,
        }
    }

    /// The number of values.
    pub(crate) fn len(&self) -> usize {
        self.places.len().saturating_sub(self.open)
    }

    /// Everything that is taken, by address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MemoryRange, &V)> {
        self.places.iter().filter_map(taken)
    }

    /// What overlaps a range, by address, whole.
    pub(crate) fn overlapping(
        &self,
        range: MemoryRange,
    ) -> impl Iterator<Item = (MemoryRange, &V)> {
        self.places.overlapping(range).filter_map(taken)
    }

    /// What holds an address.
    pub(crate) fn get(&self, addr: u64) -> Option<(MemoryRange, &V)> {
        self.places.get(addr).and_then(taken)
    }

    /// The value of exactly this range.
    #[inline]
    pub(crate) fn get_exact(&self, range: MemoryRange) -> Option<&V> {
        self.places.get_exact(range)?.value()
    }

    /// The lowest that overlaps a range.
    #[inline]
    pub(crate) fn first_overlapping(&self, range: MemoryRange) -> Option<(MemoryRange, &V)> {
        match self.places.first_overlapping(range)? {
            (existing, Place::Taken(value)) => Some((existing, value)),
            (existing, Place::Open) if existing == range => None,
            (_, Place::Open) => self.overlapping(range).next(),
        }
    }

    /// Takes a range, with which nothing but the value of just this range may overlap; that is
    /// replaced.
    #[inline]
    pub(crate) fn put(&mut self, range: MemoryRange, value: V) {
        match self.places.get_mut(range.start()) {
            Some((existing, place)) if existing == range => {
                let was_open = place.value().is_none();
                *place = Place::Taken(value);
                if was_open {
                    self.open = self.open.saturating_sub(1);
                }
                if self.open == 0 {
                    self.left.clear();
                }
            }
            _ => self.put_anew(range, value),
        }
    }

    // Apart, so that what is put back where it was has little code to run.
    #[inline(never)]
    fn put_anew(&mut self, range: MemoryRange, value: V) {
        if self.places.first_overlapping(range).is_some() {
            // Open places are in the way.
            self.close();
        }
        self.places.replace(range, Place::Taken(value));
    }

    /// Leaves exactly this range; returns its value.
    #[inline]
    pub(crate) fn take_exact(&mut self, range: MemoryRange) -> Option<V> {
        let (existing, place) = self.places.get_mut(range.start())?;
        if existing != range {
            return None;
        }
        let value = *place.value()?;
        *place = Place::Open;
        self.open = self.open.saturating_add(1);
        self.left.push(range);
        if self.left.len() >= MOST_LEFT {
            self.close();
        }
        Some(value)
    }

    /// Leaves everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Closes the open places.
    #[cold]
    fn close(&mut self) {
        for range in self.left.drain(..) {
            if self
                .places
                .get_exact(range)
                .is_some_and(|place| place.value().is_none())
            {
                self.places.remove_exact(range);
            }
        }
        self.open = 0;
    }
}

fn taken<V>((range, place): (MemoryRange, &Place<V>)) -> Option<(MemoryRange, &V)> {
    Some((range, place.value()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use memory_range::PAGE_SIZE;
    use proptest::prelude::*;

    fn pages(start: u64, end: u64) -> MemoryRange {
        MemoryRange::new(start * PAGE_SIZE..end * PAGE_SIZE)
    }

    impl<V: Copy> Places<V> {
        fn check(&self) {
            let open = self
                .places
                .iter()
                .filter(|(_, place)| place.value().is_none());
            let open: Vec<MemoryRange> = open.map(|(range, _)| range).collect();
            assert_eq!(open.len(), self.open);
            assert!(open.iter().all(|range| self.left.contains(range)));
            assert!(self.left.len() < MOST_LEFT);
        }
    }

    #[test]
    fn what_comes_back_finds_its_place() {
        let mut places = Places::new();
        for page in 0..100 {
            places.put(pages(page, page + 1), page);
        }
        for round in 0..100 {
            for page in 40..52 {
                assert_eq!(places.take_exact(pages(page, page + 1)), Some(page + round));
                assert_eq!(places.take_exact(pages(page, page + 1)), None);
            }
            assert_eq!((places.len(), places.places.len()), (88, 100));
            assert_eq!(
                places.first_overlapping(pages(40, 53)),
                Some((pages(52, 53), &52))
            );
            assert_eq!(places.first_overlapping(pages(40, 52)), None);
            for page in 40..52 {
                places.put(pages(page, page + 1), page + round + 1);
            }
            assert_eq!((places.open, places.left.len()), (0, 0));
        }
    }

    #[test]
    fn open_places_are_not_kept_for_ever() {
        let mut places = Places::new();
        for page in 0..1000 {
            places.put(pages(page, page + 1), ());
        }
        for page in 0..1000 {
            places.take_exact(pages(page, page + 1));
            assert!(places.places.len() - places.len() < MOST_LEFT);
        }
        // One that is taken as a part of an open place, or beyond it.
        places.put(pages(998, 1002), ());
        assert_eq!(places.places.len(), 1);
        places.take_exact(pages(998, 1002));
        places.put(pages(999, 1000), ());
        assert_eq!(places.iter().collect::<Vec<_>>(), [(pages(999, 1000), &())]);
        places.check();
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            steps in prop::collection::vec((any::<bool>(), 0u64..24, 1u64..5), 0..200),
        ) {
            let mut places = Places::new();
            let mut list: Vec<(MemoryRange, usize)> = Vec::new();
            for (number, (put, start, len)) in steps.into_iter().enumerate() {
                let range = pages(start, start + len);
                let first = list.iter().find(|(held, _)| held.overlaps(&range)).copied();
                prop_assert_eq!(
                    places.first_overlapping(range).map(|(held, value)| (held, *value)),
                    first
                );
                let exact = list.iter().position(|(held, _)| *held == range);
                prop_assert_eq!(places.get_exact(range), exact.map(|at| &list[at].1));
                if !put {
                    let taken = exact.map(|at| list.remove(at).1);
                    prop_assert_eq!(places.take_exact(range), taken);
                } else if first.is_none_or(|(held, _)| held == range) {
                    places.put(range, number);
                    list.retain(|(held, _)| *held != range);
                    list.push((range, number));
                    list.sort_by_key(|(held, _)| held.start());
                }
                places.check();
                prop_assert_eq!(places.len(), list.len());
                let held: Vec<_> = places.iter().map(|(held, value)| (held, *value)).collect();
                prop_assert_eq!(&held, &list);
                for page in 0..30 {
                    let addr = page * PAGE_SIZE;
                    let at = list.iter().find(|(held, _)| held.contains_addr(addr));
                    prop_assert_eq!(places.get(addr), at.map(|(held, value)| (*held, value)));
                }
                let around = pages(3, 17);
                let within = list.iter().filter(|(held, _)| held.overlaps(&around)).copied();
                let found = places.overlapping(around).map(|(held, value)| (held, *value));
                prop_assert_eq!(found.collect::<Vec<_>>(), within.collect::<Vec<_>>());
            }
        }
    }
}
