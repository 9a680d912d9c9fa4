//! Every failure point of the follower, one after the other: the change is as if it had not been, or
//! guest memory says what a snapshot lacks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use crate::injection;
use crate::{AccessView, AddressSpace, BackendSnapshot, SnapshotOptions, SnapshotRegion, View};
use guest_memory_manager::{
    DeviceMemoryControl, DeviceMemoryWindow, DmaOptions, GuestMemoryBuilder, GuestMemoryManager,
    MemoryLayout, MemoryRange, RamVisibility, SharedMemory,
};
use vm_memory::{GuestAddressSpace, GuestMemoryBackend, GuestMemoryRegion};

const RAM: u64 = 0x20_0000;
const BAR: u64 = RAM + 0x1_0000;
const BAR_LEN: u64 = 0x4000;

/// Where each region starts and ends, where it lies, and where in its file.
type Shape = Vec<(u64, u64, usize, u64, bool)>;

fn shape<'a>(regions: impl Iterator<Item = &'a SnapshotRegion>) -> Shape {
    let shape = |one: &SnapshotRegion| {
        let offset = one.file_offset().unwrap().start();
        let host = one.as_ptr().addr();
        (one.start(), one.end(), host, offset, one.is_writable())
    };
    regions.map(shape).collect()
}

fn segment(nth: u64) -> MemoryRange {
    let start = 0xc_0000 + nth * 0x4000;
    MemoryRange::new(start..start + 0x4000)
}

/// A PC with a BAR, and those who follow its memory. The third sees a segment, the BAR and nothing else,
/// so that it holds no file while these are hidden.
struct World {
    manager: GuestMemoryManager,
    control: DeviceMemoryControl,
    _window: DeviceMemoryWindow,
    view: AddressSpace<AccessView>,
    backend: AddressSpace<BackendSnapshot>,
    narrow: AddressSpace<AccessView>,
}

fn with_devices() -> DmaOptions {
    DmaOptions::new().include_device_memory()
}

fn narrow() -> SnapshotOptions {
    let bar = MemoryRange::new(BAR..BAR + BAR_LEN);
    SnapshotOptions::new().reach(with_devices().only([segment(3), bar]))
}

impl World {
    fn new() -> Self {
        let gap = MemoryRange::new(RAM..RAM + 0x2_0000);
        let layout = MemoryLayout::new(RAM + 0x1000, &[gap], None).unwrap();
        let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
        let manager = builder.build_now(&layout).unwrap();
        let bar = SharedMemory::new("bar", BAR_LEN).unwrap();
        let mapper = manager.device_memory_mapper();
        let (control, window) = mapper.new_region(BAR_LEN, "bar".into()).unwrap();
        window.map(0, &bar, 0, 0x1000, true).unwrap();
        window.map(0x2000, &bar, 0x2000, 0x2000, false).unwrap();
        let all = SnapshotOptions::new().reach(with_devices());
        Self {
            view: AddressSpace::attach(&manager, "view", &all).unwrap(),
            backend: AddressSpace::attach(&manager, "backend", &all).unwrap(),
            narrow: AddressSpace::attach(&manager, "narrow", &narrow()).unwrap(),
            manager,
            control,
            _window: window,
        }
    }

    fn shapes(&self) -> [Shape; 3] {
        [
            shape(self.view.memory().regions()),
            shape(self.backend.memory().iter()),
            shape(self.narrow.memory().regions()),
        ]
    }

    /// What there would be if all were attached only now.
    fn fresh(&self) -> [Shape; 3] {
        let all = SnapshotOptions::new().reach(with_devices());
        [
            shape(AccessView::take(&self.manager, &all).unwrap().regions()),
            shape(BackendSnapshot::take(&self.manager, &all).unwrap().iter()),
            shape(
                AccessView::take(&self.manager, &narrow())
                    .unwrap()
                    .regions(),
            ),
        ]
    }

    fn set(&self, nth: u64, visibility: RamVisibility) -> bool {
        let control = self.manager.ram_visibility_control();
        control
            .set_ram_visibility_now(segment(nth), visibility)
            .is_ok()
    }

    fn visibility(&self, nth: u64) -> RamVisibility {
        let control = self.manager.ram_visibility_control();
        control.ram_visibility(segment(nth)).unwrap()
    }

    /// How many ranges of device memory a snapshot is said to lack.
    fn lacking(&self) -> usize {
        self.manager.dma_failures().unwrap().len()
    }
}

const VISIBILITIES: [RamVisibility; 3] = [
    RamVisibility::ReadWrite,
    RamVisibility::ReadOnly,
    RamVisibility::Unmapped,
];

#[test]
fn a_change_of_ram_that_fails_has_not_been() {
    let mut failures = 0;
    for from in VISIBILITIES {
        for to in VISIBILITIES {
            for after in 0.. {
                let world = World::new();
                assert!(world.set(3, from));
                let before = world.shapes();
                injection::fail(after, 1);
                let is_done = world.set(3, to);
                if !injection::stop() {
                    assert!(is_done);
                    break;
                }
                failures += 1;
                assert!(!is_done, "{from:?} to {to:?}, failure {after}");
                assert_eq!(world.visibility(3), from);
                assert_eq!(
                    world.shapes(),
                    before,
                    "{from:?} to {to:?}, failure {after}"
                );
                assert_eq!(world.lacking(), 0);
                // Nothing is left of it.
                assert!(world.set(3, to));
                assert_eq!(world.shapes(), world.fresh());
                assert_eq!(world.visibility(3), to);
            }
        }
    }
    // Each of the spaces asks for seals, a lease and, if it holds no file, a descriptor.
    assert!(failures >= 20, "{failures}");
}

#[test]
fn device_memory_that_cannot_be_shown_is_left_out_and_told_of() {
    let mut failures = 0;
    for after in 0.. {
        let mut world = World::new();
        let before = world.shapes();
        injection::fail(after, 1);
        world.control.map_to_guest(BAR, true).unwrap();
        if !injection::stop() {
            assert_eq!(world.shapes(), world.fresh());
            assert_eq!(world.lacking(), 0);
            break;
        }
        failures += 1;
        assert_eq!(world.lacking(), 1, "failure {after}");
        let fresh = world.fresh();
        let lacking: usize = fresh
            .iter()
            .zip(world.shapes())
            .map(|(fresh, now)| {
                // What is there is right.
                assert!(now.iter().all(|region| fresh.contains(region)));
                fresh.len() - now.len()
            })
            .sum();
        assert_eq!(lacking, 1, "failure {after}");
        // What is hidden and shown again is all there.
        world.control.unmap_from_guest();
        assert_eq!(world.shapes(), before);
        assert_eq!(world.lacking(), 0);
        world.control.map_to_guest(BAR, true).unwrap();
        assert_eq!(world.shapes(), fresh);
    }
    assert!(failures >= 10, "{failures}");
}

#[test]
fn who_cannot_be_attached_leaves_nothing_behind() {
    let mut failures = 0;
    for after in 0.. {
        let mut world = World::new();
        world.control.map_to_guest(BAR, true).unwrap();
        let before = world.shapes();
        injection::fail(after, 1);
        let space = AddressSpace::<AccessView>::attach(
            &world.manager,
            "another",
            &SnapshotOptions::new().reach(with_devices()),
        );
        let has_failed = injection::stop();
        let lacking = world.lacking();
        if let Ok(space) = &space {
            // Only RAM must be there.
            assert_eq!(lacking, usize::from(has_failed));
            let regions = space.memory().regions().count();
            assert_eq!(regions + lacking, before[0].len());
        } else {
            assert!(has_failed);
            assert_eq!(lacking, 0);
        }
        failures += usize::from(space.is_err());
        assert_eq!(world.shapes(), before);
        if !has_failed {
            break;
        }
    }
    assert!(failures >= 3, "{failures}");
}

/// The change fails, and so does putting back what it had taken: the memory is then missing, which no
/// snapshot hides, and comes back with the next change.
#[test]
fn what_cannot_be_put_back_is_missing_and_comes_back() {
    let mut missing = 0;
    for after in 0.. {
        let world = World::new();
        injection::fail(after, u64::MAX);
        let is_done = world.set(3, RamVisibility::ReadOnly);
        injection::stop();
        if is_done {
            break;
        }
        let all = world.view.memory();
        missing += usize::from(
            all.regions()
                .all(|one| one.start() != 0 || one.end() != RAM),
        );
        let fresh = world.fresh();
        for (fresh, now) in fresh.iter().zip(world.shapes()) {
            // Whatever is there is there rightly, though a region may end where the missing one was.
            for (start, end, host, offset, _) in &now {
                let around = fresh.iter().find(|one| one.0 <= *start && *end <= one.1);
                let around = around.unwrap();
                let into = start - around.0;
                assert_eq!(*host as u64 - around.2 as u64, into);
                assert_eq!(offset - around.3, into);
            }
        }
        // Any change does.
        assert!(world.set(7, RamVisibility::Unmapped));
        assert_eq!(world.shapes(), world.fresh(), "failure {after}");
    }
    assert!(missing > 0);
}
