//! Random changes of a reservation, compared page by page with a model that paints an array.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::ops::Range;
use std::sync::Arc;

use memory_range::{Access, MemoryRange};
use proptest::prelude::*;
use sparse_alloc::{Alignment, Backing, HostRange, Reservation, RomImage, SharedMemory};
use support::{PAGE, byte_at, mappable, pages, write_at};

use Access::{ReadOnly, ReadWrite};

/// Pages of the reservation, and of each file.
const PAGES: usize = 12;
const FILES: usize = 3;
/// The file that cannot be written.
const ROM: usize = 2;

#[derive(Copy, Clone, PartialEq, Debug)]
enum Shows {
    File {
        file: usize,
        page: usize,
    },
    /// Private memory with that first byte.
    Anonymous(u8),
    /// A fill of that byte; of the other, in the first byte, if it was written.
    Fill(u8, u8),
}

/// The fills, by the byte of which they consist.
fn fill(byte: u8) -> Backing {
    match byte {
        0 => Backing::Zeros,
        _ => Backing::Ones,
    }
}

#[derive(Copy, Clone, PartialEq, Debug)]
struct Page {
    shows: Shows,
    access: Access,
}

#[derive(Clone, Debug)]
enum Change {
    MapFile {
        at: Range<usize>,
        file: usize,
        page: usize,
        access: Access,
    },
    MapAnonymous {
        at: Range<usize>,
        access: Access,
    },
    MapFill {
        at: Range<usize>,
        byte: u8,
        access: Access,
    },
    Unmap {
        at: Range<usize>,
    },
    Protect {
        at: Range<usize>,
        access: Access,
    },
    /// Of a fill of that byte, or of anonymous memory.
    Decommit {
        at: Range<usize>,
        byte: Option<u8>,
    },
    Write {
        page: usize,
        byte: u8,
    },
}

#[derive(Clone, PartialEq, Debug)]
struct Model {
    pages: Vec<Option<Page>>,
    files: Vec<Vec<u8>>,
}

impl Model {
    /// Does what the change should; says whether it should succeed.
    fn apply(&mut self, change: &Change) -> bool {
        let inside = |at: &Range<usize>| !at.is_empty() && at.end <= PAGES;
        match change.clone() {
            Change::MapFile {
                at,
                file,
                page,
                access,
            } => {
                let fits = inside(&at) && page + at.len() <= PAGES;
                if !fits || (file == ROM && access == ReadWrite) {
                    return false;
                }
                for (n, at) in at.enumerate() {
                    let shows = Shows::File {
                        file,
                        page: page + n,
                    };
                    self.pages[at] = Some(Page { shows, access });
                }
            }
            Change::MapAnonymous { at, access } => {
                if !inside(&at) {
                    return false;
                }
                self.pages[at].fill(Some(Page {
                    shows: Shows::Anonymous(0),
                    access,
                }));
            }
            Change::MapFill { at, byte, access } => {
                if !inside(&at) {
                    return false;
                }
                self.pages[at].fill(Some(Page {
                    shows: Shows::Fill(byte, byte),
                    access,
                }));
            }
            Change::Unmap { at } => {
                if !inside(&at) {
                    return false;
                }
                self.pages[at].fill(None);
            }
            Change::Protect { at, access } => {
                let fixed = |page: &Page| matches!(page.shows, Shows::File { file: ROM, .. });
                let can = |page: &Option<Page>| {
                    page.is_some_and(|page| access == ReadOnly || !fixed(&page))
                };
                if !inside(&at) || !self.pages[at.clone()].iter().all(can) {
                    return false;
                }
                for page in self.pages[at].iter_mut().flatten() {
                    page.access = access;
                }
            }
            Change::Decommit { at, byte } => {
                let of_that_kind = |page: &Option<Page>| {
                    page.is_some_and(|page| match page.shows {
                        Shows::Anonymous(_) => byte.is_none(),
                        Shows::Fill(fill, _) => byte == Some(fill),
                        Shows::File { .. } => false,
                    })
                };
                if !inside(&at) || !self.pages[at.clone()].iter().all(of_that_kind) {
                    return false;
                }
                for page in self.pages[at].iter_mut().flatten() {
                    page.shows = match byte {
                        None => Shows::Anonymous(0),
                        Some(byte) => Shows::Fill(byte, byte),
                    };
                }
            }
            Change::Write { page, byte } => match &mut self.pages[page] {
                Some(Page {
                    shows,
                    access: ReadWrite,
                }) => match shows {
                    Shows::File { file, page } => self.files[*file][*page] = byte,
                    Shows::Anonymous(value) => *value = byte,
                    Shows::Fill(_, value) => *value = byte,
                },
                _ => return false,
            },
        }
        true
    }

    fn byte(&self, page: usize) -> Option<u8> {
        Some(match self.pages[page]?.shows {
            Shows::File { file, page } => self.files[file][page],
            Shows::Anonymous(value) => value,
            Shows::Fill(_, value) => value,
        })
    }
}

/// The real thing.
struct Real {
    reservation: Arc<Reservation>,
    files: Vec<Backing>,
}

impl Real {
    fn new() -> (Self, Model) {
        let len = PAGES as u64 * PAGE;
        let ram = SharedMemory::new("ram", len).unwrap();
        let image: Vec<u8> = (0..PAGES)
            .flat_map(|page| [0x80 + page as u8; PAGE as usize])
            .collect();
        let rom = RomImage::from_bytes("rom", &image).unwrap();
        for page in 0..PAGES as u64 {
            write_at(ram.linear_view(), page, 0x40 + page as u8).unwrap();
        }
        let files = vec![
            mappable(len, 0x10).into(),
            ram.mappable().clone().into(),
            rom.mappable().clone().into(),
        ];
        let filled = |first: u8| (0..PAGES).map(|page| first + page as u8).collect();
        let model = Model {
            pages: vec![None; PAGES],
            files: vec![filled(0x10), filled(0x40), filled(0x80)],
        };
        let reservation = Arc::new(Reservation::new(len, Alignment::Huge2M).unwrap());
        (Self { reservation, files }, model)
    }

    fn apply(&self, change: &Change) -> bool {
        let r = &self.reservation;
        let range = |at: &Range<usize>| pages(at.start as u64..at.end as u64);
        match change {
            Change::MapFile {
                at,
                file,
                page,
                access,
            } => r
                .map(range(at), &self.files[*file], *page as u64 * PAGE, *access)
                .is_ok(),
            Change::MapAnonymous { at, access } => {
                r.map(range(at), &Backing::Anonymous, 0, *access).is_ok()
            }
            Change::MapFill { at, byte, access } => {
                r.map(range(at), &fill(*byte), 0, *access).is_ok()
            }
            Change::Unmap { at } => r.unmap(range(at)).is_ok(),
            Change::Protect { at, access } => r.protect(range(at), *access).is_ok(),
            Change::Decommit { at, byte } => {
                let backing = byte.map_or(Backing::Anonymous, fill);
                r.decommit(range(at), &backing, 0).is_ok()
            }
            Change::Write { page, byte } => write_at(r, *page as u64, *byte).is_ok(),
        }
    }

    fn check(&self, model: &Model) {
        for page in 0..PAGES {
            let byte = byte_at(&self.reservation, page as u64).ok();
            assert_eq!(byte, model.byte(page), "page {page}");
        }
        // Whether it may be written, found out without changing anything.
        let mut writable = vec![None; PAGES];
        for (range, access) in self.reservation.mapped(self.reservation.range()) {
            for page in range.page_numbers() {
                writable[page as usize] = Some(access);
            }
        }
        let expected: Vec<_> = model
            .pages
            .iter()
            .map(|page| page.map(|page| page.access))
            .collect();
        assert_eq!(writable, expected);
        for (page, access) in expected.iter().enumerate() {
            let range = HostRange::new(self.reservation.clone(), page as u64 * PAGE, 1).unwrap();
            if let Some(byte) = model.byte(page) {
                let written = range.write(0, &[byte]).is_ok();
                assert_eq!(written, *access == Some(ReadWrite), "page {page}");
            }
        }
        for (file, bytes) in self.files.iter().zip(&model.files) {
            let view = file.as_mappable().unwrap().linear_view().unwrap();
            for (page, byte) in bytes.iter().enumerate() {
                assert_eq!(byte_at(view, page as u64).unwrap(), *byte);
            }
        }
    }
}

fn range() -> impl Strategy<Value = Range<usize>> {
    // Now and then empty, or past the end.
    (0..PAGES, 0..6_usize).prop_map(|(start, len)| start..start + len)
}

fn access() -> impl Strategy<Value = Access> {
    any::<bool>().prop_map(Access::from_writable)
}

fn fill_byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(0xff)]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (range(), 0..FILES, 0..PAGES, access())
            .prop_map(|(at, file, page, access)| Change::MapFile { at, file, page, access }),
        1 => (range(), access()).prop_map(|(at, access)| Change::MapAnonymous { at, access }),
        2 => (range(), fill_byte(), access())
            .prop_map(|(at, byte, access)| Change::MapFill { at, byte, access }),
        2 => range().prop_map(|at| Change::Unmap { at }),
        3 => (range(), access()).prop_map(|(at, access)| Change::Protect { at, access }),
        2 => (range(), prop::option::of(fill_byte()))
            .prop_map(|(at, byte)| Change::Decommit { at, byte }),
        2 => (0..PAGES, 1..=u8::MAX).prop_map(|(page, byte)| Change::Write { page, byte }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn shows_what_the_model_shows(changes in prop::collection::vec(change(), 1..40)) {
        let (real, mut model) = Real::new();
        for change in &changes {
            let expected = model.clone().apply(change);
            let before = model.clone();
            if expected {
                model.apply(change);
            }
            assert_eq!(real.apply(change), expected, "{change:?}");
            if !expected {
                assert_eq!(model, before);
            }
            real.check(&model);
        }
    }
}

/// The model is only worth something if it can tell a difference.
#[test]
fn the_model_notices_a_page_that_differs() {
    let (real, mut model) = Real::new();
    let change = Change::MapFile {
        at: 1..3,
        file: 0,
        page: 0,
        access: ReadOnly,
    };
    assert!(real.apply(&change) && model.apply(&change));
    real.check(&model);
    real.reservation
        .unmap(MemoryRange::new(PAGE..2 * PAGE))
        .unwrap();
    assert_ne!(byte_at(&real.reservation, 1).ok(), model.byte(1));
}
