//! Files that cannot be mapped, or no longer.

use crate::support::{cause, chain, memory_of};
use crate::{GAP, account, pc};
use guest_memory_manager::{
    Cause, ChangeError, DeviceMemoryControl, DeviceMemoryError, DeviceMemoryWindow, GuestAccess,
    GuestMemoryManager, ToMappable,
};
use memory_range::PAGE_SIZE;
use partition_mapper::GuestAccessError;
use sparse_alloc::MappableError;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use tempfile::NamedTempFile;

const FOUR_PAGES: u64 = 4 * PAGE_SIZE;

fn file_of(pages: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(pages * PAGE_SIZE).unwrap();
    file
}

/// A window of four pages that the guest sees.
fn shown(manager: &GuestMemoryManager) -> (DeviceMemoryControl, DeviceMemoryWindow) {
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(FOUR_PAGES, "window".into()).unwrap();
    control.map_to_guest(GAP.start(), true).unwrap();
    (control, window)
}

/// The file is refused, and nothing changes.
#[track_caller]
fn refused(file: &impl ToMappable, writable: bool) -> DeviceMemoryError {
    let (manager, partition) = pc();
    let (control, window) = shown(&manager);
    let before = (account(&manager), partition.slots());
    let error = window.map(0, file, 0, PAGE_SIZE, writable).unwrap_err();
    assert_eq!((account(&manager), partition.slots()), before);
    drop(control);
    error
}

#[test]
fn a_closed_descriptor() {
    let file = file_of(1);
    // A number that nobody else gets while it is closed.
    // SAFETY: takes numbers only.
    let number = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 900) };
    assert!(number >= 900, "{}", io::Error::last_os_error());
    // SAFETY: made above, and owned by nobody else.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    // SAFETY: nothing is done with it but calls that take any number, and answer EBADF.
    let closed = unsafe { BorrowedFd::borrow_raw(number) };
    let error = refused(&closed, true);
    let error: &io::Error = cause(&error).unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

#[test]
fn what_has_no_bytes_to_map() {
    let (pipe, _writer) = io::pipe().unwrap();
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let things: [(&str, OwnedFd); 3] = [
        ("pipe", pipe.into()),
        ("directory", File::open("/").unwrap().into()),
        ("socket", socket.into()),
    ];
    for (expected, thing) in things {
        let error = refused(&thing, false);
        match cause::<MappableError>(&error) {
            Some(MappableError::Kind { kind, .. }) => assert_eq!(*kind, expected),
            _ => panic!("{}", chain(&error)),
        }
    }
    // SAFETY: takes numbers only.
    let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    assert!(event >= 0);
    // SAFETY: made above, and owned by nobody else.
    let event = unsafe { OwnedFd::from_raw_fd(event) };
    let error = refused(&event, true);
    assert!(
        matches!(cause(&error), Some(MappableError::Refused { .. })),
        "{}",
        chain(&error)
    );
}

#[test]
fn what_is_not_open_for_that() {
    let file = file_of(1);
    let write_only = File::options().write(true).open(file.path()).unwrap();
    let error = refused(&write_only, true);
    assert!(matches!(
        cause(&error),
        Some(MappableError::NotReadable { .. })
    ));
    let read_only = File::open(file.path()).unwrap();
    let error = refused(&read_only, true);
    assert!(matches!(error, DeviceMemoryError::ReadOnlyFile { .. }));

    // For reading it can be mapped, and a guest's stores leave, even where the window allows them.
    let (manager, partition) = pc();
    let (_control, window) = shown(&manager);
    window.map(0, &read_only, 0, PAGE_SIZE, false).unwrap();
    let store = partition.store(GAP.start(), &[1]).unwrap();
    assert!(matches!(store, GuestAccess::Mmio(_)));
    let write = memory_of(&manager)
        .write_plain(GAP.start(), &1_u8)
        .unwrap_err();
    assert_eq!(write.cause(), Cause::ReadOnly { gpa: GAP.start() });
    let forced = memory_of(&manager)
        .write_read_only_at(GAP.start(), &[1])
        .unwrap_err();
    assert_eq!(forced.cause(), Cause::ReadOnlyBacking { gpa: GAP.start() });
}

/// A device says only when it is mapped that it cannot be.
#[test]
fn a_device_that_refuses_to_be_mapped() {
    let (manager, partition) = pc();
    let (mut control, window) = shown(&manager);
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let before = (account(&manager), partition.slots());
    let error = window.map(0, &null, 0, PAGE_SIZE, true).unwrap_err();
    let told: &io::Error = cause(&error).unwrap();
    assert_eq!(told.raw_os_error(), Some(libc::ENODEV), "{}", chain(&error));
    assert_eq!((account(&manager), partition.slots()), before);
    // Put there while nobody sees it, it cannot be shown.
    control.unmap_from_guest();
    window.map(0, &null, 0, PAGE_SIZE, true).unwrap();
    let slots = partition.slots();
    assert!(matches!(
        control.map_to_guest(GAP.start(), true),
        Err(ChangeError::Commit(_))
    ));
    assert_eq!(partition.slots(), slots);
    assert_eq!(control.gpa().unwrap(), None);
    assert_eq!(manager.damaged(), Some(Vec::new()));
}

#[test]
fn a_file_that_is_shorter_than_its_mapping() {
    let cases = [
        (0, 1),
        (1, 1),
        (PAGE_SIZE - 1, 1),
        (PAGE_SIZE, 2),
        (2 * PAGE_SIZE - 1, 2),
    ];
    for (len, mapped) in cases {
        let file = file_of(0);
        file.as_file().set_len(len).unwrap();
        let (manager, _partition) = pc();
        let (mut control, window) = shown(&manager);
        // Also where nobody sees it: what could never be shown would be kept there.
        for in_sight in [true, false] {
            if !in_sight {
                control.unmap_from_guest();
            }
            let map = |pages| window.map(0, file.as_file(), 0, pages * PAGE_SIZE, true);
            let error = map(mapped).unwrap_err();
            assert!(
                matches!(error, DeviceMemoryError::PastEndOfFile { .. }),
                "{error}"
            );
            if mapped > 1 {
                map(mapped - 1).unwrap();
            }
        }
        control.map_to_guest(GAP.start(), true).unwrap();
    }
}

/// Another process shortens a file under a mapping: every access there is an error, none kills the
/// process or hangs, and all is well again when the file is.
#[test]
fn a_file_that_is_truncated_later() {
    let (manager, partition) = pc();
    let (_control, window) = shown(&manager);
    let mut file = file_of(4);
    file.write_all(&[0x11; FOUR_PAGES as usize]).unwrap();
    window.map(0, file.as_file(), 0, FOUR_PAGES, true).unwrap();
    file.as_file().set_len(PAGE_SIZE).unwrap();

    let memory = memory_of(&manager);
    let first_gone = GAP.start() + PAGE_SIZE;
    for gpa in [
        first_gone,
        first_gone + 0x1abc,
        GAP.start() + FOUR_PAGES - 1,
    ] {
        let errors = [
            memory.read_plain::<u8>(gpa).unwrap_err(),
            memory.write_plain(gpa, &1_u8).unwrap_err(),
            memory.fill_at(gpa, 1, 1).unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(error.cause(), Cause::Truncated { .. }),
                "{error:?}"
            );
        }
        assert!(matches!(
            partition.load(gpa, &mut [0]),
            Err(GuestAccessError::Host { .. })
        ));
        assert!(matches!(
            partition.store(gpa, &[0]),
            Err(GuestAccessError::Host { .. })
        ));
    }
    // An access that reaches over the end says how far it got.
    let mut bytes = [0; 64];
    let error = memory.read_at(first_gone - 24, &mut bytes).unwrap_err();
    assert_eq!(
        (error.done(), error.cause()),
        (24, Cause::Truncated { gpa: first_gone })
    );
    assert_eq!(bytes[..24], [0x11; 24]);

    // What the file was once seen to have is shown anew without asking, and is not there either.
    window
        .map(PAGE_SIZE, file.as_file(), PAGE_SIZE, PAGE_SIZE, true)
        .unwrap();
    memory.read_plain::<u8>(first_gone).unwrap_err();
    // What nobody has seen must be there.
    let error = window
        .map(PAGE_SIZE, file.as_file(), FOUR_PAGES, PAGE_SIZE, true)
        .unwrap_err();
    assert!(matches!(error, DeviceMemoryError::PastEndOfFile { .. }));

    file.as_file().set_len(FOUR_PAGES).unwrap();
    assert_eq!(memory.read_plain::<u8>(first_gone), Ok(0));
    assert_eq!(memory.read_plain::<u8>(first_gone - 1), Ok(0x11));
    assert_eq!(
        partition.store(first_gone, &[7]).unwrap(),
        GuestAccess::Done
    );
    assert_eq!(memory.read_plain::<u8>(first_gone), Ok(7));
}

/// Truncated between being put into a window and being shown: as if it were a moment later.
#[test]
fn a_file_that_is_truncated_before_it_is_shown() {
    let (manager, partition) = pc();
    let (mut control, window) = shown(&manager);
    control.unmap_from_guest();
    let file = file_of(4);
    window.map(0, file.as_file(), 0, FOUR_PAGES, true).unwrap();
    file.as_file().set_len(PAGE_SIZE).unwrap();
    control.map_to_guest(GAP.start(), true).unwrap();
    assert_eq!(
        partition.load(GAP.start(), &mut [0]).unwrap(),
        GuestAccess::Done
    );
    let gone = GAP.start() + PAGE_SIZE;
    assert!(matches!(
        partition.load(gone, &mut [0]),
        Err(GuestAccessError::Host { .. })
    ));
    let error = memory_of(&manager).read_plain::<u8>(gone).unwrap_err();
    assert!(
        matches!(error.cause(), Cause::Truncated { .. }),
        "{error:?}"
    );
}

/// How many descriptors of this process are of a file.
fn descriptors_of(file: &NamedTempFile) -> usize {
    let path = file.path().canonicalize().unwrap();
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| *link == path).count()
}

#[test]
fn two_thousand_windows_of_one_file_keep_one_descriptor() {
    let (manager, partition) = pc();
    let file = file_of(64);
    let mapper = manager.device_memory_mapper();
    let mut windows = Vec::new();
    for nth in 0..2000_u64 {
        let (mut control, window) = mapper
            .new_region(PAGE_SIZE, format!("window {nth}"))
            .unwrap();
        let offset = nth % 64 * PAGE_SIZE;
        // Every other time the caller opens the file anew, and closes it at once.
        if nth % 2 == 0 {
            window
                .map(0, file.as_file(), offset, PAGE_SIZE, true)
                .unwrap();
        } else {
            window
                .map(0, &file.reopen().unwrap(), offset, PAGE_SIZE, true)
                .unwrap();
        }
        if nth < 32 {
            control
                .map_to_guest(GAP.start() + nth * PAGE_SIZE, true)
                .unwrap();
        }
        windows.push((control, window));
    }
    assert_eq!(descriptors_of(&file), 2, "the test's own and one more");
    assert_eq!(
        partition.store(GAP.start() + 5 * PAGE_SIZE, &[9]).unwrap(),
        GuestAccess::Done
    );
    // Other windows of the same page show the same.
    windows[5 + 64].0.map_to_guest(GAP.start(), true).unwrap();
    windows[0].0.unmap_from_guest();
    assert_eq!(memory_of(&manager).read_plain::<u8>(GAP.start()), Ok(9));
    // Opened for reading only, it is another one.
    let read_only = File::open(file.path()).unwrap();
    windows[0]
        .1
        .map(0, &read_only, 0, PAGE_SIZE, false)
        .unwrap();
    drop(read_only);
    assert_eq!(descriptors_of(&file), 3);
    drop(windows);
    assert_eq!(partition.broken_rules(), []);
}
