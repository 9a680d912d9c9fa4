//! What a mapper does to its partition, and how it keeps account of that.

use super::options::Pinning;
use super::pieces::{HeldPiece, Piece, PieceState};
use super::{AddError, DetachError, PartitionMapper};
use crate::{MapError, Power, UnmapError};
use memory_range::MemoryRange;
use sparse_alloc::HostRange;
use std::sync::Arc;

impl PartitionMapper {
    /// Puts right what earlier failures left behind, as far as possible.
    pub(super) fn repair(&mut self) {
        if self.damaged == 0 {
            return;
        }
        let damaged: Vec<(MemoryRange, HeldPiece)> = self
            .pieces
            .iter()
            .filter(|(_, held)| held.state != PieceState::Mapped)
            .map(|(view, held)| (view, *held))
            .collect();
        for (view, held) in damaged {
            let Ok(piece) = self.window.piece(view) else {
                continue;
            };
            let repaired = match held.state {
                PieceState::Mapped => Ok(()),
                PieceState::Stray => self.take(&piece).map_err(|why| why.to_string()),
                PieceState::Missing => self.give_again(&piece, held).map_err(|why| why.to_string()),
            };
            if let Err(why) = repaired {
                log::warn!("{}: still not put right: {why}", self.name);
            }
        }
    }

    /// Gives a piece that is missing.
    fn give_again(&mut self, piece: &Piece, held: HeldPiece) -> Result<(), AddError> {
        self.give(piece, held)?;
        // Other memory may stand at the host addresses by now.
        let present = self.make_present(piece, held);
        if present.is_err() && self.take(piece).is_ok() {
            self.hold(piece.view, held.with_state(PieceState::Missing));
        }
        present
    }

    /// Maps a piece into the partition and records that.
    pub(super) fn give(&mut self, piece: &Piece, held: HeldPiece) -> Result<(), AddError> {
        self.map(piece, held)?;
        self.hold(piece.view, held.with_state(PieceState::Mapped));
        Ok(())
    }

    /// Maps a piece into the partition, and has yet to record it.
    #[inline]
    pub(super) fn map(&mut self, piece: &Piece, held: HeldPiece) -> Result<(), AddError> {
        let view = piece.view;
        if self.va.move_to(view.start(), view.len()).is_err() {
            return Err(self.outside(view));
        }
        // SAFETY: the addresses are those of `self.va`, which by its invariant is not released
        // before the piece, which the caller records, is unmapped.
        let mapped = unsafe { self.partition.map(piece.gpa, &self.va, held.permissions) };
        match mapped {
            Ok(()) => Ok(()),
            Err(source) => Err(self.not_given(view, source)),
        }
    }

    #[cold]
    fn not_given(&self, range: MemoryRange, source: MapError) -> AddError {
        AddError::Map {
            range,
            partition: self.partition.name().to_owned(),
            source,
        }
    }

    /// Unmaps a piece that is recorded from the partition, if it has it, and forgets it.
    pub(super) fn take(&mut self, piece: &Piece) -> Result<(), UnmapError> {
        // It lacks a piece only where something is damaged.
        let state = match self.damaged {
            0 => Some(PieceState::Mapped),
            _ => self.pieces.get_exact(piece.view).map(|held| held.state),
        };
        if matches!(state, Some(PieceState::Mapped | PieceState::Stray)) {
            self.partition.unmap(piece.gpa)?;
        }
        self.forget(piece.view);
        Ok(())
    }

    /// Faults in and pins what stands at a piece's host addresses, where that was asked for.
    pub(super) fn make_present(&self, piece: &Piece, held: HeldPiece) -> Result<(), AddError> {
        if !held.prefetch && self.pinning == Pinning::No {
            return Ok(());
        }
        let range = piece.view;
        let partition = || self.partition.name().to_owned();
        let unsupported = |power| AddError::Unsupported {
            range,
            partition: partition(),
            power,
        };
        let host = self.host(range)?;
        if held.prefetch {
            self.partition
                .prefetch()
                .ok_or_else(|| unsupported(Power::Prefetch))?
                .prefetch(piece.gpa, &host, held.permissions)
                .map_err(|source| AddError::Prefetch {
                    range,
                    partition: partition(),
                    source,
                })?;
        }
        if self.pinning == Pinning::Yes {
            self.partition
                .pin()
                .ok_or_else(|| unsupported(Power::Pin))?
                .pin(piece.gpa, &host)
                .map_err(|source| AddError::Pin {
                    range,
                    partition: partition(),
                    source,
                })?;
        }
        Ok(())
    }

    /// The host addresses of a range of the view.
    fn host(&self, range: MemoryRange) -> Result<HostRange, AddError> {
        HostRange::new(Arc::clone(self.va.region()), range.start(), range.len())
            .map_err(|_| self.outside(range))
    }

    /// Checks that a range of the view has host addresses.
    pub(super) fn check_inside(&self, range: MemoryRange) -> Result<(), AddError> {
        match range.end() <= self.va.region().len() {
            true => Ok(()),
            false => Err(self.outside(range)),
        }
    }

    #[cold]
    fn outside(&self, range: MemoryRange) -> AddError {
        AddError::OutsideReservation {
            range,
            len: self.va.region().len(),
        }
    }

    /// Records a piece, in place of what was recorded for exactly this range.
    pub(super) fn hold(&mut self, view: MemoryRange, held: HeldPiece) {
        if self.damaged != 0 {
            // What is recorded there may be a piece that counts as damaged.
            self.forget(view);
        }
        if held.state != PieceState::Mapped {
            self.damaged = self.damaged.saturating_add(1);
        }
        self.pieces.put(view, held);
    }

    fn forget(&mut self, view: MemoryRange) {
        if let Some(held) = self.pieces.take_exact(view)
            && held.state != PieceState::Mapped
        {
            self.damaged = self.damaged.saturating_sub(1);
        }
    }

    /// Deletes every slot; leaks the reservation where that fails.
    pub(super) fn release(&mut self) -> Result<(), DetachError> {
        let held: Vec<MemoryRange> = self.pieces.iter().map(|(view, _)| view).collect();
        let mut left = Vec::new();
        let mut first_failure = None;
        for view in held.into_iter().rev() {
            // It was moved by this offset when it was mapped.
            let Ok(piece) = self.window.piece(view) else {
                continue;
            };
            if let Err(source) = self.take(&piece) {
                left.push(piece.gpa);
                first_failure.get_or_insert((piece.gpa, source));
            }
        }
        self.pieces.clear();
        self.damaged = 0;
        self.give_up_claims();
        let Some((first, source)) = first_failure else {
            return Ok(());
        };
        left.reverse();
        std::mem::forget(self.va.clone());
        let error = DetachError {
            partition: self.partition.name().to_owned(),
            left,
            first,
            hva: self.va.region().base().addr().get() as u64,
            leaked: self.va.region().len(),
            source,
        };
        log::error!("{}: {error}: {}", self.name, error.source);
        Err(error)
    }
}
