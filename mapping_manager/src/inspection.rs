//! What a VA mapper shows of itself.
//!
//! A change waits for whoever reads the table, so the table is copied while it is locked, in one piece,
//! and written afterwards. Memory for the copy is touched before: a first touch costs more than what
//! is copied there.

use crate::VaMapper;
use crate::table::{ActiveMapping, BackingLeases};
use inspect::{Inspect, Request};
use memory_range::MemoryRange;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What became of accesses that faulted. Counted on that way only: an access that doesn't fault counts
/// nothing.
#[derive(Default)]
pub(crate) struct FaultCounts {
    retried: AtomicU64,
    failed: AtomicU64,
}

impl FaultCounts {
    /// An access met a change, and succeeded after it.
    pub(crate) fn retried(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    /// An access returned an error.
    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Inspect for FaultCounts {
    fn inspect(&self, req: Request<'_>) {
        let [retried, failed] =
            [&self.retried, &self.failed].map(|count| count.load(Ordering::Relaxed));
        req.respond()
            .counter("recovered", retried.wrapping_add(failed))
            .counter("then_succeeded", retried)
            .counter("then_failed", failed);
    }
}

/// A table at one moment.
struct TableCopy {
    mappings: Vec<Option<(MemoryRange, ActiveMapping)>>,
    headroom: bool,
    leases: Vec<BackingLeases>,
}

impl TableCopy {
    fn new(mapper: &VaMapper) -> Self {
        let len = mapper.read_table().count();
        let mut mappings = Vec::new();
        mappings.resize_with(len.saturating_add(len / 16).saturating_add(8), || None);
        mappings.clear();
        let table = mapper.read_table();
        let since = Instant::now();
        mappings.extend(table.iter().map(Some));
        let headroom = table.has_headroom();
        let mut leases = table.leases();
        drop(table);
        let held = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        mapper.inspection_hold.store(held, Ordering::Relaxed);
        leases.sort_by(|one, other| {
            let counts = |leases: &BackingLeases| (leases.mapped, leases.read, leases.write);
            let names = one.name.as_str().cmp(other.name.as_str());
            names.then_with(|| counts(one).cmp(&counts(other)))
        });
        Self {
            mappings,
            headroom,
            leases,
        }
    }

    fn mappings(&self) -> impl Iterator<Item = (MemoryRange, &ActiveMapping)> {
        let mappings = self.mappings.iter().flatten();
        mappings.map(|(range, mapping)| (*range, mapping))
    }
}

impl VaMapper {
    /// Tells for how long changes had to wait for the last inspection.
    ///
    /// Not in the tree, where it would make two trees of the same state differ.
    pub fn inspection_hold(&self) -> Duration {
        Duration::from_nanos(self.inspection_hold.load(Ordering::Relaxed))
    }
}

/// Shows whose it is and how far behind, what is mapped, and who holds leases of it.
impl Inspect for VaMapper {
    fn inspect(&self, req: Request<'_>) {
        let table = TableCopy::new(self);
        req.respond()
            .value("name", self.name())
            .value("process", std::process::id())
            // Eager: a change is complete here before the call that made it returns.
            .value("lag", 0_u64)
            .child("reservation", |req| {
                let bytes = table
                    .mappings()
                    .fold(0_u64, |bytes, (range, _)| bytes.saturating_add(range.len()));
                req.respond()
                    .flatten("space", self.reservation())
                    .value("mapped_ranges", table.mappings.len() as u64)
                    .hex("mapped_bytes", bytes)
                    .value("headroom", table.headroom);
            })
            .child("mappings", |req| req.by_key(table.mappings()))
            .child("leases", |req| {
                req.respond()
                    .child("backings", |req| req.by_index(&table.leases))
                    .field("holders", &**self.holders());
            })
            .field("faults", &self.faults);
    }
}
