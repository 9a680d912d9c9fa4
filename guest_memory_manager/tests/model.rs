//! The whole facade against a model that paints pages one by one.
//!
//! After every step each page is loaded from and stored to, by a device and by each guest. What
//! they meet (which bytes, or an MMIO exit) must be what the model says; what they store must be
//! found by all the others, DMA targets included.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "model/checks.rs"]
mod checks;
#[path = "model/ops.rs"]
mod ops;
#[path = "model/painted.rs"]
mod painted;
#[path = "dma/recorder.rs"]
mod recorder;
mod support;

use guest_memory_manager::{
    DeviceMemoryControl, DeviceMemoryWindow, DmaOptions, DmaTargetId, GuestMemoryBuilder,
    GuestMemoryManager, MemoryLayout, MemoryTable, MemoryTableEntry, PartitionId, PartitionView,
    RomImage, SharedMemory, SoftwarePartition, Vtl, WindowOptions,
};
use memory_range::{MemoryRange, PAGE_SIZE};
use ops::{Edit, Op, op};
use painted::{Painting, RAM, VTL2_RAM};
use proptest::prelude::*;
use recorder::Record;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use support::{memory_of, numbered, numbered_bytes, pages};

/// Where VTL2 sees VTL0's mirror, as a page number.
const ALIAS: u64 = 0x100;

/// Handles that are held, and the region in the model.
struct Window {
    control: Option<DeviceMemoryControl>,
    window: Option<DeviceMemoryWindow>,
    region: usize,
}

/// The facade and the model side by side.
struct World {
    manager: GuestMemoryManager,
    vtl0: Arc<SoftwarePartition>,
    vtl2: Option<(Arc<SoftwarePartition>, PartitionId)>,
    /// Sees RAM only.
    ram_only: Arc<SoftwarePartition>,
    /// Has RAM and device memory.
    dma: Record,
    late_dma: Option<(Record, DmaTargetId)>,
    table: Arc<Mutex<Vec<MemoryTableEntry>>>,
    windows: Vec<Window>,
    files: Files,
    model: Painting,
    /// The last value that was stored.
    stored: u32,
}

/// What windows can show, six pages each.
struct Files {
    file: File,
    shared: SharedMemory,
    rom: RomImage,
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
        let ram_only = Arc::new(SoftwarePartition::new());
        let view = PartitionView::new().ram_only();
        manager
            .attach_partition_with_now(Vtl::Vtl0, ram_only.clone(), None, view)
            .unwrap();
        let dma = Record::default();
        let options = DmaOptions::new().include_device_memory();
        manager.attach_dma_target(dma.target(), options).unwrap();
        let table = Arc::<Mutex<Vec<MemoryTableEntry>>>::default();
        let sent = table.clone();
        let consumer = MemoryTable::new("vhost", 64, move |entries| {
            *sent.lock().unwrap() = entries.to_vec();
            Ok(())
        });
        manager
            .attach_dma_target(Box::new(consumer), DmaOptions::new())
            .unwrap();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&numbered_bytes(6, painted::FIRST_OF_FILES[0]), 0)
            .unwrap();
        let rom = numbered_bytes(6, painted::FIRST_OF_FILES[2]);
        Self {
            manager,
            vtl0,
            vtl2: None,
            ram_only,
            dma,
            late_dma: None,
            table,
            windows: Vec::new(),
            files: Files {
                file,
                shared: numbered("shared", 6, painted::FIRST_OF_FILES[1]),
                rom: RomImage::from_bytes("rom", &rom).unwrap(),
            },
            model: Painting::new(),
            stored: 0x5000_0000,
        }
    }

    /// The index of a window, if there is any.
    fn nth(&self, window: usize) -> Option<usize> {
        window.checked_rem(self.windows.len())
    }

    /// Makes a step on both sides. Whether it fails must agree.
    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Edit(edit) => self.edit(edit)?,
            Op::Transaction { edits, commit } => self.transaction(edits, *commit)?,
            Op::NewWindow { len, fill } => {
                let mapper = self.manager.device_memory_mapper();
                let options = match fill {
                    Some(fill) => WindowOptions::new().one_slot(*fill),
                    None => WindowOptions::new(),
                };
                let new = mapper.new_region_with(options, len * PAGE_SIZE, "window".into());
                prop_assert_eq!(new.is_ok(), *len > 0);
                if let Ok((control, window)) = new {
                    let region = self.model.new_region(*len, *fill);
                    self.add(control, Some(window), region);
                }
            }
            Op::NewAlias {
                window,
                offset,
                len,
            } => {
                let Some(at) = self.nth(*window) else {
                    return Ok(());
                };
                let Window {
                    window: Some(window),
                    region,
                    ..
                } = &self.windows[at]
                else {
                    return Ok(());
                };
                let new = window.alias(offset * PAGE_SIZE, len * PAGE_SIZE, "alias".into());
                let expected = self.model.new_alias(*region, *offset, *len);
                prop_assert_eq!(new.is_ok(), expected.is_some());
                if let (Ok(control), Some(region)) = (new, expected) {
                    self.add(control, None, region);
                }
            }
            Op::NewRamAlias { start, len } => {
                let mapper = self.manager.device_memory_mapper();
                let new = mapper.ram_alias(pages(*start, start + len), "ram alias".into());
                let expected = self.model.new_ram_alias(*start, *len);
                prop_assert_eq!(new.is_ok(), expected.is_some());
                if let (Ok(control), Some(region)) = (new, expected) {
                    self.add(control, None, region);
                }
            }
            Op::DropControl(window) => {
                let Some(at) = self.nth(*window) else {
                    return Ok(());
                };
                if self.windows[at].control.take().is_some() {
                    self.model.hide(self.windows[at].region);
                }
                self.forget_dropped();
            }
            Op::DropWindow(window) => {
                let Some(at) = self.nth(*window) else {
                    return Ok(());
                };
                self.windows[at].window = None;
                self.forget_dropped();
            }
            Op::Attach => match self.vtl2.take() {
                None => {
                    let partition = Arc::new(SoftwarePartition::new());
                    let id = self
                        .manager
                        .attach_partition_now(Vtl::Vtl2, partition.clone(), None)
                        .unwrap();
                    self.vtl2 = Some((partition, id));
                }
                Some((partition, id)) => {
                    self.manager.detach_partition(id).unwrap();
                    prop_assert_eq!(partition.slots(), []);
                    prop_assert_eq!(partition.broken_rules(), []);
                }
            },
            Op::AttachDma => match self.late_dma.take() {
                None => {
                    let record = Record::default();
                    let options = DmaOptions::new().include_device_memory();
                    let target = record.target();
                    let id = self.manager.attach_dma_target(target, options).unwrap();
                    self.late_dma = Some((record, id));
                }
                Some((record, id)) => {
                    self.manager.detach_dma_target(id).unwrap();
                    prop_assert_eq!(record.held(), []);
                }
            },
        }
        self.model.settle();
        Ok(())
    }

    fn add(
        &mut self,
        control: DeviceMemoryControl,
        window: Option<DeviceMemoryWindow>,
        region: usize,
    ) {
        let control = Some(control);
        self.windows.push(Window {
            control,
            window,
            region,
        });
    }

    /// Makes a change by itself.
    fn edit(&mut self, edit: &Edit) -> Result<(), TestCaseError> {
        let model = &mut self.model;
        let (window, count) = (edit.window(), self.windows.len());
        let held = window.and_then(|window| self.windows.get_mut(window.checked_rem(count)?));
        match (edit, held) {
            (Edit::SetRam(nth, visibility), _) => {
                let control = self.manager.ram_visibility_control();
                if let Some(range) = control.regions().nth(*nth) {
                    let set = control.set_ram_visibility_now(range, *visibility);
                    set.unwrap().wait();
                    model.set_ram(*nth, *visibility);
                }
            }
            (_, None) => {}
            (Edit::Show(_, gpa, writable), Some(held)) => {
                if let Some(control) = &mut held.control {
                    let shown = control.map_to_guest(gpa * PAGE_SIZE, *writable).is_ok();
                    prop_assert_eq!(shown, model.show(held.region, *gpa, *writable));
                }
            }
            (Edit::Hide(_), Some(held)) => {
                if let Some(control) = &mut held.control {
                    control.unmap_from_guest();
                    prop_assert_eq!(control.gpa().unwrap(), None);
                    model.hide(held.region);
                }
            }
            (
                Edit::Map {
                    offset,
                    file,
                    file_offset,
                    len,
                    writable,
                    ..
                },
                Some(held),
            ) => {
                if let Some(window) = &held.window {
                    let [at, from, bytes] = [offset, file_offset, len].map(|n| n * PAGE_SIZE);
                    let files = &self.files;
                    let mapped = match file {
                        0 => window.map(at, &files.file, from, bytes, *writable),
                        1 => window.map(at, &files.shared, from, bytes, *writable),
                        _ => window.map(at, &files.rom, from, bytes, *writable),
                    };
                    let (region, file) = (held.region, *file);
                    let expected = model.map(region, *offset, file, *file_offset, *len, *writable);
                    prop_assert_eq!(mapped.is_ok(), expected);
                }
            }
            (Edit::Unmap(_, offset, len), Some(held)) => {
                if let Some(window) = &held.window {
                    let unmapped = window.unmap(offset * PAGE_SIZE, len * PAGE_SIZE);
                    let expected = model.unmap(held.region, *offset, *len);
                    prop_assert_eq!(unmapped.is_ok(), expected);
                }
            }
        }
        Ok(())
    }

    /// Makes several changes as one, or abandons them.
    fn transaction(&mut self, edits: &[Edit], commit: bool) -> Result<(), TestCaseError> {
        let before = self.model.clone();
        let ranges: Vec<MemoryRange> = self.manager.ram_visibility_control().regions().collect();
        let (model, files, count) = (&mut self.model, &self.files, self.windows.len());
        let mut change = self.manager.transaction().unwrap();
        for edit in edits {
            let window = edit.window();
            let held = window.and_then(|window| self.windows.get_mut(window.checked_rem(count)?));
            match (edit, held) {
                (Edit::SetRam(nth, visibility), _) => {
                    if let Some(range) = ranges.get(*nth) {
                        change.set_ram_visibility(*range, *visibility).unwrap();
                        model.set_ram(*nth, *visibility);
                        let planned = change.ram_visibility(*range).unwrap();
                        prop_assert_eq!(planned, *visibility);
                    }
                }
                (_, None) => {}
                (Edit::Show(_, gpa, writable), Some(held)) => {
                    if let Some(control) = &mut held.control {
                        let shown = change.map_to_guest(control, gpa * PAGE_SIZE, *writable);
                        let expected = model.show(held.region, *gpa, *writable);
                        prop_assert_eq!(shown.is_ok(), expected);
                    }
                }
                (Edit::Hide(_), Some(held)) => {
                    if let Some(control) = &mut held.control {
                        change.unmap_from_guest(control).unwrap();
                        prop_assert_eq!(change.gpa(control).unwrap(), None);
                        model.hide(held.region);
                    }
                }
                (
                    Edit::Map {
                        offset,
                        file,
                        file_offset,
                        len,
                        writable,
                        ..
                    },
                    Some(held),
                ) => {
                    if let Some(window) = &held.window {
                        let [at, from, bytes] = [offset, file_offset, len].map(|n| n * PAGE_SIZE);
                        let mapped = match file {
                            0 => change.map(window, at, &files.file, from, bytes, *writable),
                            1 => change.map(window, at, &files.shared, from, bytes, *writable),
                            _ => change.map(window, at, &files.rom, from, bytes, *writable),
                        };
                        let (region, file) = (held.region, *file);
                        let expected =
                            model.map(region, *offset, file, *file_offset, *len, *writable);
                        prop_assert_eq!(mapped.is_ok(), expected);
                    }
                }
                (Edit::Unmap(_, offset, len), Some(held)) => {
                    if let Some(window) = &held.window {
                        let unmapped = change.unmap(window, offset * PAGE_SIZE, len * PAGE_SIZE);
                        let expected = model.unmap(held.region, *offset, *len);
                        prop_assert_eq!(unmapped.is_ok(), expected);
                    }
                }
            }
        }
        if commit {
            change.commit_now().unwrap().wait();
        } else {
            drop(change);
            self.model = before;
        }
        Ok(())
    }

    /// A region is gone when both of its handles are.
    fn forget_dropped(&mut self) {
        let model = &mut self.model;
        self.windows.retain(|held| {
            let is_held = held.control.is_some() || held.window.is_some();
            if !is_held {
                model.remove(held.region);
            }
            is_held
        });
    }

    fn next_value(&mut self) -> u32 {
        self.stored += 1;
        self.stored
    }
}

impl Edit {
    /// The window that it names.
    fn window(&self) -> Option<usize> {
        match self {
            Self::SetRam(..) => None,
            Self::Show(window, ..)
            | Self::Hide(window)
            | Self::Map { window, .. }
            | Self::Unmap(window, ..) => Some(*window),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn everyone_sees_what_the_model_paints(ops in prop::collection::vec(op(), 1..40)) {
        let mut world = World::new();
        world.check()?;
        // Never without windows that can lie over one another.
        let first = [(3, None), (5, Some(guest_memory_manager::Fill::Ones)), (8, None)];
        let first = first.map(|(len, fill)| Op::NewWindow { len, fill });
        for op in first.iter().chain(&ops) {
            world.step(op)?;
            world.check()?;
        }
        // Whatever order things go in, nothing is left in sight.
        let World { manager, vtl0, vtl2, ram_only, dma, late_dma, table, windows, .. } = world;
        let memory = memory_of(&manager);
        drop(manager);
        prop_assert_eq!(vtl0.slots(), []);
        prop_assert_eq!(ram_only.slots(), []);
        prop_assert!(vtl2.is_none_or(|(vtl2, _)| vtl2.slots().is_empty()));
        prop_assert_eq!(dma.held(), []);
        prop_assert!(late_dma.is_none_or(|(late, _)| late.held().is_empty()));
        prop_assert_eq!(table.lock().unwrap().len(), 0);
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
