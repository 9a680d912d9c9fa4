//! How a device window is made.

use super::window::Shown;
use inspect::Inspect;
use memory_range::{Access, MemoryRange};
use sparse_alloc::Backing;

/// What a guest reads where a one-slot window shows nothing.
///
/// It costs no memory, but for a few pattern pages that all windows of the process share: zeros need
/// none, and ones 2 MiB, or 34 MiB with windows longer than 256 MiB. Where the window is writable, a write gets a private page for what it stores, which nobody sees elsewhere. It stays
/// until other memory stands at that guest physical address, because something is mapped there or the
/// window goes; unmapping what is a hole already does not clear it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Inspect)]
#[non_exhaustive]
pub enum Fill {
    /// Zeros.
    Zeros,
    /// All bits set, as a bus reads that nobody answers on.
    Ones,
}

impl Fill {
    /// A part of a window, given its offsets, that shows the fill.
    pub(crate) fn shown(self, range: MemoryRange) -> Shown {
        Shown {
            range,
            backing: match self {
                Self::Zeros => Backing::Zeros,
                Self::Ones => Backing::Ones,
            },
            // So that neighbours continue one another and are kept as one.
            offset: range.start(),
            // The window limits it: one that is mapped read-only shares its fill.
            access: Access::ReadWrite,
        }
    }
}

/// Says how a device window is made. The default: what it shows is all there is, and its holes are
/// MMIO.
#[derive(Clone, Debug, Default)]
pub struct WindowOptions {
    pub(crate) fill: Option<Fill>,
}

impl WindowOptions {
    /// Makes the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the window one slot, whatever is mapped in it, for windows in which much is mapped while
    /// the guest runs (virtiofs DAX, GPU BARs): a mapping that comes or goes is one `mmap` then, and
    /// no hypervisor call. Holes read as `fill`; the guest's accesses there leave no exit.
    ///
    /// The permissions of the slot are those that the window is mapped with. Where a mapping allows
    /// less, which is to say that it is read-only in a writable window, the memory behind the slot
    /// is read-only all the same, and [`GuestMemory`](crate::GuestMemory) refuses to write there. But
    /// a hypervisor cannot tell the guest's store from one that it should carry out: with KVM, entering
    /// the vCPU fails (`EFAULT`), or the store ends as an MMIO exit that may not be told from others. A
    /// VMM that shows a guest read-only files should make the window read-only, or make sure that the
    /// guest's driver never stores there.
    #[must_use]
    pub fn one_slot(mut self, fill: Fill) -> Self {
        self.fill = Some(fill);
        self
    }
}
