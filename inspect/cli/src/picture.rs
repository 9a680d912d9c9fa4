//! What a drawing of the memory map contains, before anything has a position.

mod build;
mod combine;
mod layout;
mod svg;
mod theme;

#[cfg(test)]
mod tests;

pub use svg::{SvgOptions, draw, draw_diff};
pub use theme::Theme;

pub(crate) use combine::combine;

use crate::range::ByteRange;

/// Holds columns that stand side by side over one axis of addresses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) space: ByteRange,
    pub(crate) columns: Vec<Column>,
    /// The names of the backings, in the order of their hues.
    pub(crate) backings: Vec<String>,
}

/// Holds things of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    /// Identifies the column among those of another picture.
    pub(crate) key: String,
    pub(crate) heading: String,
    pub(crate) kind: Kind,
    pub(crate) blocks: Vec<Block>,
    /// What stands where no block is: drawn behind, and no change if it changes.
    pub(crate) ground: Vec<Ground>,
}

/// Holds a range in which a column has no block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ground {
    pub(crate) range: ByteRange,
    pub(crate) name: String,
    /// It is the hole of a region.
    pub(crate) hole: bool,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    View,
    Regions,
    Mappings,
    Slots,
}

/// Holds one thing that covers a range.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) range: ByteRange,
    /// Blocks of one column and one key never overlap; those of different keys may.
    pub(crate) key: u64,
    /// Stands first, and alone where there is little room.
    pub(crate) name: String,
    /// Stands where there is more room.
    pub(crate) detail: String,
    /// The backing, and the offset in it of address 0 (modulo 2^64), so that pieces of one block are
    /// equal wherever they are cut.
    pub(crate) shows: Option<(String, u64)>,
    pub(crate) look: Look,
    pub(crate) status: Status,
}

/// Tells how a block is filled.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) fill: Fill,
    pub(crate) read_only: bool,
    /// It is there, but not seen.
    pub(crate) faded: bool,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// The hue of a backing, by its index.
    Hue(usize),
    /// Several backings, or none in particular.
    Neutral,
    /// Only a frame.
    Frame,
    /// Something that should not be there.
    Alarm,
}

/// Tells what became of a block between two states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Status {
    #[default]
    Same,
    Added,
    Removed,
    /// It was something else before.
    Changed {
        /// All that was there, as [`Block::text`] says it.
        before: String,
        /// What of it is no longer so.
        gone: String,
    },
}

impl Block {
    /// Describes it in one line, without the range.
    pub(crate) fn text(&self) -> String {
        let shows = self.shown_text().unwrap_or_default();
        let words = [self.name.as_str(), self.detail.as_str(), &shows];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        words.join("  ")
    }

    /// Says what the first byte shows.
    pub(crate) fn shown_text(&self) -> Option<String> {
        let (backing, base) = self.shows.as_ref()?;
        let offset = base.wrapping_add(self.range.start());
        Some(crate::table::backing(backing, offset))
    }

    /// Says what of `other`, over the same addresses, is not so of this block.
    pub(crate) fn lacks(&self, other: &Self) -> String {
        let shows = (self.shows != other.shows).then(|| other.shown_text());
        let words = [
            (self.name != other.name).then(|| other.name.clone()),
            (self.detail != other.detail).then(|| other.detail.clone()),
            shows.flatten(),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join("  ")
    }

    /// Tells whether another block says the same of its addresses.
    pub(crate) fn continues(&self, other: &Self) -> bool {
        (&self.name, &self.detail, &self.shows) == (&other.name, &other.detail, &other.shows)
            && self.look.read_only == other.look.read_only
    }
}
