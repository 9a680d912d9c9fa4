//! DMA targets that come and go.

use super::{DmaFailure, DmaOptions, DmaTarget, Follower};
use crate::attach;
use crate::error::{AttachDmaError, DetachError};
use crate::manager::GuestMemoryManager;
use memory_range::PAGE_SIZE;
use region_manager::RemoveListenerError;
use std::fmt;

/// Identifies an attached DMA target within its manager; never reused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DmaTargetId(u64);

impl fmt::Display for DmaTargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl GuestMemoryManager {
    /// Gives guest memory to a DMA target, from now on and through every change.
    ///
    /// # Errors
    ///
    /// The offset is unaligned; or the target refuses some of the RAM, or cannot finish. Then it is
    /// dropped and holds nothing.
    pub fn attach_dma_target(
        &self,
        target: Box<dyn DmaTarget>,
        options: DmaOptions,
    ) -> Result<DmaTargetId, AttachDmaError> {
        let offset = options.offset;
        if !offset.is_multiple_of(PAGE_SIZE) {
            return Err(AttachDmaError::UnalignedOffset { offset });
        }
        let seen = self.shared.layout.seen_by(options.vtl);
        let filter = attach::limit(&seen, options.only.as_deref());
        let va = self.shared.mapper.va();
        let follower = Follower::new(target, va, filter, offset, options.device_memory);
        let unfinished = follower.unfinished();
        let listener = self.shared.regions.add_dma_listener(Box::new(follower))?;
        if let Some(source) = unfinished.take() {
            // What it could not give up, it has leaked and logged.
            let _ = self.shared.regions.remove_listener(listener);
            let target = unfinished.target().to_owned();
            return Err(AttachDmaError::NotFinished { target, source });
        }
        // Not locked before: the target may call back.
        let mut attached = self.attached();
        let id = DmaTargetId(attached.next);
        attached.next = attached.next.saturating_add(1);
        attached.targets.insert(id, (listener, unfinished));
        Ok(id)
    }

    /// Takes guest memory away from a DMA target.
    ///
    /// # Errors
    ///
    /// The id is unknown; or the target could not give up something (it is detached all the same,
    /// and the host addresses of that are never used again). Where no change can be made now, as from
    /// inside another one, it is still attached.
    pub fn detach_dma_target(&self, id: DmaTargetId) -> Result<(), DetachError> {
        let found = self.attached().targets.remove(&id);
        let (listener, unfinished) = found.ok_or(DetachError::Unknown { id: id.0 })?;
        let removed = self.shared.regions.remove_listener(listener);
        if let Err(RemoveListenerError::Lock(_)) = removed {
            self.attached().targets.insert(id, (listener, unfinished));
        }
        Ok(removed?)
    }

    /// What DMA targets could not follow, and that did not undo the change: memory of devices that they
    /// lack, and changes that they have not finished. Empty in good health; `None` while this thread is
    /// inside a change, and after a listener has panicked.
    pub fn dma_failures(&self) -> Option<Vec<DmaFailure>> {
        let lacking = self.shared.regions.dma_failures().ok()?;
        let lacking = lacking.into_iter().map(|failure| DmaFailure {
            target: failure.name,
            range: Some(failure.mapping.range),
            cause: failure.cause,
        });
        let attached = self.attached();
        let unfinished = attached.targets.values().filter_map(|(_, unfinished)| {
            Some(DmaFailure {
                target: unfinished.target().to_owned(),
                range: None,
                cause: unfinished.cause()?,
            })
        });
        Some(lacking.chain(unfinished).collect())
    }
}
