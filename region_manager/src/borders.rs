//! Where placed regions start and end.

use memory_range::MemoryRange;
use std::collections::BTreeMap;

/// The addresses at which placed regions start or end, each with how many do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Borders {
    count: BTreeMap<u64, usize>,
}

impl Borders {
    pub(crate) fn add(&mut self, range: MemoryRange) {
        for addr in [range.start(), range.end()] {
            let count = self.count.entry(addr).or_default();
            *count = count.saturating_add(1);
        }
    }

    pub(crate) fn remove(&mut self, range: MemoryRange) {
        for addr in [range.start(), range.end()] {
            if let Some(count) = self.count.get_mut(&addr) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.count.remove(&addr);
                }
            }
        }
    }

    /// Whether a region starts or ends at `addr`.
    pub(crate) fn contains(&self, addr: u64) -> bool {
        self.count.contains_key(&addr)
    }

    /// The borders strictly between two addresses, in order.
    pub(crate) fn between(&self, start: u64, end: u64) -> impl Iterator<Item = u64> {
        let first = start.saturating_add(1).min(end);
        self.count.range(first..end).map(|(addr, _)| *addr)
    }
}
