//! Pinning more than the process may lock. The only test in its process, since it takes the
//! process's privileges away.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "support/memory.rs"]
mod support;

use memory_range::Access;
use partition_mapper::{AddError, MapperOptions, PartitionMapper, SoftwarePartition};
use region_manager::RegionListener;
use std::sync::Arc;
use support::{chain, memory, pages, slot};

/// Lowers the limit on locked memory, and gives up root, whom it does not bind.
fn allow_locked_pages(count: u64) {
    let limit = libc::rlimit {
        rlim_cur: count * 4096,
        rlim_max: count * 4096,
    };
    // SAFETY: reads one struct.
    let lowered = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
    assert_eq!(lowered, 0);
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: takes numbers only.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: takes numbers only.
        let given_up = unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) };
        assert_eq!(given_up, 0);
    }
}

#[test]
fn the_error_names_the_limit_and_nothing_is_mapped() {
    let va = memory(64);
    allow_locked_pages(16);
    let guest = Arc::new(SoftwarePartition::new());
    let options = MapperOptions::new()
        .pinned()
        .only([pages(0, 8), pages(16, 64)]);
    let mut mapper = PartitionMapper::new(guest.clone(), va, options).unwrap();
    let error = mapper
        .add(&slot(pages(0, 64), Access::ReadWrite))
        .unwrap_err();
    let text = chain(error.as_ref());
    assert!(
        matches!(error.downcast_ref(), Some(AddError::Pin { range, .. }) if *range == pages(16, 64)),
        "{text}"
    );
    assert!(text.contains("ulimit -l"), "{text}");
    assert_eq!(guest.slots(), []);
    // What fits can still be pinned.
    mapper.add(&slot(pages(0, 16), Access::ReadWrite)).unwrap();
    assert_eq!(guest.slots().len(), 1);
}
