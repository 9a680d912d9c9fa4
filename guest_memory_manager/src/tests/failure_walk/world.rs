//! A guest memory whose neighbours fail when told to.

use super::Walked;
use super::failing_sink::{FailingSink, SinkFaults};
use super::failing_target::{FailingTarget, TargetState};
use super::state::State;
use crate::{
    DeviceMemoryControl, DeviceMemoryWindow, DmaOptions, GuestMemoryBuilder, GuestMemoryManager,
    MemoryLayout, PartitionId, RamVisibility, RomImage, SharedMemory, SoftwarePartition, Vtl,
};
use memory_range::{MemoryRange, PAGE_SIZE};
use partition_mapper::SoftwareOptions;
use partition_mapper::testing::{FailingPartition, ToldToFail};
use region_manager::MappingSink;
use sparse_alloc::Backing;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Condvar, Mutex};

/// The BIOS segment and its neighbours, of which some show what lies below RAM.
pub(super) const UNMAPPED_OVER_ROM: MemoryRange = range(0xe_8000, 0xe_c000);
pub(super) const READ_ONLY_OVER_NOTHING: MemoryRange = range(0xc_0000, 0xc_4000);
/// A segment with a ROM below, and one with nothing below.
pub(super) const OVER_ROM: MemoryRange = range(0xe_c000, 0xf_0000);
pub(super) const OVER_NOTHING: MemoryRange = range(0xc_4000, 0xc_8000);
/// The gap, where the device windows are.
pub(super) const GAP: MemoryRange = range(0x10_0000, 0x11_0000);
const VTL2_RAM: MemoryRange = range(0x11_0000, 0x11_2000);
/// Where VTL2 sees VTL0's mirror.
pub(super) const ALIAS: u64 = 0x40_0000;

const fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

/// Whose call fails.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// What puts backings at host addresses.
    Sink,
    /// The partition of VTL0.
    Vtl0,
    /// The partition of VTL2, which sees everything twice.
    Vtl2,
    /// The partition that is not attached yet.
    Spare,
    /// What has RAM for DMA.
    Dma,
}

pub(super) type Guest = FailingPartition<SoftwarePartition>;

pub(super) fn guest(name: &str) -> Arc<Guest> {
    let options = SoftwareOptions::new().name(name);
    Arc::new(FailingPartition::new(SoftwarePartition::with_options(
        options,
    )))
}

/// A device window, as long as its handles are held.
pub(super) struct Device {
    pub(super) control: Option<DeviceMemoryControl>,
    pub(super) window: Option<DeviceMemoryWindow>,
}

/// A guest memory with legacy RAM that is pinned and prefetched, a ROM, device windows over one
/// another, two partitions, one of which has the alias map, and a DMA target that has RAM.
pub(super) struct World {
    pub(super) manager: GuestMemoryManager,
    faults: Arc<Mutex<SinkFaults>>,
    pub(super) dma: Arc<Mutex<TargetState>>,
    pub(super) vtl0: Arc<Guest>,
    pub(super) vtl2: Arc<Guest>,
    pub(super) spare: Arc<Guest>,
    pub(super) ids: BTreeMap<&'static str, PartitionId>,
    /// `rom` under the upper segments; `bar0` and `bar1`, which overlap; `hidden`, with something
    /// in it, nowhere.
    pub(super) devices: BTreeMap<&'static str, Device>,
    /// What the windows show, four pages each.
    pub(super) files: [SharedMemory; 2],
    _turn: Turn,
}

/// How many worlds there may be at a time. Each locks a bit more than a mebibyte, and a process
/// without privileges commonly may lock eight.
const WORLDS: usize = 4;

static TURNS: (Mutex<usize>, Condvar) = (Mutex::new(WORLDS), Condvar::new());

/// The right to lock as much as one world does. A test that holds one asks for no other.
struct Turn;

impl Turn {
    fn wait() -> Self {
        let left = TURNS.0.lock().unwrap();
        let mut left = TURNS.1.wait_while(left, |left| *left == 0).unwrap();
        *left -= 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.0.lock().unwrap() += 1;
        TURNS.1.notify_one();
    }
}

/// Memory of which every page begins with its own number.
pub(super) fn numbered(name: &'static str, pages: u64, first: u64) -> SharedMemory {
    let memory = SharedMemory::new(name, pages * PAGE_SIZE).unwrap();
    let view = memory.linear_view().clone();
    for page in 0..pages {
        sparse_alloc::HostRange::new(view.clone(), page * PAGE_SIZE, 8)
            .unwrap()
            .write(0, &(first + page).to_le_bytes())
            .unwrap();
    }
    memory
}

pub(super) fn layout() -> MemoryLayout {
    MemoryLayout::new(0x10_0000, &[GAP], Some(VTL2_RAM)).unwrap()
}

pub(super) fn builder() -> GuestMemoryBuilder {
    GuestMemoryBuilder::new()
        .x86_legacy_support(true)
        .vtl0_alias_map(Some(ALIAS))
        .pin_mappings(true)
        .prefetch_ram(true)
}

impl World {
    pub(super) fn new() -> Self {
        Self::made_by(builder())
    }

    /// For tests in which host addresses are leaked, as they must be: locked memory would never
    /// be given back.
    pub(super) fn unpinned() -> Self {
        Self::made_by(builder().pin_mappings(false))
    }

    fn made_by(builder: GuestMemoryBuilder) -> Self {
        let turn = Turn::wait();
        let faults = Arc::<Mutex<SinkFaults>>::default();
        let wrap = |sink| -> Box<dyn MappingSink<Backing>> {
            Box::new(FailingSink::new(sink, faults.clone()))
        };
        let manager = builder.build_with(&layout(), &wrap).unwrap();
        let memory = manager.client().guest_memory_now();
        for range in manager.ram_visibility_control().regions() {
            for page in range.page_numbers() {
                memory.write_plain(page * PAGE_SIZE, &page).unwrap();
            }
        }
        let (vtl0, vtl2) = (guest("vtl0"), guest("vtl2"));
        let mut world = Self {
            manager,
            faults,
            dma: Arc::default(),
            vtl0,
            vtl2,
            spare: guest("spare"),
            ids: BTreeMap::new(),
            devices: BTreeMap::new(),
            files: [numbered("file0", 4, 0xf000), numbered("file1", 4, 0xf100)],
            _turn: turn,
        };
        let mut image = vec![0; 0x2_0000];
        for (page, number) in image.chunks_exact_mut(PAGE_SIZE as usize).zip(0xb000_u64..) {
            page[..8].copy_from_slice(&number.to_le_bytes());
        }
        let rom = RomImage::from_bytes("rom", &image).unwrap();
        let files = world.files.clone();
        world
            .device("rom", 0x20)
            .window()
            .map(0, &rom, 0, 0x2_0000, false)
            .unwrap();
        world
            .device("bar0", 4)
            .window()
            .map(0, &files[0], 0, 0x4000, true)
            .unwrap();
        world
            .device("bar1", 4)
            .window()
            .map(0, &files[1], 0, 0x3000, true)
            .unwrap();
        world
            .device("hidden", 4)
            .window()
            .map(0, &files[1], 0x2000, 0x2000, true)
            .unwrap();
        // One partition is there from the start, the other comes when there is something to see.
        world
            .attach("vtl0", Vtl::Vtl0, &world.vtl0.clone())
            .unwrap();
        for (name, gpa) in [("rom", 0xe_0000), ("bar0", 0x10_4000), ("bar1", 0x10_6000)] {
            world
                .control(name)
                .map_to_guest(gpa, name != "rom")
                .unwrap();
        }
        world
            .show(UNMAPPED_OVER_ROM, RamVisibility::Unmapped)
            .unwrap();
        world
            .show(READ_ONLY_OVER_NOTHING, RamVisibility::ReadOnly)
            .unwrap();
        let target = FailingTarget::new(world.dma.clone());
        world
            .manager
            .attach_dma_target(Box::new(target), DmaOptions::new())
            .unwrap();
        world
            .attach("vtl2", Vtl::Vtl2, &world.vtl2.clone())
            .unwrap();
        world
    }

    fn device(&mut self, name: &'static str, pages: u64) -> &Device {
        let mapper = self.manager.device_memory_mapper();
        let (control, window) = mapper.new_region(pages * PAGE_SIZE, name.into()).unwrap();
        let device = Device {
            control: Some(control),
            window: Some(window),
        };
        self.devices.entry(name).or_insert(device)
    }

    pub(super) fn control(&mut self, name: &str) -> &mut DeviceMemoryControl {
        self.devices
            .get_mut(name)
            .unwrap()
            .control
            .as_mut()
            .unwrap()
    }

    pub(super) fn window(&self, name: &str) -> &DeviceMemoryWindow {
        self.devices[name].window()
    }

    pub(super) fn show(&self, range: MemoryRange, visibility: RamVisibility) -> super::Outcome {
        let control = self.manager.ram_visibility_control();
        control.set_ram_visibility_now(range, visibility)?.wait();
        Ok(())
    }

    pub(super) fn attach(
        &mut self,
        name: &'static str,
        vtl: Vtl,
        guest: &Arc<Guest>,
    ) -> super::Outcome {
        let id = self
            .manager
            .attach_partition_now(vtl, guest.clone(), None)?;
        self.ids.insert(name, id);
        Ok(())
    }

    pub(super) fn guests(&self) -> [&Arc<Guest>; 3] {
        [&self.vtl0, &self.vtl2, &self.spare]
    }

    /// Forgets the calls so far; none fails.
    pub(super) fn fail_never(&self) {
        self.faults.lock().unwrap().set(None);
        self.dma.lock().unwrap().set(None);
        self.guests()
            .into_iter()
            .for_each(|guest| guest.fail_never());
    }

    pub(super) fn count(&self) {
        self.fail_never();
    }

    /// The calls since then.
    pub(super) fn calls(&self) -> Walked {
        Walked {
            sink: self.faults.lock().unwrap().calls(),
            vtl0: self.vtl0.call_count(),
            vtl2: self.vtl2.call_count(),
            spare: self.spare.call_count(),
            dma: self.dma.lock().unwrap().calls(),
        }
    }

    pub(super) fn fail_at(&self, target: Target, k: usize) {
        self.fail(target, k, k + 1);
    }

    pub(super) fn fail_from(&self, target: Target, k: usize) {
        self.fail(target, k, usize::MAX);
    }

    fn fail(&self, target: Target, from: usize, to: usize) {
        let guest = match target {
            Target::Sink => return self.faults.lock().unwrap().set(Some(from..to)),
            Target::Dma => return self.dma.lock().unwrap().set(Some(from..to)),
            Target::Vtl0 => &self.vtl0,
            Target::Vtl2 => &self.vtl2,
            Target::Spare => &self.spare,
        };
        guest.fail_if(move |call, _| (from..to).contains(&call));
    }

    pub(super) fn state(&self) -> State {
        State::of(self)
    }
}

impl Device {
    pub(super) fn window(&self) -> &DeviceMemoryWindow {
        self.window.as_ref().unwrap()
    }
}

/// An error and all its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The words of an error and of all its causes.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let words: Vec<String> = causes(error).map(ToString::to_string).collect();
    words.join(": ")
}

/// Whether a failure that was asked for is among an error's causes.
pub(super) fn was_told_to_fail(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| error.downcast_ref::<ToldToFail>().is_some())
}
