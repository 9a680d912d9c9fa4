//! What can go wrong between a client and its manager.

use crate::remote::frame::{EncodeError, FrameError};
use crate::remote::message::MessageError;
use memory_range::MemoryRange;
use sparse_alloc::{
    MapError, MappableError, OutsideRegion, ProtectError, ReserveError, UnmapError,
};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why a client has no manager any more. What it had mapped stays mapped.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerLost {
    /// The manager closed the connection without a word, or died.
    #[error("the manager closed the connection")]
    Closed,
    /// The manager ended the connection: the client was detached or evicted, or the manager ends.
    #[error("the manager ended the connection: {reason}")]
    Goodbye {
        /// What it said, in at most 256 bytes.
        reason: String,
    },
    /// The manager says what no manager says.
    #[error("the manager broke the protocol")]
    Protocol(#[source] Arc<ProtocolError>),
    /// The manager did not complete what it had begun.
    #[error("the manager did not {what} within {within:?}")]
    TimedOut {
        /// What it did not do.
        what: &'static str,
        /// The time that it was given.
        within: Duration,
    },
    /// The socket failed.
    #[error("the connection to the manager failed")]
    Io(#[source] Arc<io::Error>),
    /// A file that the manager sent cannot be used: of a kind that cannot be mapped, or this process
    /// can open no more.
    #[error("a file that the manager sent cannot be used")]
    File(#[source] Arc<MappableError>),
    /// A change could not be made here. The manager was told, if it could be.
    #[error("change {sequence} could not be made")]
    Change {
        /// Its number on this connection.
        sequence: u64,
        /// Why not.
        #[source]
        source: Arc<ChangeError>,
    },
    /// A message could not be sent: an error of this crate, or no memory.
    #[error("a message to the manager cannot be written")]
    Encode(#[source] Arc<ProtocolError>),
}

impl ManagerLost {
    pub(super) fn io(source: impl Into<io::Error>) -> Self {
        Self::Io(Arc::new(source.into()))
    }

    /// Whether the manager still listens and does not know of it yet.
    pub(super) fn is_ours_to_tell(&self) -> bool {
        matches!(
            self,
            Self::Change { .. } | Self::Protocol(_) | Self::File(_)
        )
    }
}

impl From<Violation> for ManagerLost {
    fn from(violation: Violation) -> Self {
        Self::Protocol(Arc::new(violation.into()))
    }
}

impl From<MessageError> for ManagerLost {
    fn from(error: MessageError) -> Self {
        Violation::Message(error).into()
    }
}

impl From<FrameError> for ManagerLost {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Ended { within: 0 } => Self::Closed,
            FrameError::Io(source) => Self::io(source),
            error => Violation::Frame(error).into(),
        }
    }
}

impl From<EncodeError> for ManagerLost {
    fn from(error: EncodeError) -> Self {
        Self::Encode(Arc::new(Violation::Encode(error).into()))
    }
}

/// What is wrong with what the manager sent.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ProtocolError(#[from] Violation);

/// See [`ProtocolError`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Violation {
    #[error("the stream is not one of frames")]
    Frame(#[source] FrameError),
    #[error("a frame holds no message")]
    Message(#[source] MessageError),
    #[error("a message cannot be written")]
    Encode(#[source] EncodeError),
    #[error("the message `{found}` came where none such belongs")]
    Unexpected { found: &'static str },
    #[error("change {found} came after change {last}")]
    Sequence { last: u64, found: u64 },
    #[error("one change is of more than {most} operations")]
    TooMany { most: usize },
    #[error("file {id} was sent twice")]
    FileTwice { id: u32 },
    #[error("there is no file {id}")]
    NoFile { id: u32 },
    #[error("range {range} was to be writable in a client that may only read")]
    Writable { range: MemoryRange },
    #[error("there is no partition {partition}")]
    NoPartition { partition: u32 },
    #[error("partition {partition} has no slot of exactly {range}")]
    NoSlot { partition: u32, range: MemoryRange },
    #[error("slot {range} of partition {partition} overlaps slot {existing}")]
    Overlap {
        partition: u32,
        range: MemoryRange,
        existing: MemoryRange,
    },
    #[error("fetch {request} was never asked for")]
    NoFetch { request: u64 },
    #[error("the manager decides that the client is lazy, which it did not ask for")]
    Lazy,
}

/// Why a change could not be made. What was made of it before stays, and nothing of it after.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Memory was not mapped.
    #[error("range {range} cannot be mapped")]
    Map {
        /// The guest physical addresses.
        range: MemoryRange,
        /// Why not.
        source: MapError,
    },
    /// Permissions were not changed.
    #[error("the access of range {range} cannot be changed")]
    Protect {
        /// The guest physical addresses.
        range: MemoryRange,
        /// Why not.
        source: ProtectError,
    },
    /// Memory was not taken away.
    #[error("range {range} cannot be unmapped")]
    Unmap {
        /// The guest physical addresses.
        range: MemoryRange,
        /// Why not.
        source: UnmapError,
    },
    /// A partition did not take a slot.
    #[error("partition `{partition}` does not take slot {range}")]
    AddSlot {
        /// The partition's name.
        partition: String,
        /// The partition's addresses.
        range: MemoryRange,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A partition did not give up a slot.
    #[error("partition `{partition}` does not give up slot {range}")]
    RemoveSlot {
        /// The partition's name.
        partition: String,
        /// The partition's addresses.
        range: MemoryRange,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A slot shows addresses that the reservation does not have.
    #[error("slot {range} of partition `{partition}` shows what is not reserved")]
    SlotOutside {
        /// The partition's name.
        partition: String,
        /// The partition's addresses.
        range: MemoryRange,
        /// Why not.
        source: OutsideRegion,
    },
}

/// Why a client did not connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The manager was lost before its first view had come.
    #[error("the connection did not come about")]
    Lost(#[source] ManagerLost),
    /// There is no room for the guest physical addresses.
    #[error("the {space:#x} bytes of guest physical addresses cannot be reserved")]
    Reserve {
        /// Their number.
        space: u64,
        /// Why not.
        source: ReserveError,
    },
    /// The kernel gave no descriptor to wait with.
    #[error("nothing can be had to wait for the manager with")]
    Wait(#[source] io::Error),
    /// It was called by a thread that is serving the connection, from inside a callback.
    #[error("a callback of the connection cannot replace it")]
    ServingThread,
}

/// Why a client was not connected to another manager. What it has mapped stays mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconnectError {
    /// The manager was lost before its view had come. What had come of it is mapped.
    #[error("the connection did not come about")]
    Lost(#[source] ManagerLost),
    /// The new manager has more or fewer guest physical addresses. The client is as it was.
    #[error("the manager has {found:#x} bytes of guest physical addresses, the client {own:#x}")]
    Space {
        /// How many the new manager has.
        found: u64,
        /// How many the client has.
        own: u64,
    },
    /// It was called by a thread that is serving the connection, from inside a callback.
    #[error("a callback of the connection cannot replace it")]
    ServingThread,
}

/// Why waiting for a change ended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It did not come in time.
    #[error("the change did not come within {within:?}")]
    TimedOut {
        /// The time that was given.
        within: Duration,
    },
    /// It won't come: there is no manager.
    #[error("the manager is gone")]
    Lost(#[source] ManagerLost),
    /// The thread that waits is the one that would have to make the change.
    #[error("a callback of the connection cannot wait for it")]
    ServingThread,
}

/// Why a partition was not offered to the manager, or not withdrawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// There is no manager.
    #[error("the manager is gone")]
    Lost(#[source] ManagerLost),
    /// The client is lazy: a guest would find holes where memory was not touched before.
    #[error("a lazy client cannot offer a partition")]
    Lazy,
    /// There are as many partitions as a client may offer.
    #[error("{most} partitions are offered already")]
    TooMany {
        /// The most that may be offered.
        most: usize,
    },
    /// There is no such partition.
    #[error("there is no partition {partition}")]
    NoPartition {
        /// Its number.
        partition: u32,
    },
    /// A slot was not given up. The partition is withdrawn nevertheless.
    #[error("the partition's slots were not all taken away")]
    Slot(#[source] ChangeError),
    /// It was called by a thread that is serving the connection, from inside a callback.
    #[error("a callback of the connection cannot change what it offers")]
    ServingThread,
}

/// An error and its causes in one line.
pub(super) fn line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
