//! Attaching the partitions of other processes.

use super::{PartitionId, PartitionView, limit};
use crate::error::{AttachError, ProcessAttachError};
use crate::manager::GuestMemoryManager;
use crate::vtl::{RemoteProcess, Vtl};
use partition_mapper::PartitionMemoryMap;

impl GuestMemoryManager {
    /// Checks that a partition and a process go together, and that the process has all that the
    /// partition is to see.
    pub(super) fn check_process(
        &self,
        vtl: Vtl,
        partition: &dyn PartitionMemoryMap,
        process: Option<&RemoteProcess>,
        view: &PartitionView,
    ) -> Result<(), AttachError> {
        let Some(process) = process else {
            return match partition.forwarded() {
                Some(forwarded) if self.shared.remotes.finds(forwarded) => {
                    let partition = partition.name().to_owned();
                    Err(ProcessAttachError::ProcessMissing { partition }.into())
                }
                _ => Ok(()),
            };
        };
        let name = process.name().to_owned();
        if !process.follows(&*self.shared.mapper.va()) {
            return Err(ProcessAttachError::OtherManager { process: name }.into());
        }
        must_live(process)?;
        if process.is_lazy() {
            return Err(ProcessAttachError::Lazy { process: name }.into());
        }
        let forwarded = partition.forwarded();
        if !forwarded.is_some_and(|forwarded| process.offers(forwarded)) {
            return Err(not_offered(partition, process).into());
        }
        let seen = limit(&self.shared.layout.seen_by(vtl), view.only.as_deref());
        if !process.is_granted(&seen, view.ram_only) {
            let partition = partition.name().to_owned();
            return Err(ProcessAttachError::NotGranted {
                partition,
                process: name,
            }
            .into());
        }
        Ok(())
    }

    /// Has a partition go when its process does; takes it back if that is gone already.
    pub(super) fn note_attached(
        &self,
        partition: &dyn PartitionMemoryMap,
        process: &RemoteProcess,
        id: PartitionId,
    ) -> Result<(), AttachError> {
        if let Some(forwarded) = partition.forwarded()
            && process.note_attached(forwarded, id)
        {
            return Ok(());
        }
        // Who is gone takes everything.
        let _ = self.detach_partition(id);
        Err(not_offered(partition, process).into())
    }

    /// Waits until a process has made what its partition was given.
    pub(super) async fn followed_by(
        &self,
        process: &RemoteProcess,
        id: PartitionId,
    ) -> Result<(), AttachError> {
        process.acknowledgement().await;
        if let Err(error) = must_live(process) {
            // It may be detached with its process already.
            let _ = self.detach_partition(id);
            return Err(error.into());
        }
        Ok(())
    }
}

fn must_live(process: &RemoteProcess) -> Result<(), ProcessAttachError> {
    match process.gone() {
        None => Ok(()),
        Some(reason) => Err(ProcessAttachError::Gone {
            process: process.name().to_owned(),
            source: Box::new(reason),
        }),
    }
}

/// Why a process does not offer a partition: because there is no process, perhaps.
fn not_offered(partition: &dyn PartitionMemoryMap, process: &RemoteProcess) -> ProcessAttachError {
    if let Err(error) = must_live(process) {
        return error;
    }
    ProcessAttachError::NotOffered {
        partition: partition.name().to_owned(),
        process: process.name().to_owned(),
    }
}
