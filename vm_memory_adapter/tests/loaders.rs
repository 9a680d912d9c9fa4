//! linux-loader puts kernels into a guest with legacy regions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::RamVisibility;
use linux_loader::cmdline::Cmdline;
use linux_loader::loader::{BzImage, Elf, KernelLoader, load_cmdline};
use std::io::Cursor;
use support::{GAP, LOW_END, RAM_END, pc, segment, set};
use vm_memory::GuestAddress;
use vm_memory_adapter::{BackendSnapshot, SnapshotOptions, View};

/// Bytes that differ from place to place.
fn code(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 253) as u8).collect()
}

/// An ELF file with a program header for each segment: its address, and its bytes.
fn elf(entry: u64, segments: &[(u64, &[u8])]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |file: &mut Vec<u8>, value: u16| file.extend_from_slice(&value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend_from_slice(&value.to_le_bytes());
    let long = |file: &mut Vec<u8>, value: u64| file.extend_from_slice(&value.to_le_bytes());
    half(&mut file, 2); // An executable,
    half(&mut file, 62); // of x86-64.
    word(&mut file, 1);
    long(&mut file, entry);
    long(&mut file, 64); // Program headers follow;
    long(&mut file, 0); // there are no section headers.
    word(&mut file, 0);
    half(&mut file, 64);
    half(&mut file, 56);
    half(&mut file, segments.len() as u16);
    half(&mut file, 0);
    half(&mut file, 0);
    half(&mut file, 0);
    let mut offset = 64 + 56 * segments.len() as u64;
    for (address, bytes) in segments {
        word(&mut file, 1); // To be loaded.
        word(&mut file, 5);
        long(&mut file, offset);
        long(&mut file, *address);
        long(&mut file, *address);
        long(&mut file, bytes.len() as u64);
        long(&mut file, bytes.len() as u64);
        long(&mut file, 0x1000);
        offset += bytes.len() as u64;
    }
    for (_, bytes) in segments {
        file.extend_from_slice(bytes);
    }
    file
}

/// A bzImage: two sectors with the setup header, then the kernel.
fn bzimage(kernel: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 1024];
    file[0x1f1] = 1; // One setup sector after the first.
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20c_u16.to_le_bytes());
    file[0x211] = 1; // Loaded high.
    file[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    file.extend_from_slice(kernel);
    file
}

#[test]
fn an_elf_file_is_loaded_across_legacy_regions() {
    let manager = pc();
    let snapshot = BackendSnapshot::take(&manager, &SnapshotOptions::new()).unwrap();
    // Over 0xa0000 and a dozen segments; and above the gap.
    let (low, high) = (code(0x6_1234), code(0x3456));
    let (low_at, high_at) = (0x9_f800, GAP.end() + 0x10);
    let file = elf(low_at, &[(low_at, &low), (high_at, &high)]);
    let loaded = Elf::load(&*snapshot, None, &mut Cursor::new(file), None).unwrap();
    assert_eq!(loaded.kernel_load, GuestAddress(low_at));
    assert_eq!(loaded.kernel_end, high_at + high.len() as u64);

    let memory = manager.client().guest_memory_now();
    for (at, bytes) in [(low_at, &low), (high_at, &high)] {
        let mut found = vec![0; bytes.len()];
        memory.read_at(at, &mut found).unwrap();
        assert!(found == **bytes, "at {at:#x}");
    }

    let mut cmdline = Cmdline::new(64).unwrap();
    cmdline.insert_str("console=ttyS0").unwrap();
    load_cmdline(&*snapshot, GuestAddress(0x2_0000), &cmdline).unwrap();
    let mut found = [0; 14];
    memory.read_at(0x2_0000, &mut found).unwrap();
    assert_eq!(&found, b"console=ttyS0\0");
}

#[test]
fn a_bzimage_is_loaded_where_its_header_says() {
    let manager = pc();
    let snapshot = BackendSnapshot::take(&manager, &SnapshotOptions::new()).unwrap();
    let kernel = code(0x8_4321);
    let image = bzimage(&kernel);
    let himem = Some(GuestAddress(0x10_0000));
    let loaded = BzImage::load(&*snapshot, None, &mut Cursor::new(&image), himem).unwrap();
    assert_eq!(loaded.kernel_load, GuestAddress(0x10_0000));
    assert_eq!(loaded.kernel_end, 0x10_0000 + kernel.len() as u64);
    let mut found = vec![0; kernel.len()];
    let memory = manager.client().guest_memory_now();
    memory.read_at(0x10_0000, &mut found).unwrap();
    assert!(found == kernel);

    // Where there is no room, the loader says so.
    let at = Some(GuestAddress(LOW_END - 0x1000));
    assert!(BzImage::load(&*snapshot, at, &mut Cursor::new(&image), himem).is_err());
    let at = Some(GuestAddress(RAM_END));
    assert!(BzImage::load(&*snapshot, at, &mut Cursor::new(&image), himem).is_err());
}

#[test]
fn nothing_is_loaded_into_memory_that_is_read_only() {
    let manager = pc();
    set(&manager, segment(0), RamVisibility::ReadOnly);
    let snapshot = BackendSnapshot::take(&manager, &SnapshotOptions::new()).unwrap();
    let bytes = code(0x5000);
    let at = segment(0).start() - 0x1000;
    let file = elf(at, &[(at, &bytes)]);
    assert!(Elf::load(&*snapshot, None, &mut Cursor::new(file), None).is_err());
    let memory = manager.client().guest_memory_now();
    assert_eq!(memory.read_plain::<u64>(segment(0).start()).unwrap(), 0);
}

/// The distribution's kernel, where one is installed and can be read.
#[test]
fn an_installed_kernel_is_loaded() {
    let images = std::fs::read_dir("/boot").into_iter().flatten().flatten();
    let mut images =
        images.filter(|file| file.file_name().to_string_lossy().starts_with("vmlinuz"));
    let Some(mut file) = images.find_map(|file| std::fs::File::open(file.path()).ok()) else {
        println!("no kernel is installed here");
        return;
    };
    let layout = guest_memory_manager::MemoryLayout::new(256 << 20, &[], None).unwrap();
    let builder = guest_memory_manager::GuestMemoryBuilder::new().x86_legacy_support(true);
    let manager = builder.build_now(&layout).unwrap();
    let snapshot = BackendSnapshot::take(&manager, &SnapshotOptions::new()).unwrap();
    let himem = Some(GuestAddress(0x10_0000));
    let loaded = BzImage::load(&*snapshot, None, &mut file, himem).unwrap();
    assert!(loaded.kernel_end > loaded.kernel_load.0);
    let memory = manager.client().guest_memory_now();
    assert_ne!(memory.read_plain::<u64>(loaded.kernel_load.0).unwrap(), 0);
}
