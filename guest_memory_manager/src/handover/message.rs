//! What goes over the socket beside the descriptors.
//!
//! A header of twelve bytes, whose layout is the same in every version: a magic number, the version,
//! how many memories there are (one descriptor each), and how long the description is that follows,
//! all little-endian. The description is a [`Description`] as postcard writes it.

use crate::handover::error::{ReceiveBackingError, SendBackingError};
use crate::ram::RamRange;
use memory_range::MemoryRange;
use rustix::fs::SealFlags;
use serde::{Deserialize, Serialize};

/// What every message begins with.
pub(super) const MAGIC: [u8; 4] = *b"GMBK";
/// Changes whenever the description does.
pub(super) const VERSION: u16 = 1;
pub(super) const HEADER_LEN: usize = 12;
/// The longest description in bytes: enough for more than a thousand gaps in RAM.
pub(super) const MOST_BYTES: usize = 64 * 1024;
/// The most memories. The kernel passes up to 253 descriptors at once.
pub(super) const MOST_MEMORIES: usize = 16;

/// What the first bytes say.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// From 1 to [`MOST_MEMORIES`].
    pub(super) memories: usize,
    /// At most [`MOST_BYTES`].
    pub(super) body_len: usize,
}

impl Header {
    pub(super) fn decode(bytes: [u8; HEADER_LEN]) -> Result<Self, ReceiveBackingError> {
        let [m0, m1, m2, m3, v0, v1, c0, c1, l0, l1, l2, l3] = bytes;
        let magic = [m0, m1, m2, m3];
        if magic != MAGIC {
            return Err(ReceiveBackingError::Foreign { found: magic });
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return Err(ReceiveBackingError::Version {
                found: version,
                known: VERSION,
            });
        }
        let memories = usize::from(u16::from_le_bytes([c0, c1]));
        if memories == 0 || memories > MOST_MEMORIES {
            return Err(ReceiveBackingError::Memories {
                found: memories,
                most: MOST_MEMORIES,
            });
        }
        let stated = u32::from_le_bytes([l0, l1, l2, l3]);
        match usize::try_from(stated) {
            Ok(body_len) if body_len <= MOST_BYTES => Ok(Self { memories, body_len }),
            _ => Err(ReceiveBackingError::TooLong {
                len: u64::from(stated),
                most: MOST_BYTES,
            }),
        }
    }
}

/// What the descriptors are to be, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) memories: Vec<Memory>,
    /// Memory by memory, and in each by address.
    pub(super) places: Vec<Place>,
}

/// One memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// In bytes.
    pub(super) len: u64,
    /// The bits of `F_GET_SEALS`.
    pub(super) seals: u32,
}

/// Where a part of a memory is shown.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) gpa: u64,
    /// In bytes.
    pub(super) len: u64,
    /// Which memory.
    pub(super) memory: u32,
    /// Where the part begins in it, in bytes.
    pub(super) offset: u64,
}

impl Description {
    pub(super) fn new(
        memories: impl Iterator<Item = (u64, SealFlags)>,
        places: &[RamRange],
    ) -> Self {
        let memories = memories.map(|(len, seals)| Memory {
            len,
            seals: seals.bits(),
        });
        let places = places.iter().map(|place| Place {
            gpa: place.range.start(),
            len: place.range.len(),
            // There are fewer than 2^32 memories; were there more, the receiver would refuse them.
            memory: u32::try_from(place.backing).unwrap_or(u32::MAX),
            offset: place.offset,
        });
        Self {
            memories: memories.collect(),
            places: places.collect(),
        }
    }

    /// Writes the whole message, header included.
    pub(super) fn encode(&self) -> Result<Vec<u8>, SendBackingError> {
        let body = postcard::to_allocvec(self)
            .map_err(|source| SendBackingError::Encode(Box::new(source)))?;
        let too_long = || SendBackingError::TooLong {
            len: body.len(),
            most: MOST_BYTES,
        };
        let len = u32::try_from(body.len()).map_err(|_| too_long())?;
        let memories = u16::try_from(self.memories.len()).map_err(|_| too_long())?;
        if body.len() > MOST_BYTES {
            return Err(too_long());
        }
        let mut message = Vec::with_capacity(HEADER_LEN.saturating_add(body.len()));
        message.extend(MAGIC);
        message.extend(VERSION.to_le_bytes());
        message.extend(memories.to_le_bytes());
        message.extend(len.to_le_bytes());
        message.extend(&body);
        Ok(message)
    }

    /// Reads what came after the header, every byte of it.
    pub(super) fn decode(body: &[u8]) -> Result<Self, ReceiveBackingError> {
        let malformed = |source: postcard::Error| ReceiveBackingError::Malformed(Box::new(source));
        let (description, rest) = postcard::take_from_bytes::<Self>(body).map_err(malformed)?;
        if rest.is_empty() {
            Ok(description)
        } else {
            Err(ReceiveBackingError::Trailing { len: rest.len() })
        }
    }

    /// Checks the places: they show every memory, whole and in order, at addresses of their own.
    ///
    /// `None` if they don't.
    pub(super) fn checked_places(&self) -> Option<Vec<RamRange>> {
        let mut places = self.places.iter().copied().peekable();
        let mut checked = Vec::with_capacity(self.places.len());
        for (index, memory) in self.memories.iter().enumerate() {
            let mut offset = 0_u64;
            let mut at = 0_u64;
            let is_ours = |place: &Place| usize::try_from(place.memory) == Ok(index);
            while let Some(place) = places.next_if(is_ours) {
                let range = MemoryRange::try_from_len(place.gpa, place.len).ok()?;
                if range.is_empty() || range.start() < at || place.offset != offset {
                    return None;
                }
                offset = offset.checked_add(place.len)?;
                at = range.end();
                checked.push(RamRange {
                    range,
                    backing: index,
                    offset: place.offset,
                });
            }
            if offset != memory.len {
                return None;
            }
        }
        // What is left is of memories out of order, or of some that do not exist.
        if places.next().is_some() {
            return None;
        }
        let mut ranges: Vec<MemoryRange> = checked.iter().map(|place| place.range).collect();
        ranges.sort_unstable();
        let apart = ranges.windows(2).all(|pair| match pair {
            [first, second] => !first.overlaps(second),
            _ => true,
        });
        apart.then_some(checked)
    }
}

#[cfg(test)]
mod tests;
