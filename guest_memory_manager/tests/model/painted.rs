//! The slow and clear version: regions paint pages one by one.

use guest_memory_manager::{Fill, RamVisibility};
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
    /// The fill of a window, at this page of it.
    Fill(Fills, u64),
}

/// A fill, in an order.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fills {
    Zeros,
    Ones,
}

/// What shows at a page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) byte: Byte,
    /// What may be done with the bytes.
    pub(crate) access: Access,
    /// What the slot allows.
    pub(crate) slot: Access,
    /// Whether it is RAM, in its own place or another.
    pub(crate) is_ram: bool,
}

/// `None` is a hole.
pub(crate) type Painted = Option<Shown>;

/// What a page of a region holds: which bytes, and whether they may be written.
type Held = Option<(Byte, Access)>;

#[derive(Clone)]
struct Region {
    is_ram: bool,
    /// RAM hides what isn't.
    is_over_devices: bool,
    fill: Option<Fill>,
    shown_at: Option<(u64, Access)>,
    contents: Contents,
}

#[derive(Clone)]
enum Contents {
    Pages(Vec<Held>),
    /// So many pages of another region, from one on.
    Alias(usize, u64, u64),
}

/// The regions, and what has been stored so far.
#[derive(Clone)]
pub(crate) struct Painting {
    /// In the order of their creation.
    regions: BTreeMap<usize, Region>,
    next: usize,
    stored: BTreeMap<Byte, u32>,
    /// What was stored over a fill, by page of the address space, and over which.
    private: BTreeMap<u64, (Byte, u32)>,
}

impl Painting {
    pub(crate) fn new() -> Self {
        let mut painting = Self {
            regions: BTreeMap::new(),
            next: 0,
            stored: BTreeMap::new(),
            private: BTreeMap::new(),
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
        let pages = bytes.take((to - from) as usize);
        let region = Region {
            is_ram: true,
            is_over_devices: true,
            fill: None,
            shown_at: Some((from, Access::ReadWrite)),
            contents: Contents::Pages(pages.map(|byte| Some((byte, Access::ReadWrite))).collect()),
        };
        self.add(region);
    }

    fn add(&mut self, region: Region) -> usize {
        let id = self.next;
        self.next += 1;
        self.regions.insert(id, region);
        id
    }

    pub(crate) fn new_region(&mut self, len: u64, fill: Option<Fill>) -> usize {
        self.add(Region {
            is_ram: false,
            is_over_devices: false,
            fill,
            shown_at: None,
            contents: Contents::Pages((0..len).map(|page| filled(fill, page)).collect()),
        })
    }

    /// Whether a part of a region can be shown at a second place; if so, the new region.
    pub(crate) fn new_alias(&mut self, region: usize, offset: u64, len: u64) -> Option<usize> {
        let target = &self.regions[&region];
        let fits = len > 0 && offset + len <= self.len_of(target);
        let fill = target.fill;
        let contents = Contents::Alias(region, offset, len);
        fits.then(|| {
            self.add(Region {
                is_ram: false,
                is_over_devices: false,
                fill,
                shown_at: None,
                contents,
            })
        })
    }

    /// Whether RAM can be shown at a second place: a part of one region that is not VTL2's.
    pub(crate) fn new_ram_alias(&mut self, start: u64, len: u64) -> Option<usize> {
        let found = RAM
            .iter()
            .position(|(from, to)| *from <= start && start + len <= *to);
        let (region, true) = (found?, len > 0) else {
            return None;
        };
        let alias = self.new_alias(region, start - RAM[region].0, len)?;
        self.regions.get_mut(&alias).unwrap().is_ram = true;
        Some(alias)
    }

    /// A region that nobody holds any more, but perhaps aliases of it.
    pub(crate) fn remove(&mut self, region: usize) {
        self.hide(region);
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
        let fits = at + self.len_of(&self.regions[&region]) <= PAGES;
        if fits {
            let shown_at = Some((at, Access::from_writable(writable)));
            self.regions.get_mut(&region).unwrap().shown_at = shown_at;
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
        let fill = self.regions[&region].fill;
        let pages = (offset..).map(move |page| filled(fill, page));
        self.paint_over(region, offset, len, pages)
    }

    fn paint_over(
        &mut self,
        region: usize,
        offset: u64,
        len: u64,
        with: impl Iterator<Item = Held>,
    ) -> bool {
        let region = self.regions.get_mut(&region).unwrap();
        let Contents::Pages(pages) = &mut region.contents else {
            return false;
        };
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

    fn len_of(&self, region: &Region) -> u64 {
        match &region.contents {
            Contents::Pages(pages) => pages.len() as u64,
            Contents::Alias(_, _, len) => *len,
        }
    }

    /// What a region holds, page by page.
    fn pages_of(&self, region: &Region) -> Vec<Held> {
        match &region.contents {
            Contents::Pages(pages) => pages.clone(),
            Contents::Alias(target, offset, len) => {
                let pages = self.pages_of(&self.regions[target]);
                pages[*offset as usize..(offset + len) as usize].to_vec()
            }
        }
    }

    /// What shows at every page: RAM before devices, and the one made first among devices.
    pub(crate) fn paint(&self) -> Vec<Painted> {
        let mut canvas = vec![None; PAGES as usize];
        let (ram, devices): (Vec<_>, Vec<_>) = self
            .regions
            .values()
            .partition(|region| region.is_over_devices);
        // The least important first, so that the others are painted over it.
        for region in devices.into_iter().rev().chain(ram) {
            let Some((at, limit)) = region.shown_at else {
                continue;
            };
            let pages = self.pages_of(region);
            for (page, place) in pages.iter().zip(&mut canvas[at as usize..]) {
                *place = page.map(|(byte, access)| {
                    let writable = access.is_writable() && limit.is_writable();
                    let access = Access::from_writable(writable);
                    Shown {
                        byte,
                        access,
                        slot: if region.fill.is_some() { limit } else { access },
                        is_ram: region.is_ram,
                    }
                });
            }
        }
        canvas
    }

    /// Says that the guest sees this now. What was stored over a fill is gone where anything else
    /// shows, be it for one change only.
    pub(crate) fn settle(&mut self) {
        let painted = self.paint();
        self.private.retain(|page, (byte, _)| {
            let shown = painted[*page as usize];
            shown.is_some_and(|shown| shown.byte == *byte)
        });
    }

    pub(crate) fn store(&mut self, page: u64, byte: Byte, value: u32) {
        if matches!(byte, Byte::Fill(..)) {
            self.private.insert(page, (byte, value));
        } else {
            self.stored.insert(byte, value);
        }
    }

    pub(crate) fn contents(&self, page: u64, byte: Byte) -> u32 {
        match (self.stored.get(&byte), byte) {
            (Some(value), _) => *value,
            (None, Byte::Ram(_) | Byte::Vtl2(_)) => 0,
            (None, Byte::File(file, page)) => FIRST_OF_FILES[file] + page as u32,
            (None, Byte::Fill(fill, _)) => match (self.private.get(&page), fill) {
                (Some((_, value)), _) => *value,
                (None, Fills::Zeros) => 0,
                (None, Fills::Ones) => u32::MAX,
            },
        }
    }
}

fn filled(fill: Option<Fill>, page: u64) -> Held {
    let fill = match fill? {
        Fill::Ones => Fills::Ones,
        _ => Fills::Zeros,
    };
    Some((Byte::Fill(fill, page), Access::ReadWrite))
}
