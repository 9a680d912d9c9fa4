//! Pieces of memory, and those that go on in one another.

use crate::dirty_marks::Marks;
use crate::region::SnapshotRegion;
use guest_memory_manager::Mappable;
use memory_range::MemoryRange;
use std::fs::File;
use std::iter::Peekable;
use std::sync::Arc;

/// A piece of memory as guest memory tells of it.
pub(crate) struct Piece {
    /// The addresses in the snapshot.
    pub(crate) gpa: MemoryRange,
    /// The first address in the view; the snapshot's may be moved.
    pub(crate) view_start: u64,
    /// The host address in the linear view of its backing; not to be accessed by it.
    pub(crate) host: usize,
    pub(crate) file: Mappable,
    pub(crate) descriptor: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) is_writable: bool,
}

/// Neighbouring pieces that lie in one piece in every respect.
pub(crate) struct Run<'a> {
    pub(crate) gpa: MemoryRange,
    pub(crate) view_start: u64,
    pub(crate) host: usize,
    pub(crate) file: &'a Mappable,
    pub(crate) descriptor: &'a Arc<File>,
    pub(crate) offset: u64,
    pub(crate) is_writable: bool,
}

impl<'a> Run<'a> {
    fn of(piece: &'a Piece) -> Self {
        Self {
            gpa: piece.gpa,
            view_start: piece.view_start,
            host: piece.host,
            file: &piece.file,
            descriptor: &piece.descriptor,
            offset: piece.offset,
            is_writable: piece.is_writable,
        }
    }

    /// The run with the next piece, if that goes on where it ends.
    fn and(&self, next: &Piece) -> Option<MemoryRange> {
        let len = self.gpa.len();
        let goes_on = self.gpa.end() == next.gpa.start()
            && self.view_start.checked_add(len) == Some(next.view_start)
            && (self.host as u64).checked_add(len) == Some(next.host as u64)
            && self.offset.checked_add(len) == Some(next.offset)
            && self.is_writable == next.is_writable
            && *self.file == next.file;
        let whole = goes_on.then(|| MemoryRange::try_new(self.gpa.start()..next.gpa.end()));
        whole?.ok()
    }

    /// Whether a region is exactly this. The address in the linear view says which file it is, and
    /// where in it: while the region lives nothing else is mapped there.
    pub(crate) fn is_shown_by(&self, region: &SnapshotRegion<impl Marks>) -> bool {
        region.start() == self.gpa.start()
            && region.end() == self.gpa.end()
            && region.as_ptr().addr() == self.host
            && region.is_writable() == self.is_writable
    }
}

/// The runs of sorted pieces.
pub(crate) struct Runs<I: Iterator>(Peekable<I>);

impl<'a, I: Iterator<Item = &'a Piece>> Runs<I> {
    pub(crate) fn of(pieces: I) -> Self {
        Self(pieces.peekable())
    }
}

impl<'a, I: Iterator<Item = &'a Piece>> Iterator for Runs<I> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        let mut run = Run::of(self.0.next()?);
        while let Some(gpa) = self.0.peek().and_then(|next| run.and(next)) {
            run.gpa = gpa;
            self.0.next();
        }
        Some(run)
    }
}
