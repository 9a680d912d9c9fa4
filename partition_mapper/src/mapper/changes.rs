//! What a mapper does when its view changes: all of it, or nothing.

use super::options::{Kinds, Pinning};
use super::pieces::{HeldPiece, Piece, PieceState};
use super::{AddError, PartitionMapper, RemoveError};
use crate::{Power, UnmapError};
use memory_range::MemoryRange;
use region_manager::Slot;

impl PartitionMapper {
    /// Gives a slot of the view.
    pub(super) fn add_slot(&mut self, slot: &Slot) -> Result<(), AddError> {
        match self.kinds {
            Kinds::All => self.give_slot(slot),
            Kinds::Ram => Err(AddError::KindUnknown { range: slot.range }),
        }
    }

    /// Gives a slot, or a sub-mapping that is one here.
    pub(super) fn give_slot(&mut self, slot: &Slot) -> Result<(), AddError> {
        if self.damaged == 0
            && !slot.prefetch
            && let Some(piece) = self.window.only_piece(slot.range)
        {
            return self.give_piece(&piece, HeldPiece::mapped(slot));
        }
        self.give_pieces(slot)
    }

    /// Gives a slot that is one piece: nothing to undo but itself.
    fn give_piece(&mut self, piece: &Piece, held: HeldPiece) -> Result<(), AddError> {
        let view = piece.view;
        self.check_free(view)?;
        self.map(piece, held)?;
        // Nothing is damaged, so nothing else is recorded there.
        self.pieces.put(view, held);
        if self.pinning == Pinning::Yes
            && let Err(error) = self.make_present(piece, held)
        {
            return Err(self.take_back(std::iter::once(piece), error));
        }
        Ok(())
    }

    /// Gives a slot of any number of pieces.
    #[inline(never)]
    fn give_pieces(&mut self, slot: &Slot) -> Result<(), AddError> {
        self.repair();
        let pieces = self.window.pieces(slot.range)?;
        self.prefetches |= slot.prefetch;
        if slot.prefetch && !pieces.is_empty() && self.partition.prefetch().is_none() {
            return Err(AddError::Unsupported {
                range: slot.range,
                partition: self.partition.name().to_owned(),
                power: Power::Prefetch,
            });
        }
        for piece in &pieces {
            self.check_free(piece.view)?;
        }
        let held = HeldPiece::mapped(slot);
        for (index, piece) in pieces.iter().enumerate() {
            let given = self
                .give(piece, held)
                .and_then(|()| self.make_present(piece, held));
            if let Err(error) = given {
                let touched = pieces.iter().take(index.saturating_add(1));
                return Err(self.take_back(touched, error));
            }
        }
        Ok(())
    }

    /// Undoes a part of an addition. `pieces` may include one that was not given.
    fn take_back<'a>(
        &mut self,
        pieces: impl DoubleEndedIterator<Item = &'a Piece>,
        error: AddError,
    ) -> AddError {
        let mut left = None;
        for piece in pieces.rev() {
            let Some(held) = self.pieces.get_exact(piece.view).copied() else {
                continue;
            };
            if let Err(why) = self.take(piece) {
                log::error!("{}: not taken back after a failure: {why}", self.name);
                self.hold(piece.view, held.with_state(PieceState::Stray));
                left = Some(piece.view);
            }
        }
        match left {
            None => error,
            Some(left) => AddError::NotUndone {
                left,
                source: Box::new(error),
            },
        }
    }

    /// Checks that a piece may be given.
    fn check_free(&self, range: MemoryRange) -> Result<(), AddError> {
        self.check_inside(range)?;
        match self.pieces.first_overlapping(range) {
            None => Ok(()),
            Some((existing, _)) => Err(AddError::Occupied { range, existing }),
        }
    }

    /// Takes a slot away.
    pub(super) fn remove_slot(&mut self, slot: &Slot) -> Result<(), RemoveError> {
        if self.damaged == 0
            && let Some(piece) = self.window.only_piece(slot.range)
        {
            self.check_held(piece.view)?;
            if let Err(source) = self.partition.unmap(piece.gpa) {
                return Err(self.not_taken(piece.view, source));
            }
            self.pieces.take_exact(piece.view);
            return Ok(());
        }
        self.remove_pieces(slot)
    }

    /// Takes a slot of any number of pieces away.
    #[inline(never)]
    fn remove_pieces(&mut self, slot: &Slot) -> Result<(), RemoveError> {
        self.repair();
        let pieces = self.window.pieces(slot.range)?;
        for piece in &pieces {
            self.check_held(piece.view)?;
        }
        // The opposite order of an addition, so that adding again finds the same slot ids.
        for (index, piece) in pieces.iter().enumerate().rev() {
            if let Err(source) = self.take(piece) {
                let error = self.not_taken(piece.view, source);
                let taken = pieces.iter().skip(index.saturating_add(1));
                return Err(self.give_back(taken, HeldPiece::mapped(slot), error));
            }
        }
        Ok(())
    }

    /// Checks that a piece was given.
    fn check_held(&self, range: MemoryRange) -> Result<(), RemoveError> {
        match self.pieces.get_exact(range) {
            Some(held) if held.state != PieceState::Stray => Ok(()),
            _ => Err(RemoveError::NotAdded { range }),
        }
    }

    #[cold]
    fn not_taken(&self, range: MemoryRange, source: UnmapError) -> RemoveError {
        RemoveError::Unmap {
            range,
            partition: self.partition.name().to_owned(),
            source,
        }
    }

    /// Undoes a part of a removal.
    fn give_back<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a Piece>,
        held: HeldPiece,
        error: RemoveError,
    ) -> RemoveError {
        let mut missing = None;
        for piece in pieces {
            // What is at the host addresses has not changed meanwhile, so that it is still
            // present and pinned.
            if let Err(why) = self.give(piece, held) {
                log::error!("{}: not given back after a failure: {why}", self.name);
                self.hold(piece.view, held.with_state(PieceState::Missing));
                missing = missing.or(Some(piece.view));
            }
        }
        match missing {
            None => error,
            Some(missing) => RemoveError::NotUndone {
                missing,
                source: Box::new(error),
            },
        }
    }

    /// Makes what now stands under slots that stay present, where that was asked for.
    pub(super) fn replaced(&mut self, range: MemoryRange) -> Result<(), AddError> {
        if self.damaged != 0 {
            self.repair();
        }
        if !self.prefetches && self.pinning == Pinning::No {
            return Ok(());
        }
        let parts: Vec<(MemoryRange, HeldPiece)> = self
            .pieces
            .overlapping(range)
            .filter(|(_, held)| held.state == PieceState::Mapped)
            .filter(|(_, held)| held.prefetch || self.pinning == Pinning::Yes)
            .map(|(view, held)| (view.intersection(&range), *held))
            .collect();
        for (part, held) in parts {
            let piece = self.window.piece(part)?;
            self.make_present(&piece, held)?;
        }
        Ok(())
    }
}
