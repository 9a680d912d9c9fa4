//! Follows guest memory, and publishes what it is after each change.

use crate::address_space::State;
use crate::descriptors::Descriptors;
use crate::dirty_marks::Marks;
use crate::error::NotShown;
use crate::options::SnapshotOptions;
use crate::region::{Parts, SnapshotRegion};
use crate::region_map::RegionMap;
use crate::run::{Piece, Run, Runs};
use crate::view::View;
use guest_memory_manager::{
    DmaMapping, DmaTarget, DmaTargetError, GuestMemory, Lease, LeaseAccess, LeaseError,
};
use memory_range::MemoryRange;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Weak;
use vm_memory::FileOffset;

/// A DMA target that keeps an address space up to date.
pub(crate) struct Follower<V: View> {
    name: String,
    memory: GuestMemory,
    may_fault: bool,
    /// Where writes are marked.
    source: <V::Marks as Marks>::Source,
    /// What there is, by where it starts.
    pieces: BTreeMap<u64, Piece>,
    descriptors: Descriptors,
    /// What has changed since the last snapshot was made.
    dirty: Option<(u64, u64)>,
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
            pieces: BTreeMap::new(),
            descriptors: Descriptors::default(),
            dirty: None,
            state,
        }
    }

    /// Whether there is still somebody who looks. If not, nothing is kept.
    fn is_wanted(&mut self) -> bool {
        let is_wanted = self.state.strong_count() > 0;
        if !is_wanted {
            self.pieces.clear();
            self.descriptors = Descriptors::default();
        }
        is_wanted
    }

    fn changed(&mut self, range: MemoryRange) {
        let (start, end) = self.dirty.unwrap_or((range.start(), range.end()));
        self.dirty = Some((start.min(range.start()), end.max(range.end())));
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

    /// Makes the regions of a run; those of the last snapshot stay where they are the same.
    fn regions_of(
        &self,
        run: &Run<'_>,
        old: &RegionMap<V::Marks>,
    ) -> Result<Vec<SnapshotRegion<V::Marks>>, NotShown> {
        if let Some(region) = old.find(run.gpa.start())
            && run.is_shown_by(region)
        {
            return Ok(vec![region.clone()]);
        }
        let lease = lease(&self.memory, run.view_start, run.gpa.len(), run.is_writable).map_err(
            |source| NotShown::NotLeased {
                range: run.gpa,
                source,
            },
        )?;
        let parts = Parts {
            start: run.gpa.start(),
            source: &self.source,
            file: FileOffset::from_arc(run.descriptor.clone(), run.offset),
        };
        Ok(SnapshotRegion::of_lease(&parts, run.view_start, lease))
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
    memory.lock(start..start.saturating_add(len), access)
}

/// Whether nobody can make a file shorter, so that what is mapped of it stays.
fn is_sealed(file: BorrowedFd<'_>) -> bool {
    // Files that cannot be sealed answer with an error.
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    seals.is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_SHRINK))
}

impl<V: View> DmaTarget for Follower<V> {
    fn name(&self) -> &str {
        &self.name
    }

    fn map(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
        let is_writable = mapping.access().is_writable();
        if !self.is_wanted() || !(is_writable || V::READ_ONLY) {
            return Ok(());
        }
        self.must_not_fault(mapping)?;
        // What can fail is tried now, while the change can still be undone.
        let view_start = mapping.host().offset();
        let lease = lease(&self.memory, view_start, mapping.gpa().len(), is_writable);
        let lease = lease.map_err(|source| NotShown::NotLeased {
            range: mapping.gpa(),
            source,
        })?;
        let host = lease.slices().next().map(|slice| slice.as_ptr().addr());
        let piece = Piece {
            gpa: mapping.gpa(),
            view_start,
            host: host.unwrap_or(0),
            file: mapping.file().clone(),
            descriptor: self.descriptors.take(mapping.file())?,
            offset: mapping.offset(),
            is_writable,
        };
        if let Some(old) = self.pieces.insert(mapping.gpa().start(), piece) {
            self.descriptors.release(&old.file);
        }
        self.changed(mapping.gpa());
        Ok(())
    }

    fn unmap(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
        self.is_wanted();
        if let Some(old) = self.pieces.remove(&mapping.gpa().start()) {
            self.descriptors.release(&old.file);
            self.changed(mapping.gpa());
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DmaTargetError> {
        let (Some((start, end)), Some(state)) = (self.dirty, self.state.upgrade()) else {
            return Ok(());
        };
        let current = state.current();
        let old = current.map();
        let span = old.span(start..end);
        let (mut regions, mut first_error) = (Vec::new(), None);
        let pieces = self.pieces.range(span.range.clone());
        for run in Runs::of(pieces.map(|(_, piece)| piece)) {
            match self.regions_of(&run, old) {
                Ok(more) => regions.extend(more),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        state.publish(old.replaced(&span, regions));
        match first_error {
            // What is missing is tried again at the end of the next change.
            Some(error) => Err(Box::new(error)),
            None => {
                self.dirty = None;
                Ok(())
            }
        }
    }
}
