//! Memory that can be shared with other processes and that nobody can resize.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use memory_range::{Access, MemoryRange, PAGE_SIZE};
use nix::fcntl::SealFlag;

use crate::backing::Backing;
use crate::exclusion::Exclusion;
use crate::file_facts::{LenError, seals};
use crate::linear_view::{LinearView, LinearViewError};
use crate::mappable::Mappable;
use crate::{DecommitError, MappableError, memfd};

/// What keeps the length as it is, whoever holds the descriptor.
const FIXED_LENGTH: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

/// Shared memory: a named memfd, sealed against resizing, with its linear view.
///
/// It takes no memory until it is written. Because it cannot shrink, no peer can make an access
/// fault by truncating it. Its linear view is left out of core dumps and of forked children, and so
/// are its mappings in a reservation, but for those shorter than 1 MiB (see
/// [`Reservation`](crate::Reservation)). A clone is cheap and is the same memory.
///
/// ```
/// use sparse_alloc::{MappedRegion, SharedMemory};
///
/// let ram = SharedMemory::new("ram", 64 << 20)?;
/// assert_eq!(ram.len(), 64 << 20);
/// assert_eq!(ram.linear_view().len(), ram.len());
///
/// // The same memory again, from the descriptor alone.
/// let fd = std::os::fd::AsFd::as_fd(ram.mappable()).try_clone_to_owned()?;
/// let again = SharedMemory::from_fd("ram", fd)?;
/// assert_eq!(again.len(), ram.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SharedMemory {
    mappable: Mappable,
    view: Arc<LinearView>,
    len: u64,
}

impl SharedMemory {
    /// Makes `len` bytes of shared memory, a multiple of the page size. They read as zeros.
    ///
    /// The name is for people: `/proc/PID/maps` shows it as `/memfd:NAME`. It has at most 249 bytes
    /// and no NUL.
    ///
    /// # Errors
    ///
    /// When `len` is zero or unaligned, or the kernel makes no memfd of that length (`EMFILE` when
    /// the process has no descriptor left), or its linear view finds no room.
    pub fn new(name: &str, len: u64) -> Result<Self, SharedMemoryError> {
        check_len(name, len)?;
        let failed = |source| SharedMemoryError::Create {
            name: name.to_owned(),
            len,
            source,
        };
        let file = memfd::create(name).map_err(failed)?;
        memfd::resize(&file, len).map_err(failed)?;
        memfd::seal(&file, FIXED_LENGTH | SealFlag::F_SEAL_SEAL).map_err(failed)?;
        let name = name.to_owned();
        let mappable = Mappable::from_own_memfd(name, file, len, Exclusion::DumpAndFork);
        Self::with(mappable, len)
    }

    /// Takes over shared memory that was made before, here or in another process.
    ///
    /// It must be sealed against shrinking and growing, and open for reading and writing.
    /// Seals against adding seals are not asked for: a peer that seals it against future writing
    /// makes later writable mappings fail, with an error.
    ///
    /// # Errors
    ///
    /// When the memory is not sealed, is read-only, is empty, or is not whole pages; when its linear
    /// view finds no room.
    pub fn from_fd(name: &str, file: OwnedFd) -> Result<Self, SharedMemoryError> {
        let present = seals(file.as_fd());
        if !present.contains(FIXED_LENGTH) {
            return Err(SharedMemoryError::Unsealed {
                name: name.to_owned(),
                missing: match (
                    present.contains(SealFlag::F_SEAL_SHRINK),
                    present.contains(SealFlag::F_SEAL_GROW),
                ) {
                    (false, false) => "F_SEAL_SHRINK and F_SEAL_GROW",
                    (false, true) => "F_SEAL_SHRINK",
                    (true, _) => "F_SEAL_GROW",
                },
            });
        }
        let mappable = Mappable::from_owned(name.to_owned(), file, Exclusion::DumpAndFork)
            .map_err(|source| SharedMemoryError::Mappable { source })?;
        if mappable.access() == Access::ReadOnly {
            return Err(SharedMemoryError::ReadOnly {
                name: name.to_owned(),
            });
        }
        let len = mappable.len();
        let len = len.map_err(|source| SharedMemoryError::Length { source })?;
        let len = len.unwrap_or(0);
        check_len(name, len)?;
        Self::with(mappable, len)
    }

    fn with(mappable: Mappable, len: u64) -> Result<Self, SharedMemoryError> {
        let view = mappable.linear_view();
        let view = Arc::clone(view.map_err(|source| SharedMemoryError::LinearView { source })?);
        Ok(Self {
            mappable,
            view,
            len,
        })
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        self.mappable.name()
    }

    /// Returns the memory as something to map into a [`Reservation`](crate::Reservation).
    pub fn mappable(&self) -> &Mappable {
        &self.mappable
    }

    /// Returns the permanent mapping of all of it, apart from the GPA space.
    pub fn linear_view(&self) -> &Arc<LinearView> {
        &self.view
    }

    /// Returns the length in bytes: above zero, whole pages, the same for ever.
    #[expect(clippy::len_without_is_empty, reason = "shared memory is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Gives the memory of a range of offsets back; it reads as zeros afterwards, in every mapping
    /// and every process.
    ///
    /// # Errors
    ///
    /// When the range is empty or ends past the end.
    pub fn decommit(&self, range: MemoryRange) -> Result<(), DecommitError> {
        self.mappable.decommit(range)
    }
}

impl From<&SharedMemory> for Backing {
    fn from(memory: &SharedMemory) -> Self {
        Self::Mappable(memory.mappable.clone())
    }
}

fn check_len(name: &str, len: u64) -> Result<(), SharedMemoryError> {
    if len == 0 {
        return Err(SharedMemoryError::Empty {
            name: name.to_owned(),
        });
    }
    if !len.is_multiple_of(PAGE_SIZE) {
        return Err(SharedMemoryError::Unaligned {
            name: name.to_owned(),
            len,
        });
    }
    Ok(())
}

/// Says why there is no shared memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedMemoryError {
    /// The length is zero.
    #[error("shared memory `{name}` would be empty")]
    Empty {
        /// The name of the memory.
        name: String,
    },
    /// The length is not a multiple of the page size.
    #[error("the length {len:#x} of shared memory `{name}` is not page aligned")]
    Unaligned {
        /// The name of the memory.
        name: String,
        /// The length in bytes.
        len: u64,
    },
    /// A peer could resize the memory, and so make accesses fault.
    #[error("shared memory `{name}` is not sealed against resizing: it lacks {missing}")]
    Unsealed {
        /// The name of the memory.
        name: String,
        /// The seals that it lacks.
        missing: &'static str,
    },
    /// The memory cannot be written.
    #[error("shared memory `{name}` is read-only")]
    ReadOnly {
        /// The name of the memory.
        name: String,
    },
    /// The kernel made no memfd, or not of that length.
    #[error("the {len:#x} bytes of shared memory `{name}` cannot be made")]
    Create {
        /// The name of the memory.
        name: String,
        /// The length in bytes.
        len: u64,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The descriptor cannot be mapped.
    #[error("the descriptor is no shared memory")]
    Mappable {
        /// Why not.
        source: MappableError,
    },
    /// The length cannot be read.
    #[error("the length of the shared memory is not known")]
    Length {
        /// Why not.
        source: LenError,
    },
    /// The linear view was not made.
    #[error("the shared memory has no linear view")]
    LinearView {
        /// Why not.
        source: LinearViewError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not asked of our own memfd is what the kernel would have said.
    #[test]
    fn what_is_known_of_new_memory_is_true() {
        let ram = SharedMemory::new("ram", 3 << 20).unwrap();
        let fd = ram.mappable().as_fd().try_clone_to_owned().unwrap();
        let asked = SharedMemory::from_fd("ram", fd).unwrap();
        assert_eq!(ram.mappable().facts(), asked.mappable().facts());
        assert_eq!(ram.mappable().access(), asked.mappable().access());
        assert_eq!(ram.len(), asked.len());
    }

    #[test]
    fn nobody_but_its_owner_opens_it_anew() {
        let memory = SharedMemory::new("ram", 0x1000).unwrap();
        let facts = nix::sys::stat::fstat(memory.mappable()).unwrap();
        assert_eq!(facts.st_mode & 0o777, 0o600);
    }
}
