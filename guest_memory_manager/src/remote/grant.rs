//! What another process is to see.

use crate::vtl::Vtl;
use memory_range::{MemoryRange, sorted};

/// Says what another process is shown. The default: all that VTL0 sees, memory of devices included,
/// to read and to write, all of it at once.
///
/// Filters of ranges and kinds are no border of security. A descriptor stands for a whole file, so a
/// process that is shown one page of RAM could map all of that memory: what it was not shown is kept
/// from its mistakes, not from its malice. Memory of which it is shown nothing is not sent at all.
/// [`read_only`](Self::read_only) is a border for a process of another user, and for one that cannot open its
/// own descriptors anew.
///
/// ```
/// use guest_memory_manager::{MemoryRange, RemoteGrant};
///
/// // For a device that reads one buffer.
/// let buffer = MemoryRange::new(0x10_0000..0x20_0000);
/// let grant = RemoteGrant::new().name("scanout").read_only().only([buffer]);
/// # let _ = grant;
/// ```
#[derive(Clone, Debug)]
pub struct RemoteGrant {
    pub(super) name: Option<String>,
    pub(super) vtl: Vtl,
    pub(super) only: Option<Vec<MemoryRange>>,
    pub(super) ram_only: bool,
    pub(super) read_only: bool,
    pub(super) lazy_allowed: bool,
}

impl Default for RemoteGrant {
    fn default() -> Self {
        Self::new()
    }
}

impl RemoteGrant {
    /// Makes the default grant.
    pub fn new() -> Self {
        Self {
            name: None,
            vtl: Vtl::Vtl0,
            only: None,
            ram_only: false,
            read_only: false,
            lazy_allowed: false,
        }
    }

    /// Names the process in errors, in the log and in inspection. Without it, it is a number; what
    /// the process calls itself is not believed.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Shows what this trust level sees: nobody but VTL2 sees VTL2's RAM.
    #[must_use]
    pub fn vtl(mut self, vtl: Vtl) -> Self {
        self.vtl = vtl;
        self
    }

    /// Shows only these guest physical ranges, in any order. What reaches over a border is cut; the
    /// rest of the address space is a hole there.
    #[must_use]
    pub fn only(mut self, ranges: impl IntoIterator<Item = MemoryRange>) -> Self {
        self.only = Some(ranges.into_iter().collect());
        self
    }

    /// Leaves out memory of devices: it is a hole there.
    #[must_use]
    pub fn ram_only(mut self) -> Self {
        self.ram_only = true;
        self
    }

    /// Shows everything for reading only, and sends descriptors that are open for nothing else.
    ///
    /// They are opened anew through `/proc/self/fd`. Where there is no `/proc`, the process is
    /// evicted, rather than given one that can be written. A process of the same user that has a `/proc`
    /// of its own can do the same the other way round: one that is not trusted must be another user's, or
    /// must not have it. Files of devices have what mode they have.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Lets the process fetch what it touches, when it first touches it, if it asks for that. One that
    /// asks without being allowed to is shown everything at once.
    ///
    /// A lazy process has no partitions: nobody fetches for a guest.
    #[must_use]
    pub fn allow_lazy(mut self) -> Self {
        self.lazy_allowed = true;
        self
    }

    /// Says whether all of `seen` is among `granted`, memory of devices included unless only RAM is
    /// asked for, and to be written.
    pub(super) fn covers(
        &self,
        granted: &[MemoryRange],
        seen: &[MemoryRange],
        ram_only: bool,
    ) -> bool {
        let (granted, seen) = (sorted::flatten(granted), sorted::flatten(seen));
        let len = |ranges: &mut dyn Iterator<Item = MemoryRange>| {
            ranges.fold(0_u64, |sum, range| sum.saturating_add(range.len()))
        };
        let wanted = len(&mut seen.iter().copied());
        let shown = len(&mut sorted::overlap(granted, seen));
        !self.read_only && (ram_only || !self.ram_only) && shown == wanted
    }
}
