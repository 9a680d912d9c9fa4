//! Shared memory, ROM images, files and linear views against the real kernel.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use memory_range::{Access, MemoryRange};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fcntl};
use sparse_alloc::{
    Alignment, Backing, DecommitError, HostRange, LinearViewError, Mappable, MappedRegion,
    Reservation, RomImage, RomImageError, SharedMemory, SharedMemoryError,
};
use support::{PAGE, blocks, byte_at, mappable, memfd, pages, write_at};

use Access::{ReadOnly, ReadWrite};

fn seals(file: impl AsFd) -> SealFlag {
    SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS).unwrap())
}

/// Tries to map a file writable, as another process could that got its descriptor.
fn map_writable(file: impl AsFd) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the kernel picks the address.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, libc::MAP_SHARED, fd, 0) };
    if mapped == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: mapped above, and unknown to anyone.
    assert_eq!(unsafe { libc::munmap(mapped, 4096) }, 0);
    Ok(())
}

#[test]
fn shared_memory_cannot_be_resized() {
    let ram = SharedMemory::new("ram", 4 * PAGE).unwrap();
    let wanted = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    assert!(seals(ram.mappable()).contains(wanted));
    for len in [0, PAGE, 8 * PAGE] {
        let len = libc::off_t::try_from(len).unwrap();
        assert_eq!(
            nix::unistd::ftruncate(ram.mappable(), len),
            Err(Errno::EPERM)
        );
    }
    let more = fcntl(
        ram.mappable(),
        FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE),
    );
    assert_eq!(more, Err(Errno::EPERM));
}

#[test]
fn shared_memory_is_shared_by_all_its_views() {
    let ram = SharedMemory::new("ram", 4 * PAGE).unwrap();
    let backing = Backing::from(ram.mappable().clone());
    let reservation = Arc::new(Reservation::new(8 * PAGE, Alignment::Page).unwrap());
    reservation
        .map(pages(2..6), &backing, 0, ReadWrite)
        .unwrap();
    write_at(&reservation, 3, 0x31).unwrap();
    assert_eq!(byte_at(ram.linear_view(), 1).unwrap(), 0x31);

    let fd = ram.mappable().as_fd().try_clone_to_owned().unwrap();
    let again = SharedMemory::from_fd("again", fd).unwrap();
    drop((ram, reservation));
    assert_eq!(byte_at(again.linear_view(), 1).unwrap(), 0x31);
    assert_eq!(again.len(), 4 * PAGE);
}

#[test]
fn shared_memory_is_neither_dumped_nor_forked() {
    const MIB: u64 = 1 << 20;
    let ram = SharedMemory::new("ram", 4 * MIB).unwrap();
    let backing = Backing::from(ram.mappable().clone());
    let reservation = Reservation::new(8 * MIB, Alignment::Page).unwrap();
    let map = |start, end, offset| {
        let range = MemoryRange::new(start..end);
        reservation.map(range, &backing, offset, ReadWrite).unwrap();
    };
    map(0, 4 * MIB, 0);
    // A part again, so that a new mapping is put beside one that has the flags.
    map(MIB, 2 * MIB, MIB);
    let window = reservation.base().addr().get();
    let linear = ram.linear_view().base().addr().get();
    for addr in [window, window + (1 << 20), window + (3 << 20), linear] {
        let flags = support::vma_flags(addr);
        for flag in ["dd", "dc"] {
            assert!(
                flags.iter().any(|f| f == flag),
                "{flag} is not among {flags:?}"
            );
        }
    }
}

#[test]
fn a_forked_child_does_not_see_shared_memory() {
    let ram = SharedMemory::new("ram", PAGE).unwrap();
    let base = ram.linear_view().base();
    // SAFETY: the child only asks the kernel about an address, and leaves.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: msync with MS_ASYNC changes nothing.
        let there = unsafe { libc::msync(base.as_ptr().cast(), 4096, libc::MS_ASYNC) } == 0;
        // SAFETY: leaves without running anything of the parent's.
        unsafe { libc::_exit(i32::from(there)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "the child found the memory, or died");
}

#[test]
fn refuses_bad_shared_memory() {
    let new = |len| SharedMemory::new("ram", len).unwrap_err();
    assert!(matches!(new(0), SharedMemoryError::Empty { .. }));
    assert!(matches!(
        new(100),
        SharedMemoryError::Unaligned { len: 100, .. }
    ));
    let error = new(!(PAGE - 1));
    assert!(
        matches!(error, SharedMemoryError::Create { .. }),
        "{error:?}"
    );
    // A sparse file can be that long, a mapping cannot.
    let error = new(1 << 50);
    assert!(
        matches!(error, SharedMemoryError::LinearView { .. }),
        "{error:?}"
    );
    for name in ["a\0b", &"x".repeat(250)] {
        let error = SharedMemory::new(name, PAGE).unwrap_err();
        assert!(
            matches!(error, SharedMemoryError::Create { .. }),
            "{error:?}"
        );
    }

    let from_fd = |seals| {
        let fd = memfd(PAGE, 0);
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        SharedMemory::from_fd("ram", fd)
    };
    let missing = |seals| match from_fd(seals) {
        Err(SharedMemoryError::Unsealed { missing, .. }) => missing,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(SealFlag::empty()), "F_SEAL_SHRINK and F_SEAL_GROW");
    assert_eq!(missing(SealFlag::F_SEAL_GROW), "F_SEAL_SHRINK");
    assert_eq!(missing(SealFlag::F_SEAL_SHRINK), "F_SEAL_GROW");
    let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    assert!(from_fd(fixed).is_ok());
    let error = from_fd(fixed | SealFlag::F_SEAL_WRITE).unwrap_err();
    assert!(
        matches!(error, SharedMemoryError::ReadOnly { .. }),
        "{error:?}"
    );

    // Not a memfd at all, and a memfd of half a page.
    let error = SharedMemory::from_fd("null", File::open("/dev/null").unwrap().into()).unwrap_err();
    assert!(
        matches!(error, SharedMemoryError::Unsealed { .. }),
        "{error:?}"
    );
    let odd = memfd(0, 0);
    nix::unistd::ftruncate(&odd, 100).unwrap();
    fcntl(&odd, FcntlArg::F_ADD_SEALS(fixed)).unwrap();
    let error = SharedMemory::from_fd("odd", odd).unwrap_err();
    assert!(
        matches!(error, SharedMemoryError::Unaligned { len: 100, .. }),
        "{error:?}"
    );
}

#[test]
fn a_rom_is_sealed_for_all_but_its_linear_view() {
    let rom = RomImage::from_bytes("rom", &[0x5a; 5000]).unwrap();
    assert_eq!((rom.image_len(), rom.len()), (5000, 8192));
    let wanted = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_FUTURE_WRITE
        | SealFlag::F_SEAL_SEAL;
    assert!(seals(rom.mappable()).contains(wanted));
    assert_eq!(map_writable(rom.mappable()), Err(Errno::EPERM));
    assert_eq!(nix::unistd::ftruncate(rom.mappable(), 0), Err(Errno::EPERM));
    assert_eq!(nix::unistd::write(rom.mappable(), &[1]), Err(Errno::EPERM));
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    assert_eq!(
        nix::fcntl::fallocate(rom.mappable(), punch, 0, 4096),
        Err(Errno::EPERM)
    );

    let range = HostRange::new(rom.linear_view().clone(), 4990, 20).unwrap();
    let mut tail = [1; 20];
    range.read(0, &mut tail).unwrap();
    assert_eq!(tail[..10], [0x5a; 10]);
    assert_eq!(tail[10..], [0; 10], "padded with zeros");
    range.write(0, &[7]).unwrap();
    range.read(0, &mut tail).unwrap();
    assert_eq!(tail[0], 7);

    let error = rom.mappable().decommit(pages(0..1)).unwrap_err();
    assert!(matches!(error, DecommitError::ReadOnly { .. }));
}

#[test]
fn a_rom_does_not_follow_its_file() {
    use std::io::{Read, Seek, SeekFrom, Write};
    let mut file = tempfile::tempfile().unwrap();
    let image: Vec<u8> = (0..200_000_u32).map(|n| (n / 7) as u8).collect();
    file.write_all(&image).unwrap();
    file.seek(SeekFrom::Start(3)).unwrap();
    let rom = RomImage::from_file("rom", &file).unwrap();
    assert_eq!(
        file.stream_position().unwrap(),
        3,
        "the position is not moved"
    );
    let mut byte = [0];
    file.read_exact(&mut byte).unwrap();

    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&[0xff; 200_000]).unwrap();
    file.set_len(10).unwrap();

    let mut copy = vec![0; image.len()];
    let range = HostRange::new(rom.linear_view().clone(), 0, rom.image_len()).unwrap();
    range.read(0, &mut copy).unwrap();
    assert!(copy == image);
}

#[test]
fn refuses_bad_roms() {
    let error = RomImage::from_bytes("rom", &[]).unwrap_err();
    assert!(matches!(error, RomImageError::Empty { .. }));
    let error = RomImage::from_file("dir", &File::open("/").unwrap()).unwrap_err();
    assert!(
        matches!(error, RomImageError::Read { offset: 0, .. }),
        "{error:?}"
    );
}

#[test]
fn a_mappable_allows_what_its_descriptor_does() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(PAGE).unwrap();
    let read_only = File::open(file.path()).unwrap();
    assert_eq!(
        Mappable::from_file("ro", read_only).unwrap().access(),
        ReadOnly
    );
    assert_eq!(
        Mappable::from_file("rw", file.as_file()).unwrap().access(),
        ReadWrite
    );

    for seal in [SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_FUTURE_WRITE] {
        let fd = memfd(PAGE, 0);
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seal)).unwrap();
        assert_eq!(
            Mappable::from_file("sealed", fd).unwrap().access(),
            ReadOnly
        );
    }
}

#[test]
fn the_length_is_that_of_the_file() {
    let fd = memfd(PAGE, 0);
    let mappable = Mappable::from_file("growing", &fd).unwrap();
    assert_eq!(mappable.len().unwrap(), Some(PAGE));
    nix::unistd::ftruncate(&fd, 10_000).unwrap();
    assert_eq!(mappable.len().unwrap(), Some(10_000));
    let zero = Mappable::from_file("zero", File::open("/dev/zero").unwrap()).unwrap();
    assert_eq!(zero.len().unwrap(), None);
}

#[test]
fn the_linear_view_is_made_once_and_stays() {
    let mappable = mappable(4 * PAGE, 0x10);
    assert!(mappable.existing_linear_view().is_none());
    let views: Vec<_> = std::thread::scope(|scope| {
        let make = || mappable.linear_view().unwrap().base().addr();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(views.iter().all(|base| *base == views[0]));
    let view = mappable.clone().linear_view().unwrap().clone();
    assert_eq!((view.len(), view.access()), (4 * PAGE, ReadWrite));
    drop(mappable);
    assert_eq!(byte_at(&view, 3).unwrap(), 0x13);
}

#[test]
fn some_mappables_have_no_linear_view() {
    let empty = mappable(0, 0);
    let error = empty.linear_view().unwrap_err();
    assert!(matches!(error, LinearViewError::Empty { .. }));
    let zero = Mappable::from_file("zero", File::open("/dev/zero").unwrap()).unwrap();
    let error = zero.linear_view().unwrap_err();
    assert!(matches!(error, LinearViewError::NoLength { .. }));
}

#[test]
fn a_linear_view_of_a_read_only_file_refuses_writes() {
    let path = std::env::current_exe().unwrap();
    let program = Mappable::from_file("program", File::open(path).unwrap()).unwrap();
    let view = program.linear_view().unwrap();
    assert_eq!(view.access(), ReadOnly);
    assert_eq!(byte_at(view, 0).unwrap(), 0x7f);
    assert!(write_at(view, 0, 0).is_err());
}

#[test]
fn decommit_frees_shared_memory_and_files() {
    let reservation = Arc::new(Reservation::new(8 * PAGE, Alignment::Page).unwrap());
    let file = tempfile::tempfile().unwrap();
    file.set_len(8 * PAGE).unwrap();
    let ram = SharedMemory::new("ram", 8 * PAGE).unwrap();
    for mappable in [
        ram.mappable().clone(),
        Mappable::from_file("file", &file).unwrap(),
    ] {
        let backing = Backing::from(mappable.clone());
        reservation
            .map(reservation.range(), &backing, 0, ReadWrite)
            .unwrap();
        for page in 0..8 {
            write_at(&reservation, page, 0xee).unwrap();
        }
        nix::unistd::fsync(&mappable).unwrap();
        assert_eq!(blocks(&mappable), 8 * 8, "{mappable:?}");
        match reservation.decommit(pages(2..5), &backing, 2 * PAGE) {
            Err(DecommitError::Failed { source, .. })
                if source.raw_os_error() == Some(libc::EOPNOTSUPP) =>
            {
                println!("skipped: no holes in files of this file system");
                continue;
            }
            result => result.unwrap(),
        }
        assert_eq!(blocks(&mappable), 5 * 8, "{mappable:?}");
        let view = mappable.linear_view().unwrap();
        for page in 0..8 {
            let expected = if (2..5).contains(&page) { 0 } else { 0xee };
            assert_eq!(byte_at(&reservation, page).unwrap(), expected);
            assert_eq!(byte_at(view, page).unwrap(), expected);
        }
    }
    ram.decommit(pages(0..8)).unwrap();
    assert_eq!(blocks(ram.mappable()), 0);
}

#[test]
fn decommit_frees_anonymous_memory() {
    let reservation = Arc::new(Reservation::new(8 * PAGE, Alignment::Page).unwrap());
    reservation
        .map(reservation.range(), &Backing::Anonymous, 0, ReadWrite)
        .unwrap();
    reservation
        .populate(reservation.range(), ReadWrite)
        .unwrap();
    let base = reservation.base().addr().get();
    assert_eq!(support::smaps_kib(base, "Rss"), 32);
    write_at(&reservation, 1, 1).unwrap();
    reservation
        .decommit(pages(0..4), &Backing::Anonymous, 0)
        .unwrap();
    assert_eq!(support::smaps_kib(base, "Rss"), 16);
    assert_eq!(byte_at(&reservation, 1).unwrap(), 0);

    reservation
        .map(pages(0..4), &Backing::Zeros, 0, ReadOnly)
        .unwrap();
    reservation
        .decommit(pages(0..4), &Backing::Zeros, 0)
        .unwrap();
    // Dropping pages as if they were anonymous must not happen to anything else.
    let error = reservation
        .decommit(pages(0..8), &Backing::Anonymous, 0)
        .unwrap_err();
    assert!(matches!(error, DecommitError::NotMapped { range, .. } if range == pages(0..4)));
}

#[test]
fn decommit_refuses_bad_ranges() {
    let ram = SharedMemory::new("ram", 4 * PAGE).unwrap();
    let error = ram.decommit(MemoryRange::EMPTY).unwrap_err();
    assert!(matches!(error, DecommitError::Empty { .. }));
    let error = ram.decommit(pages(3..5)).unwrap_err();
    assert!(matches!(error, DecommitError::PastEnd { size, .. } if size == 4 * PAGE));

    let reservation = Reservation::new(4 * PAGE, Alignment::Page).unwrap();
    let backing = Backing::from(ram.mappable().clone());
    let error = reservation.decommit(pages(0..1), &backing, 0).unwrap_err();
    assert!(matches!(error, DecommitError::NotMapped { .. }));
    reservation
        .map(pages(0..4), &backing, 0, ReadWrite)
        .unwrap();
    let error = reservation.decommit(pages(0..1), &backing, 1).unwrap_err();
    assert!(matches!(error, DecommitError::BadOffset { offset: 1, .. }));
    let error = reservation.decommit(pages(0..9), &backing, 0).unwrap_err();
    assert!(matches!(error, DecommitError::OutOfBounds { .. }));

    let path = std::env::current_exe().unwrap();
    let program = Backing::from(Mappable::from_file("program", File::open(path).unwrap()).unwrap());
    reservation.map(pages(0..4), &program, 0, ReadOnly).unwrap();
    let error = reservation.decommit(pages(0..1), &program, 0).unwrap_err();
    assert!(matches!(error, DecommitError::ReadOnly { .. }));
}

#[test]
fn host_ranges_stay_in_their_region() {
    let ram = SharedMemory::new("ram", 2 * PAGE).unwrap();
    let view = || ram.linear_view().clone();
    for (offset, len) in [
        (0, 2 * PAGE + 1),
        (2 * PAGE, 1),
        (u64::MAX, 1),
        (1, u64::MAX),
    ] {
        let error = HostRange::new(view(), offset, len).unwrap_err();
        assert_eq!(
            (error.offset, error.len, error.region_len),
            (offset, len, 2 * PAGE)
        );
    }
    let empty = HostRange::new(view(), 2 * PAGE, 0).unwrap();
    assert!(empty.is_empty());
    empty.read(0, &mut []).unwrap();
    empty.populate(ReadWrite).unwrap();
    empty.lock().unwrap();

    let range = HostRange::new(view(), 100, 5000).unwrap();
    assert_eq!(range.as_ptr().addr(), view().base().addr().get() + 100);
    assert!(range.write(4999, &[1, 2]).is_err());
    assert!(range.write(u64::MAX, &[1]).is_err());
    let sub = range.sub_range(4000, 1000).unwrap();
    sub.write(999, &[9]).unwrap();
    let mut byte = [0];
    range.read(4999, &mut byte).unwrap();
    assert_eq!(byte, [9]);
    assert!(range.sub_range(4000, 1001).is_err());
    assert!(range.sub_range(u64::MAX, 1).is_err());

    // Whole pages around it.
    range.populate(ReadWrite).unwrap();
    assert_eq!(blocks(ram.mappable()), 16);
    range.lock().unwrap();
    assert!(support::vma_flags(view().base().addr().get()).contains(&"lo".into()));
    range.unlock().unwrap();
}

#[test]
fn a_host_range_tells_how_far_it_got() {
    let reservation = Arc::new(Reservation::new(2 * PAGE, Alignment::Page).unwrap());
    reservation
        .map(pages(0..1), &Backing::Anonymous, 0, ReadWrite)
        .unwrap();
    let range = HostRange::new(reservation.clone(), PAGE - 10, 20).unwrap();
    let error = range.write(2, &[1; 18]).unwrap_err();
    match error {
        sparse_alloc::ReadWriteError::Fault {
            offset: 2,
            done: 8,
            source,
        } => {
            assert_eq!(source.address(), reservation.base().addr().get() + 4096);
        }
        other => panic!("{other:?}"),
    }
}
