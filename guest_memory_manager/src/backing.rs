//! What holds RAM, to build the same RAM from again.

use crate::error::BuildError;
use crate::layout::MemoryLayout;
use crate::ram::{self, RamRange};
use inspect::Inspect;
use memory_range::MemoryRange;
use sparse_alloc::SharedMemory;
use std::sync::Arc;

/// All the memory that backs a guest's RAM.
///
/// A manager built with it ([`existing_backing`](crate::GuestMemoryBuilder::existing_backing))
/// has the same RAM, contents included. Cloning is cheap and copies no memory. The memory lives
/// as long as any clone, any manager, or any lease of it.
///
/// It passes to another process through a socket: [`send`](Self::send) and
/// [`receive`](Self::receive). That only one manager at a time uses it is what a
/// [`claim`](Self::claim) is for.
#[derive(Clone, Debug)]
pub struct SharedMemoryBacking {
    /// RAM, then VTL2's where the layout has it.
    memories: Arc<[SharedMemory]>,
    /// Where RAM lies, undivided.
    places: Arc<[RamRange]>,
    /// Whether it came from another process: then it has to stay at its places.
    received: bool,
}

impl SharedMemoryBacking {
    /// Makes fresh memory for the RAM of a layout.
    pub(crate) fn new(layout: &MemoryLayout) -> Result<Self, BuildError> {
        let lens = ram::backing_lens(layout);
        let memories = lens.iter().enumerate().map(|(index, len)| {
            let name = name_of(index);
            SharedMemory::new(name, *len).map_err(|source| BuildError::Ram { len: *len, source })
        });
        let memories: Vec<_> = memories.collect::<Result<_, _>>()?;
        Ok(Self {
            memories: memories.into(),
            places: ram::undivided(layout).into(),
            received: false,
        })
    }

    /// Memory from another process. `places` show every memory once, in order.
    pub(crate) fn received(memories: Vec<SharedMemory>, places: Vec<RamRange>) -> Self {
        Self {
            memories: memories.into(),
            places: places.into(),
            received: true,
        }
    }

    /// The same memory at the places that a layout has for it: if it has the lengths that the
    /// layout asks for and, where it was received, lies there already.
    ///
    /// Who gives a manager's own memory to another layout knows both. Memory that was received may
    /// be a running guest's, and the receiver has nothing but this check to find out that its
    /// layout is another one.
    pub(crate) fn fitted(self, layout: &MemoryLayout) -> Result<Self, BuildError> {
        let need = ram::backing_lens(layout);
        let have: Vec<u64> = self.memories.iter().map(SharedMemory::len).collect();
        if have != need {
            return Err(BuildError::BackingDoesNotFit { have, need });
        }
        let need = ram::undivided(layout);
        if !self.received || *self.places == *need {
            return Ok(Self {
                places: need.into(),
                ..self
            });
        }
        // The lengths are equal, so there is a first place where both have RAM, of another range.
        let mut pairs = self.places.iter().zip(&need);
        let differing = pairs.find(|(have, need)| have != need);
        let (have, need) = differing
            .map_or((MemoryRange::EMPTY, MemoryRange::EMPTY), |(have, need)| {
                (have.range, need.range)
            });
        Err(BuildError::BackingLiesElsewhere { have, need })
    }

    /// The memories: RAM, then VTL2's RAM where there is any. Each is one memfd.
    pub fn memories(&self) -> &[SharedMemory] {
        &self.memories
    }

    pub(crate) fn places(&self) -> &[RamRange] {
        &self.places
    }
}

pub(crate) fn name_of(index: usize) -> &'static str {
    match index {
        0 => "guest-ram",
        _ => "guest-ram-vtl2",
    }
}

impl Inspect for SharedMemoryBacking {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.by_index(self.memories.iter());
    }
}
