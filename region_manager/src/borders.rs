//! Where placed regions start and end.

use memory_range::{MemoryRange, PAGE_SIZE, RangeMap};

/// The addresses at which placed regions start or end, each with how many do.
///
/// An address stands for the page below it: so the map of ranges serves, which is quicker to look
/// things up in, and to change to and fro in one place, than a tree. Address 0 has no such page, and
/// needs none: nothing is ever cut or joined there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Borders {
    count: RangeMap<usize>,
    /// How often an address became a border or ceased to be one.
    version: u64,
}

/// The page below an address.
fn below(addr: u64) -> Option<MemoryRange> {
    MemoryRange::try_new(addr.checked_sub(PAGE_SIZE)?..addr).ok()
}

impl Borders {
    pub(crate) fn add(&mut self, range: MemoryRange) {
        for page in [range.start(), range.end()].into_iter().filter_map(below) {
            match self.count.get_mut(page.start()) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => {
                    self.version = self.version.wrapping_add(1);
                    let free = self.count.insert(page, 1);
                    debug_assert!(free.is_ok(), "looked up before");
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, range: MemoryRange) {
        for page in [range.start(), range.end()].into_iter().filter_map(below) {
            if let Some((_, count)) = self.count.get_mut(page.start()) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.version = self.version.wrapping_add(1);
                    self.count.remove_exact(page);
                }
            }
        }
    }

    /// Changes whenever the set of borders does.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether a region starts or ends at `addr`.
    pub(crate) fn contains(&self, addr: u64) -> bool {
        below(addr).is_some_and(|page| self.count.get_exact(page).is_some())
    }

    /// The borders strictly between two addresses, in order.
    pub(crate) fn between(&self, start: u64, end: u64) -> impl Iterator<Item = u64> {
        let pages = end
            .checked_sub(PAGE_SIZE)
            .and_then(|end| MemoryRange::try_new(start..end).ok());
        let pages = pages.unwrap_or(MemoryRange::EMPTY);
        self.count.overlapping(pages).map(|(page, _)| page.end())
    }
}
