//! What holds RAM, to build the same RAM from again.

use crate::error::BuildError;
use inspect::Inspect;
use sparse_alloc::SharedMemory;
use std::sync::Arc;

/// All the memory that backs a guest's RAM.
///
/// A manager built with it ([`existing_backing`](crate::GuestMemoryBuilder::existing_backing))
/// has the same RAM, contents included. Cloning is cheap and copies no memory. The memory lives
/// as long as any clone, any manager, or any lease of it.
#[derive(Clone, Debug)]
pub struct SharedMemoryBacking {
    /// RAM, then VTL2's where the layout has it.
    memories: Arc<[SharedMemory]>,
}

impl SharedMemoryBacking {
    /// Makes fresh memory, one for each length.
    pub(crate) fn new(lens: &[u64]) -> Result<Self, BuildError> {
        let memories = lens.iter().enumerate().map(|(index, len)| {
            let name = name_of(index);
            SharedMemory::new(name, *len).map_err(|source| BuildError::Ram { len: *len, source })
        });
        Ok(Self {
            memories: memories.collect::<Result<_, _>>()?,
        })
    }

    /// Checks that it has the lengths that a layout asks for.
    pub(crate) fn check(&self, lens: &[u64]) -> Result<(), BuildError> {
        let have: Vec<u64> = self.memories.iter().map(SharedMemory::len).collect();
        if have == lens {
            Ok(())
        } else {
            Err(BuildError::BackingDoesNotFit {
                have,
                need: lens.to_vec(),
            })
        }
    }

    /// The memories: RAM, then VTL2's RAM where there is any. Each is one memfd.
    pub fn memories(&self) -> &[SharedMemory] {
        &self.memories
    }
}

fn name_of(index: usize) -> &'static str {
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
