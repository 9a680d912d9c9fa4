//! A guest memory whose neighbours fail when told to, and all that can be seen of its state.

use super::Walked;
use crate::{
    DeviceMemoryControl, DeviceMemoryWindow, GuestAccess, GuestMemory, GuestMemoryBuilder,
    GuestMemoryManager, MemoryLayout, PartitionId, RamVisibility, RomImage, SharedMemory,
    SoftwarePartition, Vtl,
};
use memory_range::{MemoryRange, PAGE_SIZE};
use partition_mapper::SoftwareOptions;
use partition_mapper::testing::{FailingPartition, ToldToFail};
use region_manager::{MappingSink, SinkError, VaOp};
use sparse_alloc::{Backing, MappedRegion};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

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
const ALIAS: u64 = 0x40_0000;

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
}

/// The calls of a sink, which are to fail from one on.
#[derive(Debug, Default)]
pub(super) struct SinkFaults {
    calls: usize,
    fails: Option<std::ops::Range<usize>>,
}

/// Wraps the real sink.
pub(super) struct FailingSink {
    inner: Box<dyn MappingSink<Backing>>,
    faults: Arc<Mutex<SinkFaults>>,
}

impl FailingSink {
    pub(super) fn new(
        inner: Box<dyn MappingSink<Backing>>,
        faults: Arc<Mutex<SinkFaults>>,
    ) -> Self {
        Self { inner, faults }
    }

    fn enter(&self) -> Result<(), SinkError> {
        let mut faults = self.faults.lock().unwrap();
        let call = faults.calls;
        faults.calls += 1;
        match &faults.fails {
            Some(fails) if fails.contains(&call) => Err(Box::new(ToldToFail { call })),
            _ => Ok(()),
        }
    }
}

impl MappingSink<Backing> for FailingSink {
    fn apply(&mut self, op: &VaOp<Backing>) -> Result<(), SinkError> {
        self.enter()?;
        self.inner.apply(op)
    }

    fn undo(&mut self, op: &VaOp<Backing>) -> Result<(), SinkError> {
        self.enter()?;
        self.inner.undo(op)
    }
}

impl SinkFaults {
    pub(super) fn set(&mut self, fails: Option<std::ops::Range<usize>>) {
        *self = Self { calls: 0, fails };
    }

    pub(super) fn calls(&self) -> usize {
        self.calls
    }
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
/// another, and two partitions, one of which has the alias map.
pub(super) struct World {
    pub(super) manager: GuestMemoryManager,
    faults: Arc<Mutex<SinkFaults>>,
    pub(super) vtl0: Arc<Guest>,
    pub(super) vtl2: Arc<Guest>,
    pub(super) spare: Arc<Guest>,
    pub(super) ids: BTreeMap<&'static str, PartitionId>,
    /// `rom` under the upper segments; `bar0` and `bar1`, which overlap; `hidden`, with something
    /// in it, nowhere.
    pub(super) devices: BTreeMap<&'static str, Device>,
    /// What the windows show, four pages each.
    pub(super) files: [SharedMemory; 2],
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
        .vtl0_alias_map(ALIAS)
        .pin_mappings(true)
        .prefetch_ram(true)
}

impl World {
    pub(super) fn new() -> Self {
        let faults = Arc::<Mutex<SinkFaults>>::default();
        let wrap = |sink| -> Box<dyn MappingSink<Backing>> {
            Box::new(FailingSink::new(sink, faults.clone()))
        };
        let manager = builder().build_with(&layout(), &wrap).unwrap();
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
            vtl0,
            vtl2,
            spare: guest("spare"),
            ids: BTreeMap::new(),
            devices: BTreeMap::new(),
            files: [numbered("file0", 4, 0xf000), numbered("file1", 4, 0xf100)],
        };
        let image: Vec<u8> = (0..0x20_u64)
            .flat_map(|page| {
                let mut bytes = vec![0; PAGE_SIZE as usize];
                bytes[..8].copy_from_slice(&(0xb000 + page).to_le_bytes());
                bytes
            })
            .collect();
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

    fn guests(&self) -> [&Arc<Guest>; 3] {
        [&self.vtl0, &self.vtl2, &self.spare]
    }

    /// Forgets the calls so far; none fails.
    pub(super) fn fail_never(&self) {
        self.faults.lock().unwrap().set(None);
        self.guests().map(|guest| guest.fail_never());
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
            Target::Vtl0 => &self.vtl0,
            Target::Vtl2 => &self.vtl2,
            Target::Spare => &self.spare,
        };
        guest.fail_if(move |call, _| (from..to).contains(&call));
    }

    pub(super) fn state(&self) -> State {
        let memory = self.manager.client().guest_memory_now();
        let base = memory.mapper().reservation().base().addr().get() as u64;
        let seen = |guest: &Arc<Guest>| {
            let end = ALIAS + self.manager.layout().end();
            let low = 0..self.manager.layout().end() / PAGE_SIZE;
            let high = ALIAS / PAGE_SIZE..end / PAGE_SIZE;
            low.chain(high)
                .map(|page| guest_page(guest.inner(), page * PAGE_SIZE))
                .collect()
        };
        let slots = |guest: &Arc<Guest>| {
            let slots = guest.inner().slots().into_iter();
            slots
                .map(|slot| {
                    let text = format!("{} {} +{:#x}", slot.gpa, slot.permissions, slot.hva - base);
                    (slot.id, text)
                })
                .collect()
        };
        for guest in self.guests() {
            assert_eq!(guest.inner().broken_rules(), []);
        }
        State {
            tree: tree(&self.manager),
            damaged: self.manager.damaged().unwrap(),
            devices: (0..self.manager.layout().end() / PAGE_SIZE)
                .map(|page| device_page(&memory, page * PAGE_SIZE))
                .collect(),
            slots: self.guests().map(slots),
            guests: self.guests().map(seen),
        }
    }
}

impl Device {
    pub(super) fn window(&self) -> &DeviceMemoryWindow {
        self.window.as_ref().unwrap()
    }
}

/// All that can be seen of a [`World`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    /// The facade's account of itself, without addresses and without what counts attempts.
    tree: String,
    damaged: Vec<MemoryRange>,
    /// What a device sees, page by page.
    devices: Vec<String>,
    /// Id, and the rest, for each partition.
    slots: [Vec<(u32, String)>; 3],
    /// What each guest sees, page by page, the alias map included.
    guests: [Vec<String>; 3],
}

impl State {
    /// As `assert_eq`, part by part, so that the difference can be found.
    #[track_caller]
    pub(super) fn must_equal(&self, other: &Self, when: &str) {
        assert_eq!(self.damaged, other.damaged, "{when}");
        for nth in 0..3 {
            must_equal(
                &self.slots[nth],
                &other.slots[nth],
                &format!("{when}: slots of {nth}"),
            );
            let pages = (&self.guests[nth], &other.guests[nth]);
            must_equal(pages.0, pages.1, &format!("{when}: what guest {nth} sees"));
        }
        must_equal(
            &self.devices,
            &other.devices,
            &format!("{when}: what devices see"),
        );
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        must_equal(
            &lines(&self.tree),
            &lines(&other.tree),
            &format!("{when}: inspection"),
        );
    }

    /// The same without slot ids, and without the partitions' own account of their slots, which
    /// is by id.
    pub(super) fn without_slot_ids(&self) -> Self {
        let mut state = self.clone();
        state.slots.iter_mut().flatten().for_each(|(id, _)| *id = 0);
        let mut in_partition = false;
        let kept = state.tree.lines().filter(|line| {
            in_partition = *line == "  partition:" || in_partition && line.starts_with("    ");
            !in_partition
        });
        state.tree = kept.collect::<Vec<_>>().join("\n");
        state
    }
}

#[track_caller]
fn must_equal<T: PartialEq + Debug>(left: &[T], right: &[T], what: &str) {
    let longest = left.len().max(right.len());
    if let Some(at) = (0..longest).find(|at| left.get(*at) != right.get(*at)) {
        let (left, right) = (left.get(at), right.get(at));
        panic!("{what}: entry {at:#x} is {left:?}, not {right:?}");
    }
}

/// What a load and a store at a page show. What is there is there again afterwards.
fn guest_page(guest: &SoftwarePartition, gpa: u64) -> String {
    let mut bytes = [0; 8];
    let load = guest.load(gpa, &mut bytes).unwrap();
    let other = (!u64::from_le_bytes(bytes)).to_le_bytes();
    let store = guest.store(gpa, &other).unwrap();
    let mut again = [0; 8];
    assert_eq!(guest.load(gpa, &mut again).unwrap(), load);
    let stored = store == GuestAccess::Done;
    assert_eq!(again, if stored { other } else { bytes }, "at {gpa:#x}");
    if stored {
        assert_eq!(guest.store(gpa, &bytes).unwrap(), GuestAccess::Done);
    }
    format!(
        "{gpa:#x}: {:x?}, load {load:?}, store {store:?}",
        u64::from_le_bytes(bytes)
    )
}

/// As [`guest_page`], through [`GuestMemory`].
fn device_page(memory: &GuestMemory, gpa: u64) -> String {
    let read = memory.read_plain::<u64>(gpa).map_err(|error| error.cause());
    let write = memory
        .write_plain(gpa, &read.map_or(0, |value| !value))
        .map_err(|error| error.cause());
    if let (Ok(value), Ok(())) = (read, write) {
        assert_eq!(memory.read_plain::<u64>(gpa), Ok(!value));
        memory.write_plain(gpa, &value).unwrap();
    }
    format!("{gpa:#x}: read {read:x?}, write {write:?}")
}

fn tree(manager: &GuestMemoryManager) -> String {
    let tree = inspect::inspect(manager);
    let paths = [
        "layout",
        "backing",
        "mapper/mappings",
        "view/regions",
        "view/flat_view",
        "view/slots",
        "view/slot_count",
        "view/listeners",
        "view/damage",
        "visibility",
    ];
    let mut lines = Vec::new();
    for path in paths {
        let node = tree
            .get(&path.parse().unwrap())
            .expect("a part of the state");
        lines.push(path.to_owned());
        // Where the process happens to have address space is no state of the guest's memory.
        let text = node.to_string();
        let kept = text.lines().filter(|line| {
            let name = line.trim();
            !name.starts_with("base: ") && !name.starts_with("hva: ")
        });
        for line in kept {
            // A listener is named by a number that is never used again, and its name.
            let number = line.find(|c: char| c != ' ').unwrap_or(0);
            let listener = path == "view/listeners" && number == 0;
            lines.push(match line.split_once(' ') {
                Some((_, name)) if listener => name.to_owned(),
                _ => line.to_owned(),
            });
        }
    }
    lines.join("\n")
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
