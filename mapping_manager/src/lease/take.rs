//! Taking a lease without a lock.

use super::gather::{part_in_view, take_any};
use super::hold::Hold;
use super::holders::{Holder, Holders};
use super::{Extras, Lease, LeaseError, Parts};
use crate::dirty_bitmap::DirtyBitmap;
use crate::table::{LeaseAccess, MappingTable};
use std::sync::Arc;

/// What a lease is to be of.
pub(crate) struct Wanted<'a> {
    /// The name of the memory, for errors.
    pub(crate) memory: &'a str,
    /// The first guest physical address.
    pub(crate) start: u64,
    /// The first address past it, not below `start`.
    pub(crate) end: u64,
    /// What it is for.
    pub(crate) access: LeaseAccess,
}

/// Takes a lease of what the table shows now.
#[inline(always)]
pub(crate) fn take(table: &MappingTable, wanted: &Wanted<'_>) -> Result<Lease, LeaseError> {
    match take_one(table, wanted) {
        Some(lease) => Ok(lease),
        None => take_any(table, wanted),
    }
}

/// Takes a lease in the usual case: in one mapping, of a backing with a linear view, while nothing
/// changes. `None` in any other.
#[inline(always)]
fn take_one(table: &MappingTable, wanted: &Wanted<'_>) -> Option<Lease> {
    let &Wanted {
        start, end, access, ..
    } = wanted;
    let entries = table.entries();
    let (entry, hold) = entries.sequence().unless_changed(|_| {
        let entry = entries.find(start)?;
        if entry.start > start || entry.end < end || start == end {
            return None;
        }
        if access.is_write() && !entry.access.is_writable() {
            return None;
        }
        // SAFETY: the table lives, and `unless_changed` drops the hold if the table changed.
        let hold = unsafe { Hold::count(entry.slot, access) }.ok()?;
        Some((entry, hold))
    })?;
    let view = hold.with(|held| held.known_view()).flatten()?;
    let (len, offset) = (end.wrapping_sub(start), entry.offset_at(start));
    let part = part_in_view(view, start, len, offset, entry.slot)?;
    Some(wanted.lease(Parts::One(part, hold)))
}

impl Wanted<'_> {
    pub(super) fn memory(&self) -> String {
        self.memory.to_owned()
    }

    #[inline(always)]
    pub(super) fn lease(&self, parts: Parts) -> Lease {
        Lease {
            range: self.start..self.end,
            access: self.access,
            parts,
            extras: None,
        }
    }
}

impl Lease {
    /// Puts the lease into a list, under a name.
    pub(crate) fn named(mut self, holders: &Arc<Holders>, name: &str) -> Self {
        let holder = Holder::new(holders, name, self.gpa_range(), self.access());
        self.extras().holder = Some(holder);
        self
    }

    /// Has the lease mark in a bitmap what is written.
    pub(crate) fn tracked(mut self, bitmap: Arc<DirtyBitmap>) -> Self {
        if self.access().is_write() {
            self.extras().bitmaps.push(bitmap);
        }
        self
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}
