//! The guest whose memory is changed: a PC's RAM in legacy regions, a ROM below, device windows.

use guest_memory_manager::{
    DeviceMemoryControl, DeviceMemoryWindow, Fill, GuestMemory, GuestMemoryBuilder,
    GuestMemoryManager, Mappable, MemoryLayout, MemoryRange, PartitionMemoryMap, RamVisibility,
    RamVisibilityControl, RomImage, SharedMemory, Vtl, WindowOptions,
};
use memory_range::PAGE_SIZE;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::sync::Arc;

/// Where devices lie, between the two halves of RAM.
pub(crate) const MMIO: MemoryRange = MemoryRange::new(0x200_0000..0x4000_0000);
/// RAM has that many bytes: below and above [`MMIO`].
pub(crate) const RAM_LEN: u64 = 0x300_0000;
/// A segment with nothing below.
pub(crate) const BARE: MemoryRange = MemoryRange::new(0xc_8000..0xc_c000);
/// A segment with a ROM below.
pub(crate) const SHADOWED: MemoryRange = MemoryRange::new(0xe_4000..0xe_8000);
/// What the twelve segments of PAM1 to PAM6 cover.
pub(crate) const TWELVE: MemoryRange = MemoryRange::new(0xc_0000..0xf_0000);
/// Where the ROM lies.
pub(crate) const ROM: MemoryRange = MemoryRange::new(0xe_0000..0x10_0000);
/// The two places of the device window that moves.
pub(crate) const PLACES: [u64; 2] = [0x3e00_0000, 0x3f00_0000];
/// How long that window is.
pub(crate) const BAR_LEN: u64 = 0x4000;
/// Where windows lie in which much is mapped: one that reads as zeros where nothing is, and one
/// that reads as all-ones.
pub(crate) const DAX: [MemoryRange; 2] = [
    MemoryRange::new(0x3000_0000..0x3400_0000),
    MemoryRange::new(0x3400_0000..0x3800_0000),
];
/// Where in such a window a slice is mapped; of 2 MiB, as virtiofs maps files.
pub(crate) const SLICE: MemoryRange = MemoryRange::new(0x100_0000..0x120_0000);
/// The length of the file of which slices are mapped.
const FILE_LEN: u64 = 2 * SLICE.len();
/// The length of a segment.
const SEGMENT: u64 = 0x4000;

/// A window with its control.
pub(crate) type Window = (DeviceMemoryControl, DeviceMemoryWindow);

/// A guest, and the handles by which its memory is changed.
pub(crate) struct Guest {
    // Before the manager, so that windows go while there is a partition to tell.
    bar: Window,
    dax: [Window; 2],
    dax_file: Mappable,
    _rom: Window,
    _others: Vec<Window>,
    visibility: RamVisibilityControl,
    memory: GuestMemory,
    manager: GuestMemoryManager,
}

impl Guest {
    /// Makes the guest with so many windows more, each of a page and in the guest's sight, and shows
    /// it to a partition.
    pub(crate) fn new(partition: Arc<dyn PartitionMemoryMap>, others: usize) -> Self {
        let layout = MemoryLayout::new(RAM_LEN, &[MMIO], None).unwrap();
        let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
        let manager = builder.build_now(&layout).unwrap();
        manager
            .attach_partition_now(Vtl::Vtl0, partition, None)
            .unwrap();
        let visibility = manager.ram_visibility_control();
        let memory = manager.client().guest_memory_now();
        let regions = visibility.regions().collect::<Vec<_>>();
        assert_eq!(regions.len(), 17);
        for gpa in regions.iter().flat_map(pages) {
            memory.write_plain(gpa, &gpa).unwrap();
        }
        let image = RomImage::from_bytes("rom", &vec![0xee; ROM.len() as usize]).unwrap();
        let rom = window(&manager, "rom", image.mappable(), 0, ROM.len());
        let bar = SharedMemory::new("bar", BAR_LEN).unwrap();
        let bar = window(&manager, "bar", bar.mappable(), 0, BAR_LEN);
        let dax = [(Fill::Zeros, DAX[0]), (Fill::Ones, DAX[1])].map(|(fill, place)| {
            let options = WindowOptions::new().one_slot(fill);
            let mapper = manager.device_memory_mapper();
            let dax = mapper.new_region_with(options, place.len(), "dax".into());
            let (mut control, window) = dax.unwrap();
            control.map_to_guest(place.start(), true).unwrap();
            (control, window)
        });
        let mut guest = Self {
            bar,
            dax,
            dax_file: Mappable::from_file("dax", dax_file()).unwrap(),
            _rom: rom,
            _others: Vec::new(),
            visibility,
            memory,
            manager,
        };
        guest._rom.0.map_to_guest(ROM.start(), false).unwrap();
        guest.add_others(others);
        guest.move_bar(0);
        guest.touch(MemoryRange::new(PLACES[0]..PLACES[0] + BAR_LEN));
        guest
    }

    /// Adds windows side by side. No two that touch continue one another in the file, so that each
    /// is a mapping of its own for the kernel, too.
    fn add_others(&mut self, count: usize) {
        const FILE_PAGES: u64 = 64;
        let file = SharedMemory::new("others", FILE_PAGES * PAGE_SIZE).unwrap();
        for (nth, gpa) in (0..count as u64).zip(pages(&MMIO)) {
            let offset = (FILE_PAGES - 1 - nth % FILE_PAGES) * PAGE_SIZE;
            let mut other = window(&self.manager, "other", file.mappable(), offset, PAGE_SIZE);
            other.0.map_to_guest(gpa, true).unwrap();
            self.memory.read_plain::<u64>(gpa).unwrap();
            self._others.push(other);
        }
    }

    /// Changes how a segment is seen.
    pub(crate) fn show(&self, segment: MemoryRange, visibility: RamVisibility) {
        let _ = self
            .visibility
            .set_ram_visibility_now(segment, visibility)
            .unwrap();
    }

    /// Changes how all of these segments are seen, in one transaction.
    pub(crate) fn show_all(&self, changes: &[(MemoryRange, RamVisibility)]) {
        let _ = self.visibility.set_several_now(changes).unwrap();
    }

    /// Moves the window to one of its places.
    pub(crate) fn move_bar(&mut self, place: usize) {
        let _ = self.bar.0.map_to_guest(PLACES[place], true).unwrap();
    }

    /// Moves the window and changes how a segment is seen, in one transaction.
    pub(crate) fn move_bar_and_show(
        &mut self,
        place: usize,
        segment: MemoryRange,
        visibility: RamVisibility,
    ) {
        let mut change = self.manager.transaction().unwrap();
        change
            .map_to_guest(&mut self.bar.0, PLACES[place], true)
            .unwrap();
        change.set_ram_visibility(segment, visibility).unwrap();
        let _ = change.commit_now().unwrap();
    }

    /// Takes the window out of the guest's sight.
    pub(crate) fn hide_bar(&mut self) {
        let _ = self.bar.0.try_unmap_from_guest().unwrap();
    }

    /// Maps one of the file's two slices in a window in which much is mapped.
    pub(crate) fn map_slice(&self, window: usize, slice: u64) {
        let (window, offset) = (&self.dax[window].1, slice * SLICE.len());
        let _ = window
            .map(SLICE.start(), &self.dax_file, offset, SLICE.len(), true)
            .unwrap();
    }

    /// Takes the slice out again.
    pub(crate) fn unmap_slice(&self, window: usize) {
        let window = &self.dax[window].1;
        let _ = window.unmap(SLICE.start(), SLICE.len()).unwrap();
    }

    /// Reads from every page of a range, so that all are present.
    pub(crate) fn touch(&self, range: MemoryRange) {
        for gpa in pages(&range) {
            self.memory.read_plain::<u64>(gpa).unwrap();
        }
    }
}

/// The twelve segments, each with this visibility.
pub(crate) fn twelve(visibility: RamVisibility) -> Vec<(MemoryRange, RamVisibility)> {
    let starts = (TWELVE.start()..TWELVE.end()).step_by(SEGMENT as usize);
    let segments = starts.map(|start| MemoryRange::new(start..start + SEGMENT));
    segments.map(|segment| (segment, visibility)).collect()
}

/// The address of each page.
pub(crate) fn pages(range: &MemoryRange) -> impl Iterator<Item = u64> + use<> {
    (range.start()..range.end()).step_by(PAGE_SIZE as usize)
}

/// A file as another process may have it, too: nothing says that it keeps its length.
pub(crate) fn dax_file() -> File {
    let file = File::from(memfd_create(c"dax", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(FILE_LEN).unwrap();
    file
}

/// A window that shows so much of a file, and is nowhere yet.
fn window(
    manager: &GuestMemoryManager,
    name: &str,
    file: &Mappable,
    offset: u64,
    len: u64,
) -> Window {
    let mapper = manager.device_memory_mapper();
    let (control, window) = mapper.new_region(len, name.into()).unwrap();
    let writable = file.access().is_writable();
    window.map(0, file, offset, len, writable).unwrap();
    (control, window)
}
