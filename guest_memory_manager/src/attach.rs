//! Partitions that come and go.

#[cfg(feature = "remote")]
mod process;

use crate::dma::DmaTargetId;
use crate::dma::Unfinished;
use crate::error::{AttachError, DetachError};
use crate::manager::GuestMemoryManager;
use crate::vtl::{RemoteProcess, Vtl};
use crate::write_only::HiddenRam;
use memory_range::{MemoryRange, sorted};
use partition_mapper::{MapperOptions, PartitionMapper, PartitionMemoryMap};
use region_manager::{ListenerId, RemoveListenerError};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the builder was told about partitions.
#[derive(Copy, Clone, Debug)]
pub(crate) struct AttachOptions {
    /// Where VTL2 sees VTL0's mirror.
    pub(crate) alias: Option<u64>,
    pub(crate) pin: bool,
}

/// Identifies an attached partition within its manager; never reused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(u64);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Who is attached.
#[derive(Default)]
pub(crate) struct Attached {
    pub(crate) next: u64,
    /// The listeners that stand for each partition.
    listeners: BTreeMap<PartitionId, Vec<ListenerId>>,
    /// The listener that stands for each DMA target, and what it has not finished.
    pub(crate) targets: BTreeMap<DmaTargetId, (ListenerId, Unfinished)>,
}

/// The list of who is attached, for one of those who change it.
pub(crate) fn lock(attached: &Mutex<Attached>) -> MutexGuard<'_, Attached> {
    // A list of ids is whole whatever panicked.
    attached.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Attached {
    /// Strikes a partition off the list; hands out its listeners.
    #[cfg(feature = "remote")]
    pub(crate) fn take(&mut self, id: PartitionId) -> Option<Vec<ListenerId>> {
        self.listeners.remove(&id)
    }

    /// Every listener, those of DMA targets first, and of each kind the last one first.
    pub(crate) fn into_listeners(self) -> impl Iterator<Item = ListenerId> {
        let targets = self.targets.into_values().map(|(id, _)| id);
        let partitions = self.listeners.into_values().flatten();
        targets.rev().chain(partitions.rev())
    }
}

/// Says how a partition sees guest memory, beside what its trust level sees. The default:
/// everything, where it is, pinned only if the builder says so.
///
/// ```
/// use guest_memory_manager::{
///     GuestAccess, GuestMemoryBuilder, MemoryLayout, PartitionView, SoftwarePartition, Vtl,
/// };
/// use memory_range::MemoryRange;
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layout = MemoryLayout::new(16 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new().build_now(&layout)?;
/// // A helper that is to see the first mebibyte, and that at 4 GiB.
/// let helper = Arc::new(SoftwarePartition::new());
/// let view = PartitionView::new().only([MemoryRange::new(0..0x10_0000)]).offset(4 << 30);
/// memory.attach_partition_with_now(Vtl::Vtl0, helper.clone(), None, view)?;
///
/// memory.client().guest_memory_now().write_plain(0x1000, &7_u8)?;
/// let mut byte = [0];
/// assert_eq!(helper.load((4 << 30) + 0x1000, &mut byte)?, GuestAccess::Done);
/// assert_eq!(byte, [7]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct PartitionView {
    offset: u64,
    only: Option<Vec<MemoryRange>>,
    ram_only: bool,
    pinned: bool,
}

impl PartitionView {
    /// Makes the default view.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `offset` to every guest physical address. In bytes, a multiple of the page size.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Shows only these guest physical ranges, in any order. A slot that reaches over a border is
    /// cut there.
    #[must_use]
    pub fn only(mut self, ranges: impl IntoIterator<Item = MemoryRange>) -> Self {
        self.only = Some(ranges.into_iter().collect());
        self
    }

    /// Leaves out device windows: accesses there are MMIO exits.
    ///
    /// Such a partition follows what is mapped and not only the slots, so that other memory in the
    /// place of RAM takes its slot and gives it again. RAM is not faulted in for it, whatever
    /// [`prefetch_ram`](crate::GuestMemoryBuilder::prefetch_ram) says.
    #[must_use]
    pub fn ram_only(mut self) -> Self {
        self.ram_only = true;
        self
    }

    /// Locks in memory whatever the partition is shown; see
    /// [`pin_mappings`](crate::GuestMemoryBuilder::pin_mappings).
    #[must_use]
    pub fn pinned(mut self) -> Self {
        self.pinned = true;
        self
    }
}

/// The ranges that are both in `seen` and, if there are such, in `only`; sorted and disjoint.
pub(crate) fn limit(seen: &[MemoryRange], only: Option<&[MemoryRange]>) -> Vec<MemoryRange> {
    match only {
        None => sorted::flatten(seen),
        Some(only) => sorted::overlap(sorted::flatten(seen), sorted::flatten(only)).collect(),
    }
}

impl GuestMemoryManager {
    /// Shows guest memory to a partition, from now on and through every change.
    ///
    /// VTL0 and VTL1 see everything but VTL2's RAM. VTL2 sees everything, and the alias map where
    /// the builder was given one.
    ///
    /// A VM's slots live in the process that has made it. `process` is that one, where it is not this;
    #[cfg_attr(
        feature = "remote",
        doc = "it offers its partitions, and [`partition`](crate::RemoteProcess::partition) returns \
               what stands for one here."
    )]
    #[cfg_attr(
        not(feature = "remote"),
        doc = "there are such processes with the feature `remote`."
    )]
    /// Its slots are counted here, so that a change for which they don't suffice is refused before
    /// anything is done; a process that still cannot make one is evicted. Such a partition cannot be
    /// pinned or prefetched. It is detached when its process goes. The future awaits the process; what
    /// is complete at once is all else.
    ///
    /// # Errors
    ///
    /// As [`attach_partition_now`](Self::attach_partition_now); and the process may be evicted before it
    /// has made the slots. A future that is dropped leaves the partition attached.
    pub async fn attach_partition<P: PartitionMemoryMap + ?Sized + 'static>(
        &self,
        vtl: Vtl,
        partition: &Arc<P>,
        process: Option<RemoteProcess>,
    ) -> Result<PartitionId, AttachError> {
        let view = PartitionView::new();
        self.attach_partition_with(vtl, partition, process, view)
            .await
    }

    /// As [`attach_partition`](Self::attach_partition), for a caller without an executor or with an
    /// `Arc<dyn PartitionMemoryMap>`.
    ///
    /// # Errors
    ///
    /// The partition refuses some of the memory (slots run out, a limit is hit), or cannot
    /// pin or prefetch and shall. Or it is in another process, and that is not `process`, is gone, maps
    /// only what it touches, or was not granted all that the partition would see. Then it holds
    /// nothing, and nothing has changed.
    pub fn attach_partition_now(
        &self,
        vtl: Vtl,
        partition: Arc<dyn PartitionMemoryMap>,
        process: Option<RemoteProcess>,
    ) -> Result<PartitionId, AttachError> {
        self.attach_partition_with_now(vtl, partition, process, PartitionView::new())
    }

    /// As [`attach_partition`](Self::attach_partition), for a partition that sees a part of guest
    /// memory, or sees it elsewhere.
    ///
    /// # Errors
    ///
    /// As [`attach_partition_with_now`](Self::attach_partition_with_now).
    pub async fn attach_partition_with<P: PartitionMemoryMap + ?Sized + 'static>(
        &self,
        vtl: Vtl,
        partition: &Arc<P>,
        process: Option<RemoteProcess>,
        view: PartitionView,
    ) -> Result<PartitionId, AttachError> {
        // A share of a partition is a partition, so that this takes an `Arc<dyn ...>`, too.
        let partition = Arc::new(partition.clone());
        let id = self.attach_partition_with_now(vtl, partition, process.clone(), view)?;
        #[cfg(feature = "remote")]
        if let Some(process) = process {
            self.followed_by(&process, id).await?;
        }
        Ok(id)
    }

    /// As [`attach_partition_with`](Self::attach_partition_with), for a caller without an executor
    /// or with an `Arc<dyn PartitionMemoryMap>`.
    ///
    /// # Errors
    ///
    /// As [`attach_partition_now`](Self::attach_partition_now); or the offset is unaligned, or moves
    /// the alias map past the end of the address space.
    pub fn attach_partition_with_now(
        &self,
        vtl: Vtl,
        partition: Arc<dyn PartitionMemoryMap>,
        process: Option<RemoteProcess>,
        view: PartitionView,
    ) -> Result<PartitionId, AttachError> {
        #[cfg(feature = "remote")]
        self.check_process(vtl, &*partition, process.as_ref(), &view)?;
        #[cfg(not(feature = "remote"))]
        if let Some(process) = process {
            match process {}
        }
        let mut listeners = Vec::new();
        let name = format!("{vtl} {}", partition.name());
        for options in self.views(vtl, &name, &view)? {
            match self.add_listener(partition.clone(), options, view.ram_only) {
                Ok(id) => listeners.push(id),
                Err(error) => {
                    for id in listeners {
                        // What it could not give up, it has leaked and logged.
                        let _ = self.shared.regions.remove_listener(id);
                    }
                    return Err(error);
                }
            }
        }
        // Not locked before: the partition may call back.
        let mut attached = self.attached();
        let id = PartitionId(attached.next);
        attached.next = attached.next.saturating_add(1);
        attached.listeners.insert(id, listeners);
        drop(attached);
        #[cfg(feature = "remote")]
        if let Some(process) = &process {
            self.note_attached(&*partition, process, id)?;
        }
        Ok(id)
    }

    /// Takes guest memory away from a partition.
    ///
    /// # Errors
    ///
    /// The id is unknown, as when the partition's process is gone; or the partition could not give up
    /// some of its slots (it is detached all the same, and their host addresses are never used again). Where no change can be made
    /// now, as from inside another one, it is still attached.
    pub fn detach_partition(&self, id: PartitionId) -> Result<(), DetachError> {
        let listeners = self.attached().listeners.remove(&id);
        let mut listeners = listeners.ok_or(DetachError::Unknown { id: id.0 })?;
        let mut result = Ok(());
        while let Some(listener) = listeners.pop() {
            match self.shared.regions.remove_listener(listener) {
                Ok(()) => {}
                Err(error @ RemoveListenerError::Lock(_)) => {
                    listeners.push(listener);
                    self.attached().listeners.insert(id, listeners);
                    return Err(error.into());
                }
                Err(error) => result = result.and(Err(error.into())),
            }
        }
        result
    }

    /// How a partition of this trust level sees the view: in one piece, or in two.
    fn views(
        &self,
        vtl: Vtl,
        name: &str,
        view: &PartitionView,
    ) -> Result<Vec<MapperOptions>, AttachError> {
        let vtl0 = limit(&self.shared.layout.without_vtl2(), view.only.as_deref());
        let options = |name: String, offset: u64| {
            let hidden = Arc::new(HiddenRam::new(&self.shared));
            let options = MapperOptions::new()
                .name(name)
                .offset(offset)
                .store_taker(hidden);
            let options = match self.options.pin || view.pinned {
                true => options.pinned(),
                false => options,
            };
            match view.ram_only {
                true => options.ram_only(),
                false => options,
            }
        };
        let mut own = options(name.to_owned(), view.offset);
        let (Vtl::Vtl2, only) = (vtl, &view.only) else {
            return Ok(vec![own.only(vtl0)]);
        };
        if let Some(only) = only {
            own = own.only(only.iter().copied());
        }
        let Some(alias) = self.options.alias else {
            return Ok(vec![own]);
        };
        let offset = alias.checked_add(view.offset).ok_or({
            AttachError::AliasTooHigh {
                alias,
                offset: view.offset,
            }
        })?;
        let mirror = options(format!("{name} (alias map)"), offset).only(vtl0);
        Ok(vec![own, mirror])
    }

    fn add_listener(
        &self,
        partition: Arc<dyn PartitionMemoryMap>,
        options: MapperOptions,
        ram_only: bool,
    ) -> Result<ListenerId, AttachError> {
        let mapper = PartitionMapper::new(partition, self.shared.mapper.va(), options)?;
        let mapper = Box::new(mapper);
        Ok(match ram_only {
            true => self.shared.regions.add_dma_listener(mapper)?,
            false => self.shared.regions.add_listener(mapper)?,
        })
    }
}
