//! Keeps a partition's slots in step with a view.

mod before_change;
mod changes;
mod effects;
mod error;
mod inspection;
mod options;
mod pieces;
mod ram_only;

pub use error::{AddError, CheckError, DetachError, NewMapperError, RemoveError};
pub use options::MapperOptions;

use crate::places::Places;
use crate::slot_budget::MapperNumber;
use crate::store_taker::WindowTaker;
use crate::{PartitionMemoryMap, PausedVcpus, Power, StoreTaker};
use memory_range::{MemoryRange, PAGE_SIZE};
use options::{Kinds, Pinning};
use pieces::HeldPiece;
pub(crate) use pieces::Window;
use region_manager::{ListenerError, RegionListener, Slot, SlotChange};
use sparse_alloc::{HostRange, MappedRegion};
use std::sync::Arc;

/// Gives a partition the slots of a view, and takes them away again.
///
/// Register it with a `region_manager::RegionManager`, as a [`RegionListener`]; one that shows [only
/// RAM](MapperOptions::ram_only) as a `DmaListener`. What the view has
/// at GPA `g` is at host address `base + g` of the reservation, always; the partition sees it
/// at `g` plus the [offset](MapperOptions::offset), as far as the
/// [filter](MapperOptions::only) shows it. One slot of the view becomes one slot of the
/// partition, or several where the filter cuts it, or none.
///
/// Each call does all or nothing: when a piece of a slot fails, the pieces before it are undone,
/// in the opposite order. Should undoing fail too, the piece concerned is listed by inspection
/// and put right before the next change.
///
/// Before a change is made, it is refused if the partition would run out of slots
/// ([`CheckError`]). While a slot is deleted and created anew, the partition's vCPUs are stopped,
/// if it [can stop them](PartitionMemoryMap::barrier) and the mapper shows them that place.
///
/// # A slot never outlives its host addresses
///
/// The mapper holds a share of the reservation and of the partition. When it is dropped, or
/// [detached](Self::detach), it deletes every slot it made before it lets go of either. If a
/// deletion fails, it leaks its share of the reservation, so that these addresses are never used
/// for anything else, and reports that.
///
/// ```
/// use memory_range::{Access, MemoryRange};
/// use partition_mapper::{GuestAccess, MapperOptions, PartitionMapper, SoftwarePartition};
/// use region_manager::{Execute, Permissions, RegionListener, Slot};
/// use sparse_alloc::{Alignment, Backing, Reservation};
/// use std::sync::Arc;
///
/// let memory = Arc::new(Reservation::new(0x10000, Alignment::Page)?);
/// let range = MemoryRange::new(0x4000..0x6000);
/// memory.map(range, &Backing::Anonymous, 0, Access::ReadWrite)?;
///
/// let guest = Arc::new(SoftwarePartition::new());
/// let options = MapperOptions::new().offset(0x10_0000);
/// let mut mapper = PartitionMapper::new(guest.clone(), memory, options)?;
/// mapper.add(&Slot {
///     range,
///     permissions: Permissions { access: Access::ReadWrite, execute: Execute::Allowed },
///     prefetch: false,
/// })?;
///
/// let mut byte = [0xff];
/// assert_eq!(guest.load(0x10_4000, &mut byte)?, GuestAccess::Done);
/// assert_eq!(byte, [0]);
///
/// mapper.detach()?;
/// assert!(guest.slots().is_empty());
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[must_use = "the partition loses its memory when the mapper is dropped"]
pub struct PartitionMapper {
    name: String,
    /// A range of the reservation: of the piece that was given last. It is moved, since a new one
    /// would take a share.
    ///
    /// Invariant: released only when no piece is `Mapped` or `Stray`, else leaked.
    va: HostRange,
    partition: Arc<dyn PartitionMemoryMap>,
    window: Window,
    pinning: Pinning,
    kinds: Kinds,
    /// By range of the view.
    pieces: Places<HeldPiece>,
    /// How many pieces are not `Mapped`.
    damaged: usize,
    /// Whether any piece was ever to be prefetched.
    prefetches: bool,
    /// The partition's number of this mapper, where it counts slots.
    number: Option<MapperNumber>,
    /// Held while a change makes a gap that the partition's vCPUs could see.
    paused: Option<PausedVcpus>,
    /// As a DMA listener: where the change that was checked last will make gaps.
    gaps_ahead: Vec<MemoryRange>,
    /// Is offered stores as long as the mapper lives.
    _store_taker: Option<Arc<dyn StoreTaker>>,
}

impl PartitionMapper {
    /// Makes a mapper that has given the partition nothing yet. `va` is the reservation whose
    /// first byte is the view's GPA 0.
    ///
    /// # Errors
    ///
    /// The offset is not page aligned, or the partition cannot pin and shall.
    pub fn new(
        partition: Arc<dyn PartitionMemoryMap>,
        va: Arc<dyn MappedRegion>,
        options: MapperOptions,
    ) -> Result<Self, NewMapperError> {
        let MapperOptions {
            name,
            offset,
            filter,
            pinning,
            kinds,
            store_taker,
        } = options;
        if !offset.is_multiple_of(PAGE_SIZE) {
            return Err(NewMapperError::UnalignedOffset { offset });
        }
        if pinning == Pinning::Yes && partition.pin().is_none() {
            return Err(NewMapperError::Unsupported {
                partition: partition.name().to_owned(),
                power: Power::Pin,
            });
        }
        let window = Window { offset, filter };
        let offers = partition.store_offers().zip(store_taker);
        let store_taker = offers.map(|(power, taker)| {
            let window = window.clone();
            let taker: Arc<dyn StoreTaker> = Arc::new(WindowTaker { window, taker });
            power.offer_stores_to(Arc::downgrade(&taker));
            taker
        });
        let number = partition
            .slot_budget()
            .map(|budget| budget.claims().enter_mapper());
        Ok(Self {
            name: name.unwrap_or_else(|| partition.name().to_owned()),
            va: HostRange::whole(va),
            partition,
            window,
            pinning,
            kinds,
            pieces: Places::new(),
            damaged: 0,
            prefetches: false,
            number,
            paused: None,
            gaps_ahead: Vec::new(),
            _store_taker: store_taker,
        })
    }

    /// What is added to an address of the view to get the partition's, in bytes.
    pub const fn offset(&self) -> u64 {
        self.window.offset
    }

    /// The partition that is kept in step.
    pub fn partition(&self) -> &Arc<dyn PartitionMemoryMap> {
        &self.partition
    }

    /// Says whether the partition has exactly what it should. Not so after a failure that could
    /// not be undone; the next change tries again.
    pub const fn is_healthy(&self) -> bool {
        self.damaged == 0
    }

    /// Deletes every slot that this mapper made.
    ///
    /// # Errors
    ///
    /// The partition refused to delete some of them. All the others are deleted, and the
    /// mapper's share of the reservation is leaked.
    pub fn detach(mut self) -> Result<(), DetachError> {
        self.release()
    }
}

/// Out of the way of what succeeds.
#[cold]
#[inline(never)]
fn boxed(error: impl std::error::Error + Send + Sync + 'static) -> ListenerError {
    Box::new(error)
}

impl Drop for PartitionMapper {
    fn drop(&mut self) {
        // `release` has reported the error; nobody else is here to be told.
        let _ = self.release();
    }
}

impl RegionListener for PartitionMapper {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&mut self, change: &SlotChange<'_>) -> Result<(), ListenerError> {
        let removed = change.removed().iter().map(|slot| slot.range);
        let added = change.added().iter().map(|slot| slot.range);
        Ok(self.check_budget(removed, added)?)
    }

    fn pause(&mut self, change: &SlotChange<'_>) -> Result<(), ListenerError> {
        Ok(self.pause_over(change.gaps().iter().copied())?)
    }

    fn resume(&mut self) {
        self.paused = None;
    }

    fn remove(&mut self, slot: &Slot) -> Result<(), ListenerError> {
        match self.remove_slot(slot) {
            Ok(()) => Ok(()),
            Err(error) => Err(boxed(error)),
        }
    }

    fn add(&mut self, slot: &Slot) -> Result<(), ListenerError> {
        match self.add_slot(slot) {
            Ok(()) => Ok(()),
            Err(error) => Err(boxed(error)),
        }
    }

    fn contents_replaced(&mut self, range: MemoryRange) -> Result<(), ListenerError> {
        Ok(self.replaced(range)?)
    }

    fn detach(self: Box<Self>) -> Result<(), ListenerError> {
        Ok(PartitionMapper::detach(*self)?)
    }

    fn inspection_copy(&self) -> Option<Box<dyn inspect::Inspect>> {
        Some(self.copy())
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        inspect::Inspect::inspect(self, req);
    }
}
