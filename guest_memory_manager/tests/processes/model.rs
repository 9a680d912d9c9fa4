//! What is to be seen, painted page by page.

use crate::fixture::{C_SEGMENT, F_SEGMENT, GAP, VTL2, layout};
use guest_memory_manager::{MemoryRange, RamVisibility};
use memory_range::PAGE_SIZE;

/// What a page holds, and whether it can be written; `None` where there is nothing.
pub(crate) type Seen = Option<(u64, bool)>;

/// All pages in one number.
#[derive(Default)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn add(&mut self, page: Seen) {
        let word = page.map_or(1, |(word, writable)| word ^ (u64::from(writable) << 63));
        self.0 = (self.0.rotate_left(7) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }
}

/// Where a page's contents are.
#[derive(Copy, Clone)]
enum Place {
    Ram(usize),
    File(usize),
}

/// A device window: where it is and how, and which page of the file each of its pages shows.
pub(crate) struct Window {
    pub(crate) at: Option<(u64, bool)>,
    pub(crate) pages: Vec<Option<(usize, bool)>>,
}

pub(crate) struct Model {
    /// The regions of RAM.
    pub(crate) regions: Vec<(MemoryRange, RamVisibility)>,
    /// By the pages of the address space.
    ram: Vec<u64>,
    file: Vec<u64>,
    /// Made in this order.
    pub(crate) windows: [Window; 2],
}

/// The regions of RAM that VTL0 sees, of the [layout] with the regions of PC firmware.
fn regions() -> Vec<MemoryRange> {
    let mut regions = vec![
        MemoryRange::new(0..0xa_0000),
        MemoryRange::new(0xa_0000..0xc_0000),
    ];
    let segments = (C_SEGMENT.start()..F_SEGMENT.start()).step_by(0x4000);
    regions.extend(segments.map(|start| MemoryRange::new(start..start + 0x4000)));
    regions.push(F_SEGMENT);
    regions.push(MemoryRange::new(F_SEGMENT.end()..GAP.start()));
    regions.push(MemoryRange::new(GAP.end()..VTL2.start()));
    regions
}

impl Model {
    /// All of RAM to be written, and holding `ram`; no window in sight, each empty.
    pub(crate) fn new(ram: impl Fn(u64) -> u64, file: Vec<u64>, windows: [u64; 2]) -> Self {
        let regions = regions();
        let pages = (0..layout().end()).step_by(PAGE_SIZE as usize);
        Self {
            regions: regions
                .into_iter()
                .map(|range| (range, RamVisibility::ReadWrite))
                .collect(),
            ram: pages.map(ram).collect(),
            file,
            windows: windows.map(|pages| Window {
                at: None,
                pages: vec![None; pages as usize],
            }),
        }
    }

    fn place(&self, gpa: u64) -> Option<(Place, bool)> {
        let mut regions = self.regions.iter();
        let region = regions.find(|(range, _)| range.contains_addr(gpa));
        let index = (gpa / PAGE_SIZE) as usize;
        match region {
            Some((_, RamVisibility::ReadWrite)) => return Some((Place::Ram(index), true)),
            Some((_, RamVisibility::ReadOnly)) => return Some((Place::Ram(index), false)),
            _ => {}
        }
        let shown = self.windows.iter().find_map(|window| {
            let (start, writable) = window.at?;
            let page = gpa.checked_sub(start)? / PAGE_SIZE;
            // What the window does not show hides what is below.
            let shown = *window.pages.get(page as usize)?;
            Some(shown.map(|(page, may)| (Place::File(page), writable && may)))
        });
        shown.flatten()
    }

    /// What is to be seen at the start of a page.
    pub(crate) fn seen(&self, gpa: u64) -> Seen {
        let (place, writable) = self.place(gpa)?;
        let word = match place {
            Place::Ram(page) => self.ram[page],
            Place::File(page) => self.file[page],
        };
        Some((word, writable))
    }

    /// Writes to the start of a page, where that is possible.
    pub(crate) fn write(&mut self, gpa: u64, word: u64) -> bool {
        match self.place(gpa) {
            Some((Place::Ram(page), true)) => self.ram[page] = word,
            Some((Place::File(page), true)) => self.file[page] = word,
            _ => return false,
        }
        true
    }

    pub(crate) fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        for gpa in (0..layout().end()).step_by(PAGE_SIZE as usize) {
            digest.add(self.seen(gpa));
        }
        digest.value()
    }
}
