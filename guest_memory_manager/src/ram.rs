//! RAM: its regions, and what backs them.

use crate::layout::MemoryLayout;
use memory_range::MemoryRange;
use region_manager::RegionId;

/// RAM hides device memory, which hides nothing.
pub(crate) const RAM_PRIORITY: u8 = 255;
/// Device memory is uncovered by unmapping RAM.
pub(crate) const DEVICE_PRIORITY: u8 = 0;

/// Where the first mebibyte of a PC is divided: conventional memory, the VGA window, twelve
/// segments of 16 KiB that PAM1 to PAM6 switch, and the BIOS segment that PAM0 switches (Intel
/// 440FX data sheet, "Programmable attribute map").
const LEGACY_BORDERS: [u64; 16] = [
    0, 0xa_0000, 0xc_0000, 0xc_4000, 0xc_8000, 0xc_c000, 0xd_0000, 0xd_4000, 0xd_8000, 0xd_c000,
    0xe_0000, 0xe_4000, 0xe_8000, 0xe_c000, 0xf_0000, 0x10_0000,
];

/// The memory below 1 MiB that the legacy regions divide.
pub(crate) const LEGACY_RANGE_END: u64 = 0x10_0000;

/// A region of RAM, and which part of which backing it shows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct RamRange {
    pub(crate) range: MemoryRange,
    pub(crate) backing: usize,
    pub(crate) offset: u64,
}

/// A region of RAM as the manager knows it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct RamRegion {
    pub(crate) range: MemoryRange,
    pub(crate) id: RegionId,
    /// Which backing it shows a part of, and from which offset on.
    pub(crate) backing: usize,
    pub(crate) offset: u64,
    /// Whether it is faulted in whenever it is shown.
    pub(crate) prefetch: bool,
}

/// The lengths of the backings that a layout asks for: RAM, then VTL2's.
pub(crate) fn backing_lens(layout: &MemoryLayout) -> Vec<u64> {
    let vtl2 = layout.vtl2_range().map(|range| range.len());
    std::iter::once(layout.ram_size()).chain(vtl2).collect()
}

/// RAM as the layout has it, with which part of which backing is where.
pub(crate) fn undivided(layout: &MemoryLayout) -> Vec<RamRange> {
    // Only legacy regions can be refused.
    divide(layout, false).unwrap_or_default()
}

/// Divides RAM into regions. `None` if legacy regions are asked for and RAM doesn't cover them.
pub(crate) fn divide(layout: &MemoryLayout, legacy: bool) -> Option<Vec<RamRange>> {
    let mut regions = Vec::new();
    let mut offset = 0_u64;
    for (index, range) in layout.ram().iter().enumerate() {
        let pieces = if legacy && index == 0 {
            legacy_pieces(*range)?
        } else {
            vec![*range]
        };
        for piece in pieces {
            regions.push(RamRange {
                range: piece,
                backing: 0,
                offset,
            });
            offset = offset.checked_add(piece.len())?;
        }
    }
    if let Some(range) = layout.vtl2_range() {
        regions.push(RamRange {
            range,
            backing: 1,
            offset: 0,
        });
    }
    Some(regions)
}

/// The first range of RAM in legacy regions; the rest above 1 MiB is one, if there is any.
fn legacy_pieces(range: MemoryRange) -> Option<Vec<MemoryRange>> {
    if range.start() != 0 || range.end() < LEGACY_RANGE_END {
        return None;
    }
    let low = LEGACY_BORDERS.windows(2).filter_map(|pair| match pair {
        &[start, end] => MemoryRange::try_new(start..end).ok(),
        _ => None,
    });
    let rest = MemoryRange::try_new(LEGACY_RANGE_END..range.end()).ok()?;
    let rest = (!rest.is_empty()).then_some(rest);
    Some(low.chain(rest).collect())
}

/// The region that might be meant by a range that is none: the one where it starts, or the
/// nearest.
pub(crate) fn nearest(regions: &[RamRegion], range: MemoryRange) -> MemoryRange {
    let distance = |candidate: &MemoryRange| {
        if candidate.contains_addr(range.start()) {
            0
        } else {
            // To its first byte or to its last, so that one that ends there is not *at* there.
            let last = candidate.end().saturating_sub(1);
            let to_last = last.abs_diff(range.start());
            candidate.start().abs_diff(range.start()).min(to_last)
        }
    };
    let ranges = regions.iter().map(|region| region.range);
    ranges.min_by_key(distance).unwrap_or(MemoryRange::EMPTY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_regions_of_exactly_one_mebibyte_have_no_empty_rest() {
        let layout = MemoryLayout::new(0x10_0000, &[], None).unwrap();
        let regions = divide(&layout, true).unwrap();
        assert_eq!(regions.len(), 15);
        assert!(regions.iter().all(|region| !region.range.is_empty()));
        assert_eq!(regions[14].range, MemoryRange::new(0xf_0000..0x10_0000));
    }

    #[test]
    fn regions_show_their_backings_without_gap_or_overlap() {
        let gap = MemoryRange::new(0x30_0000..0x40_0000);
        let vtl2 = MemoryRange::new(0x100_0000..0x110_0000);
        let layout = MemoryLayout::new(0x50_0000, &[gap], Some(vtl2)).unwrap();
        let regions = divide(&layout, true).unwrap();
        let mut offsets = [0, 0];
        for region in &regions {
            assert_eq!(region.offset, offsets[region.backing]);
            offsets[region.backing] += region.range.len();
        }
        assert_eq!(offsets.to_vec(), backing_lens(&layout));
    }

    #[test]
    fn legacy_regions_need_their_mebibyte() {
        for (size, gap) in [(0xf_f000, 0x200_0000), (0x200_0000, 0xf_f000)] {
            let gap = MemoryRange::new(gap..gap + 0x1000);
            let layout = MemoryLayout::new(size, &[gap], None).unwrap();
            assert_eq!(divide(&layout, true), None);
            assert!(divide(&layout, false).is_some());
        }
    }
}
