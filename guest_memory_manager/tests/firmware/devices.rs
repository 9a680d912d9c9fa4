//! The devices, without a guest.

use crate::fw_cfg::entries::{COMMAND_LINE, KERNEL, SETUP};
use crate::fw_cfg::{self, Entries, FwCfg};
use crate::host_bridge::{self, HostBridge, ShadowRam};
use crate::kernel::Kernel;
use crate::outcome::Failure;
use crate::{debug_port, e820, exit_port, pam, port92};
use guest_memory_manager::RamVisibility::{self, ReadOnly, ReadWrite, Unmapped, WriteOnly};
use guest_memory_manager::{GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, MemoryRange};
use std::io::Write;
use std::sync::{Arc, Mutex};

fn memory() -> GuestMemoryManager {
    let layout = MemoryLayout::new(2 << 20, &[], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    builder.build_now(&layout).unwrap()
}

fn device(memory: &GuestMemoryManager, files: &[(&str, &[u8])]) -> FwCfg {
    let mut entries = Entries::new(2);
    for (name, bytes) in files {
        entries.add_file(name, bytes.to_vec()).unwrap();
    }
    FwCfg::new(entries, memory.client().guest_memory_now())
}

fn select(device: &mut FwCfg, key: u16) {
    device.write(fw_cfg::SELECTOR_PORT, &key.to_le_bytes());
}

fn take<const LEN: usize>(device: &mut FwCfg) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    device.read(fw_cfg::DATA_PORT, &mut bytes);
    bytes
}

/// A DMA request at `at`. Returns what control is afterwards.
fn dma(
    device: &mut FwCfg,
    memory: &GuestMemoryManager,
    at: u64,
    request: [u32; 2],
    to: u64,
) -> u32 {
    let view = memory.client().guest_memory_now();
    let words = [request[0], request[1], (to >> 32) as u32, to as u32];
    let bytes = words.map(u32::to_be_bytes).concat();
    view.write_at(at, &bytes).unwrap();
    device.write(fw_cfg::DMA_HIGH_PORT, &((at >> 32) as u32).to_be_bytes());
    device.write(fw_cfg::DMA_LOW_PORT, &(at as u32).to_be_bytes());
    u32::from_be_bytes(view.read_plain(at).unwrap())
}

#[test]
fn fw_cfg_has_a_directory_of_its_files() {
    let memory = memory();
    let mut device = device(&memory, &[("b", b"two"), ("a", b"first")]);
    select(&mut device, 0);
    assert_eq!(&take::<6>(&mut device), b"QEMU\0\0");
    select(&mut device, 1);
    assert_eq!(take(&mut device), [3, 0, 0, 0]);
    select(&mut device, 5);
    assert_eq!(take(&mut device), [2, 0]);
    select(&mut device, 0x19);
    assert_eq!(u32::from_be_bytes(take(&mut device)), 2);
    for (key, name, len) in [(0x20_u16, b'a', 5_u32), (0x21, b'b', 3)] {
        let entry: [u8; 64] = take(&mut device);
        assert_eq!(entry[..4], len.to_be_bytes());
        assert_eq!(entry[4..6], key.to_be_bytes());
        assert_eq!(entry[8..10], [name, 0]);
    }
    select(&mut device, 0x21);
    assert_eq!(&take::<4>(&mut device), b"two\0");
    // Nothing has this key.
    select(&mut device, 0x99);
    assert_eq!(take(&mut device), [0; 3]);
}

#[test]
fn names_that_the_directory_has_no_room_for_are_refused() {
    let mut entries = Entries::new(1);
    assert!(entries.add_file(&"n".repeat(55), vec![]).is_ok());
    for name in ["", "a\0b", &"n".repeat(56)] {
        assert!(entries.add_file(name, vec![]).is_err(), "{name:?}");
    }
}

#[test]
fn dma_reads_skips_and_selects() {
    let memory = memory();
    let mut device = device(&memory, &[("file", b"0123456789")]);
    let mut signature = [0; 8];
    device.read(fw_cfg::DMA_HIGH_PORT, &mut signature);
    assert_eq!(&signature, b"QEMU CFG");
    let view = memory.client().guest_memory_now();
    // Select and read, skip, read on, past the end.
    assert_eq!(dma(&mut device, &memory, 0x1000, [0x20_000a, 3], 0x2000), 0);
    assert_eq!(&view.read_plain::<[u8; 3]>(0x2000).unwrap(), b"012");
    assert_eq!(dma(&mut device, &memory, 0x1000, [4, 4], 0), 0);
    assert_eq!(dma(&mut device, &memory, 0x1000, [2, 5], 0x2000), 0);
    assert_eq!(&view.read_plain::<[u8; 5]>(0x2000).unwrap(), b"789\0\0");
    // Entries are not written.
    assert_eq!(dma(&mut device, &memory, 0x1000, [0x20_0018, 3], 0x2000), 1);
}

#[test]
fn dma_respects_visibility() {
    let memory = memory();
    let mut device = device(&memory, &[("file", &[0x5a; 0x2000])]);
    let view = memory.client().guest_memory_now();
    let control = memory.ram_visibility_control();
    let segment = pam::segment(0);
    let (request, at) = ([0x20_000a, 0x20], segment.start());
    assert_eq!(dma(&mut device, &memory, 0x1000, request, at), 0);
    assert_eq!(view.read_plain::<u8>(at).unwrap(), 0x5a);
    view.fill_at(at, 0, 0x20).unwrap();
    for state in [ReadOnly, Unmapped, WriteOnly] {
        let set = control.set_ram_visibility_now(segment, state);
        set.unwrap().wait();
        assert_eq!(
            dma(&mut device, &memory, 0x1000, request, at),
            1,
            "{state:?}"
        );
    }
    let set = control.set_ram_visibility_now(segment, ReadWrite);
    set.unwrap().wait();
    assert_eq!(view.read_plain::<[u8; 32]>(at).unwrap(), [0; 32]);
    // A request for which there is no memory at all, and one whose target wraps.
    device.write(fw_cfg::DMA_LOW_PORT, &u32::MAX.to_be_bytes());
    assert_eq!(dma(&mut device, &memory, 0x1000, request, u64::MAX - 4), 1);
}

/// Remembers what it is asked for.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Change>>>);

type Change = Vec<(MemoryRange, RamVisibility)>;

impl ShadowRam for Recorder {
    fn change(&mut self, changes: &[(MemoryRange, RamVisibility)]) -> Result<(), Failure> {
        self.0.lock().unwrap().push(changes.to_vec());
        Ok(())
    }
}

fn config_write(bridge: &mut HostBridge, offset: u32, data: &[u8]) {
    let address = (0x8000_0000 | (offset & 0xfc)).to_le_bytes();
    bridge.write(host_bridge::ADDRESS_PORT, &address).unwrap();
    let port = host_bridge::DATA_PORT + (offset & 3) as u16;
    bridge.write(port, data).unwrap();
}

#[test]
fn one_write_of_pam_registers_is_one_change() {
    let recorder = Recorder::default();
    let mut bridge = HostBridge::new(Box::new(recorder.clone()));
    assert_eq!(bridge.states(), [Unmapped; pam::SEGMENTS]);
    // PAM0 alone, then PAM3 to PAM6 with one write, then the same again.
    config_write(&mut bridge, 0x59, &[0x30]);
    config_write(&mut bridge, 0x5c, &[0x21, 0x03, 0xcc, 0x10]);
    config_write(&mut bridge, 0x5c, &[0x21, 0x03, 0xcc, 0x10]);
    // Identity, class and other registers are no PAM.
    config_write(&mut bridge, 0x00, &[1, 2, 3, 4]);
    config_write(&mut bridge, 0x60, &[0xff; 4]);
    let changes = recorder.0.lock().unwrap().clone();
    assert_eq!(
        changes,
        [
            vec![(pam::segment(12), ReadWrite)],
            vec![
                (pam::segment(4), ReadOnly),
                (pam::segment(5), WriteOnly),
                (pam::segment(6), ReadWrite),
                (pam::segment(11), ReadOnly),
            ],
        ]
    );
    let counts = bridge
        .pam_writes()
        .iter()
        .map(|write| write.transitions.len());
    assert_eq!(counts.collect::<Vec<_>>(), [1, 4, 0]);
    assert_eq!(bridge.states()[4..7], [ReadOnly, WriteOnly, ReadWrite]);

    // What was written reads back; the identity is as ever; other devices are not there.
    let read = |bridge: &mut HostBridge, address: u32| {
        let mut data = [0; 4];
        let address = address.to_le_bytes();
        bridge.write(host_bridge::ADDRESS_PORT, &address).unwrap();
        bridge.read(host_bridge::DATA_PORT, &mut data);
        u32::from_le_bytes(data)
    };
    assert_eq!(read(&mut bridge, 0x8000_0000), 0x1237_8086);
    assert_eq!(read(&mut bridge, 0x8000_005c), 0x10cc_0321);
    assert_eq!(read(&mut bridge, 0x8000_0800), u32::MAX);
    assert_eq!(read(&mut bridge, 0x8001_0000), u32::MAX);
    assert_eq!(read(&mut bridge, 0x0000_0000), u32::MAX);
}

/// Refuses everything.
struct Refuses;

impl ShadowRam for Refuses {
    fn change(&mut self, _: &[(MemoryRange, RamVisibility)]) -> Result<(), Failure> {
        Err("no".into())
    }
}

#[test]
fn a_change_that_fails_leaves_the_registers() {
    let mut bridge = HostBridge::new(Box::new(Refuses));
    let address = 0x8000_0058_u32.to_le_bytes();
    bridge.write(host_bridge::ADDRESS_PORT, &address).unwrap();
    assert!(bridge.write(host_bridge::DATA_PORT + 1, &[0x30]).is_err());
    assert_eq!(bridge.states(), [Unmapped; pam::SEGMENTS]);
    // An access that leaves its register reaches nothing.
    bridge
        .write(host_bridge::DATA_PORT + 3, &[0x11, 0x11])
        .unwrap();
    assert!(bridge.pam_writes().is_empty());
}

#[test]
fn the_segments_are_the_managers_regions() {
    let memory = memory();
    let regions: Vec<_> = memory.ram_visibility_control().regions().collect();
    for index in 0..pam::SEGMENTS {
        assert!(regions.contains(&pam::segment(index)), "{index}");
    }
    let mut registers = [0; pam::REGISTERS];
    registers[0] = 0x10;
    assert_eq!(pam::decode(registers)[12], ReadOnly);
}

/// The smallest file that is a kernel: a boot sector, one sector of setup, and `image`.
pub fn bz_image(image: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 1024];
    file[0x1f1] = 1;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    file[0x211] = 1;
    file.extend(image);
    file
}

#[test]
fn a_kernel_is_offered_in_three_parts() {
    let file = bz_image(b"kernel");
    let kernel = Kernel::parse(&file, "console=ttyS0").unwrap();
    let mut entries = Entries::new(1);
    kernel.offer(&mut entries).unwrap();
    assert!(entries.has_file("genroms/kernel.rom"));
    let get = |key: u16| entries.get(key).unwrap().to_vec();
    let number = |key: u16| u32::from_le_bytes(get(key).try_into().unwrap());
    for ([address, size, data], at, bytes) in [
        (KERNEL, 0x10_0000, b"kernel".to_vec()),
        (COMMAND_LINE, 0x2_0000, b"console=ttyS0\0".to_vec()),
        (SETUP, 0x1_0000, kernel.setup.clone()),
    ] {
        assert_eq!(number(address), at);
        assert_eq!(number(size) as usize, bytes.len());
        assert_eq!(get(data), bytes);
    }
    // The header says who loads, that there is a heap, and where the command line is.
    let setup = get(SETUP[2]);
    assert_eq!(setup.len(), 1024);
    assert_eq!((setup[0x210], setup[0x211]), (0xb0, 0x81));
    assert_eq!(setup[0x224..0x226], 0xfe00_u16.to_le_bytes());
    assert_eq!(setup[0x228..0x22c], 0x2_0000_u32.to_le_bytes());
    assert_eq!(setup[..0x210], file[..0x210]);
}

#[test]
fn what_is_no_kernel_is_refused() {
    let with = |at: usize, byte: u8| {
        let mut file = bz_image(b"kernel");
        file[at] = byte;
        file
    };
    for (file, says) in [
        (vec![], "no Linux kernel"),
        (bz_image(b"")[..0x206].to_vec(), "too short"),
        (with(0x202, b'h'), "no Linux kernel"),
        (with(0x207, 1), "older"),
        (with(0x211, 0), "low"),
        (with(0x1f1, 9), "ends within"),
        (with(0x1f1, 0), "ends within"),
    ] {
        let error = Kernel::parse(&file, "").unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    assert!(Kernel::parse(&bz_image(b"k"), "a\0b").is_err());
}

#[test]
fn small_devices_answer() {
    let mut gate = port92::Port92::default();
    gate.write(0x03);
    assert_eq!(gate.read(), 0x02);
    assert_eq!(exit_port::value(&[0x34, 0x12]), 0x1234);
    assert_eq!(exit_port::value(&[1, 2, 3, 4, 5]), 0x0403_0201);
    let map = e820::encode(&[MemoryRange::new(0x1000..0x3000)]);
    assert_eq!(map.len(), 20);
    assert_eq!(map[..8], 0x1000_u64.to_le_bytes());
    assert_eq!(map[8..16], 0x2000_u64.to_le_bytes());
    assert_eq!(map[16..], [1, 0, 0, 0]);
}

/// A sink that has no room.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_debug_port_finds_its_text_across_writes() {
    let mut port = debug_port::DebugPort::new(Box::new(std::io::sink()), Some("abab"));
    let found: Vec<bool> = [&b"ab"[..], b"", b"aab", b"a", b"b"]
        .into_iter()
        .map(|bytes| port.write(bytes).unwrap())
        .collect();
    assert_eq!(found, [false, false, false, false, true]);
    assert_eq!(port.written(), 7);
    let mut port = debug_port::DebugPort::new(Box::new(Full), None);
    assert!(port.write(b"x").is_err());
}
