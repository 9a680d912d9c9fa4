//! Follows guest memory, and publishes what it is after each change.

use crate::address_space::State;
use crate::descriptors::Descriptors;
use crate::dirty_marks::Marks;
use crate::error::NotShown;
use crate::options::SnapshotOptions;
use crate::region::{Parts, SnapshotRegion};
use crate::region_map::RegionMap;
use crate::view::View;
use guest_memory_manager::{
    DmaMapping, DmaTarget, DmaTargetError, GuestMemory, Lease, LeaseAccess, LeaseError,
};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use std::os::fd::BorrowedFd;
use std::sync::Weak;
use vm_memory::FileOffset;

/// A DMA target that keeps an address space up to date.
///
/// Whatever can fail is done when memory is mapped, while the change can still be undone: nothing has
/// been changed here when it fails. To hide memory and to publish cannot fail.
pub(crate) struct Follower<V: View> {
    name: String,
    memory: GuestMemory,
    may_fault: bool,
    /// Where writes are marked.
    source: <V::Marks as Marks>::Source,
    /// What there is. It is published when the change ends.
    map: RegionMap<V::Marks>,
    descriptors: Descriptors,
    /// Whether it has changed since it was published.
    is_changed: bool,
    state: Weak<State<V>>,
}

impl<V: View> Follower<V> {
    pub(crate) fn new(
        name: String,
        memory: GuestMemory,
        options: &SnapshotOptions,
        source: <V::Marks as Marks>::Source,
        state: Weak<State<V>>,
    ) -> Self {
        Self {
            name,
            memory,
            may_fault: options.may_fault,
            source,
            map: RegionMap::empty(),
            descriptors: Descriptors::default(),
            is_changed: false,
            state,
        }
    }

    /// Whether there is still somebody who looks. If not, nothing is kept.
    fn is_wanted(&mut self) -> bool {
        let is_wanted = self.state.strong_count() > 0;
        if !is_wanted {
            self.map = RegionMap::empty();
            self.descriptors = Descriptors::default();
        }
        is_wanted
    }

    /// Whether it shows memory of this kind.
    fn shows(&self, mapping: &DmaMapping) -> bool {
        mapping.access().is_writable() || V::READ_ONLY
    }

    fn must_not_fault(&self, mapping: &DmaMapping) -> Result<(), NotShown> {
        if self.may_fault || is_sealed(mapping.fd()) {
            return Ok(());
        }
        Err(NotShown::CanFault {
            range: mapping.gpa(),
            file: mapping.file().name().to_owned(),
        })
    }

    /// Makes the regions of a mapping; one, since a mapping lies in one piece in its file.
    fn regions(&mut self, mapping: &DmaMapping) -> Result<Vec<SnapshotRegion<V::Marks>>, NotShown> {
        self.must_not_fault(mapping)?;
        let view_start = mapping.host().offset();
        let is_writable = mapping.access().is_writable();
        let lease = lease(&self.memory, view_start, mapping.gpa().len(), is_writable);
        let lease = lease.map_err(|source| NotShown::NotLeased {
            range: mapping.gpa(),
            source,
        })?;
        let descriptor = self.descriptors.take(mapping.file())?;
        let parts = Parts {
            start: mapping.gpa().start(),
            source: &self.source,
            mappable: mapping.file(),
            file: FileOffset::from_arc(descriptor, mapping.offset()),
        };
        Ok(SnapshotRegion::of_lease(&parts, view_start, lease))
    }
}

/// Leases `len` bytes of what the view shows at an address.
fn lease(
    memory: &GuestMemory,
    start: u64,
    len: u64,
    is_writable: bool,
) -> Result<Lease, LeaseError> {
    let access = match is_writable {
        true => LeaseAccess::Write,
        false => LeaseAccess::Read,
    };
    #[cfg(test)]
    if crate::injection::fails() {
        return Err(LeaseError::Hole {
            memory: "injected".to_owned(),
            gpa: start,
        });
    }
    memory.lock(start..start.saturating_add(len), access)
}

/// Whether nobody can make a file shorter, so that what is mapped of it stays.
fn is_sealed(file: BorrowedFd<'_>) -> bool {
    #[cfg(test)]
    if crate::injection::fails() {
        return false;
    }
    // Files that cannot be sealed answer with an error.
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    seals.is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_SHRINK))
}

impl<V: View> DmaTarget for Follower<V> {
    fn name(&self) -> &str {
        &self.name
    }

    fn map(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
        if !self.is_wanted() || !self.shows(mapping) {
            return Ok(());
        }
        for region in self.regions(mapping)? {
            self.map.show(region);
        }
        self.is_changed = true;
        Ok(())
    }

    fn unmap(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
        if !self.is_wanted() || !self.shows(mapping) {
            return Ok(());
        }
        self.map.hide(mapping.gpa().start()..mapping.gpa().end());
        self.descriptors.release(mapping.file());
        self.is_changed = true;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DmaTargetError> {
        if std::mem::take(&mut self.is_changed)
            && let Some(state) = self.state.upgrade()
        {
            state.publish(self.map.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
