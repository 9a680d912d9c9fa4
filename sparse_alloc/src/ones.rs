//! Memory that reads as all-ones, of which there is one piece in the process.
//!
//! No file of the kernel reads as all-ones, as `/dev/zero` and the zero page do as zeros. So one
//! memfd is filled with `0xff` when it is first needed, and mapped as often as needed, one piece
//! behind the other. How long it is decides between memory, of which the process has it once, and
//! VMAs, of which each range has one for each length of it. There are two: a short one, for most
//! ranges, and a long one that is made when a long range is first mapped.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, OnceLock, PoisonError};

use memory_range::{Access, MemoryRange};
use nix::fcntl::SealFlag;

use crate::memfd;
use crate::sys::Content;

/// The length of the short pattern in bytes, and so of the longest range that takes just one
/// `mmap`, wherever it starts.
const SHORT: usize = 2 << 20;

/// The length of the long pattern in bytes. A range of 16 GiB takes 512 VMAs, and once in the
/// process these 32 MiB.
const LONG: usize = 32 << 20;

/// Ranges up to this length in bytes are made of the short pattern: of at most 129 pieces.
const MOSTLY: usize = 256 << 20;

/// How much is written at a time.
const BLOCK: usize = 64 << 10;

static SHORT_PATTERN: Shared = Shared::new(SHORT);
static LONG_PATTERN: Shared = Shared::new(LONG);

/// A pattern that is made when it is first asked for, and stays for as long as the process.
struct Shared {
    made: OnceLock<Pattern>,
    /// Held while it is made, so that it is made once.
    making: Mutex<()>,
    len: usize,
}

/// A memfd of which every byte is `0xff`, and that nobody can change.
pub(crate) struct Pattern {
    file: File,
    len: usize,
}

/// A part of a range, and what of a pattern it shows.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// Where it starts in the range, in bytes.
    pub(crate) at: usize,
    /// Its length in bytes, above zero.
    pub(crate) len: usize,
    /// Where it starts in the pattern.
    pub(crate) offset: u64,
}

/// Returns what a range is to show, if that is one piece, and there is a pattern or one can be made.
pub(crate) fn content(range: MemoryRange, access: Access) -> Option<Content<'static>> {
    let len = usize::try_from(range.len()).ok()?;
    let pattern = Pattern::for_len(len).ok()?;
    let mut pieces = pattern.pieces(range.start(), len);
    let piece = pieces.next()?;
    pieces
        .next()
        .is_none()
        .then(|| pattern.content(piece, access))
}

impl Shared {
    const fn new(len: usize) -> Self {
        Self {
            made: OnceLock::new(),
            making: Mutex::new(()),
            len,
        }
    }

    fn get(&self) -> io::Result<&Pattern> {
        if let Some(pattern) = self.made.get() {
            return Ok(pattern);
        }
        let _guard = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pattern) = self.made.get() {
            return Ok(pattern);
        }
        let pattern = Pattern::new(self.len)?;
        Ok(self.made.get_or_init(|| pattern))
    }
}

impl Pattern {
    /// Returns the pattern for ranges of that length.
    pub(crate) fn for_len(len: usize) -> io::Result<&'static Self> {
        if len <= MOSTLY {
            SHORT_PATTERN.get()
        } else {
            LONG_PATTERN.get()
        }
    }

    fn new(len: usize) -> io::Result<Self> {
        let file = File::from(memfd::create("ones")?);
        let block = vec![0xff; BLOCK];
        for at in (0..len).step_by(BLOCK) {
            let offset = u64::try_from(at).map_err(io::Error::other)?;
            file.write_all_at(&block, offset)?;
        }
        let seals = SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_WRITE
            | SealFlag::F_SEAL_SEAL;
        memfd::seal(&file, seals)?;
        Ok(Self { file, len })
    }

    /// Returns what a piece shows.
    pub(crate) fn content(&self, piece: Piece, access: Access) -> Content<'_> {
        Content::Private {
            fd: self.file.as_fd(),
            offset: piece.offset,
            access,
        }
    }

    /// Divides a range of `len` bytes that starts at `start`: into one piece if it is not longer
    /// than the pattern.
    ///
    /// What an address shows depends, where possible, on the address alone: then a piece that was
    /// mapped over and comes back is one VMA with its neighbours again.
    pub(crate) fn pieces(&self, start: u64, len: usize) -> impl Iterator<Item = Piece> {
        let whole = self.len;
        // Zero is as good as any, should the remainder not fit.
        let start = start
            .checked_rem(u64::try_from(whole).unwrap_or(u64::MAX))
            .and_then(|start| usize::try_from(start).ok())
            .unwrap_or(0);
        let mut at = 0_usize;
        std::iter::from_fn(move || {
            let left = len.checked_sub(at).filter(|left| *left > 0)?;
            let offset = if at == 0 { start } else { 0 };
            let (offset, len) = match whole.saturating_sub(offset) {
                room if left <= room => (offset, left),
                // It reaches over the pattern's end, but one piece is better than two.
                _ if at == 0 && left <= whole => (0, left),
                room => (offset, room),
            };
            let piece = Piece {
                at,
                len,
                offset: u64::try_from(offset).unwrap_or(0),
            };
            at = at.saturating_add(len);
            Some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = 4096;

    fn pattern() -> &'static Pattern {
        Pattern::for_len(4096).unwrap()
    }

    #[test]
    fn the_pattern_is_all_ones_and_stays_so() {
        let pattern = pattern();
        let mut bytes = vec![0; SHORT];
        pattern.file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0xff));
        assert_eq!(pattern.file.metadata().unwrap().len(), SHORT as u64);
        pattern.file.write_at(&[0], 0).unwrap_err();
        pattern.file.set_len(0).unwrap_err();
        assert!(std::ptr::eq(pattern, Pattern::for_len(MOSTLY).unwrap()));
        assert!(!std::ptr::eq(
            pattern,
            Pattern::for_len(MOSTLY + 1).unwrap()
        ));
    }

    proptest! {
        #[test]
        fn pieces_cover_the_range_and_lie_in_the_pattern(
            start in 0..2048_u64,
            pages in 1..3000_usize,
        ) {
            let len = pages * PAGE as usize;
            let pieces: Vec<Piece> = pattern().pieces(start * PAGE, len).collect();
            let mut at = 0;
            for piece in &pieces {
                prop_assert_eq!(piece.at, at);
                prop_assert!(piece.len > 0);
                prop_assert!(piece.offset as usize + piece.len <= SHORT);
                prop_assert_eq!(piece.offset % PAGE, 0);
                at += piece.len;
            }
            prop_assert_eq!(at, len);
            let fewest = len.div_ceil(SHORT);
            prop_assert!(pieces.len() <= fewest + 1);
            prop_assert!(len > SHORT || pieces.len() == 1);
        }
    }
}
