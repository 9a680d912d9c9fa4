//! Leases through everything that a manager does with memory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use guest_memory_manager::{
    GuestMemoryBuilder, GuestMemoryManager, Lease, LeaseAccess, LeaseError, MemoryLayout,
    RamVisibility, RomImage,
};
use support::{memory_of, numbered, numbered_bytes, pages, range};

const READ: LeaseAccess = LeaseAccess::Read;
const WRITE: LeaseAccess = LeaseAccess::Write;
/// What the pages of the ROM begin with, the first of them.
const ROM_WORD: u32 = 0x4f52_0000;

/// A PC of 2 MiB with a ROM under the BIOS segment, hidden by RAM.
fn pc() -> (
    GuestMemoryManager,
    guest_memory_manager::DeviceMemoryControl,
) {
    let layout = MemoryLayout::new(2 << 20, &[], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let manager = builder.build_now(&layout).unwrap();
    let rom = RomImage::from_bytes("bios", &numbered_bytes(16, ROM_WORD)).unwrap();
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x1_0000, "bios".into()).unwrap();
    window.map(0, &rom, 0, 0x1_0000, false).unwrap();
    control.map_to_guest(0xf_0000, false).unwrap();
    (manager, control)
}

/// 1 MiB of RAM, and room for devices from 2 to 4 MiB.
fn layout() -> MemoryLayout {
    MemoryLayout::new(1 << 20, &[range(0x20_0000, 0x40_0000)], None).unwrap()
}

fn word_in(lease: &Lease, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    lease.read(offset, &mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}

/// RAM under the BIOS segment, leased, while firmware shows the ROM, then its own copy, then
/// write-protects it.
#[test]
fn ram_that_a_rom_hides_stays_leased() {
    let (manager, _rom) = pc();
    let memory = memory_of(&manager);
    let visibility = manager.ram_visibility_control();
    let bios = range(0xf_0000, 0x10_0000);
    let set = |to| {
        let _ = visibility.set_ram_visibility_now(bios, to).unwrap();
    };
    memory.write_plain(0xf_0000, &0x1111_u32).unwrap();
    let disk = memory.lock(0xf_0000..0xf_2000, WRITE).unwrap();

    set(RamVisibility::Unmapped);
    assert_eq!(memory.read_plain::<u32>(0xf_0000).unwrap(), ROM_WORD);
    assert_eq!(
        word_in(&disk, 0),
        0x1111,
        "the lease is of the RAM that is hidden"
    );
    disk.write(0x1000, &0x2222_u32.to_le_bytes()).unwrap();
    let rom = memory.lock(bios, READ).unwrap();
    assert_eq!(
        word_in(&rom, 0x1000),
        ROM_WORD + 1,
        "a new one is of the ROM"
    );
    let error = memory.lock(bios, WRITE).unwrap_err();
    assert!(
        matches!(error, LeaseError::ReadOnly { gpa: 0xf_0000, .. }),
        "{error}"
    );

    set(RamVisibility::ReadOnly);
    assert_eq!(memory.read_plain::<u32>(0xf_1000).unwrap(), 0x2222);
    assert_eq!(word_in(&rom, 0), ROM_WORD, "and keeps it");
    disk.write(0x1000, &0x3333_u32.to_le_bytes()).unwrap();
    assert_eq!(
        memory.read_plain::<u32>(0xf_1000).unwrap(),
        0x3333,
        "as DMA would"
    );
    let error = memory.lock(0xf_1000..0xf_1001, WRITE).unwrap_err();
    assert!(
        matches!(error, LeaseError::ReadOnly { gpa: 0xf_1000, .. }),
        "{error}"
    );

    set(RamVisibility::ReadWrite);
    assert_eq!(
        memory
            .lock(0xf_1000..0xf_1004, WRITE)
            .map(|l| word_in(&l, 0))
            .unwrap(),
        0x3333
    );
}

/// A lease across PAM segments of every kind is of what is visible in each.
#[test]
fn a_lease_across_segments_shows_one_moment() {
    let (manager, _rom) = pc();
    let memory = memory_of(&manager);
    for gpa in (0xe_8000..0x10_2000_u64).step_by(0x1000) {
        memory
            .write_plain(gpa, &u32::try_from(gpa).unwrap())
            .unwrap();
    }
    let whole = 0xe_8000..0x10_2000;
    let before = memory.lock(whole.clone(), READ).unwrap();
    assert_eq!(before.slices().len(), 1, "RAM is one backing");
    let visibility = manager.ram_visibility_control();
    for (segment, to) in [
        (range(0xe_8000, 0xe_c000), RamVisibility::ReadOnly),
        (range(0xf_0000, 0x10_0000), RamVisibility::Unmapped),
    ] {
        let _ = visibility.set_ram_visibility_now(segment, to).unwrap();
    }
    let after = memory.lock(whole.clone(), READ).unwrap();
    let slices: Vec<_> = after
        .slices()
        .map(|slice| (slice.gpa(), slice.len()))
        .collect();
    assert_eq!(
        slices,
        [
            (0xe_8000, 0x8000),
            (0xf_0000, 0x1_0000),
            (0x10_0000, 0x2000)
        ]
    );
    for gpa in whole.clone().step_by(0x1000) {
        let ram = u32::try_from(gpa).unwrap();
        let shown = match gpa {
            0xf_0000..0x10_0000 => ROM_WORD + (ram - 0xf_0000) / 0x1000,
            _ => ram,
        };
        assert_eq!(word_in(&before, gpa - whole.start), ram);
        assert_eq!(word_in(&after, gpa - whole.start), shown);
    }
    // Where nothing lies under RAM, there is nothing to lease.
    let segment = range(0xe_8000, 0xe_c000);
    let _ = visibility
        .set_ram_visibility_now(segment, RamVisibility::Unmapped)
        .unwrap();
    let error = memory.lock(whole, READ).unwrap_err();
    assert!(
        matches!(error, LeaseError::Hole { gpa: 0xe_8000, .. }),
        "{error}"
    );
}

/// A window that moves takes its memory with it; the lease stays with the memory.
#[test]
fn a_window_that_moves_stays_leased() {
    let manager = GuestMemoryBuilder::new().build_now(&layout()).unwrap();
    let memory = memory_of(&manager);
    let (first, second) = (numbered("first", 4, 100), numbered("second", 4, 200));
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x4000, "bar".into()).unwrap();
    window.map(0, &first, 0, 0x4000, true).unwrap();
    let (low, high) = (pages(0x200, 0x204), pages(0x300, 0x304));
    memory.lock(low, READ).unwrap_err();
    control.map_to_guest(low.start(), true).unwrap();
    let lease = memory.lock(low, WRITE).unwrap();

    control.map_to_guest(high.start(), true).unwrap();
    let error = memory.lock(low, READ).unwrap_err();
    assert!(matches!(error, LeaseError::Hole { .. }), "{error}");
    lease.write(0x1000, &7_u32.to_le_bytes()).unwrap();
    assert_eq!(memory.read_plain::<u32>(high.start() + 0x1000).unwrap(), 7);

    // Shown in its place: another memory, then another part of the same, then nothing.
    window.map(0, &second, 0, 0x4000, true).unwrap();
    assert_eq!(memory.read_plain::<u32>(high.start()).unwrap(), 200);
    assert_eq!((word_in(&lease, 0), word_in(&lease, 0x1000)), (100, 7));
    window.map(0, &first, 0x2000, 0x2000, true).unwrap();
    assert_eq!(memory.read_plain::<u32>(high.start()).unwrap(), 102);
    assert_eq!((word_in(&lease, 0), word_in(&lease, 0x2000)), (100, 102));
    window.unmap(0, 0x4000).unwrap();
    control.unmap_from_guest();
    drop((control, window));
    lease.write(0, &9_u32.to_le_bytes()).unwrap();

    // Read-only to the guest: then there is no new write lease, and the old one still writes.
    let (mut control, window) = mapper.new_region(0x4000, "bar".into()).unwrap();
    window.map(0, &first, 0, 0x4000, true).unwrap();
    control.map_to_guest(low.start(), false).unwrap();
    assert_eq!(memory.read_plain::<u32>(low.start()).unwrap(), 9);
    let error = memory.lock(low, WRITE).unwrap_err();
    assert!(matches!(error, LeaseError::ReadOnly { .. }), "{error}");
    lease.write(0, &10_u32.to_le_bytes()).unwrap();
    assert_eq!(memory.read_plain::<u32>(low.start()).unwrap(), 10);
}

/// Everything that was built goes; the leases hold RAM and a device's memory until they go.
#[test]
fn leases_outlive_the_manager() {
    const NAME: &str = "outlived-device";
    let open = |name: &str| {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap();
        let names = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        names
            .filter(|fd| fd.to_string_lossy().contains(name))
            .count()
    };
    let (ram, device, backing) = {
        let manager = GuestMemoryBuilder::new().build_now(&layout()).unwrap();
        let memory = memory_of(&manager);
        let shown = numbered(NAME, 1, 5);
        let mapper = manager.device_memory_mapper();
        let (mut control, window) = mapper.new_region(0x1000, "bar".into()).unwrap();
        window.map(0, &shown, 0, 0x1000, true).unwrap();
        control.map_to_guest(0x20_0000, true).unwrap();
        let ram = memory.lock_named(0x8000..0x9000, WRITE, "disk").unwrap();
        let device = memory.lock(0x20_0000..0x20_1000, READ).unwrap();
        (ram, device, manager.shared_memory_backing())
    };
    assert_eq!(word_in(&device, 0), 5);
    ram.write(0, &6_u32.to_le_bytes()).unwrap();
    assert_eq!(open(NAME), 1);
    drop(device);
    assert_eq!(open(NAME), 0);

    // What the lease wrote after the manager was gone is there when the same RAM is built again.
    let builder = GuestMemoryBuilder::new().existing_backing(Some(backing));
    let again = builder.build_now(&layout()).unwrap();
    assert_eq!(memory_of(&again).read_plain::<u32>(0x8000).unwrap(), 6);
    ram.write(4, &7_u32.to_le_bytes()).unwrap();
    assert_eq!(memory_of(&again).read_plain::<u32>(0x8004).unwrap(), 7);
}

/// The manager's tree tells who holds what.
#[test]
fn the_managers_tree_shows_leases() {
    let (manager, _rom) = pc();
    let memory = memory_of(&manager);
    let tree = || {
        let json = inspect::inspect(&manager).to_json();
        let tree: serde_json::Value = serde_json::from_str(&json.to_string()).unwrap();
        tree["mapper"]["leases"].clone()
    };
    let ram_leases = || {
        let tree = tree();
        let backings = tree["backings"].as_object().unwrap();
        let ram = backings
            .values()
            .find(|backing| backing["name"] == "guest-ram")
            .unwrap();
        (
            ram["read_leases"].as_u64().unwrap(),
            ram["write_leases"].as_u64().unwrap(),
        )
    };
    let lease = memory.lock_named(0x1000..0x3000, WRITE, "net 0").unwrap();
    let other = memory.lock(0..0x1000, READ).unwrap();
    assert_eq!(ram_leases(), (1, 1));
    assert_eq!(tree()["holders"]["0"]["name"], "net 0");
    assert_eq!(tree()["holders"]["0"]["range"], "0x1000-0x3000");
    drop((lease, other));
    assert_eq!(ram_leases(), (0, 0));
    assert!(tree()["holders"].as_object().unwrap().is_empty());
}
