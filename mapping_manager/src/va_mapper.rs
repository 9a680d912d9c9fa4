//! The one reservation of a view in this process, and what is mapped in it.

use crate::lease::Holders;
use crate::table::{ActiveMapping, MappingTable, TableReader, Unused};
use inspect::Inspect;
use memory_range::{Access, MemoryRange};
use sparse_alloc::{
    Alignment, Backing, MapError, MappedRegion, PopulateError, ProtectError, Reservation,
    ReserveError, UnmapError,
};
use std::sync::Arc;

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
    reservation: Arc<Reservation>,
    table: MappingTable,
    holders: Arc<Holders>,
}

/// Whether a change goes forward or undoes one that failed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Urgency {
    Change,
    Undo,
}

impl VaMapper {
    /// Reserves address space for guest physical addresses from 0 to `len` (exclusive).
    ///
    /// `name` stands in errors and in inspection. GPA and HVA share their low bits as
    /// `alignment` says; for a guest to get huge pages it takes [`Alignment::Huge2M`] or more.
    ///
    /// # Errors
    ///
    /// As [`Reservation::new`]: `len` is zero, unaligned, or more than the host has room for.
    pub fn new(
        name: impl Into<String>,
        len: u64,
        alignment: Alignment,
    ) -> Result<Arc<Self>, ReserveError> {
        let name = Arc::<str>::from(name.into());
        Ok(Arc::new(Self {
            name: name.clone(),
            reservation: Arc::new(Reservation::new(len, alignment)?),
            table: MappingTable::new(name),
            holders: Arc::default(),
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

    /// The reservation itself.
    pub fn reservation(&self) -> &Reservation {
        &self.reservation
    }

    /// Shows `backing` from `offset` on at a range, replacing what is there.
    ///
    /// # Errors
    ///
    /// As [`Reservation::map`]; what was there is there still.
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
    /// As [`Reservation::protect`].
    pub fn protect(&self, range: MemoryRange, access: Access) -> Result<(), ProtectError> {
        self.protect_with(Urgency::Change, range, access)
    }

    /// Returns a range to reserved. What isn't mapped stays so.
    ///
    /// # Errors
    ///
    /// As [`Reservation::unmap`].
    pub fn unmap(&self, range: MemoryRange) -> Result<(), UnmapError> {
        self.unmap_with(Urgency::Change, range)
    }

    /// The same operations for going back after a failure: they may draw on the VMAs that the
    /// reservation holds back.
    pub fn undo(&self) -> UndoMapper<'_> {
        UndoMapper { mapper: self }
    }

    /// Faults in what is mapped in a range, at these addresses (the linear views of its
    /// backings are not touched).
    ///
    /// # Errors
    ///
    /// As [`Reservation::populate`].
    pub fn populate(&self, range: MemoryRange, access: Access) -> Result<(), PopulateError> {
        self.reservation.populate(range, access)
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
        let result = match urgency {
            Urgency::Change => self.reservation.map(range, backing, offset, access),
            Urgency::Undo => self.reservation.undo().map(range, backing, offset, access),
        };
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
        match urgency {
            Urgency::Change => self.reservation.protect(range, access)?,
            Urgency::Undo => self.reservation.undo().protect(range, access)?,
        }
        table.protect(range, access);
        Ok(())
    }

    fn unmap_with(&self, urgency: Urgency, range: MemoryRange) -> Result<(), UnmapError> {
        let mut table = self.table.write();
        match urgency {
            Urgency::Change => self.reservation.unmap(range)?,
            Urgency::Undo => self.reservation.undo().unmap(range)?,
        }
        let unused = table.remove(range);
        drop(table);
        drop(unused);
        Ok(())
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

impl Inspect for VaMapper {
    fn inspect(&self, req: inspect::Request<'_>) {
        let mut response = req.respond();
        response
            .value("name", self.name())
            .field("reservation", &*self.reservation)
            .child("mappings", |req| {
                let mut response = req.respond();
                for (range, mapping) in self.mappings() {
                    response.field(range.to_string(), &mapping);
                }
            })
            .child("leases", |req| {
                req.respond()
                    .child("backings", |req| req.by_index(self.read_table().leases()))
                    .field("holders", &*self.holders);
            });
    }
}
