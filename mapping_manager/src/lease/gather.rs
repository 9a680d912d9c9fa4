//! The lease of any range: over several mappings, of backings without a view, with the exact error.

use super::error::LeaseError;
use super::hold::Hold;
use super::slice::Part;
use super::take::Wanted;
use super::{Lease, Parts};
use crate::table::{BackingSlot, MappingTable, TooMany, View};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ptr::NonNull;

/// How often to look again at once, and then after giving way to other threads.
const SPINS: u32 = 64;
const YIELDS: u32 = 16;

/// What the table shows in a range, with one hold for each backing.
#[derive(Default)]
struct Gathered {
    pieces: Vec<Piece>,
    holds: BTreeMap<NonNull<BackingSlot>, Hold>,
}

/// Neighbouring entries that go on in one backing.
struct Piece {
    gpa: u64,
    len: u64,
    offset: u64,
    slot: NonNull<BackingSlot>,
}

/// Takes a lease that `take` did not take at once.
#[cold]
#[inline(never)]
pub(super) fn take_any(table: &MappingTable, wanted: &Wanted<'_>) -> Result<Lease, LeaseError> {
    for turn in 0..SPINS + YIELDS {
        if let Some(gathered) = gather(table, wanted) {
            return gathered?.into_lease(wanted);
        }
        if turn < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    // There is no end to the changes, or the range is very long. This lets none begin until the
    // holds are counted, which then succeeds at once.
    let _table = table.read();
    loop {
        if let Some(gathered) = gather(table, wanted) {
            return gathered?.into_lease(wanted);
        }
    }
}

/// Counts holds on all that the range shows. `None` if the table changed meanwhile.
fn gather(table: &MappingTable, wanted: &Wanted<'_>) -> Option<Result<Gathered, LeaseError>> {
    let sequence = table.entries().sequence();
    sequence.unless_changed(|seen| gather_once(table, wanted, seen).transpose())
}

/// As [`gather`], which sees to it that what this returns is true. `Ok(None)` if it has seen already
/// that the table changed.
fn gather_once(
    table: &MappingTable,
    wanted: &Wanted<'_>,
    seen: u64,
) -> Result<Option<Gathered>, LeaseError> {
    let entries = table.entries();
    let memory = || wanted.memory();
    let mut gathered = Gathered::default();
    let mut gpa = wanted.start;
    while gpa < wanted.end {
        let found = entries.find(gpa);
        // Or else it might go on for long with nonsense.
        if !entries.sequence().is_still(seen) {
            return Ok(None);
        }
        let Some(entry) = found.filter(|entry| entry.start <= gpa) else {
            return Err(LeaseError::Hole {
                memory: memory(),
                gpa,
            });
        };
        if wanted.access.is_write() && !entry.access.is_writable() {
            return Err(LeaseError::ReadOnly {
                memory: memory(),
                gpa,
            });
        }
        if let Entry::Vacant(place) = gathered.holds.entry(entry.slot) {
            // SAFETY: the table lives, and `gather` drops the hold if the table changed.
            let hold = unsafe { Hold::count(entry.slot, wanted.access) };
            place.insert(hold.map_err(|TooMany| LeaseError::TooMany {
                memory: memory(),
                gpa,
            })?);
        }
        let end = entry.end.min(wanted.end);
        gathered.add(Piece {
            gpa,
            // Not zero: the entry ends above `gpa`.
            len: end.saturating_sub(gpa),
            offset: entry.offset_at(gpa),
            slot: entry.slot,
        });
        gpa = end;
    }
    Ok(Some(gathered))
}

impl Gathered {
    fn add(&mut self, piece: Piece) {
        match self.pieces.last_mut() {
            Some(last)
                if last.slot == piece.slot
                    && last.offset.checked_add(last.len) == Some(piece.offset) =>
            {
                last.len = last.len.saturating_add(piece.len);
            }
            _ => self.pieces.push(piece),
        }
    }

    /// Finds the linear views; the table was unchanged when the last hold was counted.
    fn into_lease(self, wanted: &Wanted<'_>) -> Result<Lease, LeaseError> {
        let parts: Result<Vec<Part>, LeaseError> = self
            .pieces
            .iter()
            .map(|piece| self.part(piece, wanted))
            .collect();
        let parts = parts?;
        let mut holds: Vec<Hold> = self.holds.into_values().collect();
        let parts = match parts.as_slice() {
            [] => Parts::None,
            [part] => match holds.pop() {
                Some(hold) => Parts::One(*part, hold),
                // There is one for each slot of a piece.
                None => Parts::None,
            },
            _ => Parts::Many(parts, holds),
        };
        Ok(wanted.lease(parts))
    }

    fn part(&self, piece: &Piece, wanted: &Wanted<'_>) -> Result<Part, LeaseError> {
        let &Piece {
            gpa,
            len,
            offset,
            slot,
        } = piece;
        let hold = self.holds.get(&slot);
        let view = hold.and_then(|hold| hold.with(|held| held.view()).flatten());
        let backing = || {
            let backing = hold.and_then(Hold::backing);
            backing.map_or_else(String::new, |backing| backing.name().to_owned())
        };
        let view = match view {
            Some(Ok(view)) => view,
            Some(Err(source)) => {
                return Err(LeaseError::NoLinearView {
                    memory: wanted.memory(),
                    gpa,
                    source,
                });
            }
            None => {
                return Err(LeaseError::NotShared {
                    memory: wanted.memory(),
                    gpa,
                    backing: backing(),
                });
            }
        };
        part_in_view(view, gpa, len, offset, slot).ok_or_else(|| LeaseError::PastLinearView {
            memory: wanted.memory(),
            // How much of the piece is in the view comes before it.
            gpa: gpa.saturating_add(view.len.saturating_sub(offset)),
            backing: backing(),
            len: view.len,
        })
    }
}

/// A part of a linear view, if it lies in it.
#[inline(always)]
pub(super) fn part_in_view(
    view: View,
    gpa: u64,
    len: u64,
    offset: u64,
    slot: NonNull<BackingSlot>,
) -> Option<Part> {
    // Does not wrap: `len` bytes are mapped.
    if offset > view.len || len > view.len.wrapping_sub(offset) {
        return None;
    }
    Some(Part {
        gpa,
        len,
        // Does not truncate or wrap: it lies in the view.
        base: view
            .base
            .map_addr(|base| base.saturating_add(offset as usize)),
        offset,
        slot,
    })
}
