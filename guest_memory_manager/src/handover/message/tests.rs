//! The message as it is written, and whatever else could come.

use super::*;
use crate::layout::MemoryLayout;
use crate::ram;
use proptest::prelude::*;

fn place(gpa: u64, len: u64, memory: u32, offset: u64) -> Place {
    Place {
        gpa,
        len,
        memory,
        offset,
    }
}

fn described(lens: &[u64], places: &[Place]) -> Description {
    let memories = lens.iter().map(|len| Memory {
        len: *len,
        seals: 7,
    });
    Description {
        memories: memories.collect(),
        places: places.to_vec(),
    }
}

/// The two parts of a message.
fn split(message: &[u8]) -> ([u8; HEADER_LEN], &[u8]) {
    let (header, body) = message.split_at(HEADER_LEN);
    (header.try_into().unwrap(), body)
}

/// Whoever changes these bytes has to raise the version.
#[test]
fn version_one_looks_like_this() {
    let message = described(&[0x2000], &[place(0x1000, 0x2000, 0, 0)])
        .encode()
        .unwrap();
    let expected = [
        b'G', b'M', b'B', b'K', 1, 0, 1, 0, 11, 0, 0, 0, // the header
        1, 0x80, 0x40, 7, // one memory of 0x2000 bytes with seals 7
        1, 0x80, 0x20, 0x80, 0x40, 0, 0, // one place: 0x1000, 0x2000, memory 0, offset 0
    ];
    assert_eq!(message, expected);
}

#[test]
fn headers_are_judged_field_by_field() {
    let header = |magic: &[u8], version: u16, memories: u16, len: u32| {
        let mut bytes = magic.to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(memories.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        Header::decode(bytes.try_into().unwrap())
    };
    assert_eq!(
        header(b"GMBK", 1, 16, 0x1_0000).unwrap(),
        Header {
            memories: 16,
            body_len: 0x1_0000
        }
    );
    let foreign = header(b"GET ", 1, 1, 1).unwrap_err();
    assert!(matches!(foreign, ReceiveBackingError::Foreign { found } if &found == b"GET "));
    for version in [0, 2, u16::MAX] {
        // The rest of another version's header means nothing here.
        let error = header(b"GMBK", version, 0, u32::MAX).unwrap_err();
        assert!(
            matches!(error, ReceiveBackingError::Version { found, known: 1 } if found == version)
        );
    }
    for memories in [0, 17, u16::MAX] {
        let error = header(b"GMBK", 1, memories, 1).unwrap_err();
        assert!(
            matches!(error, ReceiveBackingError::Memories { .. }),
            "{error}"
        );
    }
    for len in [0x1_0001, u32::MAX] {
        let error = header(b"GMBK", 1, 1, len).unwrap_err();
        assert!(
            matches!(error, ReceiveBackingError::TooLong { .. }),
            "{error}"
        );
    }
}

#[test]
fn places_that_are_none_are_refused() {
    let top = 0xffff_ffff_ffff_f000;
    let two = [0x2000, 0x1000];
    let good = [
        place(0, 0x1000, 0, 0),
        place(0x4000, 0x1000, 0, 0x1000),
        place(0x1000, 0x1000, 1, 0),
    ];
    assert_eq!(described(&two, &good).checked_places().unwrap().len(), 3);
    let bad: &[(&str, &[Place])] = &[
        ("none", &[]),
        ("a memory that is not shown", &good[..2]),
        (
            "a memory that is not there",
            &[good[0], good[1], good[2], place(0x8000, 0x1000, 2, 0)],
        ),
        ("a part that is not shown", &[good[0], good[2]]),
        ("a memory out of order", &[good[2], good[0], good[1]]),
        (
            "a part shown twice",
            &[good[0], good[1], place(0x5000, 0x1000, 0, 0), good[2]],
        ),
        (
            "a gap in a memory",
            &[good[0], place(0x4000, 0x1000, 0, 0x2000), good[2]],
        ),
        (
            "addresses out of order",
            &[
                place(0x4000, 0x1000, 0, 0),
                place(0, 0x1000, 0, 0x1000),
                good[2],
            ],
        ),
        (
            "overlap in a memory",
            &[good[0], place(0, 0x1000, 0, 0x1000), good[2]],
        ),
        (
            "overlap of memories",
            &[good[0], good[1], place(0x4000, 0x1000, 1, 0)],
        ),
        (
            "an empty place",
            &[good[0], place(0x3000, 0, 0, 0x1000), good[1], good[2]],
        ),
        (
            "an unaligned place",
            &[
                place(0, 0xfff, 0, 0),
                place(0xfff, 0x1001, 0, 0xfff),
                good[2],
            ],
        ),
        ("past the end", &[place(0, 0x3000, 0, 0), good[2]]),
        ("wraps", &[place(top, 0x2000, 0, 0), good[2]]),
    ];
    for (what, places) in bad {
        assert_eq!(described(&two, places).checked_places(), None, "{what}");
    }
    // Sums that wrap to what they should be.
    let wrapping = [place(0, 1 << 63, 0, 0), place(1 << 63, 1 << 63, 0, 1 << 63)];
    assert_eq!(described(&[0], &wrapping).checked_places(), None);
}

#[test]
fn as_many_gaps_as_fit() {
    let gaps = |count: u64| -> Vec<MemoryRange> {
        let gap = |n| MemoryRange::try_from_len(n * 0x2000, 0x1000).unwrap();
        (0..count).map(gap).collect()
    };
    let encode = |count| {
        let layout = MemoryLayout::new(count * 0x1000, &gaps(count), None).unwrap();
        let places = ram::undivided(&layout);
        let memory = (layout.ram_size(), SealFlags::SHRINK);
        Description::new(std::iter::once(memory), &places).encode()
    };
    let message = encode(1000).unwrap();
    let (header, body) = split(&message);
    assert_eq!(Header::decode(header).unwrap().body_len, body.len());
    assert_eq!(Description::decode(body).unwrap().places.len(), 1000);
    let error = encode(20_000).unwrap_err();
    assert!(matches!(error, SendBackingError::TooLong { .. }), "{error}");
}

fn any_place() -> impl Strategy<Value = Place> {
    (any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>())
        .prop_map(|(gpa, len, memory, offset)| place(gpa, len, memory, offset))
}

fn any_description() -> impl Strategy<Value = Description> {
    let memory = (any::<u64>(), any::<u32>()).prop_map(|(len, seals)| Memory { len, seals });
    let memories = proptest::collection::vec(memory, 0..6);
    let places = proptest::collection::vec(any_place(), 0..40);
    (memories, places).prop_map(|(memories, places)| Description { memories, places })
}

/// Page by page: every page of every memory is shown once, no address twice, and in order.
fn shows_everything_once(description: &Description) -> bool {
    let mut shown = Vec::new();
    let mut addresses = std::collections::BTreeSet::new();
    for place in &description.places {
        let aligned = [place.gpa, place.len, place.offset]
            .iter()
            .all(|number| number % 0x1000 == 0);
        if !aligned || place.len == 0 {
            return false;
        }
        for at in (0..place.len).step_by(0x1000) {
            if !addresses.insert(place.gpa + at) {
                return false;
            }
            shown.push((place.memory, place.offset + at, place.gpa + at));
        }
    }
    let memories = (0_u32..).zip(&description.memories);
    let all: Vec<(u32, u64)> = memories
        .flat_map(|(index, memory)| (0..memory.len).step_by(0x1000).map(move |at| (index, at)))
        .collect();
    shown
        .iter()
        .map(|&(memory, offset, _)| (memory, offset))
        .eq(all)
        && shown.is_sorted_by_key(|&(memory, _, gpa)| (memory, gpa))
}

proptest! {
    #[test]
    fn what_is_written_is_read(description in any_description()) {
        let message = description.encode().unwrap();
        let (_, body) = split(&message);
        prop_assert_eq!(&Description::decode(body).unwrap(), &description);
        // Not a byte less, not a byte more.
        for len in 0..body.len() {
            prop_assert!(Description::decode(&body[..len]).is_err());
        }
        let mut longer = body.to_vec();
        longer.push(0);
        let is_told = matches!(
            Description::decode(&longer),
            Err(ReceiveBackingError::Trailing { len: 1 })
        );
        prop_assert!(is_told);
    }

    /// Also where it states more than could ever follow.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(description) = Description::decode(&bytes) {
            let _ = description.checked_places();
        }
    }

    /// Small numbers, so that many are right.
    #[test]
    fn places_are_judged_as_page_by_page(
        lens in proptest::collection::vec(0_u64..4, 1..3),
        places in proptest::collection::vec((0_u64..8, 0_u64..4, 0_u32..3, 0_u64..4), 0..5),
        tidy in any::<bool>(),
    ) {
        let pages = |number: u64| number * 0x1000;
        let lens: Vec<u64> = lens.into_iter().map(pages).collect();
        let mut places: Vec<Place> = places
            .into_iter()
            .map(|(gpa, len, memory, offset)| place(pages(gpa), pages(len), memory, pages(offset)))
            .collect();
        if tidy {
            // Else hardly any would be right.
            places.sort_unstable_by_key(|place| (place.memory, place.gpa));
            let mut ends = [0; 3];
            for place in &mut places {
                let end = &mut ends[place.memory as usize];
                place.offset = *end;
                *end += place.len;
            }
            let lens: Vec<u64> = ends.into_iter().take_while(|end| *end > 0).collect();
            let description = described(&lens, &places);
            let expected = shows_everything_once(&description);
            prop_assert_eq!(description.checked_places().is_some(), expected);
        }
        let description = described(&lens, &places);
        let expected = shows_everything_once(&description);
        prop_assert_eq!(description.checked_places().is_some(), expected);
    }
}
