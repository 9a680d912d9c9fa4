//! Why an access to guest memory failed.

use crate::fetch::Unanswered;
use std::fmt;
use std::ops::Range;
use thiserror::Error;

/// What was to be done with guest memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Bytes or a value were to be read.
    Read,
    /// Bytes or a value were to be written.
    Write,
    /// Bytes were to be filled.
    Fill,
    /// A value was to be exchanged.
    CompareExchange,
    /// A value was to be changed in one step, whatever it was.
    Update,
    /// Bytes were to be compared with others.
    Compare,
    /// Bytes were to be copied from here to another place in guest memory.
    CopyOut,
    /// Bytes were to be copied to here from another place in guest memory.
    CopyIn,
    /// Bytes were to be written into memory that the guest may only read.
    WriteReadOnly,
}

impl Operation {
    /// Whether it needs memory that can be written.
    pub(crate) fn writes(self) -> bool {
        match self {
            Self::Read | Self::Compare | Self::CopyOut => false,
            Self::Write
            | Self::Fill
            | Self::CompareExchange
            | Self::Update
            | Self::CopyIn
            | Self::WriteReadOnly => true,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Fill => "fill",
            Self::CompareExchange => "compare-exchange",
            Self::Update => "update",
            Self::Compare => "compare",
            Self::CopyOut => "copy out",
            Self::CopyIn => "copy in",
            Self::WriteReadOnly => "write to read-only memory",
        })
    }
}

/// Why an access to guest memory failed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Cause {
    /// The access starts or ends past the end of the guest physical address space.
    #[error("the address space ends at {end:#x}")]
    OutOfRange {
        /// The first address that does not exist.
        end: u64,
    },
    /// The access starts or ends past the end of a view of a part of the address space.
    #[error("the view is of gpa {start:#x}-{end:#x}")]
    OutsideView {
        /// The guest physical address where the view starts.
        start: u64,
        /// The first address past the view.
        end: u64,
    },
    /// The access starts or ends past the end of the lease that it goes through, or of its slice.
    #[error("the lease is of gpa {start:#x}-{end:#x}")]
    OutsideLease {
        /// The first guest physical address of the lease.
        start: u64,
        /// The first address past it.
        end: u64,
    },
    /// The lease that the access goes through is not for writing.
    #[error("the lease is for reading only")]
    ReadLease,
    /// Nothing is mapped at the address.
    #[error("nothing is mapped at gpa {gpa:#x}")]
    Hole {
        /// The first address that is not mapped.
        gpa: u64,
    },
    /// Nothing is mapped at the address yet, in a lazy mapper that could not find out what belongs
    /// there.
    #[error("what belongs at gpa {gpa:#x} was not fetched")]
    NotFetched {
        /// The first address that is not mapped.
        gpa: u64,
        /// Why not.
        #[source]
        why: Unanswered,
    },
    /// What is mapped at the address cannot be written now.
    #[error("gpa {gpa:#x} is read-only")]
    ReadOnly {
        /// The first address that cannot be written.
        gpa: u64,
    },
    /// The mapped file is shorter than its mapping: another process truncated it.
    #[error("the file mapped at gpa {gpa:#x} was truncated")]
    Truncated {
        /// The first address without a byte behind it.
        gpa: u64,
    },
    /// The file has its length, but the kernel has no page for the address: the file system is
    /// full, or the pool of huge pages is empty.
    #[error("the kernel has no page for gpa {gpa:#x}")]
    NoPage {
        /// The first address without a page.
        gpa: u64,
    },
    /// The memory itself is broken.
    #[error("hardware memory error at gpa {gpa:#x}")]
    Hardware {
        /// The address, as exact as the hardware tells.
        gpa: u64,
    },
    /// An atomic access must be aligned to its length.
    #[error("an atomic access of {len} bytes must be aligned")]
    Unaligned {
        /// The length of the access in bytes.
        len: u64,
    },
    /// The backing was opened read-only, so that not even its linear view can be written.
    #[error("the backing at gpa {gpa:#x} was opened read-only")]
    ReadOnlyBacking {
        /// The first address that cannot be written.
        gpa: u64,
    },
}

/// An access to guest memory that failed.
///
/// One word, so that a `Result` of a small value travels in registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessError(Box<Details>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Details {
    memory: String,
    operation: Operation,
    gpa: u64,
    len: u64,
    done: u64,
    cause: Cause,
    /// The access as its view counts it, where the view is of a part of the address space.
    view: Option<InView>,
}

/// Where an access lies in a view.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InView {
    offset: u64,
    range: Range<u64>,
}

impl AccessError {
    /// Puts an error together.
    pub(crate) fn new(
        memory: &str,
        operation: Operation,
        gpa: u64,
        len: u64,
        done: u64,
        cause: Cause,
    ) -> Self {
        Self(Box::new(Details {
            memory: memory.to_owned(),
            operation,
            gpa,
            len,
            done,
            cause,
            view: None,
        }))
    }

    /// Adds where the access lies in a view of a part of the address space.
    pub(crate) fn in_view(mut self, offset: u64, range: Range<u64>) -> Self {
        self.0.view = Some(InView { offset, range });
        self
    }

    /// Takes back what was said to be done, for an access that is whole or not at all.
    pub(crate) fn nothing_done(mut self) -> Self {
        self.0.done = 0;
        self
    }

    /// The name of the memory.
    pub fn memory(&self) -> &str {
        &self.0.memory
    }

    /// What was to be done.
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// The guest physical address of the access, in the whole address space, whatever view it went
    /// through. `u64::MAX` if it wraps.
    pub fn gpa(&self) -> u64 {
        self.0.gpa
    }

    /// The address as it was given: an offset in bytes from the start of the view that the access
    /// went through. The same as [`gpa`](Self::gpa) if that shows the whole address space.
    pub fn offset(&self) -> u64 {
        self.0.view.as_ref().map_or(self.0.gpa, |view| view.offset)
    }

    /// The length of the access in bytes.
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// Whether the access was of no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// How many bytes were done before the first that could not be.
    pub fn done(&self) -> u64 {
        self.0.done
    }

    /// Why.
    pub fn cause(&self) -> Cause {
        self.0.cause
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details {
            memory,
            operation,
            gpa,
            len,
            done,
            view,
            ..
        } = &*self.0;
        write!(
            f,
            "{memory}: cannot {operation} {len:#x} bytes at gpa {gpa:#x}"
        )?;
        if let Some(InView { offset, range }) = view {
            let Range { start, end } = range;
            write!(f, ", offset {offset:#x} in the view of {start:#x}-{end:#x}")?;
        }
        write!(f, " ({done:#x} done)")
    }
}

impl std::error::Error for AccessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.cause)
    }
}
