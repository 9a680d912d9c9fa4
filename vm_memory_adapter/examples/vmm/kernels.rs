//! linux-loader puts kernels into the guest.

use crate::images::{bzimage, code, elf};
use guest_memory_manager::GuestMemoryManager;
use linux_loader::loader::{BzImage, Elf, KernelLoader, KernelLoaderResult};
use std::io::Cursor;
use std::ops::Range;
use vm_memory::{Bytes, GuestAddress};
use vm_memory_adapter::{BackendSnapshot, SnapshotOptions, View};

/// Below a dozen regions of the PC's first MiB, and over some of them.
const ELF: u64 = 0x9_f800;
const ELF_LEN: usize = 0x6_1234;
const BZIMAGE_LEN: usize = 0x1_0000;

/// Where an ELF file was put.
pub(crate) fn load_elf(manager: &GuestMemoryManager) -> Range<u64> {
    let snapshot = BackendSnapshot::take(manager, &SnapshotOptions::new()).unwrap();
    let bytes = code(ELF_LEN);
    let file = elf(ELF, &[(ELF, &bytes)]);
    let loaded = Elf::load(&*snapshot, None, &mut Cursor::new(file), None).unwrap();
    let mut found = vec![0; bytes.len()];
    snapshot.read_slice(&mut found, GuestAddress(ELF)).unwrap();
    assert!(found == bytes, "the ELF file was put elsewhere");
    range(&loaded)
}

/// Where a bzImage was put.
pub(crate) fn load_bzimage(manager: &GuestMemoryManager) -> Range<u64> {
    let snapshot = BackendSnapshot::take(manager, &SnapshotOptions::new()).unwrap();
    let file = bzimage(&code(BZIMAGE_LEN));
    range(&BzImage::load(&*snapshot, None, &mut Cursor::new(file), None).unwrap())
}

/// Where the distribution's kernel was put, if one is installed that may be read, and fits.
pub(crate) fn load_installed(manager: &GuestMemoryManager) -> Option<(String, Range<u64>)> {
    let images = std::fs::read_dir("/boot").ok()?.flatten();
    let mut images =
        images.filter(|file| file.file_name().to_string_lossy().starts_with("vmlinuz"));
    let (name, mut file) = images.find_map(|file| {
        let name = file.path().to_string_lossy().into_owned();
        Some((name, std::fs::File::open(file.path()).ok()?))
    })?;
    let snapshot = BackendSnapshot::take(manager, &SnapshotOptions::new()).unwrap();
    let loaded = BzImage::load(&*snapshot, None, &mut file, None).ok()?;
    Some((name, range(&loaded)))
}

fn range(loaded: &KernelLoaderResult) -> Range<u64> {
    loaded.kernel_load.0..loaded.kernel_end
}
