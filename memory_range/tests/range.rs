//! Ranges: both ends of the address space, empty ranges, wrong numbers, and their text.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use memory_range::Access;
use memory_range::HUGE_1G;
use memory_range::HUGE_2M;
use memory_range::InvalidRange;
use memory_range::MemoryRange;
use memory_range::PAGE_SIZE;
use memory_range::ParseRangeError;
use proptest::prelude::*;
use std::ops::Range;

/// The highest end that a range can have.
const TOP: u64 = 0xffff_ffff_ffff_f000;

const HIGHEST_PAGE: MemoryRange = MemoryRange::new(TOP - PAGE_SIZE..TOP);
const EVERYTHING: MemoryRange = MemoryRange::new(0..TOP);

fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

/// Page numbers from all over the address space, often near its ends.
fn page_number() -> impl Strategy<Value = u64> {
    let last = TOP / PAGE_SIZE;
    prop_oneof![0..40_u64, last - 40..=last, 0..=last]
}

fn any_range() -> impl Strategy<Value = MemoryRange> {
    let ends = (page_number(), page_number(), 0..40_u64);
    ends.prop_map(|(one, other, near)| {
        // Near ranges as well as far ones.
        let other = if near < 20 {
            one.saturating_sub(near)
        } else {
            other
        };
        MemoryRange::from_page_numbers(one.min(other)..one.max(other)).unwrap()
    })
}

/// Numbers as a hostile caller would choose them.
fn hostile() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0..64_u32, -2..=2_i64).prop_map(|(bit, off)| (1_u64 << bit).wrapping_add_signed(off)),
        page_number().prop_map(|page| page * PAGE_SIZE),
        (0..=5000_u64).prop_map(|below| u64::MAX - below),
    ]
}

#[test]
fn constants_and_default() {
    assert_eq!(MemoryRange::EMPTY, MemoryRange::default());
    assert!(MemoryRange::EMPTY.is_empty());
    assert_eq!(HUGE_2M, 512 * PAGE_SIZE);
    assert_eq!(HUGE_1G, 512 * HUGE_2M);
}

#[test]
fn try_new_says_why() {
    let check = |numbers: Range<u64>, why: &str| {
        let error = MemoryRange::try_new(numbers.clone()).unwrap_err();
        assert_eq!(error.to_string(), why);
        assert_eq!(MemoryRange::try_from(numbers), Err(error));
    };
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    check(0x2000..0x1000, "range 0x2000-0x1000 ends before it starts");
    check(0x1001..0x2000, "range 0x1001-0x2000 is not page aligned");
    check(0x1000..0x2001, "range 0x1000-0x2001 is not page aligned");
    check(0x1001..0x1001, "range 0x1001-0x1001 is not page aligned");
    check(
        TOP..u64::MAX,
        "range 0xfffffffffffff000-0xffffffffffffffff is not page aligned",
    );
}

#[test]
#[should_panic(expected = "memory range ends before it starts")]
fn new_panics_when_inverted() {
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    let _ = MemoryRange::new(0x2000..0x1000);
}

#[test]
#[should_panic(expected = "memory range is not page aligned")]
fn new_panics_when_unaligned() {
    let _ = MemoryRange::new(0..0x1234);
}

#[test]
fn the_last_page_cannot_be_named() {
    assert_eq!(HIGHEST_PAGE.len(), PAGE_SIZE);
    assert_eq!(
        MemoryRange::try_from_len(TOP, PAGE_SIZE),
        Err(InvalidRange::LengthOverflow {
            start: TOP,
            len: PAGE_SIZE
        })
    );
    assert_eq!(MemoryRange::try_from_len(TOP, 0), Ok(range(TOP, TOP)));
    let pages = TOP / PAGE_SIZE;
    assert_eq!(
        MemoryRange::from_page_numbers(pages..pages + 1),
        Err(InvalidRange::PageNumberOverflow {
            start: pages,
            end: pages + 1
        })
    );
    assert_eq!(
        MemoryRange::bounding(TOP..TOP + 1),
        Err(InvalidRange::BoundOverflow {
            start: TOP,
            end: TOP + 1,
            align: PAGE_SIZE
        })
    );
    assert_eq!(MemoryRange::bounding(5..TOP - 1), Ok(EVERYTHING));
    assert_eq!(EVERYTHING.page_count(), pages);
}

#[test]
fn page_numbers_wrong() {
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    let inverted = MemoryRange::from_page_numbers(2..1);
    assert_eq!(inverted, Err(InvalidRange::Inverted { start: 2, end: 1 }));
    assert!(MemoryRange::from_page_numbers(0..u64::MAX).is_err());
    assert!(MemoryRange::from_page_numbers(u64::MAX..u64::MAX).is_err());
}

#[test]
fn bounding_cases() {
    let check = |bytes: Range<u64>, align, expected: Result<&str, &str>| {
        let found = MemoryRange::bounding_aligned(bytes, align);
        match expected {
            Ok(range) => assert_eq!(found.unwrap().to_string(), range),
            Err(why) => assert_eq!(found.unwrap_err().to_string(), why),
        }
    };
    check(0x1001..0x1002, PAGE_SIZE, Ok("0x1000-0x2000"));
    check(0x1000..0x2000, PAGE_SIZE, Ok("0x1000-0x2000"));
    check(0xfff..0x1001, PAGE_SIZE, Ok("0x0-0x2000"));
    check(0x1000..0x2000, HUGE_2M, Ok("0x0-0x200000"));
    check(0x1234..0x1234, PAGE_SIZE, Ok("0x1000-0x1000"));
    check(
        u64::MAX..u64::MAX,
        PAGE_SIZE,
        Ok("0xfffffffffffff000-0xfffffffffffff000"),
    );
    for align in [0, 1, 2048, 0x3000, u64::MAX] {
        let why = format!("alignment {align:#x} is not a power of two of at least a page");
        check(0..1, align, Err(&why));
    }
    check(
        0..(1 << 63) + 1,
        1 << 63,
        Err(
            "range 0x0-0x8000000000000001, widened to multiples of 0x8000000000000000, \
             runs past the end of the address space",
        ),
    );
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    check(2..1, PAGE_SIZE, Err("range 0x2-0x1 ends before it starts"));
}

#[test]
fn an_empty_range_overlaps_nothing() {
    let around = range(0x1000, 0x5000);
    for at in [0, 0x1000, 0x2000, 0x5000, TOP] {
        let empty = range(at, at);
        assert!(!around.overlaps(&empty), "{empty}");
        assert!(!empty.overlaps(&around), "{empty}");
        assert!(!empty.overlaps(&empty), "{empty}");
        assert!(!around.contains(&empty), "{empty}");
        assert!(!empty.contains(&empty), "{empty}");
        assert!(!empty.contains_addr(at), "{empty}");
        assert_eq!(empty.offset_of(at), None);
        assert_eq!(around.intersection(&empty), MemoryRange::EMPTY);
        assert_eq!(empty.aligned_pieces().next(), None);
        assert_eq!(empty.largest_aligned(PAGE_SIZE), MemoryRange::EMPTY);
        assert_eq!(empty.sub_range(0, 0), Ok(empty));
        assert_eq!(empty.split_at(0), Ok((empty, empty)));
    }
    assert_ne!(range(0x1000, 0x1000), MemoryRange::EMPTY);
}

#[test]
fn ranges_that_touch_do_not_overlap() {
    let (low, high) = (range(0x1000, 0x2000), range(0x2000, 0x3000));
    assert!(!low.overlaps(&high));
    assert!(!high.overlaps(&low));
    assert!(!low.contains_addr(0x2000));
    assert!(low.contains_addr(0x1fff));
    assert_eq!(low.offset_of(0x1fff), Some(0xfff));
}

#[test]
fn parts_that_are_none() {
    let whole = range(0x1000, 0x5000);
    for offset in [1, 0x5000, u64::MAX, TOP] {
        assert_eq!(
            whole.split_at(offset),
            Err(InvalidRange::NotABorder {
                range: whole,
                offset
            })
        );
    }
    for (offset, len) in [
        (0, 0x5000),
        (0x4000, 0x1000),
        (0x1000, TOP),
        (TOP, 0x1000),
        (TOP, TOP),
        (1, 0x1000),
        (0x1000, 1),
        (0x5000, 0),
    ] {
        assert_eq!(
            whole.sub_range(offset, len),
            Err(InvalidRange::NotAPart {
                range: whole,
                offset,
                len
            })
        );
    }
    assert_eq!(
        whole.sub_range(0x4000, 0x1000).unwrap_err().to_string(),
        "0x1000 bytes from offset 0x4000 are not whole pages of range 0x1000-0x5000"
    );
    assert_eq!(whole.sub_range(0x4000, 0), Ok(range(0x5000, 0x5000)));
}

#[test]
fn moved_out_of_the_address_space() {
    assert_eq!(HIGHEST_PAGE.shifted(PAGE_SIZE), None);
    assert_eq!(HIGHEST_PAGE.shifted(0), Some(HIGHEST_PAGE));
    assert_eq!(range(0, 0x1000).shifted(TOP - 0x1000), Some(HIGHEST_PAGE));
    assert_eq!(
        HIGHEST_PAGE.shifted_down(TOP - 0x1000),
        Some(range(0, 0x1000))
    );
    assert_eq!(HIGHEST_PAGE.shifted_down(TOP), None);
    assert_eq!(range(0x1000, 0x3000).shifted_down(0x2000), None);
    assert_eq!(range(0x1000, 0x3000).shifted(1), None);
    assert_eq!(range(0x1000, 0x3000).shifted_down(1), None);
}

#[test]
fn largest_aligned_cases() {
    let check = |range: &str, align, expected: &str| {
        let range: MemoryRange = range.parse().unwrap();
        assert_eq!(
            range.largest_aligned(align).to_string(),
            expected,
            "{range}"
        );
    };
    check("0x1000-0x600000", HUGE_2M, "0x200000-0x600000");
    check("0x1000-0x3ff000", HUGE_2M, "0x0-0x0");
    check("0x200000-0x400000", HUGE_2M, "0x200000-0x400000");
    check("0x1000-0x3000", 1, "0x1000-0x3000");
    check("0x1000-0x3000", 0, "0x0-0x0");
    check("0x1000-0x3000", 0x3000, "0x0-0x0");
    check(
        "0x1000-0xfffffffffffff000",
        HUGE_1G,
        "0x40000000-0xffffffffc0000000",
    );
    check("0x1000-0xfffffffffffff000", 1 << 63, "0x0-0x0");
    check("0xffffffffffffe000-0xfffffffffffff000", HUGE_1G, "0x0-0x0");
}

#[test]
fn aligned_pieces_cases() {
    let check = |range: MemoryRange, expected: &[u64]| {
        let sizes: Vec<u64> = range.aligned_pieces().map(|piece| piece.len()).collect();
        assert_eq!(sizes, expected, "{range}");
    };
    check(range(0, HUGE_1G), &[HUGE_1G]);
    check(range(HUGE_2M, 2 * HUGE_2M), &[HUGE_2M]);
    // As long as a large page, but not aligned to one.
    let long_enough: Vec<u64> = vec![PAGE_SIZE; 512];
    check(range(0x1000, HUGE_2M + 0x1000), &long_enough);
    let mut around = vec![PAGE_SIZE];
    around.extend([HUGE_2M; 1]);
    around.extend([HUGE_1G; 2]);
    around.extend([HUGE_2M; 2]);
    around.extend([PAGE_SIZE; 3]);
    let start = HUGE_1G - HUGE_2M - PAGE_SIZE;
    check(
        range(start, 3 * HUGE_1G + 2 * HUGE_2M + 3 * PAGE_SIZE),
        &around,
    );
}

#[test]
fn hostile_text_is_refused() {
    use ParseRangeError::{End, NoSeparator, Range, Start};
    let inverted = InvalidRange::Inverted {
        start: 0x2000,
        end: 0x1000,
    };
    let unaligned = InvalidRange::Unaligned { start: 1, end: 2 };
    for (text, why) in [
        ("", NoSeparator),
        ("0x1000", NoSeparator),
        ("0x1000..0x2000", NoSeparator),
        ("0x1000\u{2013}0x2000", NoSeparator),
        ("-", Start),
        ("-0x1000", Start),
        ("1000-0x2000", Start),
        ("0x-0x2000", Start),
        ("0X1000-0x2000", Start),
        (" 0x1000-0x2000", Start),
        ("0x+1000-0x2000", Start),
        ("0x1_000-0x2000", Start),
        ("0x10000000000000000-0x2000", Start),
        ("0x١٠٠٠-0x2000", Start),
        ("0x1000-", End),
        ("0x1000-0x", End),
        ("0x1000-2000", End),
        ("0x1000-0x2000\n", End),
        ("0x1000-0x2000-0x3000", End),
        ("0x1000--0x2000", End),
        ("0x0-0xfffffffffffffffff", End),
        ("0x2000-0x1000", Range(inverted)),
        ("0x1-0x2", Range(unaligned)),
    ] {
        assert_eq!(text.parse::<MemoryRange>(), Err(why), "{text:?}");
    }
    assert_eq!(
        "0x00000000000000001000-0x000ABC000".parse(),
        Ok(range(0x1000, 0xabc000))
    );
}

#[test]
fn a_parse_error_keeps_its_cause() {
    use std::error::Error;
    let error = "0x1-0x2".parse::<MemoryRange>().unwrap_err();
    let cause = error.source().unwrap().to_string();
    assert_eq!(cause, "range 0x1-0x2 is not page aligned");
    assert!(!error.to_string().contains(&cause));
}

#[test]
fn text_obeys_width() {
    let low = range(0x1000, 0x2000);
    assert_eq!(format!("[{low:16}]"), "[0x1000-0x2000   ]");
    assert_eq!(format!("[{low:>16}]"), "[   0x1000-0x2000]");
    assert_eq!(format!("{low:?}"), "0x1000-0x2000");
    assert_eq!(format!("{:?}", Some(low)), "Some(0x1000-0x2000)");
    assert_eq!(format!("[{:>3}]", Access::ReadWrite), "[ rw]");
}

#[test]
fn access_is_what_it_says() {
    for (access, writable, text) in [
        (Access::ReadOnly, false, "ro"),
        (Access::ReadWrite, true, "rw"),
    ] {
        assert_eq!(Access::from_writable(writable), access);
        assert_eq!(access.is_writable(), writable);
        assert_eq!(access.to_string(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_round_trip(range in any_range()) {
        prop_assert_eq!(range.to_string().parse(), Ok(range));
        let numbers: Range<u64> = range.into();
        prop_assert_eq!(MemoryRange::try_from(numbers), Ok(range));
        prop_assert_eq!(MemoryRange::from_page_numbers(range.page_numbers()), Ok(range));
        prop_assert_eq!(MemoryRange::try_from_len(range.start(), range.len()), Ok(range));
        prop_assert_eq!(range.page_count() * PAGE_SIZE, range.len());
    }

    #[test]
    fn no_text_panics(text in "[0x1f\\- ]{0,24}", any in any::<String>()) {
        for text in [text, any] {
            // What is read is a range, so it can be written and read again.
            if let Ok(range) = text.parse::<MemoryRange>() {
                prop_assert_eq!(range.to_string().parse(), Ok(range));
            }
        }
    }

    #[test]
    fn no_number_makes_a_broken_range(start in hostile(), end in hostile(), align in hostile()) {
        let sound = |range: MemoryRange| {
            range.start() <= range.end()
                && range.start().is_multiple_of(PAGE_SIZE)
                && range.end().is_multiple_of(PAGE_SIZE)
        };
        let legal = start <= end
            && start.is_multiple_of(PAGE_SIZE)
            && end.is_multiple_of(PAGE_SIZE);
        prop_assert_eq!(MemoryRange::try_new(start..end).is_ok(), legal);

        let by_len = MemoryRange::try_from_len(start, end);
        let wide_end = u128::from(start) + u128::from(end);
        if let Ok(range) = by_len {
            prop_assert!(sound(range));
            prop_assert_eq!((range.start(), u128::from(range.end())), (start, wide_end));
        } else {
            let aligned = start.is_multiple_of(PAGE_SIZE) && end.is_multiple_of(PAGE_SIZE);
            prop_assert!(!aligned || wide_end > u128::from(u64::MAX));
        }

        if let Ok(range) = MemoryRange::from_page_numbers(start..end) {
            prop_assert!(sound(range));
            prop_assert_eq!(range.page_numbers(), start..end);
        }
        if let Ok(range) = MemoryRange::bounding_aligned(start..end, align) {
            prop_assert!(sound(range) && range.start() <= start && end <= range.end() || start == end);
            prop_assert!(start - range.start() < align);
            prop_assert!(start == end || range.end() - end < align);
            prop_assert_eq!(range.largest_aligned(align).len(), range.len());
        }
        for whole in [MemoryRange::EMPTY, EVERYTHING, HIGHEST_PAGE, range(0x1000, 0x9000)] {
            for moved in [whole.shifted(start), whole.shifted_down(start)].into_iter().flatten() {
                prop_assert!(sound(moved));
                prop_assert_eq!(moved.len(), whole.len());
                prop_assert_eq!(moved.start().abs_diff(whole.start()), start);
            }
            if let Ok((low, high)) = whole.split_at(start) {
                prop_assert!(sound(low) && sound(high));
                prop_assert_eq!((low.start(), high.end()), (whole.start(), whole.end()));
                prop_assert_eq!((low.end(), low.len()), (high.start(), start));
            }
            if let Ok(part) = whole.sub_range(start, end) {
                prop_assert!(sound(part) && whole.start() <= part.start() && part.end() <= whole.end());
                prop_assert_eq!((part.start() - whole.start(), part.len()), (start, end));
            }
            let aligned = whole.largest_aligned(start);
            prop_assert!(sound(aligned));
            prop_assert!(aligned.is_empty() || whole.contains(&aligned));
        }
    }

    /// Against page numbers in sets, over a space small enough to write down.
    #[test]
    fn relations_agree_with_sets(
        (a, b) in (0..12_u64, 0..12_u64),
        (c, d) in (0..12_u64, 0..12_u64),
        align_bit in 12..16_u32,
    ) {
        use std::collections::BTreeSet;
        let make = |one: u64, other: u64| {
            MemoryRange::from_page_numbers(one.min(other)..one.max(other)).unwrap()
        };
        let pages = |range: MemoryRange| range.page_numbers().collect::<BTreeSet<u64>>();
        let (left, right) = (make(a, b), make(c, d));
        let both: BTreeSet<u64> = pages(left).intersection(&pages(right)).copied().collect();

        prop_assert_eq!(left.overlaps(&right), !both.is_empty());
        prop_assert_eq!(right.overlaps(&left), !both.is_empty());
        prop_assert_eq!(pages(left.intersection(&right)), both.clone());
        prop_assert_eq!(left.contains(&right), !right.is_empty() && both == pages(right));
        for page in 0..12 {
            let addr = page * PAGE_SIZE + 7;
            prop_assert_eq!(left.contains_addr(addr), pages(left).contains(&page));
            let offset = left.offset_of(addr);
            prop_assert_eq!(offset.map(|offset| left.start() + offset),
                pages(left).contains(&page).then_some(addr));
        }

        // The largest aligned part: every aligned block that lies in the range, and no more.
        let align = 1_u64 << align_bit;
        let blocks = (0..12).filter(|page| {
            let block = page * PAGE_SIZE / align * align;
            left.start() <= block && block + align <= left.end()
        });
        prop_assert_eq!(pages(left.largest_aligned(align)), blocks.collect::<BTreeSet<u64>>());
    }

    #[test]
    fn pieces_are_aligned_whole_and_few(start in 0..HUGE_1G / PAGE_SIZE * 3, len in 0..0x90000_u64) {
        let whole = MemoryRange::from_page_numbers(start..start + len).unwrap();
        let pieces: Vec<MemoryRange> = whole.aligned_pieces().collect();
        let mut at = whole.start();
        for piece in &pieces {
            prop_assert_eq!(piece.start(), at);
            prop_assert!([PAGE_SIZE, HUGE_2M, HUGE_1G].contains(&piece.len()));
            prop_assert!(piece.start().is_multiple_of(piece.len()));
            at = piece.end();
        }
        prop_assert_eq!(at, whole.end());
        // The fewest: no larger page would fit where smaller ones are.
        for (size, larger) in [(PAGE_SIZE, HUGE_2M), (HUGE_2M, HUGE_1G)] {
            let fits = whole.largest_aligned(larger);
            prop_assert!(!pieces.iter().any(|piece| piece.len() == size && fits.contains(piece)));
        }
    }
}
