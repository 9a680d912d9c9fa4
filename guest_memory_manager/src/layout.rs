//! Where RAM lies and where it doesn't.

use crate::vtl::Vtl;
use inspect::Inspect;
use memory_range::{MemoryRange, PAGE_SIZE, sorted};
use thiserror::Error;

/// The guest physical addresses of RAM, and of what is kept free for devices.
///
/// RAM starts at 0 and goes around the MMIO gaps. VTL2's RAM, if there is any, is extra and at
/// its own place. The guest physical address space ends where the last of all these ends: a
/// device window goes into a gap, so a VMM that has 64-bit BARs declares a high gap, too.
///
/// ```
/// use guest_memory_manager::MemoryLayout;
/// use memory_range::MemoryRange;
///
/// let gap = MemoryRange::new(0xc000_0000..0x1_0000_0000);
/// let layout = MemoryLayout::new(4 << 30, &[gap], None)?;
/// assert_eq!(
///     layout.ram(),
///     [
///         MemoryRange::new(0..0xc000_0000),
///         MemoryRange::new(0x1_0000_0000..0x1_4000_0000),
///     ]
/// );
/// # Ok::<(), guest_memory_manager::LayoutError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLayout {
    ram: Vec<MemoryRange>,
    mmio_gaps: Vec<MemoryRange>,
    vtl2: Option<MemoryRange>,
    end: u64,
}

/// Why a layout is impossible.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// There must be some RAM.
    #[error("a guest needs at least one page of RAM")]
    NoRam,
    /// The size of RAM is not a multiple of the page size.
    #[error("{ram_size:#x} bytes of RAM are not a multiple of 0x1000")]
    Unaligned {
        /// The size in bytes.
        ram_size: u64,
    },
    /// A gap or VTL2's range has no bytes.
    #[error("the {what} at {start:#x} is empty")]
    Empty {
        /// What is empty: `MMIO gap` or `VTL2 range`.
        what: &'static str,
        /// Where it starts.
        start: u64,
    },
    /// Two MMIO gaps share addresses.
    #[error("the MMIO gaps {first} and {second} overlap")]
    GapsOverlap {
        /// The one that starts first.
        first: MemoryRange,
        /// The other one.
        second: MemoryRange,
    },
    /// VTL2's range shares addresses with RAM or an MMIO gap.
    #[error("the VTL2 range {vtl2} overlaps {other}")]
    Vtl2Overlaps {
        /// VTL2's range.
        vtl2: MemoryRange,
        /// The RAM range or gap.
        other: MemoryRange,
    },
    /// RAM would reach past the end of a 64-bit address space.
    #[error(
        "{ram_size:#x} bytes of RAM around the MMIO gaps reach past the end of the address space"
    )]
    TooLarge {
        /// The size in bytes.
        ram_size: u64,
    },
}

impl MemoryLayout {
    /// Lays out `ram_size` bytes of RAM from 0 on, around the gaps.
    ///
    /// The gaps may come in any order and may touch.
    ///
    /// # Errors
    ///
    /// The size is zero or off the page grid; a range is empty; ranges overlap; RAM does not fit
    /// below 2^64.
    pub fn new(
        ram_size: u64,
        mmio_gaps: &[MemoryRange],
        vtl2_range: Option<MemoryRange>,
    ) -> Result<Self, LayoutError> {
        if ram_size == 0 {
            return Err(LayoutError::NoRam);
        }
        if !ram_size.is_multiple_of(PAGE_SIZE) {
            return Err(LayoutError::Unaligned { ram_size });
        }
        let mut gaps = mmio_gaps.to_vec();
        gaps.sort_unstable();
        if let Some(gap) = gaps.iter().find(|gap| gap.is_empty()) {
            let (what, start) = ("MMIO gap", gap.start());
            return Err(LayoutError::Empty { what, start });
        }
        for pair in gaps.windows(2) {
            if let &[first, second] = pair
                && first.overlaps(&second)
            {
                return Err(LayoutError::GapsOverlap { first, second });
            }
        }
        let ram = place_ram(ram_size, &gaps).ok_or(LayoutError::TooLarge { ram_size })?;
        if let Some(vtl2) = vtl2_range {
            if vtl2.is_empty() {
                let (what, start) = ("VTL2 range", vtl2.start());
                return Err(LayoutError::Empty { what, start });
            }
            let mut others = ram.iter().chain(&gaps);
            if let Some(other) = others.find(|other| other.overlaps(&vtl2)) {
                return Err(LayoutError::Vtl2Overlaps {
                    vtl2,
                    other: *other,
                });
            }
        }
        let ends = ram.iter().chain(&gaps).chain(&vtl2_range);
        let end = ends.map(MemoryRange::end).max().unwrap_or(0);
        Ok(Self {
            ram,
            mmio_gaps: gaps,
            vtl2: vtl2_range,
            end,
        })
    }

    /// RAM, by address, without VTL2's.
    pub fn ram(&self) -> &[MemoryRange] {
        &self.ram
    }

    /// What is kept free for devices, by address.
    pub fn mmio_gaps(&self) -> &[MemoryRange] {
        &self.mmio_gaps
    }

    /// VTL2's RAM.
    pub fn vtl2_range(&self) -> Option<MemoryRange> {
        self.vtl2
    }

    /// How much RAM there is in bytes, without VTL2's.
    pub fn ram_size(&self) -> u64 {
        // Does not overflow: they are disjoint ranges of one address space.
        self.ram.iter().map(MemoryRange::len).sum()
    }

    /// The first guest physical address after everything.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The addresses that a trust level sees: nobody but VTL2 sees VTL2's RAM.
    pub(crate) fn seen_by(&self, vtl: Vtl) -> Vec<MemoryRange> {
        match vtl {
            Vtl::Vtl0 | Vtl::Vtl1 => self.without_vtl2(),
            Vtl::Vtl2 => vec![MemoryRange::try_new(0..self.end()).unwrap_or_default()],
        }
    }

    /// The ranges that VTL0 can see: everything but VTL2's RAM.
    pub(crate) fn without_vtl2(&self) -> Vec<MemoryRange> {
        let all = MemoryRange::try_new(0..self.end).unwrap_or(MemoryRange::EMPTY);
        sorted::subtract([all], self.vtl2).collect()
    }
}

/// Fills the space between the gaps from 0 on. `None` if the top of the address space is reached.
fn place_ram(ram_size: u64, gaps: &[MemoryRange]) -> Option<Vec<MemoryRange>> {
    let mut ram = Vec::new();
    let mut left = ram_size;
    let mut at = 0_u64;
    for gap in gaps {
        let len = left.min(gap.start().saturating_sub(at));
        if len > 0 {
            ram.push(MemoryRange::try_from_len(at, len).ok()?);
            left = left.checked_sub(len)?;
        }
        at = gap.end();
    }
    if left > 0 {
        ram.push(MemoryRange::try_from_len(at, left).ok()?);
    }
    Some(ram)
}

impl Inspect for MemoryLayout {
    fn inspect(&self, req: inspect::Request<'_>) {
        let list = |ranges: &[MemoryRange]| {
            let ranges: Vec<String> = ranges.iter().map(MemoryRange::to_string).collect();
            ranges.join(" ")
        };
        let mut response = req.respond();
        response
            .value("ram", list(&self.ram))
            .value("mmio_gaps", list(&self.mmio_gaps))
            .hex("end", self.end);
        if let Some(vtl2) = self.vtl2 {
            response.display("vtl2", &vtl2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> MemoryRange {
        MemoryRange::new(start..end)
    }

    #[test]
    fn ram_goes_around_the_gaps_in_any_order() {
        let gaps = [
            range(0x8000, 0x9000),
            range(0x2000, 0x3000),
            range(0x3000, 0x4000),
        ];
        let layout = MemoryLayout::new(0x8000, &gaps, Some(range(0x20000, 0x21000))).unwrap();
        assert_eq!(
            layout.ram(),
            [
                range(0, 0x2000),
                range(0x4000, 0x8000),
                range(0x9000, 0xb000)
            ]
        );
        assert_eq!(layout.end(), 0x21000);
        assert_eq!(layout.without_vtl2(), [range(0, 0x20000)]);
    }

    #[test]
    fn a_gap_at_zero_and_one_above_all_ram() {
        let gaps = [range(0, 0x1000), range(0x10000, 0x20000)];
        let layout = MemoryLayout::new(0x1000, &gaps, None).unwrap();
        assert_eq!(layout.ram(), [range(0x1000, 0x2000)]);
        assert_eq!(layout.end(), 0x20000);
    }

    #[test]
    fn impossible_layouts_say_what_is_wrong() {
        let gap = range(0x2000, 0x4000);
        let new = MemoryLayout::new;
        assert_eq!(new(0, &[], None), Err(LayoutError::NoRam));
        assert_eq!(
            new(0x1234, &[], None),
            Err(LayoutError::Unaligned { ram_size: 0x1234 })
        );
        for empty in [MemoryRange::EMPTY, range(0x5000, 0x5000)] {
            let start = empty.start();
            let what = "MMIO gap";
            assert_eq!(
                new(0x1000, &[empty], None),
                Err(LayoutError::Empty { what, start })
            );
            let what = "VTL2 range";
            assert_eq!(
                new(0x1000, &[], Some(empty)),
                Err(LayoutError::Empty { what, start })
            );
        }
        let (first, second) = (gap, range(0x3000, 0x5000));
        assert_eq!(
            new(0x1000, &[second, first], None),
            Err(LayoutError::GapsOverlap { first, second })
        );
        for vtl2 in [
            range(0x1000, 0x2000),
            range(0x3000, 0x5000),
            range(0x4000, 0x5000),
        ] {
            assert!(matches!(
                new(0x3000, &[gap], Some(vtl2)),
                Err(LayoutError::Vtl2Overlaps { .. })
            ));
        }
        for ram_size in [!0xfff, 1 << 63] {
            assert_eq!(
                new(ram_size, &[range(0x1000, 0x8000_0000_0000_2000)], None),
                Err(LayoutError::TooLarge { ram_size })
            );
        }
    }

    proptest! {
        /// All of RAM is placed, in order, as low as can be, and touches no gap.
        #[test]
        fn ram_is_complete_and_disjoint(
            ram_pages in 1u64..64,
            cuts in proptest::collection::btree_set(0u64..96, 0..12),
        ) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let gaps: Vec<MemoryRange> = cuts
                .chunks_exact(2)
                .map(|pair| range(pair[0] * PAGE_SIZE, pair[1] * PAGE_SIZE))
                .collect();
            let layout = MemoryLayout::new(ram_pages * PAGE_SIZE, &gaps, None).unwrap();
            // Page by page: the lowest pages that no gap has.
            let mut expected = Vec::new();
            let mut page = 0;
            while (expected.len() as u64) < ram_pages {
                if !gaps.iter().any(|gap| gap.contains_addr(page * PAGE_SIZE)) {
                    expected.push(page);
                }
                page += 1;
            }
            let pages: Vec<u64> =
                layout.ram().iter().flat_map(MemoryRange::page_numbers).collect();
            prop_assert_eq!(pages, expected);
            prop_assert_eq!(layout.ram_size(), ram_pages * PAGE_SIZE);
        }
    }
}
