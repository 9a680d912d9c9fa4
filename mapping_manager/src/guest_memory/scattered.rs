//! Bytes that are spread over guest memory.

use super::GuestMemory;
use crate::error::AccessError;
use thiserror::Error;

/// A piece of guest memory, as a guest names it: a virtio descriptor, say. Any numbers will do;
/// they are checked when the piece is accessed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GuestRange {
    /// The guest physical address of the first byte, as the view counts it.
    pub gpa: u64,
    /// The length in bytes.
    pub len: u64,
}

impl GuestRange {
    /// Names `len` bytes at `gpa`.
    pub const fn new(gpa: u64, len: u64) -> Self {
        Self { gpa, len }
    }
}

/// Says where a scattered access stopped, and after how many bytes in all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("stopped in range {index} of the list, after {done:#x} bytes in all")]
pub struct ScatteredError {
    index: usize,
    done: usize,
    source: AccessError,
}

impl ScatteredError {
    /// The index in the list of the range that could not be accessed, or not to its end.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many bytes were done in all: those of the ranges before, and a part of this one.
    pub fn done(&self) -> usize {
        self.done
    }

    /// What stopped it. [`AccessError::done`] is how much was done of this range.
    pub fn access(&self) -> &AccessError {
        &self.source
    }
}

impl GuestMemory {
    /// Reads the bytes of `ranges`, one range after the other, into `bytes`.
    ///
    /// Like `readv` it stops without an error where either of the two ends: it reads as many bytes
    /// as the shorter has, and returns how many. Ranges that nothing is read from any more, and
    /// those of no bytes, may lie anywhere. They may overlap; their lengths may add up to more than
    /// there is. It allocates nothing.
    ///
    /// # Errors
    ///
    /// As for [`read_at`](Self::read_at), of the first range that fails. What was read before is in
    /// `bytes`.
    ///
    /// ```
    /// use mapping_manager::{GuestRange, VaMapper};
    /// use memory_range::{Access, MemoryRange};
    /// use sparse_alloc::{Alignment, Backing, SharedMemory};
    ///
    /// # let ram = SharedMemory::new("ram", 0x4000)?;
    /// # let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page)?;
    /// # let backing = Backing::from(ram.mappable().clone());
    /// # mapper.map(MemoryRange::new(0x8000..0xc000), &backing, 0, Access::ReadWrite)?;
    /// # let memory = mapper.guest_memory();
    /// let chain = [GuestRange::new(0x9000, 5), GuestRange::new(0x8000, 100)];
    /// assert_eq!(memory.write_scattered(&chain, b"hello world")?, 11);
    /// assert_eq!(memory.read_plain::<[u8; 6]>(0x8000)?, *b" world");
    ///
    /// let mut bytes = [0; 7];
    /// assert_eq!(memory.read_scattered(&chain, &mut bytes)?, 7);
    /// assert_eq!(&bytes, b"hello w");
    ///
    /// let broken = [GuestRange::new(0xbffe, 2), GuestRange::new(0xc000, 2)];
    /// let error = memory.read_scattered(&broken, &mut bytes).unwrap_err();
    /// assert_eq!((error.index(), error.done()), (1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_scattered(
        &self,
        ranges: &[GuestRange],
        bytes: &mut [u8],
    ) -> Result<usize, ScatteredError> {
        each_part(ranges, bytes.len(), |gpa, done, len| {
            // Always there: the parts lie one behind the other in `bytes`.
            let part = bytes.get_mut(done..).and_then(|rest| rest.get_mut(..len));
            part.map_or(Ok(()), |part| self.read_at(gpa, part))
        })
    }

    /// Writes `bytes` to the bytes of `ranges`, one range after the other.
    ///
    /// Like `writev` it stops without an error where either of the two ends: it writes as many bytes
    /// as the shorter has, and returns how many. For the rest as
    /// [`read_scattered`](Self::read_scattered); where ranges overlap, the later one's bytes stay.
    ///
    /// # Errors
    ///
    /// As for [`write_at`](Self::write_at), of the first range that fails. What was written before
    /// stays written.
    pub fn write_scattered(
        &self,
        ranges: &[GuestRange],
        bytes: &[u8],
    ) -> Result<usize, ScatteredError> {
        each_part(ranges, bytes.len(), |gpa, done, len| {
            let part = bytes.get(done..).and_then(|rest| rest.get(..len));
            part.map_or(Ok(()), |part| self.write_at(gpa, part))
        })
    }
}

/// Calls `access` with the address of each part, how many bytes came before it, and its length,
/// until `len` bytes are done or the ranges end. Returns how many were done.
fn each_part(
    ranges: &[GuestRange],
    len: usize,
    mut access: impl FnMut(u64, usize, usize) -> Result<(), AccessError>,
) -> Result<usize, ScatteredError> {
    let mut done = 0_usize;
    for (index, range) in ranges.iter().enumerate() {
        let rest = len.saturating_sub(done);
        let part = usize::try_from(range.len).map_or(rest, |len| len.min(rest));
        if part == 0 {
            continue;
        }
        // Neither sum wraps: they are at most `len`.
        access(range.gpa, done, part).map_err(|source| ScatteredError {
            index,
            done: done.saturating_add(source.done() as usize),
            source,
        })?;
        done = done.saturating_add(part);
    }
    Ok(done)
}
