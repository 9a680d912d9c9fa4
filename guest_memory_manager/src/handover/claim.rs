//! One owner at a time.

use crate::backing::SharedMemoryBacking;
use sparse_alloc::SharedMemory;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the kernel shows this process's descriptors, each of which can be opened anew.
const DESCRIPTORS: &str = "/proc/self/fd";

/// The exclusive right to a backing, among all who ask for it.
///
/// While one process holds it, no other can have it, nor can this one a second time. Nobody is kept
/// from the memory by it who does not ask. It ends when it is dropped or its process ends, however
/// that ends.
///
/// It is a lock (`flock`) on each memfd. Descriptors that are sent or inherited share an *open
/// file*, and with it such a lock; so it is taken on one that is opened anew for it, and that
/// nobody else gets. (A child that was forked and did not call `exec` has it, too, but cannot keep
/// the lock: it is taken off, not just closed.)
#[derive(Debug)]
#[must_use = "the claim ends when this is dropped"]
pub struct BackingClaim {
    locked: Vec<File>,
}

impl Drop for BackingClaim {
    fn drop(&mut self) {
        for file in &self.locked {
            // If it fails, the lock goes with the descriptor.
            let _ = file.unlock();
        }
    }
}

/// # Exclusive use
impl SharedMemoryBacking {
    /// Claims the memory for the caller alone, until the claim is dropped; does not wait.
    ///
    /// Managers claim theirs with [`claim_backing`](crate::GuestMemoryBuilder::claim_backing).
    ///
    /// # Errors
    ///
    /// Somebody else has a claim; or the memory cannot be opened anew, for which `/proc` must be
    /// mounted, and one descriptor a memory be free. There is no way without `/proc`: the error
    /// says so, and the memory can be used without a claim.
    pub fn claim(&self) -> Result<BackingClaim, ClaimError> {
        claim(self.memories(), Path::new(DESCRIPTORS))
    }
}

fn claim(memories: &[SharedMemory], descriptors: &Path) -> Result<BackingClaim, ClaimError> {
    // Filled one by one: if a later one fails, those before it are given back.
    let mut claim = BackingClaim { locked: Vec::new() };
    for (index, memory) in memories.iter().enumerate() {
        let file = reopen(index, memory, descriptors)?;
        match file.try_lock() {
            Ok(()) => claim.locked.push(file),
            Err(TryLockError::WouldBlock) => return Err(ClaimError::Claimed { index }),
            Err(TryLockError::Error(source)) => return Err(ClaimError::Lock { index, source }),
        }
    }
    Ok(claim)
}

/// Opens the file of a memory once more, so that it has an open file of its own.
fn reopen(index: usize, memory: &SharedMemory, descriptors: &Path) -> Result<File, ClaimError> {
    let fd = memory.mappable().as_fd();
    let path = descriptors.join(fd.as_raw_fd().to_string());
    let file = File::open(&path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => ClaimError::NoProc {
            index,
            path: path.clone(),
            source,
        },
        _ => ClaimError::Reopen {
            index,
            path: path.clone(),
            source,
        },
    })?;
    // Anything may be mounted at that path.
    let same = || -> io::Result<bool> {
        let (opened, meant) = (file.metadata()?, rustix::fs::fstat(fd)?);
        Ok((opened.dev(), opened.ino()) == (meant.st_dev, meant.st_ino))
    };
    match same() {
        Ok(true) => Ok(file),
        Ok(false) => Err(ClaimError::OtherFile { index, path }),
        Err(source) => Err(ClaimError::Lock { index, source }),
    }
}

/// Why a backing was not claimed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Somebody else has it, in this process or in another.
    #[error("memory {index} of the backing is claimed already")]
    Claimed {
        /// Which memory.
        index: usize,
    },
    /// `/proc` is not mounted, without which no claim is possible.
    #[error("memory {index} of the backing cannot be claimed without /proc: there is no {path:?}")]
    NoProc {
        /// Which memory.
        index: usize,
        /// What is not there.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The memory cannot be opened anew: too many files are open, or it is forbidden.
    #[error("memory {index} of the backing cannot be claimed: {path:?} cannot be opened")]
    Reopen {
        /// Which memory.
        index: usize,
        /// What cannot be opened.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// What was opened is another file.
    #[error("memory {index} of the backing cannot be claimed: {path:?} is another file")]
    OtherFile {
        /// Which memory.
        index: usize,
        /// What was opened.
        path: PathBuf,
    },
    /// The kernel refused the lock.
    #[error("memory {index} of the backing cannot be locked")]
    Lock {
        /// Which memory.
        index: usize,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memories() -> Vec<SharedMemory> {
        let make = |name| SharedMemory::new(name, 0x1000).unwrap();
        vec![make("first"), make("second")]
    }

    #[test]
    fn without_proc_the_error_says_so() {
        let nowhere = Path::new("/proc/self/no-descriptors");
        let error = claim(&memories(), nowhere).unwrap_err();
        assert!(
            matches!(error, ClaimError::NoProc { index: 0, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("without /proc"), "{error}");
    }

    /// A folder that only looks like the kernel's.
    #[test]
    fn another_file_is_not_locked_instead() {
        let folder = tempfile::tempdir().unwrap();
        let memories = memories();
        let number = memories[0].mappable().as_fd().as_raw_fd().to_string();
        std::fs::write(folder.path().join(number), b"").unwrap();
        let error = claim(&memories, folder.path()).unwrap_err();
        assert!(
            matches!(error, ClaimError::OtherFile { index: 0, .. }),
            "{error}"
        );
    }

    /// A forked child has the open file, too, as a copy of the descriptor has here.
    #[test]
    fn a_claim_ends_though_its_open_file_does_not() {
        let memories = memories();
        let proc = Path::new(DESCRIPTORS);
        let first = claim(&memories, proc).unwrap();
        let copies: Vec<File> = first
            .locked
            .iter()
            .map(|f| f.try_clone().unwrap())
            .collect();
        drop(first);
        let second = claim(&memories, proc).unwrap();
        drop(copies);
        let error = claim(&memories, proc).unwrap_err();
        assert!(matches!(error, ClaimError::Claimed { index: 0 }), "{error}");
        drop(second);
    }

    /// One that fails at its second memory leaves the first free.
    #[test]
    fn half_a_claim_is_given_back() {
        let memories = memories();
        let proc = Path::new(DESCRIPTORS);
        let second = claim(&memories[1..], proc).unwrap();
        let error = claim(&memories, proc).unwrap_err();
        assert!(matches!(error, ClaimError::Claimed { index: 1 }), "{error}");
        let first = claim(&memories[..1], proc).unwrap();
        drop((first, second));
        drop(claim(&memories, proc).unwrap());
    }
}
