//! The one reservation of a view in this process, and what is mapped in it.

use crate::fetch::FetchOnFault;
use crate::inspection::FaultCounts;
use crate::lease::Holders;
use crate::table::{ActiveMapping, MappingTable, TableReader, TableWriter, Unused};
use memory_range::{Access, MemoryRange};
use sparse_alloc::{
    Alignment, Backing, HostRange, MapError, MappedRegion, PopulateError, PopulateProgress,
    Populated, ProtectError, ReserveError, ReservedSpace, SpaceEditor, UnmapError, Urgency,
};
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

/// Host address space as long as a guest physical address space, with what is mapped in it.
///
/// The host virtual address of a guest physical address is `base + gpa`, from the first mapping
/// to the last. Mapping over mappings replaces the overlap; unmapping a part of one splits it.
/// A change that fails leaves what was there.
///
/// Changes take effect at once for every [`GuestMemory`](crate::GuestMemory) of the mapper. Replacing is atomic for
/// them: an access finds the old bytes or the new ones.
pub struct VaMapper {
    name: Arc<str>,
    // Before `reservation`, which its editor changes.
    table: MappingTable,
    reservation: Arc<ReservedSpace>,
    holders: Arc<Holders>,
    pub(crate) faults: FaultCounts,
    /// Only a lazy mapper has one. Looked at after a fault.
    pub(crate) fetch: OnceLock<Arc<dyn FetchOnFault>>,
    /// In nanoseconds.
    pub(crate) inspection_hold: AtomicU64,
}

impl VaMapper {
    /// Reserves address space for guest physical addresses from 0 to `len` (exclusive).
    ///
    /// `name` stands in errors and in inspection. GPA and HVA share their low bits as
    /// `alignment` says; for a guest to get huge pages it takes [`Alignment::Huge2M`] or more.
    ///
    /// # Errors
    ///
    /// As [`Reservation::new`](sparse_alloc::Reservation::new): `len` is zero, unaligned, or more than the host has room for.
    pub fn new(
        name: impl Into<String>,
        len: u64,
        alignment: Alignment,
    ) -> Result<Arc<Self>, ReserveError> {
        let name = Arc::<str>::from(name.into());
        let editor = SpaceEditor::new(len, alignment)?;
        Ok(Arc::new(Self {
            name: name.clone(),
            reservation: Arc::clone(editor.space()),
            table: MappingTable::new(name, editor),
            holders: Arc::default(),
            faults: FaultCounts::default(),
            fetch: OnceLock::new(),
            inspection_hold: AtomicU64::new(0),
        }))
    }

    /// The name in errors and in inspection.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The guest physical addresses, from 0 to the length of the reservation.
    pub fn space(&self) -> MemoryRange {
        self.reservation.range()
    }

    /// A share of the address space, for whoever hands addresses in it to others: it stays
    /// reserved, at its place, until the last share is dropped.
    pub fn va(&self) -> Arc<dyn MappedRegion> {
        self.reservation.clone()
    }

    /// The reservation itself: its place, its length, and how many system calls were made to change
    /// what is mapped in it.
    pub fn reservation(&self) -> &ReservedSpace {
        &self.reservation
    }

    /// Shows `backing` from `offset` on at a range, replacing what is there.
    ///
    /// # Errors
    ///
    /// As [`Reservation::map`](sparse_alloc::Reservation::map); what was there is there still.
    pub fn map(
        &self,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Result<(), MapError> {
        self.map_with(Urgency::Change, range, backing, offset, access)
    }

    /// Changes whether a range, all of it mapped, can be written.
    ///
    /// # Errors
    ///
    /// As [`Reservation::protect`](sparse_alloc::Reservation::protect).
    pub fn protect(&self, range: MemoryRange, access: Access) -> Result<(), ProtectError> {
        self.protect_with(Urgency::Change, range, access)
    }

    /// Returns a range to reserved. What isn't mapped stays so.
    ///
    /// # Errors
    ///
    /// As [`Reservation::unmap`](sparse_alloc::Reservation::unmap).
    pub fn unmap(&self, range: MemoryRange) -> Result<(), UnmapError> {
        self.unmap_with(Urgency::Change, range)
    }

    /// The same operations for going back after a failure: they may draw on the VMAs that the
    /// reservation holds back.
    pub fn undo(&self) -> UndoMapper<'_> {
        UndoMapper { mapper: self }
    }

    /// Makes the pages that are mapped in a range present, so that no one has to wait for memory when
    /// first touching them; with several threads.
    ///
    /// It acts on these addresses, which a guest's accesses go by, and not on the linear views of the
    /// backings. Each page is made present for what its mapping allows now. Holes are skipped, and so
    /// are devices, which have no pages to wait for, and fills, which would take memory that they are
    /// there to save. An empty range is no error.
    ///
    /// What is mapped is looked up once, at the start, and no lock is held afterwards: that may take
    /// seconds. Changes made meanwhile go on unhindered. What they unmap or make read-only in the
    /// range may make populating fail; what they map is not populated.
    ///
    /// `threads` counts the caller's; `None` means one for each processor. `progress` tells how far
    /// it got, and can cancel it.
    ///
    /// # Errors
    ///
    /// [`PopulateError::OutOfBounds`] when the range ends past the address space; otherwise as
    /// [`populate_in_parallel`](sparse_alloc::populate_in_parallel).
    pub fn populate(
        &self,
        range: MemoryRange,
        progress: &PopulateProgress,
        threads: Option<NonZeroUsize>,
    ) -> Result<Populated, PopulateError> {
        let len = self.reservation.len();
        let outside = || PopulateError::OutOfBounds { range, len };
        if range.end() > len {
            return Err(outside());
        }
        let mut pieces: Vec<(HostRange, Access)> = Vec::new();
        for (part, mapping) in self.read_table().parts(range) {
            if has_pages(&mapping.backing) {
                let host = HostRange::new(self.va(), part.start(), part.len());
                pieces.push((host.map_err(|_| outside())?, mapping.access));
            }
        }
        sparse_alloc::populate_in_parallel(&pieces, threads, progress)
    }

    /// What is mapped at a guest physical address, with the range it belongs to.
    pub fn mapping_at(&self, gpa: u64) -> Option<(MemoryRange, ActiveMapping)> {
        self.read_table().get(gpa)
    }

    /// Everything that is mapped, by address.
    pub fn mappings(&self) -> Vec<(MemoryRange, ActiveMapping)> {
        self.read_table().iter().collect()
    }

    /// The table, which cannot change while this is held.
    pub(crate) fn read_table(&self) -> TableReader<'_> {
        self.table.read()
    }

    /// The table, to be looked up without a lock.
    #[inline(always)]
    pub(crate) fn table(&self) -> &MappingTable {
        &self.table
    }

    /// The list of those who gave their names when they took a lease.
    pub(crate) fn holders(&self) -> &Arc<Holders> {
        &self.holders
    }

    fn map_with(
        &self,
        urgency: Urgency,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Result<(), MapError> {
        let mut table = self.table.write();
        let result = table.space().map(urgency, range, backing, offset, access);
        let unused = match &result {
            Ok(()) => table.set(range, backing, offset, access),
            // The one failure that leaves a hole; the table says so.
            Err(MapError::Lost { .. }) => table.remove(range),
            Err(_) => Unused::default(),
        };
        drop(table);
        drop(unused);
        result
    }

    fn protect_with(
        &self,
        urgency: Urgency,
        range: MemoryRange,
        access: Access,
    ) -> Result<(), ProtectError> {
        let mut table = self.table.write();
        if let Some(exact) = table.exact(range)
            && (!access.is_writable() || exact.part.limit().is_writable())
        {
            let before = || [(range, exact.part.access)];
            table.space().protect(urgency, range, access, before)?;
            table.protect_exact(&exact, access);
            return Ok(());
        }
        // What lies outside is found by the editor.
        if range.end() <= self.reservation.len() {
            check_protect(&table, range, access)?;
        }
        let parts = table.parts(range);
        let before = || parts.map(|part| (part.range, part.access));
        table.space().protect(urgency, range, access, before)?;
        table.protect(range, access);
        Ok(())
    }

    fn unmap_with(&self, urgency: Urgency, range: MemoryRange) -> Result<(), UnmapError> {
        let mut table = self.table.write();
        let coverage = table.coverage(range);
        // What is empty or lies outside is found by the editor.
        let is_inside = !range.is_empty() && range.end() <= self.reservation.len();
        if is_inside && !coverage.is_mapped {
            return Ok(());
        }
        table.space().unmap(urgency, range, coverage.reaches_out)?;
        let unused = table.remove(range);
        drop(table);
        drop(unused);
        Ok(())
    }
}

/// Finds what keeps a range, which lies in the address space, from getting an access.
fn check_protect(
    table: &TableWriter<'_>,
    range: MemoryRange,
    access: Access,
) -> Result<(), ProtectError> {
    let hole = |hole: std::ops::Range<u64>| ProtectError::NotMapped {
        range,
        hole: MemoryRange::try_new(hole).unwrap_or(range),
    };
    let mut from = range.start();
    for part in table.parts(range) {
        if from < part.range.start() {
            return Err(hole(from..part.range.start()));
        }
        if access.is_writable() && !part.limit().is_writable() {
            let part = part.range;
            return Err(ProtectError::ReadOnly { range, part });
        }
        from = part.range.end();
    }
    if from < range.end() {
        return Err(hole(from..range.end()));
    }
    Ok(())
}

/// Says whether a backing has pages that take memory when they are first touched.
fn has_pages(backing: &Backing) -> bool {
    match backing {
        // A device has no length.
        Backing::Mappable(mappable) => matches!(mappable.len(), Ok(Some(_))),
        Backing::Anonymous => true,
        Backing::Zeros | Backing::Ones => false,
    }
}

/// Makes changes that go back to an earlier state; see [`VaMapper::undo`].
#[must_use = "it undoes nothing by itself: call its methods"]
pub struct UndoMapper<'a> {
    mapper: &'a VaMapper,
}

impl UndoMapper<'_> {
    /// See [`VaMapper::map`].
    ///
    /// # Errors
    ///
    /// As [`VaMapper::map`].
    pub fn map(
        &self,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Result<(), MapError> {
        self.mapper
            .map_with(Urgency::Undo, range, backing, offset, access)
    }

    /// See [`VaMapper::protect`].
    ///
    /// # Errors
    ///
    /// As [`VaMapper::protect`].
    pub fn protect(&self, range: MemoryRange, access: Access) -> Result<(), ProtectError> {
        self.mapper.protect_with(Urgency::Undo, range, access)
    }

    /// See [`VaMapper::unmap`].
    ///
    /// # Errors
    ///
    /// As [`VaMapper::unmap`].
    pub fn unmap(&self, range: MemoryRange) -> Result<(), UnmapError> {
        self.mapper.unmap_with(Urgency::Undo, range)
    }
}
