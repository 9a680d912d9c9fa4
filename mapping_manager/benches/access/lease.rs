//! A lease, taken and dropped, as a device does for each request.

use crate::timing::Pass;
use crate::workload::{PLACES, place};
use mapping_manager::{GuestMemory, LeaseAccess};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

/// The length of what is leased.
pub(crate) const LEN: u64 = 512;

/// The least that keeps something alive for other threads: counting up, and down again.
pub(crate) fn raw_passes(counter: &AtomicU64) -> [Pass<'_>; PLACES] {
    [
        Box::new(|addresses, _| count::<0>(black_box(counter), addresses)),
        Box::new(|addresses, _| count::<1>(black_box(counter), addresses)),
        Box::new(|addresses, _| count::<2>(black_box(counter), addresses)),
        Box::new(|addresses, _| count::<3>(black_box(counter), addresses)),
    ]
}

/// Leases, each dropped before the next is taken.
pub(crate) fn passes(memory: &GuestMemory) -> [Pass<'_>; PLACES] {
    [
        Box::new(|addresses, _| lease::<0>(black_box(memory), addresses)),
        Box::new(|addresses, _| lease::<1>(black_box(memory), addresses)),
        Box::new(|addresses, _| lease::<2>(black_box(memory), addresses)),
        Box::new(|addresses, _| lease::<3>(black_box(memory), addresses)),
    ]
}

#[inline(never)]
fn count<const PLACE: usize>(counter: &AtomicU64, addresses: &[u64]) {
    place::<PLACE>();
    for gpa in addresses {
        counter.fetch_add(1, Ordering::Acquire);
        black_box(gpa);
        counter.fetch_sub(1, Ordering::Release);
    }
}

#[inline(never)]
fn lease<const PLACE: usize>(memory: &GuestMemory, addresses: &[u64]) {
    place::<PLACE>();
    for gpa in addresses {
        let lease = memory.lock(*gpa..gpa + LEN, LeaseAccess::Write).unwrap();
        black_box(&lease);
    }
}
