//! Random mappings and accesses against one byte array a page.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may stop at the first surprise"
)]

use mapping_manager::{Cause, VaMapper};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use proptest::prelude::*;
use sparse_alloc::{Alignment, Backing, SharedMemory};

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
        pages: u64,
        access: Access,
    },
    Write {
        gpa: u64,
        bytes: Vec<u8>,
    },
    Fill {
        gpa: u64,
        byte: u8,
        len: u64,
    },
    Named {
        gpa: u64,
        bytes: Vec<u8>,
    },
    Exchange {
        word: u64,
        new: u32,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let access = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
    let bytes = proptest::collection::vec(any::<u8>(), 0..9000);
    let gpa = 0..PAGES * PAGE_SIZE;
    prop_oneof![
        4 => (0..PAGES, 1..5u64, 0..BACKINGS, 0..4u64, access.clone()).prop_map(
            |(first, pages, backing, offset, access)| Op::Map { first, pages, backing, offset, access }
        ),
        1 => (0..PAGES, 1..5u64).prop_map(|(first, pages)| Op::Unmap { first, pages }),
        2 => (0..PAGES, 1..3u64, access)
            .prop_map(|(first, pages, access)| Op::Protect { first, pages, access }),
        4 => (gpa.clone(), bytes.clone()).prop_map(|(gpa, bytes)| Op::Write { gpa, bytes }),
        1 => (gpa.clone(), any::<u8>(), 0..9000u64)
            .prop_map(|(gpa, byte, len)| Op::Fill { gpa, byte, len }),
        2 => (gpa, bytes).prop_map(|(gpa, bytes)| Op::Named { gpa, bytes }),
        1 => (0..PAGES * 1024, any::<u32>()).prop_map(|(word, new)| Op::Exchange { word, new }),
    ]
}

/// The slow and clear version: which page of which backing is where, and all the bytes.
struct Model {
    pages: Vec<Option<(usize, u64, Access)>>,
    bytes: Vec<Vec<u8>>,
}

impl Model {
    /// Where a byte lies in its backing, or why not.
    fn at(&self, gpa: u64, writes: bool) -> Result<(usize, usize), Cause> {
        let (backing, page, access) =
            self.pages[(gpa / PAGE_SIZE) as usize].ok_or(Cause::Hole { gpa })?;
        if writes && access == Access::ReadOnly {
            return Err(Cause::ReadOnly { gpa });
        }
        Ok((backing, (page * PAGE_SIZE + gpa % PAGE_SIZE) as usize))
    }

    fn write(
        &mut self,
        gpa: u64,
        bytes: impl Iterator<Item = u8>,
        checked: bool,
    ) -> Option<(u64, Cause)> {
        for (index, byte) in bytes.enumerate() {
            match self.at(gpa + index as u64, checked) {
                Ok((backing, offset)) => self.bytes[backing][offset] = byte,
                Err(cause) => return Some((index as u64, cause)),
            }
        }
        None
    }
}

fn range(first: u64, pages: u64) -> MemoryRange {
    let end = (first + pages).min(PAGES);
    MemoryRange::new(first * PAGE_SIZE..end * PAGE_SIZE)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn guest_memory_equals_the_byte_arrays(ops in proptest::collection::vec(op(), 1..40)) {
        let memories: Vec<SharedMemory> = (0..BACKINGS)
            .map(|_| SharedMemory::new("backing", BACKING_PAGES * PAGE_SIZE).unwrap())
            .collect();
        let mapper = VaMapper::new("guest", PAGES * PAGE_SIZE, Alignment::Page).unwrap();
        let memory = mapper.guest_memory();
        let mut model = Model {
            pages: vec![None; PAGES as usize],
            bytes: vec![vec![0; (BACKING_PAGES * PAGE_SIZE) as usize]; BACKINGS],
        };
        let space = PAGES * PAGE_SIZE;
        let outcome = |result: Result<(), mapping_manager::AccessError>| {
            result.err().map(|error| (error.done(), error.cause()))
        };
        for op in ops {
            match op {
                Op::Map { first, pages, backing, offset, access } => {
                    let range = range(first, pages);
                    let handle = Backing::from(memories[backing].mappable().clone());
                    let result = mapper.map(range, &handle, offset * PAGE_SIZE, access);
                    if offset + range.page_count() > BACKING_PAGES {
                        prop_assert!(result.is_err());
                        continue;
                    }
                    result.unwrap();
                    for (index, page) in range.page_numbers().enumerate() {
                        model.pages[page as usize] = Some((backing, offset + index as u64, access));
                    }
                }
                Op::Unmap { first, pages } => {
                    let range = range(first, pages);
                    mapper.unmap(range).unwrap();
                    range.page_numbers().for_each(|page| model.pages[page as usize] = None);
                }
                Op::Protect { first, pages, access } => {
                    let range = range(first, pages);
                    let mapped = range.page_numbers().all(|page| model.pages[page as usize].is_some());
                    let result = mapper.protect(range, access);
                    prop_assert_eq!(result.is_ok(), mapped, "{:?}", result);
                    for page in range.page_numbers().filter(|_| mapped) {
                        model.pages[page as usize].as_mut().expect("mapped").2 = access;
                    }
                }
                Op::Write { gpa, mut bytes } => {
                    bytes.truncate((space - gpa) as usize);
                    let result = memory.write_at(gpa, &bytes);
                    prop_assert_eq!(outcome(result), model.write(gpa, bytes.into_iter(), true));
                }
                Op::Fill { gpa, byte, len } => {
                    let len = len.min(space - gpa);
                    let result = memory.fill_at(gpa, byte, len);
                    let bytes = std::iter::repeat_n(byte, len as usize);
                    prop_assert_eq!(outcome(result), model.write(gpa, bytes, true));
                }
                Op::Named { gpa, mut bytes } => {
                    bytes.truncate((space - gpa) as usize);
                    let result = memory.write_read_only_at(gpa, &bytes);
                    prop_assert_eq!(outcome(result), model.write(gpa, bytes.into_iter(), false));
                }
                Op::Exchange { word, new } => {
                    let gpa = word * 4;
                    match (memory.compare_exchange(gpa, 0_u32, new), model.at(gpa, true)) {
                        (Ok(found), Ok((backing, offset))) => {
                            let bytes = &mut model.bytes[backing][offset..offset + 4];
                            let there = u32::from_ne_bytes(bytes.try_into().unwrap());
                            prop_assert_eq!(found, if there == 0 { Ok(0) } else { Err(there) });
                            if there == 0 {
                                bytes.copy_from_slice(&new.to_ne_bytes());
                            }
                        }
                        (Err(error), Err(cause)) => prop_assert_eq!(error.cause(), cause),
                        (found, wanted) => prop_assert!(false, "{found:?} {wanted:?}"),
                    }
                }
            }
            // Every page reads as the model says.
            for page in 0..PAGES {
                let gpa = page * PAGE_SIZE;
                let mut bytes = [0; PAGE_SIZE as usize];
                let result = memory.read_at(gpa, &mut bytes);
                match model.at(gpa, false) {
                    Ok((backing, offset)) => {
                        result.unwrap();
                        let expected = &model.bytes[backing][offset..offset + bytes.len()];
                        prop_assert!(bytes == expected, "page {}", page);
                    }
                    Err(cause) => prop_assert_eq!(result.unwrap_err().cause(), cause),
                }
            }
        }
        // The table knows no more entries than there are runs.
        let mut runs = 0;
        let mut last: Option<(usize, u64, Access)> = None;
        for page in &model.pages {
            let continues = match (last, *page) {
                (Some((b, p, a)), Some(next)) => next == (b, p + 1, a),
                _ => false,
            };
            runs += usize::from(page.is_some() && !continues);
            last = *page;
        }
        prop_assert_eq!(mapper.mappings().len(), runs);
    }
}
