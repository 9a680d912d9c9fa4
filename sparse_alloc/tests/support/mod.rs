//! What several test files need: a look at the process from outside, and child processes.
#![allow(
    dead_code,
    reason = "each test file includes this module and uses a part of it"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;

use memory_range::MemoryRange;
use sparse_alloc::{HostRange, Mappable, MappedRegion, ReadWriteError, Reservation};

pub(crate) const PAGE: u64 = 4096;

/// A range given in pages.
pub(crate) fn pages(range: std::ops::Range<u64>) -> MemoryRange {
    MemoryRange::new(range.start * PAGE..range.end * PAGE)
}

/// A memfd of `len` bytes, page n of which is filled with the byte `first + n`; unsealed.
pub(crate) fn memfd(len: u64, first: u8) -> OwnedFd {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::os::unix::fs::FileExt;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = std::fs::File::from(memfd_create("test", flags).unwrap());
    file.set_len(len).unwrap();
    for page in 0..len / PAGE {
        let bytes = [first.wrapping_add(u8::try_from(page).unwrap()); PAGE as usize];
        file.write_all_at(&bytes, page * PAGE).unwrap();
    }
    file.into()
}

/// A mappable of such a memfd.
pub(crate) fn mappable(len: u64, first: u8) -> Mappable {
    Mappable::from_file(format!("memfd {first:#x}"), memfd(len, first)).unwrap()
}

/// Reads the first byte of a page.
pub(crate) fn byte_at(
    region: &Arc<impl MappedRegion + 'static>,
    page: u64,
) -> Result<u8, ReadWriteError> {
    let mut byte = [0];
    HostRange::new(region.clone(), page * PAGE, PAGE)
        .unwrap()
        .read(0, &mut byte)?;
    Ok(byte[0])
}

/// Writes the first byte of a page.
pub(crate) fn write_at(
    region: &Arc<impl MappedRegion + 'static>,
    page: u64,
    byte: u8,
) -> Result<(), ReadWriteError> {
    HostRange::new(region.clone(), page * PAGE, PAGE)
        .unwrap()
        .write(0, &[byte])
}

/// The first bytes of the pages of a reservation, `None` where they are not accessible.
pub(crate) fn look(reservation: &Arc<Reservation>, range: std::ops::Range<u64>) -> Vec<Option<u8>> {
    range.map(|page| byte_at(reservation, page).ok()).collect()
}

/// How many 512-byte blocks a file occupies.
pub(crate) fn blocks(file: impl AsFd) -> i64 {
    nix::sys::stat::fstat(file).unwrap().st_blocks
}

/// The lines of `/proc/self/smaps` for the VMA that holds an address.
pub(crate) fn smaps(addr: usize) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let span = line.split(' ').next().unwrap().split_once('-');
        let hex = |text| usize::from_str_radix(text, 16);
        if let Some((Ok(start), Ok(end))) = span.map(|(start, end)| (hex(start), hex(end))) {
            inside = (start..end).contains(&addr);
        }
        if inside {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The flags of the VMA that holds an address, such as `dd` (not dumped) and `dc` (not forked).
pub(crate) fn vma_flags(addr: usize) -> Vec<String> {
    let lines = smaps(addr);
    let flags = lines.iter().find_map(|line| line.strip_prefix("VmFlags:"));
    flags
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// A figure of the VMA that holds an address, in KiB.
pub(crate) fn smaps_kib(addr: usize, field: &str) -> u64 {
    let lines = smaps(addr);
    let value = lines
        .iter()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    value
        .trim_start_matches(':')
        .trim()
        .strip_suffix(" kB")
        .unwrap()
        .parse()
        .unwrap()
}

const CHILD: &str = "SPARSE_ALLOC_TEST_CHILD";

/// Runs the body of the test named `test` in a process of its own, which it may spoil.
///
/// In the parent it starts the test binary again for this one test, and checks that the body ran to
/// its end there.
pub(crate) fn in_child(test: &str, body: impl FnOnce()) {
    const DONE: &str = "the child is done";
    if std::env::var_os(CHILD).is_some() {
        body();
        println!("{DONE}");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stdout.contains(DONE),
        "{test} in a child: {}\n{stdout}\n{stderr}",
        output.status
    );
}
