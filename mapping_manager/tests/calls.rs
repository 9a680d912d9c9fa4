//! Which system calls a change takes, whatever it is a change of.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use mapping_manager::{Cause, LeaseAccess, LeaseError, VaMapper};
use memory_range::{Access, MemoryRange};
use sparse_alloc::{
    Alignment, Backing, CallCounts, ProtectError, RomImage, SharedMemory, UnmapError,
};
use std::sync::Arc;

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;
const MIB: u64 = 1 << 20;

fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

/// The calls that `change` makes.
fn calls(mapper: &VaMapper, change: impl FnOnce()) -> CallCounts {
    let before = mapper.reservation().calls();
    change();
    let after = mapper.reservation().calls();
    CallCounts {
        map: after.map - before.map,
        unmap: after.unmap - before.unmap,
        protect: after.protect - before.protect,
        advise: after.advise - before.advise,
        lock: after.lock - before.lock,
        unlock: after.unlock - before.unlock,
    }
}

const NONE: CallCounts = CallCounts {
    map: 0,
    unmap: 0,
    protect: 0,
    advise: 0,
    lock: 0,
    unlock: 0,
};
const ONE_MAP: CallCounts = CallCounts { map: 1, ..NONE };
const ONE_PROTECT: CallCounts = CallCounts { protect: 1, ..NONE };

/// A mapper with 4 MiB of RAM and, behind them, a number of other mappings.
fn mapper(others: u64) -> (Arc<VaMapper>, Backing) {
    let ram = Backing::from(&SharedMemory::new("ram", 4 * MIB).unwrap());
    let other = Backing::from(&SharedMemory::new("other", 0x1000).unwrap());
    let mapper = VaMapper::new("guest", 1 << 30, Alignment::Page).unwrap();
    mapper.map(range(0, 4 * MIB), &ram, 0, RW).unwrap();
    for n in 0..others {
        let start = 8 * MIB + n * 0x2000;
        mapper
            .map(range(start, start + 0x1000), &other, 0, RO)
            .unwrap();
    }
    (mapper, ram)
}

#[test]
fn a_segment_is_switched_by_one_call() {
    let (mapper, ram) = mapper(100);
    let rom = Backing::from(&RomImage::from_bytes("rom", &[0x55; 0x20000]).unwrap());
    let segment = range(0xe_0000, 0xe_4000);
    let memory = mapper.guest_memory();
    for _ in 0..3 {
        for access in [RO, RW] {
            let made = calls(&mapper, || mapper.protect(segment, access).unwrap());
            assert_eq!(made, ONE_PROTECT);
        }
        let made = calls(&mapper, || mapper.map(segment, &rom, 0, RO).unwrap());
        assert_eq!(made, ONE_MAP);
        assert_eq!(memory.read_plain::<u8>(0xe_0000).unwrap(), 0x55);
        for access in [RO, RW] {
            let made = calls(&mapper, || {
                mapper.map(segment, &ram, 0xe_0000, access).unwrap()
            });
            assert_eq!(made, ONE_MAP);
        }
        // Whoever asks sees one mapping, as if nothing had been.
        let (whole, _) = mapper.mapping_at(0xe_1000).unwrap();
        assert_eq!(whole, range(0, 4 * MIB));
        assert_eq!(mapper.mappings().len(), 101);
        let lease = memory.lock(0xd_f000..0xe_5000, LeaseAccess::Write).unwrap();
        assert_eq!(lease.slices().len(), 1);
    }
    // Of 12 segments that were switched one by one, all at once is one call again.
    let all = range(0xc_0000, 0xf_0000);
    for n in 0..12 {
        let start = 0xc_0000 + n * 0x4000;
        mapper.protect(range(start, start + 0x4000), RO).unwrap();
    }
    for access in [RW, RO, RW] {
        let made = calls(&mapper, || mapper.protect(all, access).unwrap());
        assert_eq!(made, ONE_PROTECT);
    }
}

#[test]
fn refused_changes_make_no_call() {
    let (mapper, _) = mapper(1);
    let rom = Backing::from(&RomImage::from_bytes("rom", &[0x55; 0x1000]).unwrap());
    mapper
        .map(range(5 * MIB, 5 * MIB + 0x1000), &rom, 0, RO)
        .unwrap();
    let before = mapper.reservation().calls();
    let error = mapper.protect(range(3 * MIB, 6 * MIB), RO).unwrap_err();
    let hole = range(4 * MIB, 5 * MIB);
    assert!(matches!(error, ProtectError::NotMapped { hole: found, .. } if found == hole));
    let error = mapper
        .protect(range(8 * MIB, 8 * MIB + 0x3000), RO)
        .unwrap_err();
    let hole = range(8 * MIB + 0x1000, 8 * MIB + 0x3000);
    assert!(matches!(error, ProtectError::NotMapped { hole: found, .. } if found == hole));
    let part = range(5 * MIB, 5 * MIB + 0x1000);
    let error = mapper.protect(part, RW).unwrap_err();
    assert!(matches!(error, ProtectError::ReadOnly { part: found, .. } if found == part));
    let error = mapper.protect(range(0, 2 << 30), RO).unwrap_err();
    assert!(matches!(error, ProtectError::OutOfBounds { .. }));
    let error = mapper.protect(MemoryRange::EMPTY, RO).unwrap_err();
    assert!(matches!(error, ProtectError::Empty { .. }));
    let error = mapper.unmap(range(0, 2 << 30)).unwrap_err();
    assert!(matches!(error, UnmapError::OutOfBounds { .. }));
    let error = mapper.unmap(MemoryRange::EMPTY).unwrap_err();
    assert!(matches!(error, UnmapError::Empty { .. }));
    mapper.unmap(range(6 * MIB, 7 * MIB)).unwrap();
    assert_eq!(mapper.reservation().calls(), before);
    // What was read-only already may be made so again.
    mapper.protect(part, RO).unwrap();
}

/// A window of which slices come and go: each is one call, and what is between them is the fill.
#[test]
fn a_slice_of_a_filled_window_is_one_call() {
    for (fill, byte) in [(Backing::Ones, 0xff_u8), (Backing::Zeros, 0)] {
        let (mapper, ram) = mapper(100);
        let memory = mapper.guest_memory();
        let window = range(512 * MIB, 520 * MIB);
        mapper.map(window, &fill, 0, RW).unwrap();
        for start in [512 * MIB, 513 * MIB + 0x3000, 515 * MIB + 0x1000] {
            let slice = range(start, start + 2 * MIB);
            let made = calls(&mapper, || mapper.map(slice, &ram, 0x1000, RO).unwrap());
            // Two more keep a long mapping of shared memory out of core dumps.
            assert_eq!(
                made,
                CallCounts {
                    advise: 2,
                    ..ONE_MAP
                }
            );
            let offset = start - window.start();
            let made = calls(&mapper, || mapper.map(slice, &fill, offset, RW).unwrap());
            assert_eq!(made, ONE_MAP);
            assert_eq!(mapper.mapping_at(start).unwrap().0, window);
        }
        for gpa in (window.start()..window.end()).step_by(0x1000) {
            assert_eq!(
                memory.read_plain::<u8>(gpa).unwrap(),
                byte,
                "{fill} {gpa:#x}"
            );
        }
        // A write stays where it was made, until something is mapped over it.
        let gpa = 514 * MIB;
        memory.write_plain(gpa, &7_u8).unwrap();
        assert_eq!(memory.read_plain::<u8>(gpa).unwrap(), 7);
        assert_eq!(memory.read_plain::<u8>(gpa + 2 * MIB).unwrap(), byte);
        let page = range(gpa, gpa + 0x1000);
        mapper.map(page, &fill, gpa - window.start(), RO).unwrap();
        assert_eq!(memory.read_plain::<u8>(gpa).unwrap(), byte);
        let error = memory.write_plain(gpa, &7_u8).unwrap_err();
        assert_eq!(error.cause(), Cause::ReadOnly { gpa });

        match memory.lock(gpa..gpa + 8, LeaseAccess::Read) {
            Err(LeaseError::NotShared {
                backing, gpa: at, ..
            }) => {
                assert_eq!((backing.as_str(), at), (fill.name(), gpa));
            }
            other => panic!("{other:?}"),
        }
    }
}
