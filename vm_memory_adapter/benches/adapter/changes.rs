//! What an address space adds to a change of guest memory, by the number of regions that it has.

use crate::command_line::Options;
use crate::fixture::{REGION, layout, ranges};
use crate::report::Change;
use crate::timing::median;
use guest_memory_manager::{
    DeviceMemoryControl, DmaOptions, GuestMemoryBuilder, GuestMemoryManager, SharedMemory,
};
use std::sync::Arc;
use std::time::Instant;
use vm_memory::{
    GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap, GuestRegionMmap,
    MmapRegion,
};
use vm_memory_adapter::{AccessView, AddressSpace, SnapshotOptions};

const REGIONS: [usize; 3] = [1, 1024, 30_000];
/// As many as vm-memory's is measured with: it has to have them beside ours.
const MOST_THEIRS: usize = 1024;
/// How often each is measured, in turns; and how many changes that is.
const ROUNDS: usize = 7;
const CHANGES: usize = 200;

pub(crate) fn measure(options: &Options) -> Vec<Change> {
    let (rounds, changes) = match options.bench {
        true => (ROUNDS, CHANGES),
        false => (1, 2),
    };
    let mut rows = Vec::new();
    for regions in REGIONS {
        let name = format!("a window comes or goes at {regions} regions");
        if !options.wants(&name) {
            continue;
        }
        if options.bench {
            eprintln!("{name}");
        }
        let theirs = (regions <= MOST_THEIRS).then(|| theirs(regions, rounds, changes));
        let (without, added) = ours(regions, rounds, changes);
        rows.push(Change {
            name,
            without_ns: without,
            added_ns: added,
            theirs_ns: theirs,
        });
    }
    rows
}

/// Nanoseconds that a change takes without an address space, and how many it takes more with one.
fn ours(regions: usize, rounds: usize, changes: usize) -> (f64, f64) {
    let builder = GuestMemoryBuilder::new();
    let manager = builder.build_now(&layout(regions)).unwrap();
    let page = SharedMemory::new("page", 0x1000).unwrap();
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x1000, "window".into()).unwrap();
    window.map(0, &page, 0, 0x1000, true).unwrap();
    // Behind the region in the middle.
    let gpa = ranges(regions)[regions / 2].0.0 + REGION;
    let options = SnapshotOptions::new().reach(DmaOptions::new().include_device_memory());
    let (mut without, mut added) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let bare = change(&mut control, gpa, changes);
        let space = AddressSpace::<AccessView>::attach(&manager, "space", &options).unwrap();
        let attached = change(&mut control, gpa, changes);
        sees(&manager, &mut control, &space, regions, gpa);
        manager.detach_dma_target(space.id()).unwrap();
        without.push(bare);
        added.push(attached - bare);
    }
    (median(without.into_iter()), median(added.into_iter()))
}

/// Shows and hides the window, and returns the median of half a pair.
fn change(control: &mut DeviceMemoryControl, gpa: u64, changes: usize) -> f64 {
    let pairs = (0..changes).map(|_| {
        let start = Instant::now();
        control.map_to_guest(gpa, true).unwrap();
        control.unmap_from_guest();
        start.elapsed().as_nanos() as f64 / 2.0
    });
    median(pairs)
}

/// What was measured did what it is measured for.
fn sees(
    manager: &GuestMemoryManager,
    control: &mut DeviceMemoryControl,
    space: &AddressSpace,
    regions: usize,
    gpa: u64,
) {
    assert!(manager.dma_failures().unwrap().is_empty());
    assert_eq!(space.memory().regions().count(), regions);
    control.map_to_guest(gpa, true).unwrap();
    assert_eq!(space.memory().regions().count(), regions + 1);
    control.unmap_from_guest();
}

/// Nanoseconds in which `GuestMemoryMmap` gets a region or loses it, and the new one is published.
fn theirs(regions: usize, rounds: usize, changes: usize) -> f64 {
    let memory = GuestMemoryMmap::<()>::from_ranges(&ranges(regions)).unwrap();
    let published = GuestMemoryAtomic::new(memory);
    let gpa = GuestAddress(ranges(regions)[regions / 2].0.0 + REGION);
    let window = GuestRegionMmap::new(MmapRegion::new(0x1000).unwrap(), gpa).unwrap();
    let window = Arc::new(window);
    let pairs = (0..rounds * changes).map(|_| {
        let start = Instant::now();
        let more = published.memory().insert_region(window.clone()).unwrap();
        published.lock().unwrap().replace(more);
        let (less, _) = published.memory().remove_region(gpa, 0x1000).unwrap();
        published.lock().unwrap().replace(less);
        start.elapsed().as_nanos() as f64 / 2.0
    });
    median(pairs)
}
