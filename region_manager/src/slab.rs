//! Where regions lie in memory.

use crate::RegionId;

/// Regions by id: found by an index, without a search.
///
/// Numbers are never used again, places are: an id that is out of date finds a region with another
/// number in its place, and so none.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<(u64, T)>>,
    /// Places without a region. Used again last in, first out, so that edits which are taken back in
    /// the opposite order find every place free that they need.
    free: Vec<u32>,
    next_number: u64,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            next_number: 0,
        }
    }

    /// Makes a new id, for [`insert`](Self::insert) to be called with before the next one is made.
    pub(crate) fn next_id(&mut self) -> Option<RegionId> {
        let number = self.next_number;
        let place = match self.free.last() {
            Some(place) => *place,
            None => u32::try_from(self.places.len()).ok()?,
        };
        self.next_number = number.checked_add(1)?;
        Some(RegionId { number, place })
    }

    /// Puts a value at an id: a new one, or the one that was removed last and is not back yet.
    pub(crate) fn insert(&mut self, id: RegionId, value: T) {
        if self.free.last() == Some(&id.place) {
            self.free.pop();
        }
        let index = id.place as usize;
        if index == self.places.len() {
            self.places.push(None);
        }
        debug_assert!(self.places.get(index).is_some_and(Option::is_none));
        if let Some(place) = self.places.get_mut(index) {
            *place = Some((id.number, value));
        }
    }

    pub(crate) fn remove(&mut self, id: RegionId) -> Option<T> {
        let place = self.places.get_mut(id.place as usize)?;
        let (_, value) = place.take_if(|(number, _)| *number == id.number)?;
        self.free.push(id.place);
        Some(value)
    }

    pub(crate) fn get(&self, id: RegionId) -> Option<&T> {
        match self.places.get(id.place as usize)? {
            Some((number, value)) if *number == id.number => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, id: RegionId) -> Option<&mut T> {
        match self.places.get_mut(id.place as usize)? {
            Some((number, value)) if *number == id.number => Some(value),
            _ => None,
        }
    }

    /// The values in so many places, from one on; `None` if there is no such place.
    pub(crate) fn part(
        &self,
        from: u32,
        places: usize,
    ) -> Option<impl Iterator<Item = (RegionId, &T)>> {
        let first = usize::try_from(from).ok()?;
        let rest = self.places.get(first..).filter(|rest| !rest.is_empty())?;
        let held = (from..).zip(rest).take(places);
        Some(held.filter_map(|(place, held)| {
            let (number, value) = held.as_ref()?;
            let number = *number;
            Some((RegionId { number, place }, value))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_order<T>(slab: &Slab<T>) -> Vec<(RegionId, &T)> {
        let parts = (0..).map_while(|place| slab.part(place, 1));
        let mut all: Vec<_> = parts.flatten().collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }

    #[test]
    fn a_place_is_used_again_and_an_id_is_not() {
        let mut slab = Slab::new();
        let first = slab.next_id().unwrap();
        slab.insert(first, 'a');
        let second = slab.next_id().unwrap();
        slab.insert(second, 'b');
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.remove(first), None);

        let third = slab.next_id().unwrap();
        slab.insert(third, 'c');
        assert_eq!(third.place, first.place);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.get(third), Some(&'c'));
        assert_eq!(in_order(&slab), [(second, &'b'), (third, &'c')]);
    }

    #[test]
    fn removals_and_insertions_are_taken_back_in_the_opposite_order() {
        let mut slab = Slab::new();
        let ids: Vec<RegionId> = (0..3)
            .map(|value| {
                let id = slab.next_id().unwrap();
                slab.insert(id, value);
                id
            })
            .collect();
        // Two go, one comes in the place of the later.
        slab.remove(ids[0]);
        slab.remove(ids[2]);
        let new = slab.next_id().unwrap();
        slab.insert(new, 9);
        // And back.
        slab.remove(new);
        slab.insert(ids[2], 2);
        slab.insert(ids[0], 0);
        assert_eq!(in_order(&slab), [(ids[0], &0), (ids[1], &1), (ids[2], &2)]);
        // The list of free places is empty again.
        assert_eq!(slab.next_id().unwrap().place, 3);
    }
}
