//! A range as its start and its length.

use memory_range::MemoryRange;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

pub(super) fn serialize<S: Serializer>(range: &MemoryRange, to: S) -> Result<S::Ok, S::Error> {
    (range.start(), range.len()).serialize(to)
}

/// Refuses what is empty, unaligned, or wraps.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<MemoryRange, D::Error> {
    let (start, len) = <(u64, u64)>::deserialize(from)?;
    match MemoryRange::try_from_len(start, len) {
        Ok(range) if !range.is_empty() => Ok(range),
        Ok(_) => Err(D::Error::custom("an empty range")),
        Err(invalid) => Err(D::Error::custom(invalid)),
    }
}
