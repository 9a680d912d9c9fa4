//! Several regions of RAM switched in one step.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use guest_memory_manager::{
    GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, MemoryRange, RamVisibility,
    SoftwarePartition, VisibilityError, Vtl,
};
use std::sync::Arc;
use support::last_plan;

const SEGMENTS: u64 = 12;

fn segment(index: u64) -> MemoryRange {
    let start = 0xc_0000 + index * 0x4000;
    MemoryRange::new(start..start + 0x4000)
}

fn memory() -> (GuestMemoryManager, Arc<SoftwarePartition>) {
    let layout = MemoryLayout::new(2 << 20, &[], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let memory = builder.build_now(&layout).unwrap();
    let partition = Arc::new(SoftwarePartition::new());
    memory
        .attach_partition_now(Vtl::Vtl0, partition.clone(), None)
        .unwrap();
    (memory, partition)
}

#[test]
fn twelve_segments_in_one_step_share_one_protection() {
    let (memory, partition) = memory();
    let control = memory.ram_visibility_control();
    let changes: Vec<_> = (0..SEGMENTS)
        .map(|index| (segment(index), RamVisibility::ReadOnly))
        .collect();
    control.set_several_now(&changes).unwrap().wait();

    let plan = last_plan(&memory);
    let count = |start: &str| plan.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("remove slot"), 12, "{plan:?}");
    assert_eq!(count("add slot"), 12, "{plan:?}");
    let protects: Vec<_> = plan
        .iter()
        .filter(|line| line.starts_with("protect"))
        .collect();
    assert_eq!(protects, ["protect 0xc0000-0xf0000 ro"], "{plan:?}");
    for (range, visibility) in changes {
        assert_eq!(control.ram_visibility(range).unwrap(), visibility);
    }
    assert!(partition.broken_rules().is_empty());
}

#[test]
fn one_range_that_is_no_region_refuses_all() {
    let (memory, partition) = memory();
    let control = memory.ram_visibility_control();
    let before = (partition.slots(), inspect::inspect(&memory));
    let wrong = MemoryRange::new(0xc_0000..0xc_8000);
    let error = control.set_several_now(&[
        (segment(0), RamVisibility::Unmapped),
        (wrong, RamVisibility::ReadOnly),
    ]);
    let Err(VisibilityError::InvalidRamRegion { range, nearest }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((range, nearest), (wrong, segment(0)));
    assert_eq!((partition.slots(), inspect::inspect(&memory)), before);
}

#[test]
fn the_last_of_two_wishes_for_a_region_counts() {
    let (memory, _) = memory();
    let control = memory.ram_visibility_control();
    control
        .set_several_now(&[
            (segment(3), RamVisibility::Unmapped),
            (segment(3), RamVisibility::ReadOnly),
        ])
        .unwrap()
        .wait();
    assert_eq!(
        control.ram_visibility(segment(3)).unwrap(),
        RamVisibility::ReadOnly
    );
    // RAM was never out of sight: one protection, nothing mapped anew.
    let plan = last_plan(&memory);
    assert!(
        plan.contains(&"protect 0xcc000-0xd0000 ro".to_owned()),
        "{plan:?}"
    );
}

#[test]
fn no_wish_is_no_change() {
    let (memory, _) = memory();
    let control = memory.ram_visibility_control();
    control.set_several_now(&[]).unwrap().wait();
    assert_eq!(last_plan(&memory), Vec::<String>::new());
}
