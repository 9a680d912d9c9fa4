//! A permanent mapping of a whole backing, apart from the GPA space.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use memory_range::Access;

use crate::access::{self, InstallError};
use crate::exclusion::Exclusion;
use crate::file_facts::LenError;
use crate::limits;
use crate::mapped_region::MappedRegion;
use crate::owned_pages::OwnedPages;
use crate::sys::{self, Calls, Commit, Content};

/// One permanent mapping of a whole backing, apart from the GPA space.
///
/// It does not move and does not shrink while it lives, whatever happens in a reservation: leases
/// and the named write into read-only memory go through it. A [`Mappable`](crate::Mappable) makes
/// it; [`HostRange`](crate::HostRange) reads and writes it.
///
/// Bytes between the end of the file and the end of its last page read as zeros, and what is
/// written there is lost. If the file can shrink, an access past its end faults.
pub struct LinearView {
    pages: OwnedPages,
    len: u64,
    access: Access,
}

impl LinearView {
    /// Maps `len` bytes of a file from its start, rounded up to the file's `granule`.
    pub(crate) fn map(
        name: &str,
        file: BorrowedFd<'_>,
        len: u64,
        granule: u64,
        access: Access,
        exclusion: Exclusion,
    ) -> Result<Self, LinearViewError> {
        if len == 0 {
            return Err(LinearViewError::Empty {
                name: name.to_owned(),
            });
        }
        access::install().map_err(|source| LinearViewError::Handler {
            name: name.to_owned(),
            source,
        })?;
        let too_large = || LinearViewError::TooLarge {
            name: name.to_owned(),
            len,
        };
        let rounded = len
            .checked_next_multiple_of(granule)
            .ok_or_else(too_large)?;
        let bytes = usize::try_from(rounded).map_err(|_| too_large())?;
        let calls = Arc::<Calls>::default();
        let failed = |source: io::Error| match limits::vma_limit(&source) {
            Some(used) => LinearViewError::VmaLimit {
                name: name.to_owned(),
                count: used.count,
                limit: used.limit,
            },
            None => LinearViewError::Failed {
                name: name.to_owned(),
                len,
                source,
            },
        };
        let content = Content::File {
            fd: file,
            offset: 0,
            access,
            commit: Commit::Now,
        };
        let pages = OwnedPages::new(&calls, bytes, content).map_err(failed)?;
        // Whatever its length: it is mapped just once.
        for advice in exclusion.advice(u64::MAX) {
            // SAFETY: the pages were mapped above for the view, and the advice keeps contents.
            unsafe { sys::advise(&calls, pages.base(), bytes, *advice) }.map_err(failed)?;
        }
        Ok(Self {
            pages,
            len: rounded,
            access,
        })
    }

    /// Returns what the view allows.
    pub fn access(&self) -> Access {
        self.access
    }
}

// SAFETY: `pages` is given back only when the view is dropped, its address and length never change,
// its length is above zero (`map` refuses zero), and nothing but the file's raw bytes is mapped.
unsafe impl MappedRegion for LinearView {
    fn base(&self) -> NonNull<u8> {
        self.pages.base()
    }

    fn len(&self) -> u64 {
        self.len
    }
}

impl fmt::Debug for LinearView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinearView")
            .field("base", &self.pages.base())
            .field("len", &self.len)
            .field("access", &self.access)
            .finish()
    }
}

/// Says why a linear view was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinearViewError {
    /// There is nothing to map.
    #[error("`{name}` is empty and has no linear view")]
    Empty {
        /// The name of the mappable.
        name: String,
    },
    /// A device has no length, so there is no whole to map.
    #[error("`{name}` has no length and so no linear view")]
    NoLength {
        /// The name of the mappable.
        name: String,
    },
    /// The length could not be read.
    #[error("the length for a linear view is not known")]
    Length {
        /// Why not.
        source: LenError,
    },
    /// The length, rounded up to whole pages, exceeds every address space.
    #[error("the {len:#x} bytes of `{name}` are too many for a linear view")]
    TooLarge {
        /// The name of the mappable.
        name: String,
        /// Its length in bytes.
        len: u64,
    },
    /// The handler that catches faults cannot be installed.
    #[error("a linear view of `{name}` would not be safe to access")]
    Handler {
        /// The name of the mappable.
        name: String,
        /// Why not.
        source: InstallError,
    },
    /// The process has as many VMAs as it may have.
    #[error(
        "no VMA is left for a linear view of `{name}`: \
         the process has {count} of {limit} (vm.max_map_count)"
    )]
    VmaLimit {
        /// The name of the mappable.
        name: String,
        /// How many VMAs the process has.
        count: u64,
        /// How many it may have.
        limit: u64,
    },
    /// The kernel refused.
    #[error("the {len:#x} bytes of `{name}` cannot be mapped as a linear view")]
    Failed {
        /// The name of the mappable.
        name: String,
        /// Its length in bytes.
        len: u64,
        /// What the kernel answered.
        source: io::Error,
    },
}
