//! The slots of one partition, and the rules that they keep.

use crate::places::Places;
use crate::reservations::{ReservationKey, Reservations};
use crate::slot_ids::SlotIds;
use crate::{MapError, UnmapError};
use inspect::Inspect;
use memory_range::{MemoryRange, PAGE_SIZE};
use region_manager::{Execute, Permissions};
use sparse_alloc::{HostRange, MappedRegion};
use std::sync::Arc;

/// A slot as a partition holds it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Inspect)]
pub struct SlotInfo {
    /// The hypervisor's number of the slot.
    pub id: u32,
    /// The guest physical addresses.
    #[inspect(display)]
    pub gpa: MemoryRange,
    /// The host virtual address behind the first of them.
    #[inspect(hex)]
    pub hva: u64,
    /// What the guest may do there.
    #[inspect(flatten)]
    pub permissions: Permissions,
}

/// What the table keeps for each range.
#[derive(Copy, Clone)]
pub(crate) struct HeldSlot {
    pub(crate) id: u32,
    pub(crate) permissions: Permissions,
    reservation: ReservationKey,
    /// Where in the reservation the slot's first byte is.
    offset: u64,
}

/// What a hypervisor lets its slots be.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The backend's name, for errors.
    pub(crate) name: String,
    pub(crate) read_only: ReadOnlySlots,
    /// In bytes.
    pub(crate) longest: u64,
}

/// Whether a slot can be read-only.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadOnlySlots {
    Supported,
    Unsupported,
}

/// The slots of one partition.
///
/// A change is first checked, then made by the hypervisor, then committed here, so that the
/// table never says what is not so.
///
/// # Invariants
///
/// - An id is in use if and only if one slot has it.
/// - A reservation in which a slot lies is in `reservations`, which keeps it.
pub(crate) struct SlotTable {
    rules: Rules,
    ids: SlotIds,
    slots: Places<HeldSlot>,
    reservations: Reservations,
}

impl SlotTable {
    pub(crate) const fn new(rules: Rules, ids: SlotIds) -> Self {
        Self {
            rules,
            ids,
            slots: Places::new(),
            reservations: Reservations::new(),
        }
    }

    pub(crate) const fn limit(&self) -> u32 {
        self.ids.limit()
    }

    pub(crate) const fn used(&self) -> u32 {
        self.ids.in_use()
    }

    pub(crate) const fn slots(&self) -> &Places<HeldSlot> {
        &self.slots
    }

    /// Checks that a slot may be made, and says which id it will have.
    pub(crate) fn check_map(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<u32, MapError> {
        let hva = hva(host);
        if gpa.is_empty() {
            return Err(MapError::Empty { gpa });
        }
        if host.len() != gpa.len() {
            let host_len = host.len();
            return Err(MapError::LengthMismatch { gpa, host_len });
        }
        if !hva.is_multiple_of(PAGE_SIZE) {
            return Err(MapError::UnalignedHost { gpa, hva });
        }
        if gpa.len() > self.rules.longest {
            let max = self.rules.longest;
            return Err(MapError::TooLong { gpa, max });
        }
        let partition = || self.rules.name.clone();
        if permissions.execute == Execute::Denied {
            let partition = partition();
            return Err(MapError::ExecuteDeniedUnsupported { gpa, partition });
        }
        if !permissions.access.is_writable() && self.rules.read_only == ReadOnlySlots::Unsupported {
            let partition = partition();
            return Err(MapError::ReadOnlyUnsupported { gpa, partition });
        }
        if let Some((existing, _)) = self.slots.first_overlapping(gpa) {
            return Err(MapError::Overlap { gpa, existing });
        }
        let limit = self.ids.limit();
        self.ids
            .peek()
            .ok_or(MapError::SlotsExhausted { gpa, limit })
    }

    /// Records the slot that [`check_map`](Self::check_map) has just passed and the hypervisor
    /// has made.
    pub(crate) fn commit_map(
        &mut self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) {
        if let Some(id) = self.ids.take() {
            let slot = HeldSlot {
                id,
                permissions,
                reservation: self.reservations.enter(host),
                offset: host.offset(),
            };
            self.slots.put(gpa, slot);
        }
    }

    /// Checks that exactly this range is a slot, and says which.
    pub(crate) fn check_unmap(&self, gpa: MemoryRange) -> Result<u32, UnmapError> {
        match self.slots.first_overlapping(gpa) {
            None => Err(UnmapError::NotMapped { gpa }),
            Some((existing, held)) if existing == gpa => Ok(held.id),
            Some((existing, _)) => Err(UnmapError::Partial { gpa, existing }),
        }
    }

    /// Forgets the slot that the hypervisor has deleted. Returns the table's share of the
    /// reservation behind it, if no other slot lies there: perhaps the last one, and not to be given
    /// up under a lock.
    pub(crate) fn commit_unmap(&mut self, gpa: MemoryRange) -> Option<Arc<dyn MappedRegion>> {
        let held = self.slots.take_exact(gpa)?;
        self.ids.put_back(held.id);
        self.reservations.exit(held.reservation)
    }

    /// The reservation behind a slot.
    pub(crate) fn reservation(&self, slot: &HeldSlot) -> Option<&Arc<dyn MappedRegion>> {
        self.reservations.get(slot.reservation)
    }

    /// The host memory of the slot that an address lies in, with a share of it, and the slot.
    pub(crate) fn slot_at(&self, gpa: u64) -> Option<(MemoryRange, HostRange, Permissions)> {
        let (range, slot) = self.slots.get(gpa)?;
        let region = Arc::clone(self.reservation(slot)?);
        let host = HostRange::new(region, slot.offset, range.len()).ok()?;
        Some((range, host, slot.permissions))
    }

    /// Every slot, by guest physical address.
    pub(crate) fn snapshot(&self) -> Vec<SlotInfo> {
        let mut slots = Vec::with_capacity(self.slots.len());
        slots.extend(self.slots.iter().map(|(gpa, held)| SlotInfo {
            id: held.id,
            gpa,
            hva: self.hva(held),
            permissions: held.permissions,
        }));
        slots
    }

    /// The host virtual address of a slot's first byte.
    fn hva(&self, slot: &HeldSlot) -> u64 {
        let base = self
            .reservation(slot)
            .map_or(0, |region| region.base().addr().get());
        slot.offset.saturating_add(base as u64)
    }
}

/// The host virtual address of the first byte.
pub(crate) fn hva(host: &HostRange) -> u64 {
    host.as_ptr().addr() as u64
}

/// A table at one moment, to be shown when nobody waits for its lock.
pub(crate) struct SlotTableCopy {
    limit: u32,
    used: u32,
    read_only_slots: bool,
    slots: Vec<SlotInfo>,
}

impl SlotTable {
    pub(crate) fn copy(&self) -> SlotTableCopy {
        SlotTableCopy {
            limit: self.limit(),
            used: self.used(),
            read_only_slots: self.rules.read_only == ReadOnlySlots::Supported,
            slots: self.snapshot(),
        }
    }
}

impl SlotTableCopy {
    /// Adds the table to a tree, for a partition of this kind and name.
    pub(crate) fn inspect(&self, response: &mut inspect::Response<'_>, kind: &str, name: &str) {
        response
            .field("kind", kind)
            .field("name", name)
            .field("slot_limit", &self.limit)
            .field("slots_used", &self.used)
            .field("read_only_slots", &self.read_only_slots)
            .child("slots", |req| {
                req.by_key(self.slots.iter().map(|slot| {
                    let shown = inspect::from_fn(|req: inspect::Request<'_>| {
                        // All that there is of flags: dirty logging is nobody's here.
                        let flags = match slot.permissions.access.is_writable() {
                            true => inspect::Value::Null,
                            false => "read-only".into(),
                        };
                        req.respond().flatten("slot", slot).value("flags", flags);
                    });
                    (slot.id, shown)
                }));
            });
    }
}
