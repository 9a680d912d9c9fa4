//! Populating what is mapped in a range.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use mapping_manager::VaMapper;
use memory_range::{Access, MemoryRange};
use nix::sys::stat::fstat;
use sparse_alloc::{
    Alignment, Backing, Mappable, MappedRegion, PopulateError, PopulateProgress, Populated,
    RomImage, SharedMemory,
};
use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::Arc;

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;
const MIB: u64 = 1 << 20;

fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

fn populate(mapper: &VaMapper, range: MemoryRange) -> Result<u64, PopulateError> {
    let progress = PopulateProgress::new();
    let populated = mapper.populate(range, &progress, None)?;
    assert_eq!(populated, Populated::Completely);
    assert_eq!(progress.done_bytes(), progress.total_bytes());
    Ok(progress.done_bytes())
}

/// How many pages of the mapper's range are in its page tables.
fn present(mapper: &Arc<VaMapper>, range: MemoryRange) -> u64 {
    use std::os::unix::fs::FileExt;
    let base = mapper.reservation().base().addr().get() as u64;
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let mut entries = vec![0; usize::try_from(range.len() / 4096 * 8).unwrap()];
    let first = (base + range.start()) / 4096;
    pagemap.read_exact_at(&mut entries, first * 8).unwrap();
    let (entries, _) = entries.as_chunks::<8>();
    let present = entries
        .iter()
        .filter(|entry| u64::from_ne_bytes(**entry) >> 63 == 1);
    present.count() as u64
}

#[test]
fn what_is_mapped_is_populated_and_nothing_else() {
    let ram = SharedMemory::new("ram", 40 * MIB).unwrap();
    let rom = RomImage::from_bytes("rom", &[1; 0x4000]).unwrap();
    let mapper = VaMapper::new("guest", 1 << 30, Alignment::Page).unwrap();
    let backing = Backing::from(&ram);
    mapper.map(range(0, 20 * MIB), &backing, 0, RW).unwrap();
    mapper.protect(range(MIB, 2 * MIB), RO).unwrap();
    let high = range(24 * MIB, 44 * MIB);
    mapper.map(high, &backing, 20 * MIB, RW).unwrap();
    mapper
        .map(
            range(50 * MIB, 50 * MIB + 0x4000),
            &Backing::from(&rom),
            0,
            RO,
        )
        .unwrap();
    mapper
        .map(range(60 * MIB, 61 * MIB), &Backing::Anonymous, 0, RW)
        .unwrap();
    mapper
        .map(range(64 * MIB, 80 * MIB), &Backing::Ones, 0, RW)
        .unwrap();
    mapper
        .map(range(80 * MIB, 96 * MIB), &Backing::Zeros, 0, RW)
        .unwrap();
    let device = Mappable::from_file("zero", File::open("/dev/zero").unwrap()).unwrap();
    mapper
        .map(range(96 * MIB, 97 * MIB), &Backing::from(device), 0, RO)
        .unwrap();

    // A part of a mapping, from the middle of it.
    let part = range(10 * MIB, 30 * MIB);
    assert_eq!(populate(&mapper, part).unwrap(), 16 * MIB);
    assert_eq!(present(&mapper, range(0, 100 * MIB)) * 4096, 16 * MIB);
    assert_eq!(present(&mapper, part) * 4096, 16 * MIB);
    assert_eq!(fstat(ram.mappable()).unwrap().st_blocks * 512, 16 << 20);

    let all = populate(&mapper, mapper.space()).unwrap();
    assert_eq!(all, 41 * MIB + 0x4000);
    assert_eq!(present(&mapper, range(0, 100 * MIB)) * 4096, all);
    assert_eq!(fstat(ram.mappable()).unwrap().st_blocks * 512, 40 << 20);
    assert_eq!(mapper.guest_memory().read_plain::<u8>(50 * MIB).unwrap(), 1);

    assert_eq!(populate(&mapper, range(100 * MIB, 200 * MIB)).unwrap(), 0);
    assert_eq!(populate(&mapper, MemoryRange::EMPTY).unwrap(), 0);
    let outside = range(0, (1 << 30) + 0x1000);
    let error = populate(&mapper, outside).unwrap_err();
    assert!(
        matches!(error, PopulateError::OutOfBounds { range, len: 0x4000_0000 } if range == outside)
    );
}

#[test]
fn it_can_be_cancelled_and_says_what_is_wrong() {
    let mapper = VaMapper::new("guest", 1 << 30, Alignment::Page).unwrap();
    let ram = SharedMemory::new("ram", 40 * MIB).unwrap();
    mapper
        .map(range(0, 40 * MIB), &Backing::from(&ram), 0, RW)
        .unwrap();
    let progress = PopulateProgress::new();
    progress.cancel();
    let one = NonZeroUsize::new(1);
    let populated = mapper.populate(mapper.space(), &progress, one).unwrap();
    assert_eq!(populated, Populated::InPart);
    assert_eq!(present(&mapper, range(0, 40 * MIB)), 0);

    let memfd = nix::sys::memfd::memfd_create("file", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    let file = File::from(memfd.unwrap());
    file.set_len(20 * MIB).unwrap();
    let backing = Backing::from(Mappable::from_file("file", &file).unwrap());
    let at = range(64 * MIB, 84 * MIB);
    mapper.map(at, &backing, 0, RW).unwrap();
    file.set_len(MIB).unwrap();
    let error = mapper
        .populate(at, &PopulateProgress::new(), one)
        .unwrap_err();
    let chunk = range(64 * MIB, 80 * MIB);
    assert!(
        matches!(error, PopulateError::Inaccessible { range, .. } if range == chunk),
        "{error:?}"
    );
}
