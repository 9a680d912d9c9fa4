//! The VMM: how the memory is built, and what it does when the guest asks.

use crate::cpu::{Outcome, Platform};
use crate::guest::{ASK_PORT, REPORT_PORT, Request};
use guest_memory_manager::{
    Acknowledgement, DeviceMemoryControl, DeviceMemoryWindow, GuestMemory, GuestMemoryBuilder,
    GuestMemoryManager, MemoryLayout, MemoryRange, RamVisibility, RomImage,
};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const RAM_SIZE: u64 = 64 << 20;
/// No RAM here: devices.
pub const GAP: MemoryRange = MemoryRange::new(0x300_0000..0x400_0000);
/// RAM of the paravisor's own, which the guest proper never sees.
pub const VTL2_RAM: MemoryRange = MemoryRange::new(0x600_0000..0x610_0000);
/// Where VTL2 sees what VTL0 sees once more; below 4 GiB, for a guest without paging.
pub const ALIAS: u64 = 0x8000_0000;
/// The segment in which a PC's BIOS lies, first as ROM, then as RAM.
pub const BIOS: MemoryRange = MemoryRange::new(0xf_0000..0x10_0000);
/// The device window's length, first place and second place.
pub const WINDOW_LEN: u64 = 0x4000;
pub const WINDOW_FIRST: u64 = 0x300_0000;
pub const WINDOW_SECOND: u64 = 0x380_0000;

/// What the guest finds in the ROM, at its start and at the reset vector.
pub const ROM_START: u32 = 0x4d4f_5221;
pub const ROM_RESET: u32 = 0x5445_5352;
/// What it finds in the device's file.
pub const FILE_START: u32 = 0x454c_4946;

/// What happened while the guest ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest reported a value.
    Reported(u32),
    /// The guest loaded from where no memory is.
    MmioRead { gpa: u64 },
    /// The guest stored to where no memory is, or none that it may write.
    MmioWrite { gpa: u64, value: u32 },
}

/// A change of the map, with how long it took.
pub struct Change {
    pub what: &'static str,
    pub took: Duration,
}

/// What happened since it was last taken.
#[derive(Default)]
pub struct Log {
    pub events: Vec<Event>,
    pub changes: Vec<Change>,
}

/// A VMM of one guest, as far as its memory goes.
pub struct Vmm {
    /// Shared with whoever looks into it while it runs.
    pub memory: Arc<GuestMemoryManager>,
    pub guest_memory: GuestMemory,
    pub device_file: File,
    pub log: Log,
    window_control: DeviceMemoryControl,
    /// Held because the device may show more or less of its file later.
    _window: DeviceMemoryWindow,
    _rom: (DeviceMemoryControl, DeviceMemoryWindow),
    /// A request that this VMM forgets, to show that the demo notices.
    pub ignores: Option<Request>,
}

impl Vmm {
    /// Builds guest memory: RAM in legacy regions around a gap, a ROM under the BIOS segment, a
    /// device window, the paravisor's RAM, and the alias map.
    pub async fn build() -> Outcome<Self> {
        let layout = MemoryLayout::new(RAM_SIZE, &[GAP], Some(VTL2_RAM))?;
        let memory = GuestMemoryBuilder::new()
            .x86_legacy_support(true)
            .vtl0_alias_map(Some(ALIAS))
            .build(&layout)
            .await?;

        // The ROM lies below RAM, so it shows where RAM is unmapped.
        let windows = memory.device_memory_mapper();
        let rom = RomImage::from_bytes("bios", &rom_bytes())?;
        let (mut rom_control, rom_window) = windows.new_region(BIOS.len(), "bios".into())?;
        rom_window.map(0, &rom, 0, BIOS.len(), false)?;
        rom_control.map_to_guest(BIOS.start(), false)?;
        memory
            .ram_visibility_control()
            .set_ram_visibility(BIOS, RamVisibility::Unmapped)
            .await?;

        // A device whose memory is a file.
        let mut device_file = tempfile::tempfile()?;
        device_file.write_all(&device_bytes())?;
        let (mut window_control, window) = windows.new_region(WINDOW_LEN, "bar0".into())?;
        window.map(0, &device_file, 0, WINDOW_LEN, true)?;
        window_control.map_to_guest(WINDOW_FIRST, true)?;

        let guest_memory = memory.client().guest_memory().await?;
        Ok(Self {
            memory: Arc::new(memory),
            guest_memory,
            device_file,
            log: Log::default(),
            window_control,
            _window: window,
            _rom: (rom_control, rom_window),
            ignores: None,
        })
    }

    /// Does what the guest asks for, on the vCPU's own thread: no executor, no other thread.
    fn serve(&mut self, request: Request) -> Outcome<()> {
        if self.ignores == Some(request) {
            return Ok(());
        }
        let visibility = self.memory.ram_visibility_control();
        let start = Instant::now();
        let (what, acknowledgement): (_, Acknowledgement) = match request {
            Request::ShowRam => (
                "RAM shown over the ROM",
                visibility.set_ram_visibility_now(BIOS, RamVisibility::ReadWrite)?,
            ),
            Request::ProtectRam => (
                "RAM made read-only",
                visibility.set_ram_visibility_now(BIOS, RamVisibility::ReadOnly)?,
            ),
            Request::MoveWindow => (
                "device window moved",
                self.window_control.map_to_guest(WINDOW_SECOND, true)?,
            ),
        };
        // The change is complete here; other processes, if there were any, are waited for apart.
        let took = start.elapsed();
        acknowledgement.wait();
        self.log.changes.push(Change { what, took });
        Ok(())
    }
}

impl Platform for Vmm {
    fn port_write(&mut self, port: u8, value: u32) -> Outcome<()> {
        match port {
            REPORT_PORT => self.log.events.push(Event::Reported(value)),
            ASK_PORT => match Request::from_byte(value as u8) {
                Some(request) => self.serve(request)?,
                None => return Err(format!("the guest asked for {value:#x}").into()),
            },
            _ => return Err(format!("the guest wrote {value:#x} to port {port:#x}").into()),
        }
        Ok(())
    }

    fn mmio_read(&mut self, gpa: u64) -> u32 {
        self.log.events.push(Event::MmioRead { gpa });
        // What a bus without a device returns.
        u32::MAX
    }

    fn mmio_write(&mut self, gpa: u64, value: u32) {
        self.log.events.push(Event::MmioWrite { gpa, value });
    }
}

fn rom_bytes() -> Vec<u8> {
    let mut bytes = vec![0xf4; BIOS.len() as usize];
    put(&mut bytes, 0, ROM_START);
    put(&mut bytes, 0xfff0, ROM_RESET);
    bytes
}

fn device_bytes() -> Vec<u8> {
    let mut bytes = vec![0; WINDOW_LEN as usize];
    put(&mut bytes, 0, FILE_START);
    bytes
}

fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
}
