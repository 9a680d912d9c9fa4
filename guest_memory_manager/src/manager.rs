//! Guest memory as a whole.

use crate::backing::SharedMemoryBacking;
use crate::client::GuestMemoryClient;
use crate::device::DeviceMemoryMapper;
use crate::error::{AttachError, DetachError};
use crate::layout::MemoryLayout;
use crate::shared::Shared;
use crate::visibility::RamVisibilityControl;
use crate::vtl::{RemoteProcess, Vtl};
use inspect::Inspect;
use memory_range::MemoryRange;
use partition_mapper::{MapperOptions, PartitionMapper, PartitionMemoryMap};
use region_manager::{ListenerId, RemoveListenerError};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The memory of one guest: RAM, device windows, and the partitions that see them.
///
/// Made by a [`GuestMemoryBuilder`](crate::GuestMemoryBuilder). It hands out the handles by which
/// it is used; they stay valid when it is dropped, but the partitions lose their memory then.
#[must_use = "the partitions lose their memory when it is dropped"]
pub struct GuestMemoryManager {
    shared: Arc<Shared>,
    options: AttachOptions,
    attached: Mutex<Attached>,
}

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

#[derive(Default)]
struct Attached {
    next: u64,
    /// The listeners that stand for each partition.
    listeners: BTreeMap<PartitionId, Vec<ListenerId>>,
}

impl GuestMemoryManager {
    pub(crate) fn new(shared: Arc<Shared>, options: AttachOptions) -> Self {
        Self {
            shared,
            options,
            attached: Mutex::default(),
        }
    }

    /// Shows guest memory to a partition, from now on and through every change.
    ///
    /// VTL0 and VTL1 see everything but VTL2's RAM. VTL2 sees everything, and the alias map where
    /// the builder was given one.
    ///
    /// # Errors
    ///
    /// As [`attach_partition_now`](Self::attach_partition_now).
    pub async fn attach_partition<P: PartitionMemoryMap + ?Sized + 'static>(
        &self,
        vtl: Vtl,
        partition: &Arc<P>,
        process: Option<RemoteProcess>,
    ) -> Result<PartitionId, AttachError> {
        // A share of a partition is a partition, so that this takes an `Arc<dyn ...>`, too.
        self.attach_partition_now(vtl, Arc::new(partition.clone()), process)
    }

    /// As [`attach_partition`](Self::attach_partition), for a caller without an executor or with an
    /// `Arc<dyn PartitionMemoryMap>`.
    ///
    /// # Errors
    ///
    /// The partition refuses some of the memory (slots run out, a limit is hit), or cannot
    /// pin or prefetch and shall. Then it holds nothing, and nothing has changed.
    pub fn attach_partition_now(
        &self,
        vtl: Vtl,
        partition: Arc<dyn PartitionMemoryMap>,
        process: Option<RemoteProcess>,
    ) -> Result<PartitionId, AttachError> {
        if let Some(process) = process {
            match process {}
        }
        let mut listeners = Vec::new();
        let name = format!("{vtl} {}", partition.name());
        for options in self.views(vtl, &name) {
            match self.add_listener(partition.clone(), options) {
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
        Ok(id)
    }

    /// Takes guest memory away from a partition.
    ///
    /// # Errors
    ///
    /// The id is unknown; or the partition could not give up some of its slots (it is detached
    /// all the same, and their host addresses are never used again). Where no change can be made
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

    /// A handle for whoever accesses guest memory.
    pub fn client(&self) -> GuestMemoryClient {
        GuestMemoryClient::new(self.shared.clone())
    }

    /// A handle that makes device windows.
    pub fn device_memory_mapper(&self) -> DeviceMemoryMapper {
        DeviceMemoryMapper::new(self.shared.clone())
    }

    /// A handle that shows and hides RAM.
    pub fn ram_visibility_control(&self) -> RamVisibilityControl {
        RamVisibilityControl::new(self.shared.clone())
    }

    /// What holds RAM, to build the same RAM from again.
    pub fn shared_memory_backing(&self) -> SharedMemoryBacking {
        self.shared.backing.clone()
    }

    /// Where RAM and MMIO lie.
    pub fn layout(&self) -> &MemoryLayout {
        &self.shared.layout
    }

    /// The ranges that an earlier change could neither complete nor undo; empty in good health.
    /// Every change tries first to restore them. `None` while this thread is inside a change,
    /// and after a listener has panicked.
    pub fn damaged(&self) -> Option<Vec<MemoryRange>> {
        self.shared.regions.damaged().ok()
    }

    /// How a partition of this trust level sees the view: in one piece, or in two.
    fn views(&self, vtl: Vtl, name: &str) -> Vec<MapperOptions> {
        let vtl0 = self.shared.layout.without_vtl2();
        let options = || match self.options.pin {
            true => MapperOptions::new().pinned(),
            false => MapperOptions::new(),
        };
        match vtl {
            Vtl::Vtl0 | Vtl::Vtl1 => vec![options().name(name).only(vtl0)],
            Vtl::Vtl2 => {
                let own = options().name(name);
                let alias = self.options.alias.map(|offset| {
                    let name = format!("{name} (alias map)");
                    options().name(name).only(vtl0).offset(offset)
                });
                std::iter::once(own).chain(alias).collect()
            }
        }
    }

    fn add_listener(
        &self,
        partition: Arc<dyn PartitionMemoryMap>,
        options: MapperOptions,
    ) -> Result<ListenerId, AttachError> {
        let mapper = PartitionMapper::new(partition, self.shared.mapper.va(), options)?;
        Ok(self.shared.regions.add_listener(Box::new(mapper))?)
    }

    fn attached(&self) -> MutexGuard<'_, Attached> {
        // A list of ids is whole whatever panicked.
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GuestMemoryManager {
    /// Detaches every partition, though handles may keep the rest alive.
    fn drop(&mut self) {
        let attached = std::mem::take(&mut *self.attached());
        for id in attached.listeners.into_values().flatten().rev() {
            // A slot that cannot be deleted is leaked with its host addresses, and logged, by
            // the partition's mapper.
            let _ = self.shared.regions.remove_listener(id);
        }
    }
}

impl fmt::Debug for GuestMemoryManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemoryManager")
            .field("layout", &self.shared.layout)
            .finish_non_exhaustive()
    }
}

impl Inspect for GuestMemoryManager {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("layout", &self.shared.layout)
            .field("backing", &self.shared.backing)
            .field("mapper", &*self.shared.mapper)
            .field("view", &self.shared.regions)
            .child("visibility", |req| {
                self.ram_visibility_control().inspect(req);
            });
    }
}
