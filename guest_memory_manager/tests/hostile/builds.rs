//! Layouts and options that cannot be.

use crate::support::{chain, memory_of, range};
use crate::{GAP, TOP};
use guest_memory_manager::{
    BuildError, GuestMemoryBuilder, GuestMemoryManager, LayoutError, MemoryLayout, RamVisibility,
};
use memory_range::{MemoryRange, PAGE_SIZE};

fn layout(ram: u64, gaps: &[MemoryRange]) -> MemoryLayout {
    MemoryLayout::new(ram, gaps, None).unwrap()
}

#[track_caller]
fn refused(builder: GuestMemoryBuilder, layout: &MemoryLayout) -> BuildError {
    match builder.build_now(layout) {
        Ok(_) => panic!("{layout:?} was built"),
        Err(error) => error,
    }
}

#[test]
fn layouts_that_overlap_or_wrap_are_refused() {
    let last = range(TOP - PAGE_SIZE, TOP);
    assert!(matches!(
        MemoryLayout::new(PAGE_SIZE, &[last, last], None),
        Err(LayoutError::GapsOverlap { .. })
    ));
    assert!(matches!(
        MemoryLayout::new(PAGE_SIZE, &[last], Some(last)),
        Err(LayoutError::Vtl2Overlaps { .. })
    ));
    // All that is left above the gap is less than this.
    assert!(matches!(
        MemoryLayout::new(2 * PAGE_SIZE, &[range(PAGE_SIZE, TOP)], None),
        Err(LayoutError::TooLarge { .. })
    ));
    for size in [1, PAGE_SIZE - 1, u64::MAX] {
        assert!(matches!(
            MemoryLayout::new(size, &[], None),
            Err(LayoutError::Unaligned { .. })
        ));
    }
}

/// More address space than any process has is an error that says how much it would be.
#[test]
fn ram_too_large_for_the_host_is_refused() {
    for ram in [1 << 47, 1 << 52, 1 << 62, TOP] {
        for legacy in [false, true] {
            let builder = GuestMemoryBuilder::new().x86_legacy_support(legacy);
            let error = refused(builder, &layout(ram, &[]));
            match error {
                BuildError::AddressSpace { len, .. } => assert_eq!(len, ram),
                other => panic!("{}", chain(&other)),
            }
        }
    }
    // Little RAM, but a gap that nobody can reserve.
    let gap = range(TOP - PAGE_SIZE, TOP);
    let error = refused(GuestMemoryBuilder::new(), &layout(PAGE_SIZE, &[gap]));
    assert!(matches!(error, BuildError::AddressSpace { len: TOP, .. }));
}

#[test]
fn legacy_regions_need_a_mebibyte_of_ram_at_zero() {
    let hole = |start| range(start, start + PAGE_SIZE);
    let layouts = [
        layout(0xf_f000, &[]),
        layout(0xf_f000, &[hole(0x10_0000)]),
        layout(2 << 20, &[hole(0)]),
        layout(2 << 20, &[hole(0xa_0000)]),
        layout(2 << 20, &[hole(0xf_f000)]),
    ];
    for layout in layouts {
        let builder = GuestMemoryBuilder::new();
        let error = refused(builder.clone().x86_legacy_support(true), &layout);
        assert!(matches!(error, BuildError::NoLegacyRam { .. }), "{error}");
        drop(builder.build_now(&layout).unwrap());
    }
}

#[test]
fn exactly_a_mebibyte_of_legacy_ram_works() {
    for gaps in [&[][..], &[GAP]] {
        let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
        let manager = builder.build_now(&layout(0x10_0000, gaps)).unwrap();
        let control = manager.ram_visibility_control();
        let regions: Vec<MemoryRange> = control.regions().collect();
        assert_eq!(regions.len(), 15);
        assert!(regions.iter().all(|region| !region.is_empty()));
        let bios = range(0xf_0000, 0x10_0000);
        assert_eq!(regions.last(), Some(&bios));
        memory_of(&manager).write_plain(0xf_fffc, &7_u32).unwrap();
        control
            .set_ram_visibility_now(bios, RamVisibility::ReadOnly)
            .unwrap()
            .wait();
        assert!(memory_of(&manager).write_plain(0xf_fffc, &8_u32).is_err());
    }
}

#[test]
fn an_alias_map_must_lie_above_everything() {
    let gap = range(0x20_0000, 0x30_0000);
    let end = gap.end();
    let layout = layout(2 << 20, &[gap]);
    let build = |alias: u64| {
        GuestMemoryBuilder::new()
            .vtl0_alias_map(Some(alias))
            .build_now(&layout)
    };
    for alias in [0, PAGE_SIZE, 2 << 20, end - PAGE_SIZE] {
        assert!(matches!(
            build(alias),
            Err(BuildError::AliasBelowEnd { alias: told, end: 0x30_0000 }) if told == alias
        ));
    }
    for alias in [1, end + 1, u64::MAX] {
        assert!(matches!(
            build(alias),
            Err(BuildError::AliasUnaligned { alias: told }) if told == alias
        ));
    }
    for alias in [TOP, TOP - PAGE_SIZE, TOP - end + PAGE_SIZE] {
        assert!(matches!(
            build(alias),
            Err(BuildError::AliasTooHigh { alias: told, len: 0x30_0000 }) if told == alias
        ));
    }
    for alias in [end, TOP - end] {
        drop(build(alias).unwrap());
    }
}

#[test]
fn a_backing_that_does_not_fit_is_refused() {
    let ram = 16 * PAGE_SIZE;
    let vtl2 = |len: u64| Some(range(0x10_0000, 0x10_0000 + len));
    let new = |ram, gaps: &[MemoryRange], vtl2| MemoryLayout::new(ram, gaps, vtl2).unwrap();
    let build = |layout: &MemoryLayout| -> GuestMemoryManager {
        GuestMemoryBuilder::new().build_now(layout).unwrap()
    };
    let (plain, both) = (new(ram, &[], None), new(ram, &[], vtl2(PAGE_SIZE)));
    let cases = [
        // RAM of another size, either way.
        (&plain, new(ram + PAGE_SIZE, &[], None)),
        (&plain, new(ram - PAGE_SIZE, &[], None)),
        // VTL2's RAM that is not there, and that nobody asks for.
        (&plain, both.clone()),
        (&both, plain.clone()),
        // VTL2's RAM of another size, either way; and the two exchanged.
        (&both, new(ram, &[], vtl2(2 * PAGE_SIZE))),
        (&both, new(PAGE_SIZE, &[], vtl2(ram))),
    ];
    for (from, to) in cases {
        let first = build(from);
        memory_of(&first).write_plain(0, &5_u8).unwrap();
        let backing = first.shared_memory_backing();
        let builder = GuestMemoryBuilder::new().existing_backing(Some(backing));
        match refused(builder, &to) {
            BuildError::BackingDoesNotFit { have, need } => assert_ne!(have, need),
            other => panic!("{}", chain(&other)),
        }
        assert_eq!(memory_of(&first).read_plain::<u8>(0).unwrap(), 5);
    }
    // RAM around another gap is the same RAM.
    let first = build(&plain);
    memory_of(&first).write_plain(8 * PAGE_SIZE, &9_u8).unwrap();
    let moved = new(ram, &[range(8 * PAGE_SIZE, 9 * PAGE_SIZE)], None);
    let builder = GuestMemoryBuilder::new().existing_backing(Some(first.shared_memory_backing()));
    let second = builder.build_now(&moved).unwrap();
    assert_eq!(
        memory_of(&second).read_plain::<u8>(9 * PAGE_SIZE).unwrap(),
        9
    );
}
