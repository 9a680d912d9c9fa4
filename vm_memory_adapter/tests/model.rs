//! Random changes: the address space that followed them shows the same, in the same regions, as a
//! snapshot taken afresh, and as pages painted one by one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{
    DeviceMemoryControl, DeviceMemoryWindow, DmaOptions, GuestMemoryBuilder, GuestMemoryManager,
    MemoryLayout, MemoryRange, SharedMemory,
};
use proptest::prelude::*;
use support::sealed;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryBackend, GuestMemoryRegion};
use vm_memory_adapter::{AccessView, AddressSpace, BackendSnapshot, SnapshotOptions, View};

const PAGE: u64 = 0x1000;
/// The window: more pages than fit in one chunk of regions, several times.
const PAGES: u64 = 600;
const WINDOW: u64 = 0x10_0000;

/// What a page of the window shows: a page of the file, writable or not.
type Painted = Vec<Option<(u64, bool)>>;

struct World {
    manager: GuestMemoryManager,
    control: DeviceMemoryControl,
    window: DeviceMemoryWindow,
    file: SharedMemory,
    painted: Painted,
    shown: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Map(u64, u64, u64, bool),
    /// Every other page, so that nothing merges.
    Comb(u64, u64),
    Unmap(u64, u64),
    Show(bool),
}

fn change() -> impl Strategy<Value = Change> {
    let part = (0..PAGES, 1..200_u64);
    prop_oneof![
        3 => (part.clone(), 0..PAGES, any::<bool>())
            .prop_map(|((at, len), file, writable)| Change::Map(at, len, file, writable)),
        2 => part.clone().prop_map(|(at, len)| Change::Comb(at, len)),
        2 => part.prop_map(|(at, len)| Change::Unmap(at, len)),
        1 => any::<bool>().prop_map(Change::Show),
    ]
}

impl World {
    fn new() -> Self {
        let gap = MemoryRange::new(WINDOW..WINDOW + 0x100_0000);
        let layout = MemoryLayout::new(2 * WINDOW, &[gap], None).unwrap();
        let manager = GuestMemoryBuilder::new().build_now(&layout).unwrap();
        let mut bytes = vec![0; (PAGES * PAGE) as usize];
        for (nth, page) in (0_u64..).zip(bytes.chunks_mut(PAGE as usize)) {
            page[..8].copy_from_slice(&nth.to_le_bytes());
        }
        let file = sealed(&bytes, PAGES * PAGE);
        let mapper = manager.device_memory_mapper();
        let (control, window) = mapper.new_region(PAGES * PAGE, "bar".into()).unwrap();
        Self {
            manager,
            control,
            window,
            file,
            painted: vec![None; PAGES as usize],
            shown: false,
        }
    }

    fn map(&mut self, at: u64, len: u64, file: u64, writable: bool) {
        let len = len.min(PAGES - at).min(PAGES - file);
        let done = self
            .window
            .map(at * PAGE, &self.file, file * PAGE, len * PAGE, writable);
        done.unwrap();
        for page in 0..len {
            self.painted[(at + page) as usize] = Some((file + page, writable));
        }
    }

    fn make(&mut self, change: &Change) {
        match *change {
            Change::Map(at, len, file, writable) => self.map(at, len, file, writable),
            Change::Comb(at, len) => {
                for page in (at..(at + len).min(PAGES)).step_by(2) {
                    self.map(page, 1, PAGES - 1 - page, true);
                }
            }
            Change::Unmap(at, len) => {
                let len = len.min(PAGES - at);
                self.window.unmap(at * PAGE, len * PAGE).unwrap();
                self.painted[at as usize..(at + len) as usize].fill(None);
            }
            Change::Show(true) => {
                self.control.map_to_guest(WINDOW, true).unwrap();
                self.shown = true;
            }
            Change::Show(false) => {
                self.control.unmap_from_guest();
                self.shown = false;
            }
        }
    }

    fn painted(&self, page: u64) -> Option<(u64, bool)> {
        self.painted[page as usize].filter(|_| self.shown)
    }

    /// How many regions it takes to show what is painted.
    fn count(&self, read_only: bool) -> usize {
        let shows = |page| {
            self.painted(page)
                .filter(|(_, writable)| read_only || *writable)
        };
        let starts = |page: &u64| {
            let here = shows(*page);
            let before = page.checked_sub(1).and_then(shows);
            here.is_some() && here != before.map(|(file, writable)| (file + 1, writable))
        };
        (0..PAGES).filter(starts).count()
    }
}

type Shape = Vec<(u64, u64, usize, u64)>;

fn shape<'a>(regions: impl Iterator<Item = &'a vm_memory_adapter::SnapshotRegion>) -> Shape {
    let shape = |one: &vm_memory_adapter::SnapshotRegion| {
        let offset = one.file_offset().unwrap().start();
        (one.start_addr().0, one.len(), one.as_ptr().addr(), offset)
    };
    regions.map(shape).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_followed_is_the_fresh_is_the_painted(
        changes in proptest::collection::vec(change(), 1..24)
    ) {
        let mut world = World::new();
        let options = SnapshotOptions::new().reach(DmaOptions::new().include_device_memory());
        let view = AddressSpace::<AccessView>::attach(&world.manager, "view", &options).unwrap();
        let backend = AddressSpace::<BackendSnapshot>::attach(&world.manager, "all", &options);
        let backend = backend.unwrap();
        world.make(&Change::Show(true));
        for change in &changes {
            world.make(change);
            let (seen, all) = (view.memory(), backend.memory());
            // Two regions are RAM.
            prop_assert_eq!(seen.regions().count(), 2 + world.count(true));
            prop_assert_eq!(all.num_regions(), 2 + world.count(false));
            prop_assert_eq!(all.num_regions(), all.iter().count());
            for page in 0..PAGES {
                let gpa = GuestAddress(WINDOW + page * PAGE);
                let painted = world.painted(page);
                let read = seen.read_obj::<u64>(gpa).ok();
                prop_assert_eq!(read, painted.map(|(file, _)| file), "page {}", page);
                let writable = painted.is_some_and(|(_, writable)| writable);
                prop_assert_eq!(all.find_region(gpa).is_some(), writable, "page {}", page);
            }
        }
        let fresh = AccessView::take(&world.manager, &options).unwrap();
        prop_assert_eq!(shape(view.memory().regions()), shape(fresh.regions()));
        let fresh = BackendSnapshot::take(&world.manager, &options).unwrap();
        prop_assert_eq!(shape(backend.memory().iter()), shape(fresh.iter()));
        prop_assert!(world.manager.dma_failures().unwrap().is_empty());
    }
}
