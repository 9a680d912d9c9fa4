//! Leases of random ranges, while mappings change at random, against one entry a page.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use mapping_manager::{Lease, LeaseAccess, LeaseError, VaMapper};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use proptest::prelude::*;
use sparse_alloc::{Alignment, Backing, HostRange, SharedMemory};

const PAGES: u64 = 12;
const BACKINGS: usize = 3;
const BACKING_PAGES: u64 = 6;

#[derive(Clone, Debug)]
enum Op {
    Map {
        first: u64,
        pages: u64,
        backing: usize,
        offset: u64,
        access: Access,
    },
    Unmap {
        first: u64,
        pages: u64,
    },
    Protect {
        first: u64,
        access: Access,
    },
    Lock {
        start: u64,
        len: u64,
        access: LeaseAccess,
    },
    /// Drops one of the leases.
    Drop {
        index: prop::sample::Index,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let access = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
    let lease = prop_oneof![Just(LeaseAccess::Read), Just(LeaseAccess::Write)];
    prop_oneof![
        4 => (0..PAGES, 1..5_u64, 0..BACKINGS, 0..3_u64, access.clone()).prop_map(
            |(first, pages, backing, offset, access)| Op::Map { first, pages, backing, offset, access }
        ),
        1 => (0..PAGES, 1..4_u64).prop_map(|(first, pages)| Op::Unmap { first, pages }),
        1 => (0..PAGES, access).prop_map(|(first, access)| Op::Protect { first, access }),
        8 => (0..PAGES * PAGE_SIZE, 0..4 * PAGE_SIZE, lease)
            .prop_map(|(start, len, access)| Op::Lock { start, len, access }),
        1 => any::<prop::sample::Index>().prop_map(|index| Op::Drop { index }),
    ]
}

/// Slices: where each starts, and its bytes.
type Slices = Vec<(u64, Vec<u8>)>;

/// A page of a backing, and whether it is writable where it shows.
type Page = Option<(usize, u64, Access)>;

/// The byte that tells a page of a backing from all others.
fn mark(backing: usize, page: u64) -> u8 {
    u8::try_from(backing as u64 * BACKING_PAGES + page + 1).unwrap()
}

/// The slow version: the slices of a range (address, length, the mark of each byte's page), or
/// the first address that has none.
fn slices(pages: &[Page], start: u64, end: u64, access: LeaseAccess) -> Result<Slices, u64> {
    let mut slices = Slices::new();
    let mut last: Option<(usize, u64)> = None;
    for gpa in start..end {
        let page = pages[(gpa / PAGE_SIZE) as usize];
        let Some((backing, number, allows)) = page else {
            return Err(gpa);
        };
        if access == LeaseAccess::Write && allows == Access::ReadOnly {
            return Err(gpa);
        }
        let byte = number * PAGE_SIZE + gpa % PAGE_SIZE;
        match slices.last_mut() {
            Some((_, bytes)) if last == byte.checked_sub(1).map(|before| (backing, before)) => {
                bytes.push(mark(backing, number));
            }
            _ => slices.push((gpa, vec![mark(backing, number)])),
        }
        last = Some((backing, byte));
    }
    Ok(slices)
}

fn range(first: u64, pages: u64) -> MemoryRange {
    MemoryRange::new(first * PAGE_SIZE..(first + pages).min(PAGES) * PAGE_SIZE)
}

/// What a lease shows, slice by slice.
fn contents(lease: &Lease) -> Slices {
    let slices = lease.slices().map(|slice| {
        let mut bytes = vec![0; slice.len() as usize];
        slice.read(0, &mut bytes).unwrap();
        (slice.gpa(), bytes)
    });
    slices.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn leases_equal_the_pages(ops in proptest::collection::vec(op(), 1..60)) {
        let memories: Vec<SharedMemory> = (0..BACKINGS)
            .map(|index| {
                let memory = SharedMemory::new("backing", BACKING_PAGES * PAGE_SIZE).unwrap();
                for page in 0..BACKING_PAGES {
                    HostRange::new(memory.linear_view().clone(), page * PAGE_SIZE, PAGE_SIZE)
                        .unwrap()
                        .write(0, &[mark(index, page); PAGE_SIZE as usize])
                        .unwrap();
                }
                memory
            })
            .collect();
        let mapper = VaMapper::new("guest", PAGES * PAGE_SIZE, Alignment::Page).unwrap();
        let memory = mapper.guest_memory();
        let mut pages: Vec<Page> = vec![None; PAGES as usize];
        let mut leases: Vec<(Lease, Slices)> = Vec::new();
        for op in ops {
            match op {
                Op::Map { first, pages: count, backing, offset, access } => {
                    let range = range(first, count);
                    let handle = Backing::from(&memories[backing]);
                    mapper.map(range, &handle, offset * PAGE_SIZE, access).unwrap();
                    for (index, page) in range.page_numbers().enumerate() {
                        pages[page as usize] = Some((backing, offset + index as u64, access));
                    }
                }
                Op::Unmap { first, pages: count } => {
                    let range = range(first, count);
                    mapper.unmap(range).unwrap();
                    range.page_numbers().for_each(|page| pages[page as usize] = None);
                }
                Op::Protect { first, access } => {
                    if let Some(page) = &mut pages[first as usize] {
                        mapper.protect(range(first, 1), access).unwrap();
                        page.2 = access;
                    }
                }
                Op::Lock { start, len, access } => {
                    let end = (start + len).min(PAGES * PAGE_SIZE);
                    match (memory.lock(start..end, access), slices(&pages, start, end, access)) {
                        (Ok(lease), Ok(expected)) => {
                            prop_assert!(contents(&lease) == expected);
                            prop_assert_eq!(lease.gpa_range(), start..end);
                            leases.push((lease, expected));
                        }
                        (Err(LeaseError::Hole { gpa, .. }), Err(first)) => {
                            prop_assert_eq!(gpa, first);
                            prop_assert!(pages[(gpa / PAGE_SIZE) as usize].is_none());
                        }
                        (Err(LeaseError::ReadOnly { gpa, .. }), Err(first)) => {
                            prop_assert_eq!(gpa, first);
                            prop_assert!(pages[(gpa / PAGE_SIZE) as usize].is_some());
                        }
                        (found, expected) => {
                            prop_assert!(false, "{found:?} {:?}", expected.map(|slices| slices.len()));
                        }
                    }
                }
                Op::Drop { index } => {
                    if !leases.is_empty() {
                        drop(leases.swap_remove(index.index(leases.len())));
                    }
                }
            }
            // Every lease still means what it meant.
            for (lease, expected) in &leases {
                prop_assert!(contents(lease) == *expected);
            }
        }
    }
}
