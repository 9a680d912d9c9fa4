//! A partition whose VM belongs to another process.

mod holder;

pub use holder::{HeldSlots, SlotsLeft};

use crate::slot_ids::SlotIds;
use crate::slot_table::{ReadOnlySlots, Rules, SlotTable};
use crate::{
    MapError, PartitionMemoryMap, Pin, Prefetch, SlotBudget, SlotClaims, SlotInfo, UnmapError,
};
use inspect::Inspect;
use memory_range::MemoryRange;
use region_manager::Permissions;
use sparse_alloc::{HostRange, MappedRegion};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Passes slots on to the process that has the VM.
///
/// Neither call waits for that process, and neither can fail: what a slot could fail of here was
/// found before. Calls are carried out there in the order in which they are made here, each
/// together with what the view shows at the moment.
pub trait ForwardSlots: Send + Sync {
    /// Has the other process show its guest, at `gpa`, what the view has from `view` on (in bytes);
    /// the range is as long there as here.
    fn add(&self, gpa: MemoryRange, view: u64, permissions: Permissions);

    /// Has the other process take away the slot that was added at exactly `gpa`.
    fn remove(&self, gpa: MemoryRange);

    /// Says whether there is no such process any more, or it no longer follows the view. Never false
    /// again once it was true.
    fn is_gone(&self) -> bool;
}

/// A partition in another process, as it offered it there: its slots are kept in a ledger here, and
/// each change of them is passed on.
///
/// Overlaps, a limit that is reached and a range that is not exactly a slot are found in the ledger,
/// so that a change that cannot succeed is refused before anything is changed, here or there.
///
/// Passing on is not waiting: when [`unmap`](PartitionMemoryMap::unmap) returns, the other process
/// may not have got to it. Its guest goes by that process's own mappings of the memory, never by host
/// addresses of this one, so these can be used for something else at once. Who must know that the
/// guest has let go of the *bytes* waits until the process has acknowledged the change.
///
/// It can neither prefetch nor pin: what that would make present or lock are the page tables of
/// this process. It has no barrier: the other process's vCPUs are not this one's to stop, but its
/// own.
///
/// When the process is gone, so are its slots: whatever is asked for succeeds and does nothing, so
/// that no change fails because somebody else has died.
///
/// ```
/// use memory_range::{Access, MemoryRange};
/// use partition_mapper::{
///     ForwardSlots, ForwardedOptions, ForwardedPartition, MapperOptions, PartitionMapper,
/// };
/// use region_manager::{Execute, Permissions, RegionListener, Slot};
/// use sparse_alloc::{Alignment, Reservation};
/// use std::sync::Arc;
///
/// /// Would write to a socket.
/// struct Socket;
///
/// impl ForwardSlots for Socket {
///     fn add(&self, gpa: MemoryRange, view: u64, permissions: Permissions) {
///         println!("show {gpa} {permissions} from {view:#x} on");
///     }
///     fn remove(&self, gpa: MemoryRange) {
///         println!("take {gpa} away");
///     }
///     fn is_gone(&self) -> bool {
///         false
///     }
/// }
///
/// let view = Arc::new(Reservation::new(0x10000, Alignment::Page)?);
/// let options = ForwardedOptions::new("vm0").slots(2);
/// let vm = Arc::new(ForwardedPartition::new(&*view, Box::new(Socket), options));
/// let mut mapper = PartitionMapper::new(vm.clone(), view, MapperOptions::new())?;
/// mapper.add(&Slot {
///     range: MemoryRange::new(0x4000..0x6000),
///     permissions: Permissions { access: Access::ReadWrite, execute: Execute::Allowed },
///     prefetch: false,
/// })?;
/// assert_eq!(vm.slots().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct ForwardedPartition {
    name: String,
    kind: String,
    table: Mutex<SlotTable>,
    /// `None` where the other process knows no limit.
    limit: Option<u32>,
    /// How many slots the table has: to be asked for before each change, without its lock.
    used: AtomicU32,
    claims: SlotClaims,
    view: View,
    forwarder: Box<dyn ForwardSlots>,
}

/// Which host addresses stand for the view here. They are only compared.
#[derive(Copy, Clone, PartialEq, Eq)]
struct View {
    base: usize,
    len: u64,
}

impl View {
    fn of(va: &dyn MappedRegion) -> Self {
        Self {
            base: va.base().addr().get(),
            len: va.len(),
        }
    }
}

/// Says what the other process offers.
#[derive(Clone, Debug)]
pub struct ForwardedOptions {
    name: String,
    kind: String,
    slots: Option<u64>,
    read_only: ReadOnlySlots,
}

impl ForwardedOptions {
    /// Names the partition in errors and in inspection. The rest: a kind that nobody knows, slots
    /// without a limit, of which some may be read-only.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: "unknown".to_owned(),
            slots: None,
            read_only: ReadOnlySlots::Supported,
        }
    }

    /// What kind of a partition it is in its own process, for inspection.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    /// Makes at most this many slots.
    #[must_use]
    pub fn slots(mut self, slots: u64) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Refuses read-only slots, because the other process's hypervisor has none.
    #[must_use]
    pub fn without_read_only_slots(mut self) -> Self {
        self.read_only = ReadOnlySlots::Unsupported;
        self
    }
}

/// A slot was to show memory of another view than the one that the process follows.
#[derive(Debug, Error)]
#[error("{partition} is in a process that follows another guest memory")]
struct ForeignView {
    partition: String,
}

impl ForwardedPartition {
    /// Makes a partition without a slot. `va` are the host addresses of the view that the other
    /// process follows; slots of any other are refused.
    pub fn new(
        va: &dyn MappedRegion,
        forwarder: Box<dyn ForwardSlots>,
        options: ForwardedOptions,
    ) -> Self {
        let ForwardedOptions {
            name,
            kind,
            slots,
            read_only,
        } = options;
        let limit = slots.map(|slots| u32::try_from(slots).unwrap_or(u32::MAX));
        let rules = Rules {
            name: name.clone(),
            read_only,
            longest: u64::MAX,
        };
        let ids = SlotIds::new(0..u32::MAX, limit.unwrap_or(u32::MAX));
        Self {
            name,
            kind,
            table: Mutex::new(SlotTable::new(rules, ids)),
            limit,
            used: AtomicU32::new(0),
            claims: SlotClaims::new(),
            view: View::of(va),
            forwarder,
        }
    }

    /// What kind of a partition it is in its own process.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// How many slots there may be; `None` where the other process knows no limit.
    pub fn slot_limit(&self) -> Option<u32> {
        self.limit
    }

    /// Copies the ledger, by guest physical address: what the other process has when it has followed.
    /// The ids are the ledger's own, and so are the host addresses: this process's.
    pub fn slots(&self) -> Vec<SlotInfo> {
        self.table().snapshot()
    }

    /// Says whether the process is gone or no longer follows the view.
    pub fn is_gone(&self) -> bool {
        self.forwarder.is_gone()
    }

    fn table(&self) -> MutexGuard<'_, SlotTable> {
        // No code that can panic runs between two steps of a change, so a poisoned lock is whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: the guest belongs to another process and reaches that process's addresses; host addresses
// of this one are compared and counted, and never given to anybody. That nothing else than `host`'s
// bytes is shown, and only until the process has followed an unmapping, is up to the forwarder, which
// names them by their place in the view.
unsafe impl PartitionMemoryMap for ForwardedPartition {
    fn name(&self) -> &str {
        &self.name
    }

    unsafe fn map(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), MapError> {
        if self.is_gone() {
            return Ok(());
        }
        // Held while the slot is passed on, so that the order there is the ledger's.
        let mut table = self.table();
        table.check_map(gpa, host, permissions)?;
        if View::of(&**host.region()) != self.view {
            let partition = self.name.clone();
            let source = Box::new(ForeignView { partition });
            return Err(MapError::Refused { gpa, source });
        }
        self.forwarder.add(gpa, host.offset(), permissions);
        table.commit_map(gpa, host, permissions);
        self.used.store(table.used(), Ordering::Relaxed);
        Ok(())
    }

    fn unmap(&self, gpa: MemoryRange) -> Result<(), UnmapError> {
        let mut table = self.table();
        match table.check_unmap(gpa) {
            Ok(_) => self.forwarder.remove(gpa),
            // Of what was asked for afterwards, the ledger knows nothing.
            Err(_) if self.is_gone() => return Ok(()),
            Err(error) => return Err(error),
        }
        table.commit_unmap(gpa);
        self.used.store(table.used(), Ordering::Relaxed);
        Ok(())
    }

    fn prefetch(&self) -> Option<&dyn Prefetch> {
        None
    }

    fn pin(&self) -> Option<&dyn Pin> {
        None
    }

    fn slot_budget(&self) -> Option<SlotBudget<'_>> {
        // A limit of slots that nobody has must not refuse a change.
        let limit = self.limit.filter(|_| !self.is_gone())?;
        let used = self.used.load(Ordering::Relaxed);
        Some(SlotBudget::new(limit.into(), used.into(), &self.claims))
    }

    fn forwarded(&self) -> Option<&ForwardedPartition> {
        Some(self)
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        Inspect::inspect(self, req);
    }
}

impl Inspect for ForwardedPartition {
    fn inspect(&self, req: inspect::Request<'_>) {
        let mut response = req.respond();
        // A change waits for the table's lock: only the copy is made under it.
        let table = self.table().copy();
        table.inspect(&mut response, "forwarded", &self.name);
        response.field("remote_kind", &self.kind);
        if self.is_gone() {
            response.field("gone", &true);
        }
    }
}

impl fmt::Debug for ForwardedPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardedPartition")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("limit", &self.limit)
            .field("gone", &self.is_gone())
            .finish_non_exhaustive()
    }
}
