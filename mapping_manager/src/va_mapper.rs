//! The one reservation of a view in this process, and what is mapped in it.

use crate::guest_memory::GuestMemory;
use crate::table::{ActiveMapping, MappingTable};
use inspect::Inspect;
use memory_range::{Access, MemoryRange};
use sparse_alloc::{
    Alignment, Backing, MapError, MappedRegion, PopulateError, ProtectError, Reservation,
    ReserveError, UnmapError,
};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Host address space as long as a guest physical address space, with what is mapped in it.
///
/// The host virtual address of a guest physical address is `base + gpa`, from the first mapping
/// to the last. Mapping over mappings replaces the overlap; unmapping a part of one splits it.
/// A change that fails leaves what was there.
///
/// Changes take effect at once for every [`GuestMemory`] of the mapper. Replacing is atomic for
/// them: an access finds the old bytes or the new ones.
pub struct VaMapper {
    name: String,
    reservation: Arc<Reservation>,
    /// Held for writing while the address space changes, so that whoever holds it for reading
    /// sees a table that is true. Accesses take it only after a fault.
    table: RwLock<MappingTable>,
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
        Ok(Arc::new(Self {
            name: name.into(),
            reservation: Arc::new(Reservation::new(len, alignment)?),
            table: RwLock::default(),
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

    /// Access to what is mapped, now and later.
    pub fn guest_memory(self: &Arc<Self>) -> GuestMemory {
        GuestMemory::new(self.clone())
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
        let table = self.read_table();
        table
            .get(gpa)
            .map(|(range, mapping)| (range, mapping.clone()))
    }

    /// Everything that is mapped, by address.
    pub fn mappings(&self) -> Vec<(MemoryRange, ActiveMapping)> {
        let table = self.read_table();
        table
            .iter()
            .map(|(range, mapping)| (range, mapping.clone()))
            .collect()
    }

    pub(crate) fn read_table(&self) -> RwLockReadGuard<'_, MappingTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_table(&self) -> RwLockWriteGuard<'_, MappingTable> {
        // Between the change of the address space and that of the table nothing can panic.
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn map_with(
        &self,
        urgency: Urgency,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Result<(), MapError> {
        let mut table = self.write_table();
        let result = match urgency {
            Urgency::Change => self.reservation.map(range, backing, offset, access),
            Urgency::Undo => self.reservation.undo().map(range, backing, offset, access),
        };
        match &result {
            Ok(()) => table.set(
                range,
                ActiveMapping {
                    backing: backing.clone(),
                    offset,
                    access,
                },
            ),
            // The one failure that leaves a hole; the table says so.
            Err(MapError::Lost { .. }) => table.remove(range),
            Err(_) => {}
        }
        result
    }

    fn protect_with(
        &self,
        urgency: Urgency,
        range: MemoryRange,
        access: Access,
    ) -> Result<(), ProtectError> {
        let mut table = self.write_table();
        match urgency {
            Urgency::Change => self.reservation.protect(range, access)?,
            Urgency::Undo => self.reservation.undo().protect(range, access)?,
        }
        table.protect(range, access);
        Ok(())
    }

    fn unmap_with(&self, urgency: Urgency, range: MemoryRange) -> Result<(), UnmapError> {
        let mut table = self.write_table();
        match urgency {
            Urgency::Change => self.reservation.unmap(range)?,
            Urgency::Undo => self.reservation.undo().unmap(range)?,
        }
        table.remove(range);
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
            .field("name", &self.name)
            .field("reservation", &*self.reservation)
            .child("mappings", |req| {
                let mut response = req.respond();
                for (range, mapping) in self.mappings() {
                    response.field(range.to_string(), &mapping);
                }
            });
    }
}
