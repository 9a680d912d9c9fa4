//! The slow and clear version: regions paint pages one by one.

use guest_memory_manager::RamVisibility;
use memory_range::Access;
use std::collections::BTreeMap;

/// RAM, as page numbers, with the gaps 6-10 and 14-22 between.
pub(crate) const RAM: [(u64, u64); 3] = [(0, 6), (10, 14), (22, 28)];
/// VTL2's RAM.
pub(crate) const VTL2_RAM: (u64, u64) = (28, 30);
/// Pages of the whole address space.
pub(crate) const PAGES: u64 = 30;
/// Pages of each file; the last of the files cannot be written.
const FILE_PAGES: u64 = 6;
/// What the pages of each file begin with, the first of them.
pub(crate) const FIRST_OF_FILES: [u32; 3] = [0x100, 0x200, 0x300];

/// A page of something that holds bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Byte {
    Ram(u64),
    Vtl2(u64),
    File(usize, u64),
}

/// What shows at a page: which bytes, and what may be done with them.
pub(crate) type Painted = Option<(Byte, Access)>;

struct Region {
    is_ram: bool,
    shown_at: Option<(u64, Access)>,
    pages: Vec<Painted>,
}

/// The regions, and what has been stored so far.
pub(crate) struct Painting {
    /// In the order of their creation.
    regions: BTreeMap<usize, Region>,
    next: usize,
    stored: BTreeMap<Byte, u32>,
}

impl Painting {
    pub(crate) fn new() -> Self {
        let mut painting = Self {
            regions: BTreeMap::new(),
            next: 0,
            stored: BTreeMap::new(),
        };
        let mut ram_page = 0;
        for (from, to) in RAM {
            let bytes = (ram_page..).map(Byte::Ram);
            ram_page += to - from;
            painting.add_ram(from, to, bytes);
        }
        painting.add_ram(VTL2_RAM.0, VTL2_RAM.1, (0..).map(Byte::Vtl2));
        painting
    }

    fn add_ram(&mut self, from: u64, to: u64, bytes: impl Iterator<Item = Byte>) {
        let id = self.new_region(to - from);
        let region = self.regions.get_mut(&id).unwrap();
        region.is_ram = true;
        region.shown_at = Some((from, Access::ReadWrite));
        for (page, byte) in region.pages.iter_mut().zip(bytes) {
            *page = Some((byte, Access::ReadWrite));
        }
    }

    pub(crate) fn new_region(&mut self, len: u64) -> usize {
        let id = self.next;
        self.next += 1;
        let region = Region {
            is_ram: false,
            shown_at: None,
            pages: vec![None; len as usize],
        };
        self.regions.insert(id, region);
        id
    }

    pub(crate) fn remove(&mut self, region: usize) {
        self.regions.remove(&region);
    }

    /// RAM regions are the first ones.
    pub(crate) fn set_ram(&mut self, region: usize, visibility: RamVisibility) {
        let start = RAM.iter().chain([&VTL2_RAM]).nth(region).unwrap().0;
        self.regions.get_mut(&region).unwrap().shown_at = match visibility {
            RamVisibility::ReadOnly => Some((start, Access::ReadOnly)),
            RamVisibility::ReadWrite => Some((start, Access::ReadWrite)),
            _ => None,
        };
    }

    /// Whether a region can be shown there; if so, it is.
    pub(crate) fn show(&mut self, region: usize, at: u64, writable: bool) -> bool {
        let region = self.regions.get_mut(&region).unwrap();
        let fits = at + region.pages.len() as u64 <= PAGES;
        if fits {
            region.shown_at = Some((at, Access::from_writable(writable)));
        }
        fits
    }

    pub(crate) fn hide(&mut self, region: usize) {
        self.regions.get_mut(&region).unwrap().shown_at = None;
    }

    /// Whether pages of a file can be put there; if so, they are.
    pub(crate) fn map(
        &mut self,
        region: usize,
        offset: u64,
        file: usize,
        file_offset: u64,
        len: u64,
        writable: bool,
    ) -> bool {
        let can_be_written = file != 2;
        if file_offset + len > FILE_PAGES || writable && !can_be_written {
            return false;
        }
        let bytes = (file_offset..).map(|page| Byte::File(file, page));
        let access = Access::from_writable(writable);
        self.paint_over(region, offset, len, bytes.map(|byte| Some((byte, access))))
    }

    pub(crate) fn unmap(&mut self, region: usize, offset: u64, len: u64) -> bool {
        self.paint_over(region, offset, len, std::iter::repeat(None))
    }

    fn paint_over(
        &mut self,
        region: usize,
        offset: u64,
        len: u64,
        with: impl Iterator<Item = Painted>,
    ) -> bool {
        let pages = &mut self.regions.get_mut(&region).unwrap().pages;
        let range = offset as usize..(offset + len) as usize;
        match pages.get_mut(range) {
            Some(pages) if len > 0 => {
                pages
                    .iter_mut()
                    .zip(with)
                    .for_each(|(page, new)| *page = new);
                true
            }
            _ => false,
        }
    }

    /// What shows at every page: RAM before devices, and the one made first among devices.
    pub(crate) fn paint(&self) -> Vec<Painted> {
        let mut canvas = vec![None; PAGES as usize];
        let (ram, devices): (Vec<_>, Vec<_>) =
            self.regions.values().partition(|region| region.is_ram);
        // The least important first, so that the others are painted over it.
        for region in devices.into_iter().rev().chain(ram) {
            let Some((at, limit)) = region.shown_at else {
                continue;
            };
            for (page, place) in region.pages.iter().zip(&mut canvas[at as usize..]) {
                *place = page.map(|(byte, access)| {
                    let writable = access.is_writable() && limit.is_writable();
                    (byte, Access::from_writable(writable))
                });
            }
        }
        canvas
    }

    pub(crate) fn store(&mut self, byte: Byte, value: u32) {
        self.stored.insert(byte, value);
    }

    pub(crate) fn contents(&self, byte: Byte) -> u32 {
        match (self.stored.get(&byte), byte) {
            (Some(value), _) => *value,
            (None, Byte::Ram(_) | Byte::Vtl2(_)) => 0,
            (None, Byte::File(file, page)) => FIRST_OF_FILES[file] + page as u32,
        }
    }
}
