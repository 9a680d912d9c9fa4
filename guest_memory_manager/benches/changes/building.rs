//! How a guest of 1 TiB comes to be, and goes.

use crate::timing::{Change, Way};
use guest_memory_manager::{GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, MemoryRange};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// RAM of 1 TiB around a gap, which makes 17 regions with the legacy ones.
const RAM_LEN: u64 = 1 << 40;
const GAP: MemoryRange = MemoryRange::new(0xc000_0000..0x1_0000_0000);
const END: u64 = RAM_LEN + GAP.len();

/// Builds and drops a manager.
pub(crate) struct Building {
    layout: MemoryLayout,
    built: Option<GuestMemoryManager>,
}

impl Building {
    pub(crate) fn new() -> Self {
        Self {
            layout: MemoryLayout::new(RAM_LEN, &[GAP], None).unwrap(),
            built: None,
        }
    }
}

impl Change for Building {
    fn prepare(&mut self, _: Way) {}

    fn make(&mut self, way: Way) {
        self.built = match way {
            Way::There => {
                let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
                Some(builder.build_now(&self.layout).unwrap())
            }
            Way::Back => None,
        };
    }
}

/// Makes what a build leaves behind with the calls that it takes at least: shared memory that
/// nobody can resize, its linear view, and address space in which it is mapped around the gap; both
/// views left out of core dumps and forks.
pub(crate) struct BuildingByHand {
    made: Option<(OwnedFd, [(*mut libc::c_void, usize); 2])>,
}

impl BuildingByHand {
    pub(crate) fn new() -> Self {
        Self { made: None }
    }
}

impl Change for BuildingByHand {
    fn prepare(&mut self, _: Way) {}

    fn make(&mut self, way: Way) {
        if way == Way::There {
            self.made = Some(build());
        } else if let Some((fd, views)) = self.made.take() {
            for (addr, len) in views {
                // SAFETY: mapped by `build`, and nobody looks there any more.
                assert_eq!(unsafe { libc::munmap(addr, len) }, 0);
            }
            drop(fd);
        }
    }
}

fn build() -> (OwnedFd, [(*mut libc::c_void, usize); 2]) {
    const NAME: &CStr = c"by-hand";
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let space = map(ptr::null_mut(), END, libc::PROT_NONE, private, -1, 0);
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name ends with a NUL.
    let fd = unsafe { libc::memfd_create(NAME.as_ptr(), flags) };
    assert!(fd >= 0);
    // SAFETY: nobody else has the descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let raw = fd.as_raw_fd();
    // SAFETY: the call looks at no memory.
    assert_eq!(unsafe { libc::ftruncate(raw, RAM_LEN.cast_signed()) }, 0);
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the call looks at no memory.
    assert_eq!(unsafe { libc::fcntl(raw, libc::F_ADD_SEALS, seals) }, 0);
    let linear = map(ptr::null_mut(), RAM_LEN, both, libc::MAP_SHARED, raw, 0);
    exclude(linear, RAM_LEN);
    for (at, offset, len) in [
        (0, 0, GAP.start()),
        (GAP.end(), GAP.start(), RAM_LEN - GAP.start()),
    ] {
        let at = space.wrapping_byte_add(at as usize);
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        assert_eq!(map(at, len, both, flags, raw, offset), at);
        exclude(at, len);
    }
    let views = [(space, END as usize), (linear, RAM_LEN as usize)];
    (fd, views)
}

fn map(
    at: *mut libc::c_void,
    len: u64,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: u64,
) -> *mut libc::c_void {
    // SAFETY: the kernel picks the address, or it is in the address space that `build` has made.
    let mapped = unsafe { libc::mmap(at, len as usize, prot, flags, fd, offset.cast_signed()) };
    assert_ne!(mapped, libc::MAP_FAILED);
    mapped
}

fn exclude(at: *mut libc::c_void, len: u64) {
    for advice in [libc::MADV_DONTDUMP, libc::MADV_DONTFORK] {
        // SAFETY: the range is `build`'s own, and the advice keeps contents.
        assert_eq!(unsafe { libc::madvise(at, len as usize, advice) }, 0);
    }
}
