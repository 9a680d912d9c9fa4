//! What is to be populated, cut into chunks.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memory_range::{Access, MemoryRange};

use crate::host_range::HostRange;
use crate::mapped_region::MappedRegion;
use crate::sys;

/// The most bytes of a chunk. It takes about ten milliseconds, so that it can be cancelled soon, and
/// is long enough that handing chunks out costs nothing. Unit tests want many chunks.
pub(super) const CHUNK: u64 = if cfg!(test) { 16 << 10 } else { 16 << 20 };

/// Pieces of address space, of which each thread takes the next chunk.
pub(super) struct Job {
    pieces: Vec<Piece>,
    chunks: u64,
    bytes: u64,
    next: AtomicU64,
    stopped: AtomicBool,
}

/// The whole pages of a host range that is not empty.
struct Piece {
    /// Keeps the pages reserved.
    _region: Arc<dyn MappedRegion>,
    addr: NonNull<u8>,
    range: MemoryRange,
    access: Access,
    /// How many chunks the pieces before it have.
    first: u64,
}

// SAFETY: the address is one in the region that the piece holds a share of, which may be sent to any thread and shared.
unsafe impl Send for Piece {}
// SAFETY: as for Send.
unsafe impl Sync for Piece {}

/// Pages that one thread populates at a time.
pub(super) struct Chunk {
    /// Invariant: the pages lie in a region of which the job holds a share.
    pub(super) addr: NonNull<u8>,
    pub(super) len: usize,
    /// The same as offsets in the region.
    pub(super) range: MemoryRange,
    pub(super) access: Access,
}

impl Job {
    pub(super) fn new(wanted: &[(HostRange, Access)]) -> Self {
        let mut job = Self {
            pieces: Vec::with_capacity(wanted.len()),
            chunks: 0,
            bytes: 0,
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        };
        for (host, access) in wanted {
            let Some((addr, _, range)) = host.whole_pages() else {
                continue;
            };
            job.pieces.push(Piece {
                _region: Arc::clone(host.region()),
                addr,
                range,
                access: *access,
                first: job.chunks,
            });
            job.chunks = job.chunks.saturating_add(chunks_in(range));
            job.bytes = job.bytes.saturating_add(range.len());
        }
        job
    }

    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// The number of bytes in all pieces.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lets no thread begin another chunk.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Says whether every chunk was taken.
    pub(super) fn is_taken(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.chunks
    }

    /// Takes the next chunk, if there is one and nobody has stopped the job.
    pub(super) fn take(&self) -> Option<Chunk> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        // Each thread that finds no chunk counts once more, and there are not 2^63 threads.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.chunks {
            return None;
        }
        let after = self.pieces.partition_point(|piece| piece.first <= number);
        let piece = self.pieces.get(after.checked_sub(1)?)?;
        piece.chunk(number.checked_sub(piece.first)?)
    }
}

impl Piece {
    fn chunk(&self, number: u64) -> Option<Chunk> {
        let start = match number {
            0 => self.range.start(),
            // Cut at multiples of the chunk, and so at borders of large pages.
            _ => {
                let cut = self.range.start().checked_div(CHUNK)?.checked_add(number)?;
                cut.checked_mul(CHUNK)?
            }
        };
        let end = start.checked_div(CHUNK)?.checked_add(1)?.checked_mul(CHUNK);
        let end = end.unwrap_or(u64::MAX).min(self.range.end());
        let range = MemoryRange::try_new(start..end).ok()?;
        if range.is_empty() {
            return None;
        }
        let offset = usize::try_from(start.checked_sub(self.range.start())?).ok()?;
        Some(Chunk {
            addr: sys::offset_by(self.addr, offset),
            len: usize::try_from(range.len()).ok()?,
            range,
            access: self.access,
        })
    }
}

/// How many chunks a range is cut into.
fn chunks_in(range: MemoryRange) -> u64 {
    let first = range.start() / CHUNK;
    let last = range.end().saturating_sub(1) / CHUNK;
    last.saturating_sub(first).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Alignment, ReservedSpace, SpaceEditor};
    use proptest::prelude::*;

    const LEN: u64 = 64 << 12;

    fn space() -> Arc<ReservedSpace> {
        let editor = SpaceEditor::new(LEN, Alignment::Page).unwrap();
        editor.space().clone()
    }

    proptest! {
        #[test]
        fn chunks_are_each_page_once(
            wanted in prop::collection::vec((0..LEN, 0..LEN), 0..6)
        ) {
            let space = space();
            let pieces: Vec<(HostRange, Access)> = wanted
                .iter()
                .map(|(start, len)| {
                    let len = (*len).min(LEN - start);
                    (HostRange::new(space.clone(), *start, len).unwrap(), Access::ReadOnly)
                })
                .collect();
            let mut expected: Vec<u64> = Vec::new();
            for (host, _) in pieces.iter().filter(|(host, _)| !host.is_empty()) {
                expected.extend(host.offset() >> 12..(host.offset() + host.len()).div_ceil(1 << 12));
            }
            let job = Job::new(&pieces);
            prop_assert_eq!(job.bytes(), expected.len() as u64 * 4096);
            let mut seen = Vec::new();
            let mut chunks = 0;
            while let Some(chunk) = job.take() {
                chunks += 1;
                prop_assert!(chunk.range.len() <= CHUNK);
                prop_assert_eq!(chunk.range.len(), chunk.len as u64);
                let addr = chunk.addr.addr().get() - space.base().addr().get();
                prop_assert_eq!(addr as u64, chunk.range.start());
                seen.extend(chunk.range.page_numbers());
            }
            prop_assert_eq!(chunks, job.chunks());
            prop_assert_eq!(seen, expected);
            prop_assert!(job.take().is_none());
        }
    }

    #[test]
    fn a_stopped_job_gives_no_more_chunks() {
        let host = HostRange::new(space(), 0, LEN).unwrap();
        let job = Job::new(&[(host, Access::ReadOnly)]);
        assert!(job.take().is_some());
        job.stop();
        assert!(job.take().is_none());
    }
}
