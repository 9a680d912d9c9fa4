//! The whole facade against a model that paints pages one by one.
//!
//! After every step each page is loaded from and stored to, by a device and by each guest. What
//! they meet (which bytes, or an MMIO exit) must be what the model says; what they store must be
//! found by all the others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "model/painted.rs"]
mod painted;
mod support;

use guest_memory_manager::{
    Cause, DeviceMemoryControl, DeviceMemoryWindow, GuestAccess, GuestMemoryBuilder,
    GuestMemoryManager, MemoryLayout, PartitionId, RamVisibility, RomImage, SharedMemory,
    SoftwarePartition, Vtl,
};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use painted::{Painted, Painting, RAM, VTL2_RAM};
use partition_mapper::MmioExit;
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use support::{memory_of, numbered, numbered_bytes, pages};

/// Where VTL2 sees VTL0's mirror, as a page number.
const ALIAS: u64 = 0x100;

/// One step. Windows are named by a number that is taken modulo how many there are.
#[derive(Clone, Debug)]
enum Op {
    SetRam(usize, RamVisibility),
    NewWindow(u64),
    DropControl(usize),
    DropWindow(usize),
    Show(usize, u64, bool),
    Hide(usize),
    Map {
        window: usize,
        offset: u64,
        file: usize,
        file_offset: u64,
        len: u64,
        writable: bool,
    },
    Unmap(usize, u64, u64),
    /// The second partition comes, or goes if it is there.
    Attach,
}

fn op() -> impl Strategy<Value = Op> {
    let window = 0usize..6;
    let visibility = prop_oneof![
        Just(RamVisibility::Unmapped),
        Just(RamVisibility::ReadOnly),
        Just(RamVisibility::ReadWrite),
    ];
    prop_oneof![
        3 => (0usize..5, visibility).prop_map(|(nth, visibility)| Op::SetRam(nth, visibility)),
        2 => (0u64..9).prop_map(Op::NewWindow),
        1 => window.clone().prop_map(Op::DropControl),
        1 => window.clone().prop_map(Op::DropWindow),
        6 => (window.clone(), 0u64..33, any::<bool>())
            .prop_map(|(window, gpa, writable)| Op::Show(window, gpa, writable)),
        2 => window.clone().prop_map(Op::Hide),
        6 => (window.clone(), 0u64..8, 0usize..3, 0u64..6, 0u64..7, any::<bool>()).prop_map(
            |(window, offset, file, file_offset, len, writable)| Op::Map {
                window,
                offset,
                file,
                file_offset,
                len,
                writable,
            }
        ),
        2 => (window, 0u64..8, 0u64..7).prop_map(|(window, at, len)| Op::Unmap(window, at, len)),
        1 => Just(Op::Attach),
    ]
}

/// The facade and the model side by side.
struct World {
    manager: GuestMemoryManager,
    vtl0: Arc<SoftwarePartition>,
    vtl2: Option<(Arc<SoftwarePartition>, PartitionId)>,
    /// Handles that are held, and the region in the model.
    windows: Vec<(
        Option<DeviceMemoryControl>,
        Option<DeviceMemoryWindow>,
        usize,
    )>,
    file: File,
    shared: SharedMemory,
    rom: RomImage,
    model: Painting,
    /// The last value that was stored.
    stored: u32,
}

impl World {
    fn new() -> Self {
        let gaps = [pages(6, 10), pages(14, 22)];
        let vtl2 = pages(28, 30);
        let layout = MemoryLayout::new(16 * PAGE_SIZE, &gaps, Some(vtl2)).unwrap();
        let builder = GuestMemoryBuilder::new().vtl0_alias_map(Some(ALIAS * PAGE_SIZE));
        let manager = builder.build_now(&layout).unwrap();
        let vtl0 = Arc::new(SoftwarePartition::new());
        manager
            .attach_partition_now(Vtl::Vtl0, vtl0.clone(), None)
            .unwrap();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&numbered_bytes(6, painted::FIRST_OF_FILES[0]), 0)
            .unwrap();
        let rom = numbered_bytes(6, painted::FIRST_OF_FILES[2]);
        Self {
            manager,
            vtl0,
            vtl2: None,
            windows: Vec::new(),
            file,
            shared: numbered("shared", 6, painted::FIRST_OF_FILES[1]),
            rom: RomImage::from_bytes("rom", &rom).unwrap(),
            model: Painting::new(),
            stored: 0x5000_0000,
        }
    }

    /// Makes a step on both sides. Whether it fails must agree.
    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let nth = |window: usize, count: usize| (count > 0).then(|| window % count);
        let count = self.windows.len();
        match *op {
            Op::SetRam(region, visibility) => {
                let control = self.manager.ram_visibility_control();
                let Some(range) = control.regions().nth(region) else {
                    return Ok(());
                };
                control
                    .set_ram_visibility_now(range, visibility)
                    .unwrap()
                    .wait();
                self.model.set_ram(region, visibility);
            }
            Op::NewWindow(len) => {
                let mapper = self.manager.device_memory_mapper();
                let new = mapper.new_region(len * PAGE_SIZE, "window".into());
                prop_assert_eq!(new.is_ok(), len > 0);
                if let Ok((control, window)) = new {
                    let region = self.model.new_region(len);
                    self.windows.push((Some(control), Some(window), region));
                }
            }
            Op::DropControl(window) => {
                let Some(at) = nth(window, count) else {
                    return Ok(());
                };
                if self.windows[at].0.take().is_some() {
                    self.model.hide(self.windows[at].2);
                }
                self.forget_dropped();
            }
            Op::DropWindow(window) => {
                let Some(at) = nth(window, count) else {
                    return Ok(());
                };
                self.windows[at].1 = None;
                self.forget_dropped();
            }
            Op::Show(window, gpa, writable) => {
                let Some(at) = nth(window, count) else {
                    return Ok(());
                };
                let (Some(control), _, region) = &mut self.windows[at] else {
                    return Ok(());
                };
                let shown = control.map_to_guest(gpa * PAGE_SIZE, writable).is_ok();
                prop_assert_eq!(shown, self.model.show(*region, gpa, writable));
            }
            Op::Hide(window) => {
                let Some(at) = nth(window, count) else {
                    return Ok(());
                };
                let (Some(control), _, region) = &mut self.windows[at] else {
                    return Ok(());
                };
                control.unmap_from_guest();
                prop_assert_eq!(control.gpa().unwrap(), None);
                self.model.hide(*region);
            }
            Op::Map {
                window,
                offset,
                file,
                file_offset,
                len,
                writable,
            } => {
                let Some(at) = nth(window, count) else {
                    return Ok(());
                };
                let (_, Some(window), region) = &self.windows[at] else {
                    return Ok(());
                };
                let [offset_in, from, bytes] = [offset, file_offset, len].map(|n| n * PAGE_SIZE);
                let mapped = match file {
                    0 => window.map(offset_in, &self.file, from, bytes, writable),
                    1 => window.map(offset_in, &self.shared, from, bytes, writable),
                    _ => window.map(offset_in, &self.rom, from, bytes, writable),
                };
                let expected = self
                    .model
                    .map(*region, offset, file, file_offset, len, writable);
                prop_assert_eq!(mapped.is_ok(), expected);
            }
            Op::Unmap(window, offset, len) => {
                let Some(at) = nth(window, count) else {
                    return Ok(());
                };
                let (_, Some(window), region) = &self.windows[at] else {
                    return Ok(());
                };
                let unmapped = window.unmap(offset * PAGE_SIZE, len * PAGE_SIZE);
                prop_assert_eq!(unmapped.is_ok(), self.model.unmap(*region, offset, len));
            }
            Op::Attach => match self.vtl2.take() {
                None => {
                    let partition = Arc::new(SoftwarePartition::new());
                    let attached =
                        self.manager
                            .attach_partition_now(Vtl::Vtl2, partition.clone(), None);
                    self.vtl2 = Some((partition, attached.unwrap()));
                }
                Some((partition, id)) => {
                    self.manager.detach_partition(id).unwrap();
                    prop_assert_eq!(partition.slots(), []);
                    prop_assert_eq!(partition.broken_rules(), []);
                }
            },
        }
        Ok(())
    }

    /// A region is gone when both of its handles are.
    fn forget_dropped(&mut self) {
        let model = &mut self.model;
        self.windows.retain(|(control, window, region)| {
            let held = control.is_some() || window.is_some();
            if !held {
                model.remove(*region);
            }
            held
        });
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.manager.damaged(), Some(Vec::new()));
        let painted = self.model.paint();
        let vtl2_ram = pages(28, 30);
        self.check_devices(&painted)?;
        let below = |page: u64| !vtl2_ram.page_numbers().contains(&page);
        let vtl0 = self.vtl0.clone();
        let mut all: Vec<(u64, Painted)> = (0..).zip(painted.clone()).collect();
        all.iter_mut()
            .filter(|(page, _)| !below(*page))
            .for_each(|(_, shown)| *shown = None);
        self.check_guest(&vtl0, &all)?;
        if let Some((vtl2, _)) = self.vtl2.clone() {
            let mirror = all.iter().map(|(page, shown)| (page + ALIAS, *shown));
            let own = (0..).zip(painted).chain(mirror.collect::<Vec<_>>());
            self.check_guest(&vtl2, &own.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn next_value(&mut self) -> u32 {
        self.stored += 1;
        self.stored
    }

    fn check_devices(&mut self, painted: &[Painted]) -> Result<(), TestCaseError> {
        let memory = memory_of(&self.manager);
        for (page, shown) in (0..).zip(painted) {
            let gpa = page * PAGE_SIZE;
            let read = memory.read_plain::<u32>(gpa).map_err(|error| error.cause());
            let value = self.next_value();
            let write = memory
                .write_plain(gpa, &value)
                .map_err(|error| error.cause());
            match shown {
                None => {
                    prop_assert_eq!(read, Err(Cause::Hole { gpa }));
                    prop_assert_eq!(write, Err(Cause::Hole { gpa }));
                }
                Some((byte, access)) => {
                    prop_assert_eq!(read, Ok(self.model.contents(*byte)), "page {:#x}", page);
                    if access.is_writable() {
                        prop_assert_eq!(write, Ok(()), "page {:#x}", page);
                        self.model.store(*byte, value);
                    } else {
                        prop_assert_eq!(write, Err(Cause::ReadOnly { gpa }));
                    }
                }
            }
        }
        let end = painted.len() as u64 * PAGE_SIZE;
        prop_assert_eq!(
            memory.read_plain::<u8>(end).map_err(|error| error.cause()),
            Err(Cause::OutOfRange { end })
        );
        Ok(())
    }

    fn check_guest(
        &mut self,
        guest: &SoftwarePartition,
        painted: &[(u64, Painted)],
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(guest.broken_rules(), []);
        let slots = guest.slots();
        for pair in slots.windows(2) {
            prop_assert!(!pair[0].gpa.overlaps(&pair[1].gpa), "{:?}", pair);
        }
        let ids: std::collections::BTreeSet<u32> = slots.iter().map(|slot| slot.id).collect();
        prop_assert_eq!(ids.len(), slots.len(), "an id belongs to one slot");
        // Exactly what is visible lies in a slot.
        let in_slots: u64 = slots.iter().map(|slot| slot.gpa.page_count()).sum();
        let visible = painted.iter().filter(|(_, shown)| shown.is_some()).count();
        prop_assert_eq!(in_slots, visible as u64);

        for (page, shown) in painted {
            let gpa = page * PAGE_SIZE;
            let value = self.next_value();
            let mut found = [0xff; 4];
            let load = guest.load(gpa, &mut found).unwrap();
            let store = guest.store(gpa, &value.to_le_bytes()).unwrap();
            let mmio_write = GuestAccess::Mmio(vec![MmioExit::Write {
                gpa,
                data: value.to_le_bytes().to_vec(),
            }]);
            let Some((byte, access)) = shown else {
                let mmio_read = GuestAccess::Mmio(vec![MmioExit::Read { gpa, len: 4 }]);
                prop_assert_eq!((load, store), (mmio_read, mmio_write), "page {:#x}", page);
                continue;
            };
            prop_assert_eq!(load, GuestAccess::Done, "page {:#x}", page);
            let found = u32::from_le_bytes(found);
            prop_assert_eq!(found, self.model.contents(*byte), "page {:#x}", page);
            match access {
                Access::ReadOnly => prop_assert_eq!(store, mmio_write),
                Access::ReadWrite => {
                    prop_assert_eq!(store, GuestAccess::Done);
                    self.model.store(*byte, value);
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn everyone_sees_what_the_model_paints(ops in prop::collection::vec(op(), 1..40)) {
        let mut world = World::new();
        world.check()?;
        // Never without windows that can lie over one another.
        let first = [3, 5, 8].map(Op::NewWindow);
        for op in first.iter().chain(&ops) {
            world.step(op)?;
            world.check()?;
        }
        // Whatever order things go in, nothing is left in sight.
        let World { manager, vtl0, vtl2, windows, .. } = world;
        let memory = memory_of(&manager);
        drop(manager);
        prop_assert_eq!(vtl0.slots(), []);
        prop_assert!(vtl2.is_none_or(|(vtl2, _)| vtl2.slots().is_empty()));
        drop(windows);
        for gap in [pages(6, 10), pages(14, 22)] {
            for page in gap.page_numbers() {
                prop_assert!(memory.read_plain::<u8>(page * PAGE_SIZE).is_err());
            }
        }
    }
}

#[test]
fn the_model_has_the_regions_that_the_facade_has() {
    let world = World::new();
    let regions: Vec<MemoryRange> = world.manager.ram_visibility_control().regions().collect();
    let modelled = RAM.iter().chain([&VTL2_RAM]);
    let modelled: Vec<MemoryRange> = modelled.map(|(from, to)| pages(*from, *to)).collect();
    assert_eq!(regions, modelled);
}
