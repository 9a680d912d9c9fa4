//! Guest memory as a whole.

use crate::acknowledgement::Acknowledgement;
use crate::attach::{self, AttachOptions, Attached};
use crate::backing::SharedMemoryBacking;
use crate::client::GuestMemoryClient;
use crate::device::DeviceMemoryMapper;
use crate::error::ChangeError;
use crate::handover::BackingClaim;
use crate::layout::MemoryLayout;
use crate::shared::Shared;
use crate::transaction::GuestMemoryTransaction;
use crate::visibility::RamVisibilityControl;
use inspect::Inspect;
use memory_range::MemoryRange;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The memory of one guest: RAM, device windows, and the partitions that see them.
///
/// Made by a [`GuestMemoryBuilder`](crate::GuestMemoryBuilder). It hands out the handles by which
/// it is used; they stay valid when it is dropped, but the partitions lose their memory then.
#[must_use = "the partitions lose their memory when it is dropped"]
pub struct GuestMemoryManager {
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: AttachOptions,
    /// Shared with who serves other processes: partitions of theirs go with them.
    attached: Arc<Mutex<Attached>>,
    claim: Mutex<Option<BackingClaim>>,
}

impl GuestMemoryManager {
    pub(crate) fn new(
        shared: Arc<Shared>,
        options: AttachOptions,
        claim: Option<BackingClaim>,
    ) -> Self {
        Self {
            shared,
            options,
            attached: Arc::default(),
            claim: Mutex::new(claim),
        }
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

    /// Begins a change of any number of things that takes effect as one; see
    /// [`GuestMemoryTransaction`]. Waits for a change that another thread is making.
    ///
    /// # Errors
    ///
    /// This thread is inside a change already, or an earlier one was broken off by a panic.
    pub fn transaction(&self) -> Result<GuestMemoryTransaction<'_>, ChangeError> {
        self.shared.transaction()
    }

    /// What to wait for until every other process has followed all that has changed so far; for who
    /// dropped the acknowledgement of a change, or has attached a partition of another process.
    pub fn acknowledgement(&self) -> Acknowledgement {
        self.shared.acknowledgement()
    }

    /// What holds RAM, to build the same RAM from again.
    pub fn shared_memory_backing(&self) -> SharedMemoryBacking {
        self.shared.backing.clone()
    }

    /// Hands out the claim on RAM that the manager was built with; `None` if it has none, or no
    /// longer.
    ///
    /// Dropping it lets another manager take RAM over while this one still exists. If that comes to
    /// nothing, [`SharedMemoryBacking::claim`] takes it back.
    pub fn take_claim(&self) -> Option<BackingClaim> {
        self.claim().take()
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

    fn claim(&self) -> MutexGuard<'_, Option<BackingClaim>> {
        // Nothing is done under the lock that could panic.
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells for how long at a time, at most, changes had to wait for the last inspection. Writing and
    /// sorting the tree is no part of it: they go on meanwhile.
    pub fn inspection_hold(&self) -> Duration {
        let table = self.shared.mapper.inspection_hold();
        self.shared.regions.inspection_hold().max(table)
    }

    pub(crate) fn attached(&self) -> MutexGuard<'_, Attached> {
        attach::lock(&self.attached)
    }

    #[cfg(feature = "remote")]
    pub(crate) fn attached_list(&self) -> Arc<Mutex<Attached>> {
        self.attached.clone()
    }
}

impl Drop for GuestMemoryManager {
    /// Detaches every partition and every DMA target, though handles may keep the rest alive. Other
    /// processes are told, and keep what they have.
    fn drop(&mut self) {
        // First: what follows is not for them, whose guests go on.
        #[cfg(feature = "remote")]
        self.shared.remotes.close();
        let attached = std::mem::take(&mut *self.attached());
        for id in attached.into_listeners() {
            // What cannot be taken from a partition or a target is leaked with its host addresses,
            // and logged, by whoever stands for it.
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
        let mut response = req.respond();
        response
            .field("layout", &self.shared.layout)
            .field("backing", &self.shared.backing)
            .field("mapper", &*self.shared.mapper)
            .field("view", &self.shared.regions)
            .child("visibility", |req| {
                self.ram_visibility_control().inspect(req);
            })
            .child("dma_failures", |req| {
                req.by_index(self.dma_failures().unwrap_or_default().iter());
            });
        #[cfg(feature = "remote")]
        if !self.shared.remotes.is_idle() {
            response.field("remote", &self.shared.remotes);
        }
    }
}
