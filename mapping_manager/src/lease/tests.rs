//! What no caller can bring about.

use super::*;
use crate::VaMapper;
use memory_range::{Access, MemoryRange};
use sparse_alloc::{Alignment, Backing, SharedMemory};

/// The limit is four here, of each kind.
#[test]
fn leases_beyond_the_limit_are_refused() {
    let ram = SharedMemory::new("ram", 0x2000).unwrap();
    let mapper = VaMapper::new("guest", 0x2000, Alignment::Page).unwrap();
    let space = mapper.space();
    let backing = Backing::from(&ram);
    mapper.map(space, &backing, 0, Access::ReadWrite).unwrap();
    let memory = mapper.guest_memory();
    let mut leases: Vec<Lease> = (0..4)
        .map(|_| memory.lock(0..8, LeaseAccess::Read).unwrap())
        .collect();
    let counts = |read, write| {
        let leases = mapper.read_table().leases();
        assert_eq!((leases[0].read, leases[0].write), (read, write));
    };
    for _ in 0..3 {
        let error = memory.lock(0x1000..0x1008, LeaseAccess::Read).unwrap_err();
        assert!(
            matches!(error, LeaseError::TooMany { gpa: 0x1000, .. }),
            "{error}"
        );
        counts(4, 0);
    }
    leases.push(memory.lock(0..8, LeaseAccess::Write).unwrap());
    counts(4, 1);
    drop(leases.remove(0));
    leases.push(memory.lock(0..8, LeaseAccess::Read).unwrap());
    counts(4, 1);
    drop(leases);
    counts(0, 0);
}

/// However often backings come and go under leases, no more slots are kept than are needed at once.
#[test]
fn slots_are_used_again() {
    let mapper = VaMapper::new("guest", 0x1000, Alignment::Page).unwrap();
    let memory = mapper.guest_memory();
    let page = MemoryRange::new(0..0x1000);
    let mut held = Vec::new();
    for number in 0..50 {
        let ram = SharedMemory::new(&format!("ram {number}"), 0x1000).unwrap();
        let backing = Backing::from(&ram);
        mapper.map(page, &backing, 0, Access::ReadWrite).unwrap();
        held.push(memory.lock(page, LeaseAccess::Read).unwrap());
        if held.len() > 3 {
            drop(held.remove(0));
        }
        let leases = mapper.read_table().leases();
        assert_eq!(
            leases.len(),
            held.len(),
            "those that are leased: {leases:?}"
        );
        let slots = mapper.read_table().slot_count();
        assert!(slots <= 8, "{slots}");
    }
}

/// A change that never ends does not keep a lease from being taken for ever.
#[test]
fn a_lease_waits_for_a_change_that_it_meets() {
    let ram = SharedMemory::new("ram", 0x1000).unwrap();
    let mapper = VaMapper::new("guest", 0x1000, Alignment::Page).unwrap();
    let page = mapper.space();
    mapper
        .map(page, &Backing::from(&ram), 0, Access::ReadWrite)
        .unwrap();
    let memory = mapper.guest_memory();
    let table = mapper.table().write();
    // SAFETY: the table's writer is held, and makes no change itself.
    let editor = unsafe { mapper.table().entries().edit() };
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| {
            memory
                .lock(page, LeaseAccess::Write)
                .map(|lease| lease.len())
        });
        // It can't come to an end before this does.
        std::thread::yield_now();
        assert!(!taker.is_finished());
        drop(editor);
        drop(table);
        assert_eq!(taker.join().unwrap().unwrap(), 0x1000);
    });
}
