//! What has to happen at host addresses.

use crate::diff::{Bytes, Difference};
use crate::{BackingHandle, FlatView};
use memory_range::{Access, MemoryRange};
use std::fmt;

/// One operation on the host addresses that belong to a guest physical range.
#[derive(Clone, Debug, PartialEq)]
pub enum VaOp<B> {
    /// Shows a backing in the range, replacing whatever is there, without a hole in between.
    Map {
        /// Guest physical addresses; never empty.
        range: MemoryRange,
        /// What holds the bytes.
        backing: B,
        /// The offset in the backing, in bytes, of the range's first byte.
        offset: u64,
        /// Whether the range can be written at these addresses.
        access: Access,
    },
    /// Changes whether the range, which stays filled with the same bytes, can be written.
    Protect {
        /// Guest physical addresses; never empty. May span several backings.
        range: MemoryRange,
        /// The new protection.
        access: Access,
    },
    /// Returns the range to reserved: no memory, no access.
    Reserve {
        /// Guest physical addresses; never empty.
        range: MemoryRange,
    },
}

impl<B: fmt::Display> fmt::Display for VaOp<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map {
                range,
                backing,
                offset,
                access,
            } => write!(f, "map {range} {access} from {backing} at {offset:#x}"),
            Self::Protect { range, access } => write!(f, "protect {range} {access}"),
            Self::Reserve { range } => write!(f, "reserve {range}"),
        }
    }
}

impl<B> VaOp<B> {
    /// The guest physical range that the operation works on.
    pub const fn range(&self) -> MemoryRange {
        match self {
            Self::Map { range, .. } | Self::Protect { range, .. } | Self::Reserve { range } => {
                *range
            }
        }
    }
}

impl<B: BackingHandle> VaOp<B> {
    /// The operation for one difference; none where host addresses don't change.
    fn for_difference(difference: &Difference<B>) -> Option<Self> {
        let range = difference.range;
        match (&difference.old, &difference.new) {
            (None, None) => None,
            (Some(_), None) => Some(Self::Reserve { range }),
            (old, Some((new, Bytes::Kept))) => {
                let access = new.access;
                let same = old.is_some_and(|old| old.access == access);
                (!same).then_some(Self::Protect { range, access })
            }
            (_, Some((new, Bytes::Fresh(backing, offset)))) => Some(Self::Map {
                range,
                backing: backing.clone(),
                offset: *offset,
                access: new.access,
            }),
        }
    }

    /// Takes the next operation in, if one call can do both.
    fn absorb(&mut self, next: &Self) -> bool {
        let Ok(both) = MemoryRange::try_new(self.range().start()..next.range().end()) else {
            return false;
        };
        if self.range().end() != next.range().start() {
            return false;
        }
        match (self, next) {
            (
                Self::Map {
                    range,
                    backing,
                    offset,
                    access,
                },
                Self::Map {
                    backing: next_backing,
                    offset: next_offset,
                    access: next_access,
                    ..
                },
            ) => {
                let continues = offset.checked_add(range.len()) == Some(*next_offset);
                if !continues || access != next_access || backing != next_backing {
                    return false;
                }
                *range = both;
            }
            (
                Self::Protect { range, access },
                Self::Protect {
                    access: next_access,
                    ..
                },
            ) if access == next_access => *range = both,
            (Self::Reserve { range }, Self::Reserve { .. }) => *range = both,
            _ => return false,
        }
        true
    }

    /// The operations that bring back what the view shows now in this operation's range.
    ///
    /// `view` must be the view from before the change.
    pub(crate) fn inverse(&self, view: &FlatView<B>) -> Vec<Self> {
        let range = self.range();
        let mut ops: Vec<Self> = Vec::new();
        let mut push = |op: Self| {
            if !ops.last_mut().is_some_and(|last| last.absorb(&op)) {
                ops.push(op);
            }
        };
        let mut reserved_from = range.start();
        for (at, old) in view.clipped(range) {
            if let Some(range) = hole(reserved_from, at.start()) {
                push(Self::Reserve { range });
            }
            reserved_from = at.end();
            let access = old.access;
            push(match self {
                Self::Protect { .. } => Self::Protect { range: at, access },
                Self::Map { .. } | Self::Reserve { .. } => Self::Map {
                    range: at,
                    backing: old.backing,
                    offset: old.offset,
                    access,
                },
            });
        }
        if let Some(range) = hole(reserved_from, range.end()) {
            push(Self::Reserve { range });
        }
        ops
    }
}

/// The range between two addresses, if there is one.
pub(crate) fn hole(start: u64, end: u64) -> Option<MemoryRange> {
    if start >= end {
        return None;
    }
    MemoryRange::try_new(start..end).ok()
}

/// Finds the fewest operations for a sorted list of differences: neighbours that one call can do
/// become one.
pub(crate) fn va_ops<B: BackingHandle>(differences: &[Difference<B>], ops: &mut Vec<VaOp<B>>) {
    for op in differences.iter().filter_map(VaOp::for_difference) {
        if !ops.last_mut().is_some_and(|last| last.absorb(&op)) {
            ops.push(op);
        }
    }
}
