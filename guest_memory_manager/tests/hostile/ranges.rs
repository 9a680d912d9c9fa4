//! Addresses and lengths that cannot be.

use crate::support::{memory_of, numbered, range};
use crate::{GAP, TOP, account, pc};
use guest_memory_manager::{
    Cause, ChangeError, DeviceMemoryError, GuestAccess, RamVisibility, VisibilityError,
};
use memory_range::{MemoryRange, PAGE_SIZE};
use region_manager::EditError;
use std::fs::File;

#[test]
fn a_region_needs_a_positive_number_of_pages() {
    let (manager, _partition) = pc();
    let before = account(&manager);
    let mapper = manager.device_memory_mapper();
    for len in [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, u64::MAX] {
        let error = mapper.new_region(len, "region".into()).unwrap_err();
        assert!(matches!(
            error,
            ChangeError::Edit(EditError::BadLength { len: told, .. }) if told == len
        ));
    }
    assert_eq!(account(&manager), before);
}

#[test]
fn a_region_is_shown_inside_the_address_space_or_nowhere() {
    let (manager, partition) = pc();
    let end = manager.layout().end();
    let mapper = manager.device_memory_mapper();
    let file = numbered("file", 2, 1);
    for (len, shown_before) in [(2 * PAGE_SIZE, false), (2 * PAGE_SIZE, true), (TOP, false)] {
        let (mut control, window) = mapper.new_region(len, "region".into()).unwrap();
        window.map(0, &file, 0, 2 * PAGE_SIZE, true).unwrap();
        if shown_before {
            control.map_to_guest(GAP.start(), true).unwrap();
        }
        let (before, slots) = (account(&manager), partition.slots());
        for gpa in [
            end - PAGE_SIZE,
            end,
            TOP - len,
            TOP,
            TOP - PAGE_SIZE,
            1 << 63,
        ] {
            let error = control.map_to_guest(gpa, true).unwrap_err();
            assert!(
                matches!(
                    error,
                    ChangeError::Edit(EditError::OutsideAddressSpace { gpa: told, .. })
                        if told == gpa
                ),
                "{error}"
            );
        }
        for gpa in [1, GAP.start() + 1, u64::MAX] {
            let error = control.map_to_guest(gpa, true).unwrap_err();
            assert!(matches!(
                error,
                ChangeError::Edit(EditError::UnalignedGpa { gpa: told, .. }) if told == gpa
            ));
        }
        assert_eq!(control.gpa().unwrap(), shown_before.then_some(GAP.start()));
        assert_eq!((account(&manager), partition.slots()), (before, slots));
    }
}

#[test]
fn a_part_of_a_window_lies_in_it() {
    let (manager, partition) = pc();
    let mapper = manager.device_memory_mapper();
    let file = numbered("file", 8, 1);
    let len = 4 * PAGE_SIZE;
    let (mut control, window) = mapper.new_region(len, "region".into()).unwrap();
    window.map(0, &file, 0, 2 * PAGE_SIZE, true).unwrap();
    control.map_to_guest(GAP.start(), true).unwrap();
    let (before, slots) = (account(&manager), partition.slots());
    let unaligned_or_wrapping = [
        (1, PAGE_SIZE),
        (0, 1),
        (0, PAGE_SIZE - 1),
        (TOP, PAGE_SIZE),
        (PAGE_SIZE, TOP),
        (u64::MAX, u64::MAX),
    ];
    for (offset, part) in unaligned_or_wrapping {
        for error in [
            window.map(offset, &file, 0, part, true).unwrap_err(),
            window.unmap(offset, part).unwrap_err(),
        ] {
            assert!(
                matches!(error, DeviceMemoryError::BadRange { .. }),
                "{error}"
            );
        }
    }
    let outside = [
        (0, 0),
        (PAGE_SIZE, 0),
        (len, 0),
        (len, PAGE_SIZE),
        (0, len + PAGE_SIZE),
        (len - PAGE_SIZE, 2 * PAGE_SIZE),
        (TOP - PAGE_SIZE, PAGE_SIZE),
        (0, TOP),
    ];
    for (offset, part) in outside {
        // The longest is past the end of the file, too.
        for error in [
            window.map(offset, &file, 0, part, true).unwrap_err(),
            window.unmap(offset, part).unwrap_err(),
        ] {
            let outside_region = matches!(
                error,
                DeviceMemoryError::Change(ChangeError::Edit(EditError::OutsideRegion { .. }))
            );
            let past_file = matches!(error, DeviceMemoryError::PastEndOfFile { .. });
            assert!(outside_region || part == TOP && past_file, "{error}");
        }
    }
    assert_eq!((account(&manager), partition.slots()), (before, slots));
}

#[test]
fn a_part_of_a_file_lies_in_it() {
    let (manager, _partition) = pc();
    let file = numbered("file", 4, 1);
    let mapper = manager.device_memory_mapper();
    let (_control, window) = mapper.new_region(8 * PAGE_SIZE, "region".into()).unwrap();
    window.map(0, &file, 0, PAGE_SIZE, true).unwrap();
    let before = account(&manager);
    let past = [
        (4 * PAGE_SIZE, PAGE_SIZE),
        (3 * PAGE_SIZE, 2 * PAGE_SIZE),
        (0, 5 * PAGE_SIZE),
        (TOP, PAGE_SIZE),
        (u64::MAX, PAGE_SIZE),
        (1 << 63, PAGE_SIZE),
    ];
    for (file_offset, len) in past {
        let error = window.map(0, &file, file_offset, len, true).unwrap_err();
        assert!(
            matches!(
                error,
                DeviceMemoryError::PastEndOfFile { file_offset: told, file_len: 0x4000, .. }
                    if told == file_offset
            ),
            "{error}"
        );
    }
    // A device has no end: what counts is that its addresses do.
    let zeros = File::options()
        .read(true)
        .write(true)
        .open("/dev/zero")
        .unwrap();
    for (of_device, offset) in [(false, 1), (false, 0x800), (true, 1), (true, TOP)] {
        let mapped = match of_device {
            true => window.map(0, &zeros, offset, PAGE_SIZE, true),
            false => window.map(0, &file, offset, PAGE_SIZE, true),
        };
        let error = mapped.unwrap_err();
        assert!(
            matches!(
                error,
                DeviceMemoryError::Change(ChangeError::Edit(EditError::BadBackingOffset { .. }))
            ),
            "{error}"
        );
    }
    assert_eq!(account(&manager), before);
}

/// Windows over one another and under RAM are nobody's mistake.
#[test]
fn any_overlap_is_legal() {
    let (manager, partition) = pc();
    let file = numbered("file", 16, 1);
    let mapper = manager.device_memory_mapper();
    let places = [
        0,
        0xf_f000,
        GAP.start(),
        GAP.start() + PAGE_SIZE,
        GAP.end() - PAGE_SIZE,
    ];
    let windows: Vec<_> = places
        .iter()
        .chain(&places)
        .map(|gpa| {
            let (mut control, window) = mapper.new_region(0x4000, "region".into()).unwrap();
            window.map(0, &file, 0, 0x4000, true).unwrap();
            control.map_to_guest(*gpa, true).unwrap();
            (control, window)
        })
        .collect();
    assert_eq!(partition.broken_rules(), []);
    let word = memory_of(&manager).read_plain::<u32>(GAP.start() + 4 * PAGE_SIZE);
    assert_eq!(
        word,
        Ok(4),
        "the last page of the window that begins one page further"
    );
    drop(windows);
    assert_eq!(partition.broken_rules(), []);
}

#[test]
fn visibility_belongs_to_exactly_one_region() {
    let (manager, partition) = pc();
    let control = manager.ram_visibility_control();
    let before = (account(&manager), partition.slots());
    let high = range(GAP.end(), GAP.end() + 0x10_0000);
    let cases = [
        // A part of one, more than one, two, all of it.
        (range(0xc_0000, 0xc_1000), range(0xc_0000, 0xc_4000)),
        (range(0xc_1000, 0xc_4000), range(0xc_0000, 0xc_4000)),
        (range(0xe_c000, 0xf_1000), range(0xe_c000, 0xf_0000)),
        (range(0xc_4000, 0xc_c000), range(0xc_4000, 0xc_8000)),
        (range(0, 0x10_0000), range(0, 0xa_0000)),
        // Nothing, at either end.
        (MemoryRange::EMPTY, range(0, 0xa_0000)),
        (range(0xf_0000, 0xf_0000), range(0xf_0000, 0x10_0000)),
        (range(TOP, TOP), high),
        // No RAM at all.
        (GAP, range(0xf_0000, 0x10_0000)),
        (range(GAP.end() - PAGE_SIZE, GAP.end()), high),
        (range(1 << 62, (1 << 62) + PAGE_SIZE), high),
        (range(TOP - PAGE_SIZE, TOP), high),
        (range(0, TOP), range(0, 0xa_0000)),
    ];
    for (asked, expected) in cases {
        for visibility in [RamVisibility::Unmapped, RamVisibility::ReadWrite] {
            let error = control
                .set_ram_visibility_now(asked, visibility)
                .unwrap_err();
            match error {
                VisibilityError::InvalidRamRegion { range, nearest } => {
                    assert_eq!((range, nearest), (asked, expected));
                }
                other => panic!("{other}"),
            }
        }
        assert!(control.ram_visibility(asked).is_err());
    }
    assert_eq!((account(&manager), partition.slots()), before);
}

#[test]
fn accesses_end_where_the_address_space_ends() {
    let (manager, partition) = pc();
    let memory = memory_of(&manager);
    let end = manager.layout().end();
    let mut bytes = [0; 16];
    for gpa in [end - 8, end, end + 1, TOP, u64::MAX - 7, u64::MAX] {
        let errors = [
            memory.read_at(gpa, &mut bytes).unwrap_err(),
            memory.write_at(gpa, &bytes).unwrap_err(),
            memory.fill_at(gpa, 1, u64::MAX).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.cause(), Cause::OutOfRange { end });
            assert_eq!(error.done(), 0);
        }
    }
    // To a guest, what lies above is a hole.
    let load = partition.load(end - 8, &mut bytes).unwrap();
    assert!(matches!(load, GuestAccess::Mmio(exits) if exits.len() == 1));
    assert!(partition.load(u64::MAX - 7, &mut bytes).is_err());
}
