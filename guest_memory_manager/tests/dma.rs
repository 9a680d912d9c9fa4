//! DMA targets: what they are told, and what happens when they refuse.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "dma/recorder.rs"]
mod recorder;
mod support;

use guest_memory_manager::{
    AttachDmaError, DetachError, DeviceMemoryControl, DeviceMemoryWindow, DmaOptions, Fill,
    GuestMemoryBuilder, GuestMemoryManager, MemoryKind, MemoryLayout, RamVisibility, Vtl,
    WindowOptions,
};
use memory_range::{MemoryRange, PAGE_SIZE};
use recorder::{Call, Record, Refused};
use std::sync::Arc;
use support::{cause, memory_of, numbered, pages, range};

const GAP: MemoryRange = MemoryRange::new(0x10_0000..0x12_0000);
const VTL2_RAM: MemoryRange = MemoryRange::new(0x14_0000..0x14_4000);
const SEGMENT: MemoryRange = MemoryRange::new(0xc_4000..0xc_8000);

/// A PC with RAM around a gap, and RAM of VTL2's.
fn pc() -> GuestMemoryManager {
    let layout = MemoryLayout::new(0x12_0000, &[GAP], Some(VTL2_RAM)).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    builder.build_now(&layout).unwrap()
}

fn window(manager: &GuestMemoryManager) -> (DeviceMemoryControl, DeviceMemoryWindow) {
    let file = numbered("bar", 4, 0x100);
    let mapper = manager.device_memory_mapper();
    let (control, window) = mapper.new_region(4 * PAGE_SIZE, "bar".into()).unwrap();
    window.map(0, &file, 0, 4 * PAGE_SIZE, true).unwrap();
    (control, window)
}

fn set(manager: &GuestMemoryManager, visibility: RamVisibility) {
    let control = manager.ram_visibility_control();
    control
        .set_ram_visibility_now(SEGMENT, visibility)
        .unwrap()
        .wait();
}

fn maps(calls: &[Call]) -> Vec<MemoryRange> {
    let maps = calls.iter().filter_map(|call| match call {
        Call::Map(range, _) => Some(*range),
        _ => None,
    });
    maps.collect()
}

#[test]
fn ram_is_given_with_its_file_and_follows_every_flip() {
    let manager = pc();
    let record = Record::default();
    manager
        .attach_dma_target(record.target(), DmaOptions::new())
        .unwrap();
    // Every region of RAM but VTL2's, each at its offset in the one memfd.
    let held = record.held();
    let regions: Vec<MemoryRange> = manager.ram_visibility_control().regions().collect();
    assert_eq!(held.len(), regions.len() - 1);
    let mut offset = 0;
    for ((gpa, file, at, writable), region) in held.iter().zip(&regions) {
        assert_eq!((gpa, file.as_str(), *at), (region, "guest-ram", offset));
        assert!(writable);
        offset += region.len();
    }
    assert_eq!(record.take_calls().last(), Some(&Call::Finish));
    // Host addresses and file are the same memory as the guest's.
    memory_of(&manager)
        .write_plain(SEGMENT.start() + 0x1000, &0xabcd_u32)
        .unwrap();
    assert_eq!(record.word(SEGMENT.start() + 0x1000), Some(0xabcd));
    let mapping = record.state().held[&SEGMENT.start()].clone();
    let mut word = [0; 4];
    let file = std::fs::File::from(mapping.fd().try_clone_to_owned().unwrap());
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut word, mapping.offset() + 0x1000).unwrap();
    assert_eq!(u32::from_le_bytes(word), 0xabcd);

    let ram = MemoryKind::Ram;
    let writable_at_segment = || {
        let held = record.held();
        let found = held.into_iter().find(|(gpa, ..)| *gpa == SEGMENT);
        found.map(|(.., writable)| writable)
    };
    set(&manager, RamVisibility::ReadOnly);
    let both = [
        Call::Unmap(SEGMENT, ram),
        Call::Map(SEGMENT, ram),
        Call::Finish,
    ];
    assert_eq!(record.take_calls(), both);
    assert_eq!(writable_at_segment(), Some(false));
    set(&manager, RamVisibility::Unmapped);
    assert_eq!(record.take_calls(), [both[0], Call::Finish]);
    assert_eq!(writable_at_segment(), None);
    set(&manager, RamVisibility::ReadWrite);
    assert_eq!(record.take_calls(), both[1..]);
    assert_eq!(writable_at_segment(), Some(true));
    set(&manager, RamVisibility::ReadWrite);
    assert_eq!(record.take_calls(), [], "no change");
    assert_eq!(record.state().checks, 4, "three changes, and attaching");
}

#[test]
fn device_memory_is_given_if_it_is_asked_for() {
    let manager = pc();
    let (ram_only, all) = (Record::default(), Record::default());
    let options = DmaOptions::new().include_device_memory();
    manager
        .attach_dma_target(ram_only.target(), DmaOptions::new())
        .unwrap();
    manager.attach_dma_target(all.target(), options).unwrap();
    let (mut control, window) = window(&manager);
    all.take_calls();
    let checks = ram_only.state().checks;

    control.map_to_guest(0x10_0000, true).unwrap();
    let bar = range(0x10_0000, 0x10_4000);
    let device = MemoryKind::Device;
    assert_eq!(all.take_calls(), [Call::Map(bar, device), Call::Finish]);
    assert_eq!(all.word(0x10_2000), Some(0x102));
    // Other contents are mapped anew, though no slot changes.
    let other = numbered("other", 1, 0x200);
    window.map(0x1000, &other, 0, 0x1000, true).unwrap();
    let pieces = [
        pages(0x100, 0x101),
        pages(0x101, 0x102),
        pages(0x102, 0x104),
    ];
    assert_eq!(
        all.take_calls(),
        [
            Call::Unmap(bar, device),
            Call::Map(pieces[0], device),
            Call::Map(pieces[1], device),
            Call::Map(pieces[2], device),
            Call::Finish
        ]
    );
    assert_eq!(all.word(0x10_1000), Some(0x200));
    assert_eq!(all.word(0x10_2000), Some(0x102));
    // Who sees RAM only hears nothing of it.
    let calls = ram_only.take_calls();
    assert_eq!(maps(&calls).len(), 16);
    assert_eq!(calls.len(), 17, "and the end of being attached");
    assert_eq!(ram_only.state().checks, checks);
}

#[test]
fn the_fill_of_a_window_is_not_for_dma() {
    let manager = pc();
    let record = Record::default();
    let options = DmaOptions::new().include_device_memory();
    manager.attach_dma_target(record.target(), options).unwrap();
    let options = WindowOptions::new().one_slot(Fill::Ones);
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper
        .new_region_with(options, 0x8000, "dax".into())
        .unwrap();
    record.take_calls();
    control.map_to_guest(0x10_0000, true).unwrap();
    assert_eq!(maps(&record.take_calls()), []);
    let file = numbered("file", 2, 0x100);
    window.map(0x2000, &file, 0, 0x2000, true).unwrap();
    let calls = record.take_calls();
    assert_eq!(maps(&calls), [pages(0x102, 0x104)]);
    assert_eq!(record.word(0x10_3000), Some(0x101));
    window.unmap(0x2000, 0x2000).unwrap();
    assert_eq!(record.word(0x10_3000), None);
}

#[test]
fn a_target_sees_a_part_elsewhere() {
    let manager = pc();
    let record = Record::default();
    // From the middle of one region to the middle of the next, and a page.
    let only = [range(0xc_6000, 0xc_9000), range(0x1000, 0x2000)];
    let options = DmaOptions::new().only(only).offset(0x10_0000_0000);
    manager.attach_dma_target(record.target(), options).unwrap();
    let gpas: Vec<MemoryRange> = record.held().iter().map(|(gpa, ..)| *gpa).collect();
    let at = |start: u64, end: u64| range(0x10_0000_0000 + start, 0x10_0000_0000 + end);
    assert_eq!(
        gpas,
        [
            at(0x1000, 0x2000),
            at(0xc_6000, 0xc_8000),
            at(0xc_8000, 0xc_9000)
        ]
    );
    assert_eq!(record.held()[1].2, 0xc_6000, "the offset is of the part");
    memory_of(&manager)
        .write_plain(0xc_7000, &0x77_u32)
        .unwrap();
    assert_eq!(record.word(0x10_000c_7000), Some(0x77));
    record.take_calls();
    set(&manager, RamVisibility::Unmapped);
    assert_eq!(
        record.take_calls(),
        [Call::Unmap(gpas[1], MemoryKind::Ram), Call::Finish]
    );

    let offset = 0x800;
    let error = manager.attach_dma_target(record.target(), DmaOptions::new().offset(offset));
    assert!(matches!(
        error,
        Err(AttachDmaError::UnalignedOffset { offset: 0x800 })
    ));
    let before = record.held();
    let too_far = DmaOptions::new().offset(!0xfff);
    let error = manager.attach_dma_target(record.target(), too_far);
    assert!(matches!(error, Err(AttachDmaError::Replay(_))));
    assert_eq!(record.held(), before);
}

#[test]
fn nobody_but_vtl2_reaches_its_ram() {
    let manager = pc();
    let everything = [range(0, VTL2_RAM.end())];
    for (vtl, reaches) in [(Vtl::Vtl0, false), (Vtl::Vtl1, false), (Vtl::Vtl2, true)] {
        let record = Record::default();
        let options = DmaOptions::new().vtl(vtl).only(everything);
        manager.attach_dma_target(record.target(), options).unwrap();
        let found = record
            .held()
            .iter()
            .any(|(gpa, ..)| gpa.overlaps(&VTL2_RAM));
        assert_eq!(found, reaches, "{vtl}");
    }
}

/// The flip needs an unmapping and a mapping, in that order: refused either way, nothing has
/// changed, for anybody.
#[test]
fn ram_that_is_refused_undoes_the_change() {
    let manager = pc();
    let (before, refusing, after) = (Record::default(), Record::default(), Record::default());
    for record in [&before, &refusing, &after] {
        manager
            .attach_dma_target(record.target(), DmaOptions::new())
            .unwrap();
    }
    let held = refusing.held();
    for maps in [false, true] {
        refusing.refuse(move |call| match call {
            Call::Map(..) => maps,
            Call::Unmap(..) => !maps,
            Call::Finish => false,
        });
        // Undoing an unmapping is a mapping.
        let mut first = true;
        if maps {
            refusing
                .refuse(move |call| matches!(call, Call::Map(..)) && std::mem::take(&mut first));
        }
        let control = manager.ram_visibility_control();
        let error = control
            .set_ram_visibility_now(SEGMENT, RamVisibility::ReadOnly)
            .unwrap_err();
        assert!(cause::<Refused>(&error).is_some(), "{error}");
        refusing.refuse_nothing();
        for record in [&before, &refusing, &after] {
            assert_eq!(record.held(), held);
            record.take_calls();
        }
        assert_eq!(
            control.ram_visibility(SEGMENT).unwrap(),
            RamVisibility::ReadWrite
        );
        assert_eq!(manager.damaged(), Some(Vec::new()));
        assert_eq!(manager.dma_failures(), Some(Vec::new()));
        memory_of(&manager)
            .write_plain(SEGMENT.start(), &1_u8)
            .unwrap();
    }
    set(&manager, RamVisibility::ReadOnly);
    assert_eq!(refusing.held(), before.held());
}

#[test]
fn device_memory_that_is_refused_is_left_out_and_told() {
    let manager = pc();
    let record = Record::default();
    let options = DmaOptions::new().include_device_memory();
    manager.attach_dma_target(record.target(), options).unwrap();
    let (mut control, _window) = window(&manager);
    let held = record.held();
    let bar = range(0x10_0000, 0x10_4000);
    record.refuse(|call| matches!(call, Call::Map(_, MemoryKind::Device)));
    control.map_to_guest(0x10_0000, true).unwrap();
    assert_eq!(record.held(), held);
    let failures = manager.dma_failures().unwrap();
    let [failure] = failures.as_slice() else {
        panic!("{failures:?}");
    };
    assert_eq!(failure.target, "recorder");
    assert_eq!(failure.range, Some(bar));
    assert_eq!(
        failure.to_string(),
        "recorder lacks 0x100000-0x104000: told to refuse"
    );
    let tree = inspect::inspect(&manager).to_string();
    assert!(tree.contains("told to refuse"), "{tree}");
    // The guest has it all the same.
    assert_eq!(
        memory_of(&manager).read_plain::<u32>(0x10_1000).unwrap(),
        0x101
    );
    // It moves: what the target lacks is not taken from it.
    record.refuse_nothing();
    control.map_to_guest(0x11_0000, true).unwrap();
    let moved = range(0x11_0000, 0x11_4000);
    assert_eq!(
        record.take_calls(),
        [Call::Map(moved, MemoryKind::Device), Call::Finish]
    );
    assert_eq!(manager.dma_failures(), Some(Vec::new()));
}

/// A mapping that the filter cuts in three is given whole or not at all.
#[test]
fn a_part_of_a_mapping_that_is_refused_takes_the_others_with_it() {
    let manager = pc();
    let record = Record::default();
    let start = SEGMENT.start();
    let parts = [0, 0x1000, 0x3000].map(|at| range(start + at, start + at + 0x800 * 2));
    let only = [parts[0], parts[2]];
    let options = DmaOptions::new().only(only);
    manager.attach_dma_target(record.target(), options).unwrap();
    let held = record.held();
    assert_eq!(held.len(), 2);
    set(&manager, RamVisibility::Unmapped);
    assert_eq!(record.held(), []);
    record.refuse(move |call| *call == Call::Map(parts[2], MemoryKind::Ram));
    let control = manager.ram_visibility_control();
    control
        .set_ram_visibility_now(SEGMENT, RamVisibility::ReadWrite)
        .unwrap_err();
    assert_eq!(record.held(), []);
    record.refuse_nothing();
    set(&manager, RamVisibility::ReadWrite);
    assert_eq!(record.held(), held);
    // And is taken whole or not at all: the last goes first.
    record.refuse(move |call| *call == Call::Unmap(parts[0], MemoryKind::Ram));
    control
        .set_ram_visibility_now(SEGMENT, RamVisibility::Unmapped)
        .unwrap_err();
    assert_eq!(record.held(), held);
    assert_eq!(manager.damaged(), Some(Vec::new()));
}

#[test]
fn attaching_is_all_or_nothing() {
    let manager = pc();
    let record = Record::default();
    for nth in 0..16 {
        let mut left = nth;
        record.refuse(move |call| {
            let refused = matches!(call, Call::Map(..)) && left == 0;
            left -= i32::from(matches!(call, Call::Map(..)));
            refused
        });
        let error = manager.attach_dma_target(record.target(), DmaOptions::new());
        assert!(cause::<Refused>(&error.unwrap_err()).is_some());
        assert_eq!(record.held(), [], "refused the {nth}th");
    }
    record.refuse_nothing();
    let id = manager
        .attach_dma_target(record.target(), DmaOptions::new())
        .unwrap();
    assert_eq!(record.held().len(), 16);
    manager.detach_dma_target(id).unwrap();
    assert_eq!(record.held(), []);
    assert_eq!(record.take_calls().last(), Some(&Call::Finish));
    let again = manager.detach_dma_target(id).unwrap_err();
    assert!(matches!(again, DetachError::Unknown { .. }));
    set(&manager, RamVisibility::ReadOnly);
    assert_eq!(record.take_calls(), [], "gone");
}

/// The target keeps one mapping: nothing else ever stands at its addresses.
#[test]
fn what_a_target_keeps_is_never_used_for_anything_else() {
    let manager = pc();
    let record = Record::default();
    let id = manager
        .attach_dma_target(record.target(), DmaOptions::new())
        .unwrap();
    record.refuse(|call| matches!(call, Call::Unmap(range, _) if *range == SEGMENT));
    let error = manager.detach_dma_target(id).unwrap_err();
    assert!(cause::<Refused>(&error).is_some(), "{error}");
    let held = record.held();
    assert_eq!(held.len(), 1);
    let memory = memory_of(&manager);
    memory.write_plain(SEGMENT.start(), &0x55_u32).unwrap();
    // Only a weak share, so that it is not this test that keeps the addresses.
    let mapping = record.state().held.remove(&SEGMENT.start()).unwrap();
    let region = Arc::downgrade(mapping.host().region());
    drop((mapping, memory, manager));
    assert!(region.upgrade().is_some(), "leaked, as it must be");
}

#[test]
fn dropping_the_manager_takes_everything_from_its_targets() {
    let manager = pc();
    let record = Record::default();
    manager
        .attach_dma_target(record.target(), DmaOptions::new())
        .unwrap();
    let (control, window) = window(&manager);
    drop(manager);
    assert_eq!(record.held(), []);
    drop((control, window));
}

#[test]
fn a_target_that_cannot_finish_is_told_again() {
    let manager = pc();
    let record = Record::default();
    manager
        .attach_dma_target(record.target(), DmaOptions::new())
        .unwrap();
    record.refuse(|call| *call == Call::Finish);
    set(&manager, RamVisibility::ReadOnly);
    let failures = manager.dma_failures().unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        failures[0].to_string(),
        "recorder has not finished a change: told to refuse"
    );
    record.refuse_nothing();
    set(&manager, RamVisibility::ReadWrite);
    assert_eq!(manager.dma_failures(), Some(Vec::new()));
}

#[test]
fn a_change_from_inside_a_target_is_refused() {
    let manager = Arc::new(pc());
    let record = Record::default();
    manager
        .attach_dma_target(record.target(), DmaOptions::new())
        .unwrap();
    let inner = manager.clone();
    let refused = Arc::new(std::sync::Mutex::new(Vec::new()));
    let results = refused.clone();
    record.refuse(move |_| {
        let error = inner.transaction().unwrap_err().to_string();
        results.lock().unwrap().push(error);
        results
            .lock()
            .unwrap()
            .push(format!("{:?}", inner.dma_failures()));
        false
    });
    set(&manager, RamVisibility::ReadOnly);
    record.refuse_nothing();
    let refused = refused.lock().unwrap();
    assert_eq!(refused.len(), 6, "of an unmapping, a mapping and the end");
    for pair in refused.chunks(2) {
        assert!(pair[0].contains("inside another"), "{pair:?}");
        assert_eq!(pair[1], "None");
    }
}

#[test]
fn a_target_that_cannot_finish_being_attached_is_not_attached() {
    let manager = pc();
    let record = Record::default();
    record.refuse(|call| *call == Call::Finish);
    let error = manager
        .attach_dma_target(record.target(), DmaOptions::new())
        .unwrap_err();
    assert!(cause::<Refused>(&error).is_some(), "{error}");
    assert_eq!(record.held(), []);
    assert_eq!(manager.dma_failures(), Some(Vec::new()));
}
