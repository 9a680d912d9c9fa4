//! How the kernel counts memory that is promised and not yet used.

use std::sync::OnceLock;

/// Says whether the kernel counts writable private memory in spite of `MAP_NORESERVE`, and so may
/// refuse it (`vm.overcommit_memory` is 2; see the kernel's `Documentation/mm/overcommit-accounting`).
///
/// It is asked once in the life of the process. True where it cannot be known.
pub(crate) fn is_strict() -> bool {
    #[cfg(test)]
    if let Some(strict) = crate::sys::injection::overcommit_is_strict() {
        return strict;
    }
    static STRICT: OnceLock<bool> = OnceLock::new();
    *STRICT.get_or_init(|| {
        let mode = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
        mode.map_or(true, |mode| mode.trim() == "2")
    })
}
