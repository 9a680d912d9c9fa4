//! Every interleaving, and every order in which memory may be seen, of taking leases while their
//! memory is replaced and while the table goes away.
//!
//! The files under test are those of the crate, compiled with loom's atomics.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    dead_code,
    reason = "a test may stop at the first surprise, and uses only a part of the crate's modules"
)]

#[path = "../src/table/sequence.rs"]
mod sequence;
#[path = "../src/table/slot.rs"]
mod slot;

/// In the place of the crate's module of that name.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

    use loom::cell::UnsafeCell;

    /// Fails a test in which an access is not ordered after one that it conflicts with.
    pub(crate) struct GuardedCell<T>(UnsafeCell<T>);

    impl<T> GuardedCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(UnsafeCell::new(value))
        }

        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            self.0.with(read)
        }

        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            self.0.with_mut(write)
        }
    }
}

use loom::cell::Cell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use loom::thread;
use sequence::Sequence;
use slot::{LeaseAccess, Slot};
use std::ptr::NonNull;
use std::sync::atomic::AtomicBool;

/// A backing: the table's tests see what it is and whether it is still there.
struct Backing {
    number: u64,
    dropped: Arc<AtomicUsize>,
    /// Read by whoever uses the backing, written when it goes: loom fails if these are not ordered.
    alive: Cell<bool>,
}

// SAFETY: loom itself checks how the cell is used.
unsafe impl Send for Backing {}
// SAFETY: as for Send.
unsafe impl Sync for Backing {}

impl Drop for Backing {
    fn drop(&mut self) {
        self.alive.set(false);
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// A table of one entry: which slot it shows, and the number of the backing in it.
struct Table {
    sequence: Sequence,
    slot: AtomicPtr<Slot<Backing>>,
    number: sync::AtomicU64,
    slots: Vec<NonNull<Slot<Backing>>>,
    dropped: Arc<AtomicUsize>,
}

// SAFETY: the slots may be used from every thread.
unsafe impl Send for Table {}
// SAFETY: as for Send.
unsafe impl Sync for Table {}

impl Table {
    fn new(slots: usize) -> Self {
        let slots: Vec<_> = (0..slots).map(|_| Slot::allocate()).collect();
        let table = Self {
            sequence: Sequence::new(),
            slot: AtomicPtr::new(slots[0].as_ptr()),
            number: sync::AtomicU64::new(0),
            dropped: Arc::new(AtomicUsize::new(0)),
            slots,
        };
        table.fill(0, 0);
        table
    }

    fn slot(&self, index: usize) -> &Slot<Backing> {
        // SAFETY: slots are freed when the table is dropped.
        unsafe { self.slots[index].as_ref() }
    }

    fn fill(&self, index: usize, number: u64) {
        let backing = Backing {
            number,
            dropped: self.dropped.clone(),
            alive: Cell::new(true),
        };
        // SAFETY: the tests have one writer, and fill only empty slots.
        unsafe { self.slot(index).fill(backing) };
    }

    /// Shows another slot in the place of `old`, and lets go of that.
    fn replace(&self, old: usize, new: usize, number: u64) -> Option<Backing> {
        let changing = self.sequence.change();
        let slot = self.slots[new].as_ptr();
        self.slot.store(slot, Ordering::Release);
        self.number.store(number, Ordering::Relaxed);
        drop(changing);
        // SAFETY: the tests have one writer, and the table does not show the slot any more.
        unsafe { Slot::unmap(self.slots[old], |_| {}) }
    }

    /// Takes a lease once, as the crate does.
    fn take(&self, access: LeaseAccess) -> Option<Lease> {
        self.sequence.unless_changed(|_| {
            let slot = NonNull::new(self.slot.load(Ordering::Acquire))?;
            let number = self.number.load(Ordering::Relaxed);
            // SAFETY: the table lives.
            unsafe { Slot::acquire(slot, access) }.unwrap();
            Some(Lease {
                slot,
                access,
                number,
            })
        })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for slot in &self.slots {
            // SAFETY: no one reads the table any more.
            drop(unsafe { Slot::orphan(*slot) });
        }
    }
}

struct Lease {
    slot: NonNull<Slot<Backing>>,
    access: LeaseAccess,
    number: u64,
}

// SAFETY: a pointer to a slot, which may be used from every thread.
unsafe impl Send for Lease {}

impl Lease {
    /// Uses the backing as a device would.
    fn check(&self) {
        // SAFETY: it is counted.
        let slot = unsafe { self.slot.as_ref() };
        // SAFETY: it is counted, and the table was unchanged.
        unsafe {
            slot.with(|backing| {
                let backing = backing.unwrap();
                assert_eq!(backing.number, self.number, "what the table said");
                assert!(backing.alive.get());
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // SAFETY: it was counted once.
        drop(unsafe { Slot::release(self.slot, self.access) });
    }
}

/// Runs every execution in which threads that could go on are interrupted at most that often.
fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

fn read_once(table: &Table) {
    if let Some(lease) = table.take(LeaseAccess::Read) {
        lease.check();
    }
}

/// A reader against a writer who replaces what it shows: the reader has the old backing or the new
/// one, whole, or looks again; and the old one goes exactly once.
#[test]
fn a_lease_meets_a_replacement() {
    model(3, || {
        let table = Arc::new(Table::new(2));
        let reader = thread::spawn({
            let table = table.clone();
            move || read_once(&table)
        });
        table.fill(1, 1);
        drop(table.replace(0, 1, 1));
        reader.join().unwrap();
        assert_eq!(table.dropped.load(Ordering::Relaxed), 1);
        assert!(table.slot(0).is_empty());
        assert_eq!(table.slot(1).counts(), (0, 0));
    });
}

/// The same with two readers.
#[test]
fn two_leases_meet_a_replacement() {
    model(1, || {
        let table = Arc::new(Table::new(2));
        let readers = [LeaseAccess::Read, LeaseAccess::Write].map(|access| {
            let table = table.clone();
            thread::spawn(move || {
                if let Some(lease) = table.take(access) {
                    lease.check();
                }
            })
        });
        table.fill(1, 1);
        drop(table.replace(0, 1, 1));
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(table.dropped.load(Ordering::Relaxed), 1);
        assert!(table.slot(0).is_empty());
    });
}

/// A slot that was emptied is filled with another backing while a reader still has its address from
/// before.
#[test]
fn a_lease_meets_a_slot_that_is_used_again() {
    model(2, || {
        let table = Arc::new(Table::new(2));
        let reader = thread::spawn({
            let table = table.clone();
            move || read_once(&table)
        });
        table.fill(1, 1);
        drop(table.replace(0, 1, 1));
        // As the crate does: only an empty slot is used again.
        if table.slot(0).is_empty() {
            table.fill(0, 2);
            drop(table.replace(1, 0, 2));
        }
        read_once(&table);
        reader.join().unwrap();
        let dropped = table.dropped.load(Ordering::Relaxed);
        let table = Arc::try_unwrap(table).map_err(drop).unwrap();
        let all = table.dropped.clone();
        drop(table);
        assert_eq!(
            all.load(Ordering::Relaxed),
            dropped + 1,
            "the one that was shown"
        );
    });
}

/// The last lease goes while the mapping goes: one of the two drops the backing.
#[test]
fn the_last_lease_goes_with_the_mapping() {
    model(3, || {
        let table = Arc::new(Table::new(1));
        let lease = table.take(LeaseAccess::Write).unwrap();
        let holder = thread::spawn(move || {
            lease.check();
            drop(lease);
        });
        let changing = table.sequence.change();
        table.slot.store(std::ptr::null_mut(), Ordering::Release);
        drop(changing);
        // SAFETY: the table shows the slot no more.
        drop(unsafe { Slot::unmap(table.slots[0], |_| {}) });
        holder.join().unwrap();
        assert_eq!(table.dropped.load(Ordering::Relaxed), 1);
        assert!(table.slot(0).is_empty());
    });
}

/// The mapping returns while the last lease goes: it finds the backing, or an empty slot.
#[test]
fn the_mapping_returns_while_the_last_lease_goes() {
    model(3, || {
        let table = Arc::new(Table::new(1));
        let lease = table.take(LeaseAccess::Read).unwrap();
        // SAFETY: no one reads the table here.
        assert!(unsafe { Slot::unmap(table.slots[0], |_| {}) }.is_none());
        let holder = thread::spawn(move || drop(lease));
        // SAFETY: one writer, and the slot is not mapped.
        let remapped = unsafe { table.slot(0).remap() };
        if remapped {
            // SAFETY: it is mapped.
            unsafe {
                table
                    .slot(0)
                    .with(|backing| assert!(backing.unwrap().alive.get()))
            };
        }
        holder.join().unwrap();
        let dropped = table.dropped.load(Ordering::Relaxed);
        assert_eq!(dropped, usize::from(!remapped));
        assert_eq!(table.slot(0).is_empty(), !remapped);
    });
}

/// Two leases outlive the table, and are dropped while it goes away: the backing and the slot go
/// with the last of the three.
#[test]
fn leases_outlive_the_table() {
    model(2, || {
        let table = Table::new(1);
        let dropped = table.dropped.clone();
        let holders = [LeaseAccess::Read, LeaseAccess::Write].map(|access| {
            let lease = table.take(access).unwrap();
            thread::spawn(move || {
                lease.check();
                drop(lease);
            })
        });
        drop(table);
        for holder in holders {
            holder.join().unwrap();
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

/// A mapping and then the table go while the last lease does.
#[test]
fn a_lease_goes_with_the_mapping_and_the_table() {
    model(3, || {
        let table = Table::new(1);
        let dropped = table.dropped.clone();
        let lease = table.take(LeaseAccess::Read).unwrap();
        let holder = thread::spawn(move || {
            lease.check();
            drop(lease);
        });
        // SAFETY: no one reads the table here.
        drop(unsafe { Slot::unmap(table.slots[0], |_| {}) });
        drop(table);
        holder.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

/// A slot that the last lease empties is filled again as soon as it is empty.
#[test]
fn a_slot_is_filled_when_the_last_lease_has_emptied_it() {
    static REFILLED: AtomicBool = AtomicBool::new(false);
    model(3, || {
        let table = Arc::new(Table::new(1));
        let lease = table.take(LeaseAccess::Read).unwrap();
        // SAFETY: no one reads the table here.
        assert!(unsafe { Slot::unmap(table.slots[0], |_| {}) }.is_none());
        let holder = thread::spawn(move || drop(lease));
        // Loom does not try of itself what comes of the other thread being first here.
        thread::yield_now();
        let refilled = table.slot(0).is_empty();
        REFILLED.fetch_or(refilled, Ordering::Relaxed);
        if refilled {
            table.fill(0, 1);
        }
        holder.join().unwrap();
        assert_eq!(table.dropped.load(Ordering::Relaxed), 1);
        assert_eq!(table.slot(0).is_empty(), !refilled);
    });
    assert!(REFILLED.load(Ordering::Relaxed));
}
