//! Windows that stay one slot, whatever is mapped in them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{
    Cause, ChangeError, DeviceMemoryControl, DeviceMemoryError, DeviceMemoryWindow, Fill,
    GuestAccess, GuestMemoryBuilder, GuestMemoryManager, LeaseAccess, MemoryLayout, RamVisibility,
    SoftwarePartition, Vtl, WindowOptions,
};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use region_manager::EditError;
use std::sync::Arc;
use support::{counter, last_plan, memory_of, numbered, pages};

/// Of the gap, in pages.
const START: u64 = 0x100;
/// Of the window, in pages.
const LEN: u64 = 16;

fn pc() -> (GuestMemoryManager, Arc<SoftwarePartition>) {
    let gap = pages(START, START + 0x40);
    let layout = MemoryLayout::new(1 << 20, &[gap], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let manager = builder.build_now(&layout).unwrap();
    let partition = Arc::new(SoftwarePartition::new());
    manager
        .attach_partition_now(Vtl::Vtl0, partition.clone(), None)
        .unwrap();
    (manager, partition)
}

fn new_window(
    manager: &GuestMemoryManager,
    fill: Fill,
) -> (DeviceMemoryControl, DeviceMemoryWindow) {
    let options = WindowOptions::new().one_slot(fill);
    let mapper = manager.device_memory_mapper();
    mapper
        .new_region_with(options, LEN * PAGE_SIZE, "dax".into())
        .unwrap()
}

fn shown(manager: &GuestMemoryManager, fill: Fill) -> (DeviceMemoryControl, DeviceMemoryWindow) {
    let (mut control, window) = new_window(manager, fill);
    control.map_to_guest(START * PAGE_SIZE, true).unwrap();
    (control, window)
}

fn gpa(page: u64) -> u64 {
    (START + page) * PAGE_SIZE
}

/// What a guest and a device read at the start of each page of the window, which must agree.
fn words(manager: &GuestMemoryManager, guest: &SoftwarePartition) -> Vec<u32> {
    let memory = memory_of(manager);
    (0..LEN)
        .map(|page| {
            let mut word = [0x5a; 4];
            assert_eq!(guest.load(gpa(page), &mut word).unwrap(), GuestAccess::Done);
            let word = u32::from_le_bytes(word);
            assert_eq!(memory.read_plain::<u32>(gpa(page)).unwrap(), word);
            word
        })
        .collect()
}

/// The words of a fill with some others put in at some pages.
fn expected(fill: Fill, others: &[(u64, u32)]) -> Vec<u32> {
    let word = if fill == Fill::Ones { u32::MAX } else { 0 };
    let mut words = vec![word; LEN as usize];
    for (page, word) in others {
        words[*page as usize] = *word;
    }
    words
}

/// The slots in the gap, and whether they are writable.
fn window_slots(guest: &SoftwarePartition) -> Vec<(MemoryRange, bool)> {
    let slots = guest.slots().into_iter();
    let there = slots.filter(|slot| slot.gpa.start() >= gpa(0));
    there
        .map(|slot| (slot.gpa, slot.permissions.access == Access::ReadWrite))
        .collect()
}

#[test]
fn a_mapping_that_comes_or_goes_is_one_map_and_no_slot() {
    for fill in [Fill::Zeros, Fill::Ones] {
        let (manager, guest) = pc();
        let (_control, window) = shown(&manager, fill);
        let one_slot = [(pages(START, START + LEN), true)];
        assert_eq!(window_slots(&guest), one_slot);
        let file = numbered("file", 8, 0x100);
        let other = numbered("other", 8, 0x200);
        let ops = counter(&manager, "va_ops");
        let mut step = 0;
        let mut check = |what: &str, others: &[(u64, u32)]| {
            step += 1;
            let plan = last_plan(&manager);
            assert!(
                plan.iter()
                    .all(|line| line.starts_with("map ") || line.starts_with("contents")),
                "{what}: {plan:?}"
            );
            assert_eq!(counter(&manager, "va_ops"), ops + step, "{what}: {plan:?}");
            assert_eq!(window_slots(&guest), one_slot, "{what}");
            assert_eq!(words(&manager, &guest), expected(fill, others), "{what}");
        };
        window.map(0x2000, &file, 0, 0x4000, true).unwrap();
        let four = [(2, 0x100), (3, 0x101), (4, 0x102), (5, 0x103)];
        check("a slice", &four);
        window.map(0x4000, &other, 0x1000, 0x4000, false).unwrap();
        let over = [(4, 0x201), (5, 0x202), (6, 0x203), (7, 0x204)];
        check("over half of it, read-only", &[&four[..2], &over].concat());
        window.unmap(0x5000, 0x1000).unwrap();
        check(
            "a page out of its middle",
            &[&four[..2], &over[..1], &over[2..]].concat(),
        );
        window.unmap(0x3000, 0x2000).unwrap();
        check("across two", &[&four[..1], &over[2..]].concat());
        // Two pieces are left; where there was fill already, nothing is done.
        window.map(0x2000, &file, 0, 0x6000, true).unwrap();
        let six = [0, 1, 2, 3, 4, 5].map(|page| (2 + page, 0x100 + page as u32));
        check("over all of it", &six);
        window.unmap(0, LEN * PAGE_SIZE).unwrap();
        check("everything", &[]);
        window.map(0, &file, 0, 0x1000, true).unwrap();
        check("at the start", &[(0, 0x100)]);
        window.map(0xf000, &file, 0x7000, 0x1000, true).unwrap();
        check("at the end", &[(0, 0x100), (15, 0x107)]);
        assert_eq!(guest.broken_rules(), []);
    }
}

#[test]
fn nothing_happens_where_nothing_changes() {
    let (manager, guest) = pc();
    let (_control, window) = shown(&manager, Fill::Ones);
    window.unmap(0x3000, 0x2000).unwrap();
    assert_eq!(last_plan(&manager), Vec::<String>::new());
    assert_eq!(words(&manager, &guest), expected(Fill::Ones, &[]));
}

#[test]
fn it_moves_with_what_it_shows() {
    let (manager, guest) = pc();
    let (mut control, window) = new_window(&manager, Fill::Ones);
    let file = numbered("file", 2, 0x100);
    window.map(0x2000, &file, 0, 0x2000, true).unwrap();
    control.map_to_guest(gpa(0x20), true).unwrap();
    control.map_to_guest(gpa(0), true).unwrap();
    let shown = expected(Fill::Ones, &[(2, 0x100), (3, 0x101)]);
    assert_eq!(words(&manager, &guest), shown);
    assert_eq!(window_slots(&guest), [(pages(START, START + LEN), true)]);
    control.unmap_from_guest();
    assert_eq!(window_slots(&guest), []);
    let error = memory_of(&manager).read_plain::<u8>(gpa(0)).unwrap_err();
    assert_eq!(error.cause(), Cause::Hole { gpa: gpa(0) });
}

/// RAM hides a part of it; what it shows is still there when it shows again.
#[test]
fn ram_over_it_cuts_it() {
    let (manager, guest) = pc();
    let (mut control, window) = new_window(&manager, Fill::Zeros);
    let file = numbered("file", 16, 0x100);
    window.map(0, &file, 0, 16 * PAGE_SIZE, true).unwrap();
    let bios = MemoryRange::new(0xf_0000..0x10_0000);
    control.map_to_guest(bios.start(), true).unwrap();
    let visibility = manager.ram_visibility_control();
    let mut word = [0; 4];
    for (state, expected) in [
        (RamVisibility::Unmapped, 0x103),
        (RamVisibility::ReadWrite, 0),
        (RamVisibility::Unmapped, 0x103),
    ] {
        visibility
            .set_ram_visibility_now(bios, state)
            .unwrap()
            .wait();
        assert_eq!(guest.load(0xf_3000, &mut word).unwrap(), GuestAccess::Done);
        assert_eq!(u32::from_le_bytes(word), expected);
    }
}

#[test]
fn a_write_into_a_hole_is_seen_there_and_nowhere_else_until_something_is_mapped() {
    for fill in [Fill::Zeros, Fill::Ones] {
        let (manager, guest) = pc();
        let (_control, window) = shown(&manager, fill);
        let (mut other, _other) = new_window(&manager, fill);
        other.map_to_guest(gpa(LEN), true).unwrap();
        let file = numbered("file", 1, 0x100);

        let stored = guest.store(gpa(3), &0x77_u32.to_le_bytes()).unwrap();
        assert_eq!(stored, GuestAccess::Done);
        memory_of(&manager).write_plain(gpa(9), &0x99_u32).unwrap();
        assert_eq!(
            words(&manager, &guest),
            expected(fill, &[(3, 0x77), (9, 0x99)])
        );
        let elsewhere = memory_of(&manager).read_plain::<u32>(gpa(LEN + 3));
        assert_eq!(elsewhere.unwrap(), expected(fill, &[])[0]);
        // Something comes and goes at one of them: the other stays.
        window.map(0x3000, &file, 0, 0x1000, true).unwrap();
        window.unmap(0x3000, 0x1000).unwrap();
        assert_eq!(words(&manager, &guest), expected(fill, &[(9, 0x99)]));
        // The fill itself has not changed for anyone who comes later.
        let (mut later, _later) = new_window(&manager, fill);
        later.map_to_guest(gpa(2 * LEN), true).unwrap();
        for page in 0..LEN {
            let word = memory_of(&manager).read_plain::<u32>(gpa(2 * LEN + page));
            assert_eq!(word.unwrap(), expected(fill, &[])[0]);
        }
    }
}

#[test]
fn a_read_only_window_takes_no_writes() {
    for fill in [Fill::Zeros, Fill::Ones] {
        let (manager, guest) = pc();
        let (mut control, window) = new_window(&manager, fill);
        let file = numbered("file", 1, 0x100);
        window.map(0x3000, &file, 0, 0x1000, true).unwrap();
        control.map_to_guest(gpa(0), false).unwrap();
        assert_eq!(window_slots(&guest), [(pages(START, START + LEN), false)]);
        for page in [0, 3] {
            let error = memory_of(&manager).write_plain(gpa(page), &1_u8);
            assert_eq!(
                error.unwrap_err().cause(),
                Cause::ReadOnly { gpa: gpa(page) }
            );
            assert_ne!(guest.store(gpa(page), &[1]).unwrap(), GuestAccess::Done);
        }
        assert_eq!(words(&manager, &guest), expected(fill, &[(3, 0x100)]));
    }
}

/// The slot stays writable, the memory behind it is not.
#[test]
fn a_read_only_mapping_in_a_writable_window_takes_no_writes() {
    let (manager, guest) = pc();
    let (_control, window) = shown(&manager, Fill::Ones);
    let file = numbered("file", 2, 0x100);
    window.map(0x2000, &file, 0, 0x2000, false).unwrap();
    assert_eq!(window_slots(&guest), [(pages(START, START + LEN), true)]);
    let error = memory_of(&manager).write_plain(gpa(2), &1_u8).unwrap_err();
    assert_eq!(error.cause(), Cause::ReadOnly { gpa: gpa(2) });
    // What KVM does of this cannot be relied on; memory does not change.
    assert!(guest.store(gpa(2), &[1]).is_err());
    memory_of(&manager).write_plain(gpa(1), &0x11_u32).unwrap();
    assert_eq!(
        words(&manager, &guest),
        expected(Fill::Ones, &[(1, 0x11), (2, 0x100), (3, 0x101)])
    );
}

#[test]
fn holes_cannot_be_leased() {
    let (manager, _guest) = pc();
    let (_control, window) = shown(&manager, Fill::Ones);
    let file = numbered("file", 2, 0x100);
    window.map(0x2000, &file, 0, 0x2000, true).unwrap();
    let memory = memory_of(&manager);
    let lease = memory.lock(gpa(2)..gpa(4), LeaseAccess::Write).unwrap();
    for range in [gpa(1)..gpa(2), gpa(3)..gpa(5), gpa(0)..gpa(LEN)] {
        for access in [LeaseAccess::Read, LeaseAccess::Write] {
            assert!(memory.lock(range.clone(), access).is_err(), "{range:x?}");
        }
    }
    // What was leased stays, whatever comes in its place.
    window.unmap(0, LEN * PAGE_SIZE).unwrap();
    lease.write(0, &7_u32.to_le_bytes()).unwrap();
    window.map(0, &file, 0, 0x2000, true).unwrap();
    assert_eq!(memory.read_plain::<u32>(gpa(0)).unwrap(), 7);
}

#[test]
fn ranges_that_are_none_change_nothing() {
    let (manager, guest) = pc();
    let (_control, window) = shown(&manager, Fill::Ones);
    let file = numbered("file", 16, 0x100);
    window.map(0x2000, &file, 0, 0x1000, true).unwrap();
    let before = words(&manager, &guest);
    let len = LEN * PAGE_SIZE;
    let top = !(PAGE_SIZE - 1);
    for (offset, part) in [
        (0, 0),
        (len, 0),
        (len, PAGE_SIZE),
        (len - PAGE_SIZE, 2 * PAGE_SIZE),
        (0, len + PAGE_SIZE),
        (top - PAGE_SIZE, PAGE_SIZE),
    ] {
        for error in [
            window.map(offset, &file, 0, part, true).unwrap_err(),
            window.unmap(offset, part).unwrap_err(),
        ] {
            let outside = matches!(
                error,
                DeviceMemoryError::Change(ChangeError::Edit(EditError::OutsideRegion { .. }))
            );
            let past_file = matches!(error, DeviceMemoryError::PastEndOfFile { .. });
            assert!(
                outside || part > len && past_file,
                "{offset:#x} {part:#x}: {error}"
            );
        }
    }
    for (offset, part) in [(top, PAGE_SIZE), (PAGE_SIZE, top), (1, PAGE_SIZE), (0, 1)] {
        for error in [
            window.map(offset, &file, 0, part, true).unwrap_err(),
            window.unmap(offset, part).unwrap_err(),
        ] {
            assert!(
                matches!(error, DeviceMemoryError::BadRange { .. }),
                "{offset:#x} {part:#x}: {error}"
            );
        }
    }
    for len in [0, 1, PAGE_SIZE + 1] {
        let options = WindowOptions::new().one_slot(Fill::Zeros);
        let mapper = manager.device_memory_mapper();
        assert!(mapper.new_region_with(options, len, "none".into()).is_err());
    }
    assert_eq!(words(&manager, &guest), before);
}
