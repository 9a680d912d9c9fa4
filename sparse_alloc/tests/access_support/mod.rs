//! Pages to fault on, and child processes to die in.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

pub(crate) const PAGE: usize = 4096;

/// Pages of address space, of which each can be taken away and given back.
///
/// They stand in for a reservation: these tests are about the accesses alone.
pub(crate) struct Pages {
    base: *mut u8,
    len: usize,
}

// SAFETY: an address and a length; what lies there is accessed as raw bytes only.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps zeroed pages, readable and writable.
    pub(crate) fn new(count: usize) -> Self {
        Self::map(count, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    /// Maps the beginning of a file, shared.
    pub(crate) fn of_file(count: usize, file: &OwnedFd) -> Self {
        Self::map(count, libc::MAP_SHARED, file.as_raw_fd())
    }

    fn map(count: usize, flags: i32, fd: i32) -> Self {
        let len = count * PAGE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Self {
            base: base.cast(),
            len,
        }
    }

    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len);
        self.base.wrapping_add(offset)
    }

    pub(crate) fn protect(&self, page: usize, protection: i32) {
        let start = self.at(page * PAGE).cast();
        // SAFETY: the page is ours; nobody holds a reference into it.
        let result = unsafe { libc::mprotect(start, PAGE, protection) };
        assert_eq!(result, 0);
    }

    /// Makes a page inaccessible.
    pub(crate) fn forbid(&self, page: usize) {
        self.protect(page, libc::PROT_NONE);
    }

    /// Makes a page read-only.
    pub(crate) fn make_read_only(&self, page: usize) {
        self.protect(page, libc::PROT_READ);
    }

    /// Makes a page readable and writable.
    pub(crate) fn allow(&self, page: usize) {
        self.protect(page, libc::PROT_READ | libc::PROT_WRITE);
    }

    /// Writes bytes to pages that are writable now.
    pub(crate) fn put(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len);
        // SAFETY: inside the mapping, which the caller says is writable.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(offset), bytes.len()) };
    }

    /// Reads bytes from pages that are readable now.
    pub(crate) fn get(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len);
        let mut bytes = vec![0; len];
        // SAFETY: inside the mapping, which the caller says is readable.
        unsafe { std::ptr::copy_nonoverlapping(self.at(offset), bytes.as_mut_ptr(), len) };
        bytes
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and is used no more.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// Makes a memfd of so many pages that anyone may truncate.
pub(crate) fn unsealed_file(pages: usize) -> OwnedFd {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    truncate(&file, pages);
    file
}

/// Sets the length of a file.
pub(crate) fn truncate(file: &OwnedFd, pages: usize) {
    // SAFETY: no pointers.
    let result = unsafe { libc::ftruncate(file.as_raw_fd(), (pages * PAGE) as libc::off_t) };
    assert_eq!(result, 0);
}

/// The variable that tells a child process that it is one.
const CHILD: &str = "SPARSE_ALLOC_ACCESS_CHILD";

/// Tells whether this process was started by [`run_in_child`].
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// A child process that runs one test of this binary.
pub(crate) fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1");
    command
}

/// Runs the test of that name in a process of its own.
pub(crate) fn run_in_child(test: &str) -> Output {
    child(test).output().unwrap()
}

/// Checks that the child ended well, and said so itself: a test that does not exist would end
/// well too.
#[track_caller]
pub(crate) fn assert_child_passed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{:?}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
}

/// Checks that the child died of that signal, after it had come as far as `mark` says.
#[track_caller]
pub(crate) fn assert_child_died(output: &Output, signal: i32, mark: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.signal() == Some(signal) && said.contains(mark),
        "{:?}\n{said}\n{complained}",
        output.status,
    );
}

/// Sets a signal's handler, with these flags and with these signals blocked.
pub(crate) fn set_handler(signal: i32, handler: usize, flags: i32, blocked: &[i32]) {
    // SAFETY: all zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    for other in blocked {
        // SAFETY: the set is ours.
        unsafe { libc::sigaddset(&raw mut action.sa_mask, *other) };
    }
    // SAFETY: the caller hands over a handler that fits its flags.
    let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Returns what is set for a signal.
pub(crate) fn current_action(signal: i32) -> libc::sigaction {
    // SAFETY: all zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    assert_eq!(result, 0);
    action
}
