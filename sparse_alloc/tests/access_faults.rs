//! Every access, at every byte offset of a page border, in both directions.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod access_support;

use std::cmp::Ordering;

use access_support::{PAGE, Pages};
use sparse_alloc::access::{self, CopyFault, Fault, FaultKind, Word};

/// Four pages with a recognisable pattern, of which the third is taken away. `BORDER` is where it
/// begins.
const BORDER: usize = 2 * PAGE;
const END: usize = 3 * PAGE;

/// Lengths around every change of method.
const LENGTHS: [usize; 34] = [
    1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 160,
    191, 192, 193, 255, 256, 257, 320, 511, 513,
];

fn pattern(offset: usize) -> u8 {
    (offset * 7 + offset / 256 * 13 + 1) as u8
}

fn patterned_pages() -> Pages {
    access::install().unwrap();
    let pages = Pages::new(4);
    pages.put(0, &(0..4 * PAGE).map(pattern).collect::<Vec<_>>());
    pages
}

/// The address of the first byte of `offset..offset + len` that lies in the third page.
fn first_bad(pages: &Pages, offset: usize, len: usize) -> Option<usize> {
    let start = offset.max(BORDER);
    (start < END && start < offset + len).then(|| pages.at(start).addr())
}

fn expected(pages: &Pages, offset: usize, len: usize) -> Result<(), CopyFault> {
    first_bad(pages, offset, len).map_or(Ok(()), |address| {
        Err(CopyFault {
            done: address - pages.at(offset).addr(),
            fault: Fault::new(address, FaultKind::Access),
        })
    })
}

/// Offsets around both borders of the third page, for an access of that length.
fn offsets(len: usize) -> impl Iterator<Item = usize> {
    (BORDER - len - 2..=BORDER + 2).chain(END - len - 2..=END + 2)
}

fn check_words<T: Word>(from_u64: impl Fn(u64) -> T) {
    let pages = patterned_pages();
    let len = size_of::<T>();
    let read = |offset: usize| {
        let mut bytes = [0; 8];
        (0..len).for_each(|i| bytes[i] = pattern(offset + i));
        from_u64(u64::from_le_bytes(bytes))
    };
    for offset in offsets(len) {
        let expected = first_bad(&pages, offset, len).map_or(Ok(()), |address| {
            Err(Fault::new(address, FaultKind::Access))
        });
        let word = pages.at(offset).cast::<T>();
        let value = expected.map(|()| read(offset));

        pages.forbid(2);
        // SAFETY: inside the pages, which are raw bytes.
        assert_eq!(unsafe { access::load(word) }, value, "{offset:#x}");
        // SAFETY: as above.
        let loaded = unsafe { access::load_at(pages.at(0), offset) };
        assert_eq!(loaded, value, "{offset:#x}");

        // Once with the page gone, once with it read-only.
        for _ in 0..2 {
            // SAFETY: as above.
            let stored = unsafe { access::store(word, read(offset)) };
            assert_eq!(stored, expected, "{offset:#x}");
            // SAFETY: as above.
            let stored = unsafe { access::store_at(pages.at(0), offset, read(offset)) };
            assert_eq!(stored, expected, "{offset:#x}");
            // A locked access that straddles lines is not something to try on every machine.
            if offset.is_multiple_of(len) {
                // SAFETY: as above.
                let same = unsafe { access::compare_exchange(word, read(offset), read(offset)) };
                assert_eq!(same, value.map(Ok), "{offset:#x}");
                let other = from_u64(!read(offset).into());
                // SAFETY: as above.
                let differs = unsafe { access::compare_exchange(word, other, other) };
                assert_eq!(differs, value.map(Err), "{offset:#x}");
                let base = pages.at(0);
                // SAFETY: as above.
                let same = unsafe {
                    access::compare_exchange_at(base, offset, read(offset), read(offset))
                };
                assert_eq!(same, value.map(Ok), "{offset:#x}");
                // SAFETY: as above.
                let before = unsafe { access::fetch_or(word, from_u64(0)) };
                assert_eq!(before, value, "{offset:#x}");
            }
            pages.make_read_only(2);
        }
        // SAFETY: as above.
        assert_eq!(unsafe { access::load(word) }, Ok(read(offset)));
        pages.allow(2);
        assert_eq!(
            pages.get(0, 4 * PAGE),
            (0..4 * PAGE).map(pattern).collect::<Vec<_>>()
        );
    }
}

#[test]
fn words_fault_at_every_offset() {
    check_words(|value| value as u8);
    check_words(|value| value as u16);
    check_words(|value| value as u32);
    check_words(|value| value);
}

#[test]
fn a_null_pointer_is_a_fault_like_any_other() {
    access::install().unwrap();
    // SAFETY: nothing can be mapped in the first page, so it belongs to no one.
    let loaded = unsafe { access::load(std::ptr::null::<u64>()) };
    assert_eq!(loaded, Err(Fault::new(0, FaultKind::Access)));
}

#[test]
fn copies_out_of_the_guest_are_exact() {
    let pages = patterned_pages();
    pages.forbid(2);
    for len in LENGTHS {
        for offset in offsets(len) {
            // The copy is misaligned on the host's side, too, in some of the cases.
            let skew = offset % 3;
            let mut host = vec![0xee; skew + len + 1];
            let dst = host[skew..].as_mut_ptr();
            // SAFETY: inside the pages; `host` has room for so many bytes behind the skew.
            let copied = unsafe { access::copy_from(dst, pages.at(offset), len) };
            let expected = expected(&pages, offset, len);
            assert_eq!(copied, expected, "{offset:#x} {len}");

            let done = expected.map_or_else(|fault| fault.done, |()| len);
            let mut model = vec![0xee; skew + len + 1];
            (0..done).for_each(|i| model[skew + i] = pattern(offset + i));
            assert_eq!(host, model, "{offset:#x} {len}");
        }
    }
}

#[test]
fn copies_into_the_guest_are_exact() {
    let pages = patterned_pages();
    let host = (0..1024).map(|i| (i % 251) as u8 | 1).collect::<Vec<_>>();
    let mut model = (0..4 * PAGE).map(pattern).collect::<Vec<_>>();
    for (round, len) in LENGTHS.into_iter().enumerate() {
        for offset in offsets(len) {
            let skew = (offset + round) % 64;
            if round % 2 == 0 {
                pages.make_read_only(2);
            } else {
                pages.forbid(2);
            }
            // SAFETY: inside the pages; `host` is long enough.
            let copied = unsafe { access::copy_to(pages.at(offset), host[skew..].as_ptr(), len) };
            let expected = expected(&pages, offset, len);
            assert_eq!(copied, expected, "{offset:#x} {len}");

            let done = expected.map_or_else(|fault| fault.done, |()| len);
            model[offset..offset + done].copy_from_slice(&host[skew..skew + done]);
            pages.allow(2);
            assert_eq!(pages.get(0, 4 * PAGE), model, "{offset:#x} {len}");
        }
    }
}

#[test]
fn fills_are_exact() {
    let pages = patterned_pages();
    let mut model = (0..4 * PAGE).map(pattern).collect::<Vec<_>>();
    for (round, len) in LENGTHS.into_iter().enumerate() {
        for offset in offsets(len) {
            let byte = (round * 31 + offset) as u8;
            pages.forbid(2);
            // SAFETY: inside the pages.
            let filled = unsafe { access::fill(pages.at(offset), byte, len) };
            let expected = expected(&pages, offset, len);
            assert_eq!(filled, expected, "{offset:#x} {len}");

            let done = expected.map_or_else(|fault| fault.done, |()| len);
            model[offset..offset + done].fill(byte);
            pages.allow(2);
            assert_eq!(pages.get(0, 4 * PAGE), model, "{offset:#x} {len}");
        }
    }
}

#[test]
fn comparisons_are_exact() {
    let pages = patterned_pages();
    pages.forbid(2);
    for len in LENGTHS {
        for offset in offsets(len) {
            let mut host = (offset..offset + len).map(pattern).collect::<Vec<_>>();
            // SAFETY: inside the pages; `host` has `len` bytes.
            let compared = unsafe { access::compare(pages.at(offset), host.as_ptr(), len) };
            let expected = expected(&pages, offset, len);
            assert_eq!(
                compared,
                expected.map(|()| Ordering::Equal),
                "{offset:#x} {len}"
            );

            // A difference decides if it lies before the fault, and counts for nothing behind.
            let done = expected.map_or_else(|fault| fault.done, |()| len);
            for at in [0, len / 2, len - 1] {
                let original = host[at];
                host[at] = original.wrapping_add(1);
                // SAFETY: as above.
                let compared = unsafe { access::compare(pages.at(offset), host.as_ptr(), len) };
                let decided = if at < done {
                    Ok(original.cmp(&host[at]))
                } else {
                    expected.map(|()| Ordering::Equal)
                };
                assert_eq!(compared, decided, "{offset:#x} {len} {at}");
                host[at] = original;
            }
        }
    }
}

#[test]
fn copies_inside_the_guest_are_exact_on_both_sides() {
    for len in LENGTHS {
        for guest_reads in [true, false] {
            let pages = patterned_pages();
            let other = patterned_pages();
            pages.forbid(2);
            for offset in offsets(len).step_by(3) {
                let expected = expected(&pages, offset, len);
                let done = expected.map_or_else(|fault| fault.done, |()| len);
                let copied = if guest_reads {
                    // SAFETY: inside the pages of both.
                    unsafe { access::copy_between(other.at(64), pages.at(offset), len) }
                } else {
                    // SAFETY: as above.
                    unsafe { access::copy_between(pages.at(offset), other.at(64), len) }
                };
                assert_eq!(copied, expected, "{offset:#x} {len}");
                if guest_reads {
                    let model = (offset..offset + done).map(pattern).collect::<Vec<_>>();
                    assert_eq!(other.get(64, done), model);
                    assert_eq!(
                        other.get(64 + len, 8),
                        (64 + len..72 + len).map(pattern).collect::<Vec<_>>()
                    );
                } else {
                    pages.allow(2);
                    assert_eq!(pages.get(offset, done), other.get(64, done));
                    pages.forbid(2);
                }
            }
        }
    }
}

#[test]
fn long_copies_stop_where_the_page_is_missing() {
    access::install().unwrap();
    const PAGES: usize = 64;
    let pages = Pages::new(PAGES);
    let mut host = vec![0x5a_u8; PAGES * PAGE];
    for missing in [0, 1, 17, PAGES - 1] {
        pages.forbid(missing);
        for start in [0, 1, 63, 4095] {
            let len = PAGES * PAGE - start;
            let bad = (missing * PAGE).max(start);
            let expected = (start < (missing + 1) * PAGE)
                .then(|| CopyFault {
                    done: bad - start,
                    fault: Fault::new(pages.at(bad).addr(), FaultKind::Access),
                })
                .map_or(Ok(()), Err);
            // SAFETY: inside the pages; `host` is as long as they are.
            let out = unsafe { access::copy_from(host.as_mut_ptr(), pages.at(start), len) };
            assert_eq!(out, expected, "{missing} {start}");
            // SAFETY: as above.
            let into = unsafe { access::copy_to(pages.at(start), host.as_ptr(), len) };
            assert_eq!(into, expected, "{missing} {start}");
            // SAFETY: as above.
            let filled = unsafe { access::fill(pages.at(start), 1, len) };
            assert_eq!(filled, expected, "{missing} {start}");
        }
        pages.allow(missing);
    }
}

#[test]
fn nothing_is_done_for_an_empty_range() {
    let pages = patterned_pages();
    pages.forbid(2);
    let bad = pages.at(BORDER);
    let mut host = [0_u8; 1];
    // SAFETY: no byte is touched.
    let result = unsafe { access::copy_from(host.as_mut_ptr(), bad, 0) };
    assert_eq!(result, Ok(()));
    // SAFETY: as above.
    assert_eq!(unsafe { access::copy_to(bad, host.as_ptr(), 0) }, Ok(()));
    // SAFETY: as above.
    assert_eq!(unsafe { access::copy_between(bad, bad, 0) }, Ok(()));
    // SAFETY: as above.
    assert_eq!(unsafe { access::fill(bad, 1, 0) }, Ok(()));
    // SAFETY: as above.
    let result = unsafe { access::compare(bad, host.as_ptr(), 0) };
    assert_eq!(result, Ok(Ordering::Equal));
}
