//! The limits of the process that a failed call may have run into. Read only to explain a failure.

use std::fs::File;
use std::io::{self, Read};

/// Lines of `/proc/self/maps` may differ by a few from what the kernel counts, and an operation
/// that needs two more VMAs fails before the last one is taken.
const SLACK: u64 = 4;

/// How many VMAs the process has, and how many it may have.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct VmaUse {
    pub(crate) count: u64,
    pub(crate) limit: u64,
}

/// Returns the use of VMAs if `error` is `ENOMEM` and the process is at its limit of VMAs.
pub(crate) fn vma_limit(error: &io::Error) -> Option<VmaUse> {
    if error.raw_os_error() != Some(libc::ENOMEM) {
        return None;
    }
    let limit = read_number("/proc/sys/vm/max_map_count")?;
    let count = count_lines("/proc/self/maps")?;
    (count.saturating_add(SLACK) >= limit).then_some(VmaUse { count, limit })
}

/// Returns the limit of locked memory in bytes, if locking `more` bytes, none of which are locked
/// now, exceeds it.
pub(crate) fn exceeded_lock_limit(error: &io::Error, more: u64) -> Option<u64> {
    let (soft, _hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK)
        .unwrap_or((libc::RLIM_INFINITY, libc::RLIM_INFINITY));
    match error.raw_os_error() {
        // A limit of zero gives EPERM.
        Some(libc::EPERM) => Some(soft),
        Some(libc::ENOMEM) if soft != libc::RLIM_INFINITY => {
            let status = std::fs::read_to_string("/proc/self/status").ok()?;
            let exceeds = locked_bytes(&status)?.saturating_add(more) > soft;
            (exceeds && !may_lock_anything(&status)).then_some(soft)
        }
        _ => None,
    }
}

/// Says whether the process has CAP_IPC_LOCK, to which the limit does not apply.
fn may_lock_anything(status: &str) -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    capabilities.is_some_and(|capabilities| capabilities & (1 << CAP_IPC_LOCK) != 0)
}

fn locked_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Counts lines through a small buffer on the stack: at the limit of VMAs there may be no more
/// heap to be had.
fn count_lines(path: &str) -> Option<u64> {
    let mut file = File::open(path).ok()?;
    let mut buffer = [0_u8; 4096];
    let mut lines = 0_u64;
    loop {
        let read = file.read(&mut buffer).ok()?;
        if read == 0 {
            return Some(lines);
        }
        let found = buffer.iter().take(read).filter(|byte| **byte == b'\n');
        lines = lines.saturating_add(u64::try_from(found.count()).ok()?);
    }
}
