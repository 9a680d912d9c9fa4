//! Where two views differ.

use crate::{BackingHandle, FlatView, Visible};
use memory_range::sorted::{Piece, walk};
use memory_range::{MemoryRange, RangeValue};

/// A range where the new view differs from the old one, each side uniform.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference<B> {
    pub(crate) range: MemoryRange,
    pub(crate) old: Option<Visible<B>>,
    pub(crate) new: Option<Visible<B>>,
}

impl<B: PartialEq> Difference<B> {
    /// Whether slots are concerned: the range appears, vanishes, or changes permissions.
    pub(crate) fn permissions_change(&self) -> bool {
        self.old.as_ref().map(|old| old.permissions) != self.new.as_ref().map(|new| new.permissions)
    }
}

/// Compares the view with what is to be visible in `range`; appends what differs, by address.
pub(crate) fn differences<B: BackingHandle>(
    view: &FlatView<B>,
    range: MemoryRange,
    new: &[(MemoryRange, Visible<B>)],
    found: &mut Vec<Difference<B>>,
) {
    let old = view
        .overlapping(range)
        .map(|(at, visible)| (at.intersection(&range), Shown { at, visible }));
    let new = new.iter().map(|(at, visible)| {
        let shown = Shown { at: *at, visible };
        (*at, shown)
    });
    for piece in walk(old, new) {
        let range = piece.range();
        let (old, new) = match piece {
            Piece::Both(_, old, new) if old.equals(&new) => continue,
            Piece::Both(_, old, new) => (Some(old), Some(new)),
            Piece::Left(_, old) => (Some(old), None),
            Piece::Right(_, new) => (None, Some(new)),
        };
        found.push(Difference {
            range,
            old: old.map(|shown| shown.tail_at(range)),
            new: new.map(|shown| shown.tail_at(range)),
        });
    }
}

/// An entry of a view, by reference: comparing two needs no clone of a backing.
struct Shown<'a, B> {
    at: MemoryRange,
    visible: &'a Visible<B>,
}

impl<B> Clone for Shown<'_, B> {
    fn clone(&self) -> Self {
        Self {
            at: self.at,
            visible: self.visible,
        }
    }
}

impl<B: BackingHandle> Shown<'_, B> {
    /// Whether both show the same in the pages that they share.
    fn equals(&self, other: &Self) -> bool {
        let (a, b) = (self.visible, other.visible);
        // Offsets relative to the address are compared, so that no piece has to be cut first.
        let (from_a, from_b) = (
            a.offset.wrapping_sub(self.at.start()),
            b.offset.wrapping_sub(other.at.start()),
        );
        from_a == from_b
            && a.region == b.region
            && a.permissions == b.permissions
            && a.prefetch == b.prefetch
            && a.backing == b.backing
    }

    /// The entry as it is from the start of `piece` on.
    fn tail_at(&self, piece: MemoryRange) -> Visible<B> {
        self.visible
            .tail(piece.start().saturating_sub(self.at.start()))
    }
}
