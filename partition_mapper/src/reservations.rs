//! Shares of the reservations in which slots lie.

use sparse_alloc::{HostRange, MappedRegion};
use std::sync::Arc;

/// One share of each reservation that a slot lies in, however many slots there are: taking a share
/// for each would cost a locked instruction, and giving it back another.
///
/// Invariant: a reservation is here as long as it has more entries than exits.
#[derive(Default)]
pub(crate) struct Reservations {
    /// By key.
    shares: Vec<Share>,
    /// Where the one is that was found last, or was before another went.
    recent: usize,
}

struct Share {
    region: Arc<dyn MappedRegion>,
    slots: usize,
}

/// Tells the reservations in one list apart. It is good for as long as the reservation is listed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReservationKey(usize);

impl Reservations {
    pub(crate) const fn new() -> Self {
        Self {
            shares: Vec::new(),
            recent: 0,
        }
    }

    /// Counts a slot that lies there.
    pub(crate) fn enter(&mut self, host: &HostRange) -> ReservationKey {
        let region = host.region();
        let key = key(region);
        match self.share(key) {
            Some(share) => share.slots = share.slots.saturating_add(1),
            None => self.add(Arc::clone(region)),
        }
        key
    }

    #[cold]
    fn add(&mut self, region: Arc<dyn MappedRegion>) {
        if let Err(at) = self.find(key(&region)) {
            self.shares.insert(at, Share { region, slots: 1 });
            self.recent = at;
        }
    }

    /// Counts a slot out. Returns the share that was kept for the last one there.
    pub(crate) fn exit(&mut self, key: ReservationKey) -> Option<Arc<dyn MappedRegion>> {
        let share = self.share(key)?;
        share.slots = share.slots.saturating_sub(1);
        if share.slots == 0 {
            return self.remove(key);
        }
        None
    }

    #[cold]
    fn remove(&mut self, key: ReservationKey) -> Option<Arc<dyn MappedRegion>> {
        let at = self.find(key).ok()?;
        Some(self.shares.remove(at).region)
    }

    /// The reservation itself.
    pub(crate) fn get(&self, key: ReservationKey) -> Option<&Arc<dyn MappedRegion>> {
        let at = self.find(key).ok()?;
        Some(&self.shares.get(at)?.region)
    }

    /// Often the one of the slot before.
    #[inline]
    fn share(&mut self, key: ReservationKey) -> Option<&mut Share> {
        let is_recent = self
            .shares
            .get(self.recent)
            .is_some_and(|share| self::key(&share.region) == key);
        if !is_recent {
            self.recent = self.find(key).ok()?;
        }
        self.shares.get_mut(self.recent)
    }

    #[inline(never)]
    fn find(&self, key: ReservationKey) -> Result<usize, usize> {
        self.shares
            .binary_search_by_key(&key, |share| self::key(&share.region))
    }
}

fn key(region: &Arc<dyn MappedRegion>) -> ReservationKey {
    // Two that are alive are at two addresses.
    ReservationKey(Arc::as_ptr(region).addr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_alloc::{Alignment, Reservation};

    #[test]
    fn keeps_one_share_from_the_first_slot_to_the_last() {
        let regions =
            [(); 3].map(|()| Arc::new(Reservation::new(0x4000, Alignment::Page).unwrap()));
        let host =
            |nth: usize, offset| HostRange::new(regions[nth].clone(), offset, 0x1000).unwrap();
        let mut reservations = Reservations::new();
        for nth in [2, 0, 1] {
            let before = Arc::strong_count(&regions[nth]);
            let first = reservations.enter(&host(nth, 0));
            let second = reservations.enter(&host(nth, 0x1000));
            assert_eq!(first, second);
            assert_eq!(Arc::strong_count(&regions[nth]), before + 1);
            let found = reservations.get(first).unwrap();
            assert_eq!(found.base(), regions[nth].base());
        }
        for region in &regions {
            let shared: Arc<dyn MappedRegion> = region.clone();
            let key = key(&shared);
            drop(shared);
            assert!(reservations.exit(key).is_none());
            drop(reservations.exit(key).unwrap());
            assert!(reservations.get(key).is_none());
            assert!(reservations.exit(key).is_none());
            assert_eq!(Arc::strong_count(region), 1);
        }
    }
}
