//! Why memory was not handed over.

use mapping_manager::descriptors::TransferError;
use memory_range::PAGE_SIZE;
use rustix::fs::SealFlags;
use sparse_alloc::SharedMemoryError;
use std::error::Error;
use std::io;
use std::time::Duration;

/// Why memory was not sent. The message may be in the socket in part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendBackingError {
    /// RAM lies in too many places for one message.
    #[error("the description of the backing has {len} bytes, and at most {most} can be sent")]
    TooLong {
        /// The length of the description in bytes.
        len: usize,
        /// The most that is sent.
        most: usize,
    },
    /// The description was not written.
    #[error("the backing cannot be described")]
    Encode(#[source] Box<dyn Error + Send + Sync>),
    /// The socket did not take all of the message in time.
    #[error("the peer took only {sent} bytes of the backing's message within {within:?}")]
    TimedOut {
        /// How many bytes it took.
        sent: usize,
        /// The time that was given.
        within: Duration,
    },
    /// The kernel refused; `EPIPE` and `ECONNRESET` mean that the peer is gone.
    #[error("the backing's message cannot be sent")]
    Io(#[source] io::Error),
}

impl SendBackingError {
    pub(super) fn new(failure: TransferError, within: Duration) -> Self {
        match failure {
            TransferError::TimedOut { done } => Self::TimedOut { sent: done, within },
            TransferError::Ended { .. } => Self::Io(io::ErrorKind::BrokenPipe.into()),
            TransferError::Io(source) => Self::Io(source),
        }
    }
}

/// Why no memory was received. All descriptors that came are closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveBackingError {
    /// The peer closed the socket before the end of the message.
    #[error("the peer closed the socket after {received} of {expected} bytes of the {part}")]
    Ended {
        /// `header` or `description`.
        part: &'static str,
        /// How many bytes of it came.
        received: usize,
        /// How many it has.
        expected: usize,
    },
    /// The message did not come in time.
    #[error("only {received} of {expected} bytes of the {part} came within {within:?}")]
    TimedOut {
        /// `header` or `description`.
        part: &'static str,
        /// How many bytes of it came.
        received: usize,
        /// How many it has.
        expected: usize,
        /// The time that was given for the whole message.
        within: Duration,
    },
    /// The kernel refused.
    #[error("the backing's message cannot be received")]
    Io(#[source] io::Error),
    /// What came is no message of this kind.
    #[error("the peer sends no backing: its message begins with {found:02x?}")]
    Foreign {
        /// The bytes that it begins with.
        found: [u8; 4],
    },
    /// The message is of another version.
    #[error("the backing's message has version {found}, and only version {known} is known here")]
    Version {
        /// The version of the message.
        found: u16,
        /// The version that can be read.
        known: u16,
    },
    /// There is no memory, or too much of it.
    #[error("the backing would have {found} memories; from 1 to {most} are allowed")]
    Memories {
        /// How many there would be.
        found: usize,
        /// The most that can be.
        most: usize,
    },
    /// The description is too long.
    #[error("the description of the backing would have {len} bytes, and at most {most} are read")]
    TooLong {
        /// The length that the message states, in bytes.
        len: u64,
        /// The most that is read.
        most: usize,
    },
    /// More or fewer descriptors came than the message states. Those beyond 16 are not counted.
    #[error(
        "{received} descriptors or more came with the header, which states {expected}; too few come \
         also to a process that can open no more"
    )]
    Descriptors {
        /// How many the message states.
        expected: usize,
        /// How many were taken; the kernel may have closed others, for which there was no room.
        received: usize,
    },
    /// Descriptors came where none belong.
    #[error("descriptors came with the description, where none belong")]
    MoreDescriptors,
    /// The description cannot be read.
    #[error("the description of the backing cannot be read")]
    Malformed(#[source] Box<dyn Error + Send + Sync>),
    /// There is more than the description.
    #[error("{len} bytes follow the description of the backing")]
    Trailing {
        /// How many bytes.
        len: usize,
    },
    /// Header and description contradict each other.
    #[error("the description has {described} memories, and the header states {stated}")]
    Count {
        /// How many are described.
        described: usize,
        /// How many the header states.
        stated: usize,
    },
    /// The places where memory is to be shown overlap, wrap, are unaligned, leave out a part of a
    /// memory, or show one twice.
    #[error(
        "the backing's places in the guest do not show every memory once, apart from each other"
    )]
    Places,
    /// A descriptor is of something that cannot be sealed: not a memfd.
    #[error("memory {index} is no memfd: it has no seals")]
    NoMemfd {
        /// Which memory.
        index: usize,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A memory lacks seals that it was promised to have.
    #[error("memory {index} lacks {} that it is said to have: it has {found:#x}, and {stated:#x} was stated", names(.stated & !.found))]
    Seals {
        /// Which memory.
        index: usize,
        /// The seals that the message states, as `F_GET_SEALS` has them.
        stated: u32,
        /// The seals that the memory has.
        found: u32,
    },
    /// A memory is longer or shorter than stated.
    #[error("memory {index} has {found:#x} bytes, and {stated:#x} were stated")]
    Length {
        /// Which memory.
        index: usize,
        /// The length that the message states, in bytes.
        stated: u64,
        /// The length that the memory has.
        found: u64,
    },
    /// A length is zero or no multiple of the page size.
    #[error("memory {index} of {len:#x} bytes is not one or more whole pages of {PAGE_SIZE:#x}")]
    Pages {
        /// Which memory.
        index: usize,
        /// The length in bytes.
        len: u64,
    },
    /// Two memories are one: what is shown in one place could be changed in another.
    #[error("memory {second} is memory {first} once more")]
    Same {
        /// The one that came first.
        first: usize,
        /// The other one.
        second: usize,
    },
    /// A descriptor is not memory that can back a guest: not sealed against resizing, read-only, or
    /// too large for this process's address space.
    #[error("memory {index} cannot be used")]
    Memory {
        /// Which memory.
        index: usize,
        /// Why.
        #[source]
        source: SharedMemoryError,
    },
}

impl ReceiveBackingError {
    pub(super) fn new(
        failure: TransferError,
        within: Duration,
        part: &'static str,
        expected: usize,
    ) -> Self {
        match failure {
            TransferError::Ended { done: received } => Self::Ended {
                part,
                received,
                expected,
            },
            TransferError::TimedOut { done: received } => Self::TimedOut {
                part,
                received,
                expected,
                within,
            },
            TransferError::Io(source) => Self::Io(source),
        }
    }
}

/// Names seals as the manual does.
fn names(seals: u32) -> String {
    let known = [
        (SealFlags::SEAL, "F_SEAL_SEAL"),
        (SealFlags::SHRINK, "F_SEAL_SHRINK"),
        (SealFlags::GROW, "F_SEAL_GROW"),
        (SealFlags::WRITE, "F_SEAL_WRITE"),
        (SealFlags::FUTURE_WRITE, "F_SEAL_FUTURE_WRITE"),
    ];
    let found = known.iter().filter(|(seal, _)| seals & seal.bits() != 0);
    let mut names: Vec<String> = found.map(|(_, name)| (*name).to_owned()).collect();
    let all = known.iter().fold(0, |all, (seal, _)| all | seal.bits());
    if seals & !all != 0 {
        names.push(format!("seal {:#x}", seals & !all));
    }
    names.join(" and ")
}
