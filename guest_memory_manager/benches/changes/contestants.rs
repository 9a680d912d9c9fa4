//! The changes, as the facade makes them and as they are made by hand.

use crate::guest::{BAR_LEN, DAX, Guest, PLACES, SHADOWED, SLICE, TWELVE, dax_file, twelve};
use crate::hand::Hand;
use crate::hand_slots::HandSlots;
use crate::timing::{Change, Way};
use guest_memory_manager::{MemoryRange, RamVisibility, SharedMemory};
use sparse_alloc::RomImage;
use std::fs::File;

/// A change and the one that takes it back.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// A segment of RAM becomes read-only.
    Protect,
    /// A segment of read-only RAM is shown instead of ROM.
    Shadow,
    /// The twelve segments become read-only in one transaction.
    ProtectTwelve,
    /// A slice of a file is mapped into a window, and unmapped from it, that is one slot throughout.
    Dax,
    /// A device window moves.
    Move,
}

/// The segment that becomes read-only.
const SEGMENT: MemoryRange = crate::guest::BARE;

/// The facade.
pub(crate) struct Ours<'a> {
    case: Case,
    guest: &'a mut Guest,
    /// The arguments of the two ways for [`Case::ProtectTwelve`].
    twelve: [Vec<(MemoryRange, RamVisibility)>; 2],
}

impl<'a> Ours<'a> {
    /// Brings the guest where the change begins.
    pub(crate) fn new(case: Case, guest: &'a mut Guest) -> Self {
        if case == Case::Shadow {
            guest.show(SHADOWED, RamVisibility::Unmapped);
        }
        Self {
            case,
            guest,
            twelve: [RamVisibility::ReadOnly, RamVisibility::ReadWrite].map(twelve),
        }
    }
}

impl Change for Ours<'_> {
    fn prepare(&mut self, way: Way) {
        self.guest.touch(self.case.range(way));
    }

    fn make(&mut self, way: Way) {
        use RamVisibility::{ReadOnly, ReadWrite, Unmapped};
        match (self.case, way) {
            (Case::Protect, Way::There) => self.guest.show(SEGMENT, ReadOnly),
            (Case::Protect, Way::Back) => self.guest.show(SEGMENT, ReadWrite),
            (Case::Shadow, Way::There) => self.guest.show(SHADOWED, ReadOnly),
            (Case::Shadow, Way::Back) => self.guest.show(SHADOWED, Unmapped),
            (Case::ProtectTwelve, Way::There) => self.guest.show_all(&self.twelve[0]),
            (Case::ProtectTwelve, Way::Back) => self.guest.show_all(&self.twelve[1]),
            (Case::Dax, Way::There) => self.guest.map_slice(0, 0),
            (Case::Dax, Way::Back) => self.guest.unmap_slice(0),
            (Case::Move, Way::There) => self.guest.move_bar(1),
            (Case::Move, Way::Back) => self.guest.move_bar(0),
        }
    }
}

impl Drop for Ours<'_> {
    fn drop(&mut self) {
        self.guest.show(SHADOWED, RamVisibility::ReadWrite);
    }
}

/// The calls by hand, and the files that they show.
pub(crate) struct ByHand {
    hand: Hand,
    slots: Option<HandSlots>,
    rom: RomImage,
    bar: SharedMemory,
    dax: File,
}

impl ByHand {
    /// Makes memory in which every change can begin, with slots of a VM or without.
    pub(crate) fn new(slots: Option<HandSlots>) -> Self {
        let hand = Hand::new();
        if let Some(slots) = &slots {
            slots.give_ram(&hand);
        }
        let bytes = vec![0xee; SHADOWED.len() as usize];
        let made = Self {
            hand,
            slots,
            rom: RomImage::from_bytes("rom-by-hand", &bytes).unwrap(),
            bar: SharedMemory::new("bar-by-hand", BAR_LEN).unwrap(),
            dax: dax_file(),
        };
        made.hand.show_zeros(DAX[0]);
        made.give(DAX[0], true);
        made.hand.show(bar_at(0), made.bar.mappable(), 0, true);
        made.give(bar_at(0), true);
        made
    }

    /// Makes it ready for a change, and for no other at the same time.
    pub(crate) fn at(&mut self, case: Case) -> ByHandAt<'_> {
        if case == Case::Shadow {
            self.take(SHADOWED);
            self.hand.show(SHADOWED, self.rom.mappable(), 0, false);
            self.give(SHADOWED, false);
        }
        ByHandAt { case, hands: self }
    }

    fn take(&self, range: MemoryRange) {
        if let Some(slots) = &self.slots {
            slots.take(range);
        }
    }

    fn give(&self, range: MemoryRange, writable: bool) {
        if let Some(slots) = &self.slots {
            slots.give(&self.hand, range, writable);
        }
    }

    fn protect(&self, slots: impl Iterator<Item = MemoryRange> + Clone, writable: bool) {
        let first = slots.clone().next().unwrap_or_default();
        let end = slots.clone().last().unwrap_or_default().end();
        slots.clone().for_each(|slot| self.take(slot));
        self.hand
            .protect(MemoryRange::new(first.start()..end), writable);
        slots.for_each(|slot| self.give(slot, writable));
    }

    fn move_bar(&self, to: usize) {
        let from = 1 - to;
        self.take(bar_at(from));
        self.hand.reserve(bar_at(from));
        self.hand.show(bar_at(to), self.bar.mappable(), 0, true);
        self.give(bar_at(to), true);
    }
}

/// The calls of one change.
pub(crate) struct ByHandAt<'a> {
    case: Case,
    hands: &'a mut ByHand,
}

impl Change for ByHandAt<'_> {
    fn prepare(&mut self, way: Way) {
        self.hands.hand.touch(self.case.range(way));
    }

    fn make(&mut self, way: Way) {
        let hands = &self.hands;
        let writable = way == Way::Back;
        match (self.case, way) {
            (Case::Protect, _) => hands.protect(std::iter::once(SEGMENT), writable),
            (Case::Shadow, Way::There) => {
                hands.hand.show_ram(SHADOWED, SHADOWED.start(), false);
            }
            (Case::Shadow, Way::Back) => {
                hands.hand.show(SHADOWED, hands.rom.mappable(), 0, false);
            }
            (Case::ProtectTwelve, _) => {
                let starts = (TWELVE.start()..TWELVE.end()).step_by(SEGMENT.len() as usize);
                let len = SEGMENT.len();
                hands.protect(
                    starts.map(|start| MemoryRange::new(start..start + len)),
                    writable,
                );
            }
            (Case::Dax, Way::There) => hands.hand.show(slice(), &hands.dax, 0, true),
            (Case::Dax, Way::Back) => hands.hand.show_zeros(slice()),
            (Case::Move, Way::There) => hands.move_bar(1),
            (Case::Move, Way::Back) => hands.move_bar(0),
        }
    }
}

impl Drop for ByHandAt<'_> {
    fn drop(&mut self) {
        if self.case == Case::Shadow {
            self.hands.take(SHADOWED);
            self.hands.hand.show_ram(SHADOWED, SHADOWED.start(), true);
            self.hands.give(SHADOWED, true);
        }
    }
}

impl Case {
    /// What is changed.
    fn range(self, way: Way) -> MemoryRange {
        match self {
            Self::Protect => SEGMENT,
            Self::Shadow => SHADOWED,
            Self::ProtectTwelve => TWELVE,
            // Pages that nobody looks at cost nothing, and most nobody looks at.
            Self::Dax => MemoryRange::new(slice().start()..slice().start() + SEGMENT.len()),
            Self::Move if way == Way::There => bar_at(0),
            Self::Move => bar_at(1),
        }
    }
}

/// Where the slice is mapped.
fn slice() -> MemoryRange {
    let start = DAX[0].start() + SLICE.start();
    MemoryRange::new(start..start + SLICE.len())
}

fn bar_at(place: usize) -> MemoryRange {
    MemoryRange::new(PLACES[place]..PLACES[place] + BAR_LEN)
}
