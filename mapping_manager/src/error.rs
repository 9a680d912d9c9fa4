//! Why an access to guest memory failed.

use std::fmt;
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
    /// Bytes were to be written into memory that the guest may only read.
    WriteReadOnly,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Fill => "fill",
            Self::CompareExchange => "compare-exchange",
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
    /// Nothing is mapped at the address.
    #[error("nothing is mapped at gpa {gpa:#x}")]
    Hole {
        /// The first address that is not mapped.
        gpa: u64,
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
        }))
    }

    /// The name of the memory.
    pub fn memory(&self) -> &str {
        &self.0.memory
    }

    /// What was to be done.
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// The guest physical address of the access.
    pub fn gpa(&self) -> u64 {
        self.0.gpa
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
            ..
        } = &*self.0;
        write!(
            f,
            "{memory}: cannot {operation} {len:#x} bytes at gpa {gpa:#x} ({done:#x} done)"
        )
    }
}

impl std::error::Error for AccessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.cause)
    }
}
