//! Why a client is gone.

use std::io;
use thiserror::Error;

/// Why a client is no longer followed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Eviction {
    /// The client closed the connection, or its process ended.
    #[error("the client closed the connection, {within} bytes into a message")]
    Closed {
        /// How much of an unfinished message had come; 0 between two messages.
        within: usize,
    },
    /// The client did not greet in time.
    #[error("the client did not greet before its deadline")]
    NoGreeting,
    /// The client did not acknowledge a change in time.
    #[error("the client did not acknowledge change {sequence} before its deadline")]
    NotAcknowledged {
        /// The oldest change that it had not acknowledged.
        sequence: u64,
    },
    /// The client sent a part of a message, and not the rest in time.
    #[error("the client did not finish a message before its deadline")]
    HalfMessage,
    /// The client did not take what was sent in time.
    #[error("the client did not read before its deadline")]
    NotReading,
    /// What the client sent is none of the messages that it may send.
    #[error("the client sent what it must not")]
    Garbage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client asked for more at once than it may.
    #[error("the client has more than {most} requests that are not answered")]
    TooManyRequests {
        /// How many it may have.
        most: usize,
    },
    /// More was to be sent to the client than may wait for it.
    #[error("{queued} bytes wait for the client, of which {most} may")]
    QueueFull {
        /// The bytes that would have waited.
        queued: usize,
        /// The bytes that may.
        most: usize,
    },
    /// The client has acknowledged too little, although its deadline has not passed yet.
    #[error("the client is {most} changes behind, from change {sequence} on")]
    TooFarBehind {
        /// The oldest change that it had not acknowledged.
        sequence: u64,
        /// How many changes it may be behind.
        most: usize,
    },
    /// A change has more parts than one may have.
    #[error("a change of {count} parts, of which {most} may be sent")]
    ChangeTooLong {
        /// How many parts it has.
        count: usize,
        /// How many it may have.
        most: usize,
    },
    /// The client could not make a change.
    #[error("the client could not make change {sequence}: {text}")]
    ChangeFailed {
        /// The number of the change; 0 if it had none yet.
        sequence: u64,
        /// What the client says: at most 256 bytes, without control characters.
        text: String,
    },
    /// A file could not be opened for reading only, as a client needs it that may not write. It takes
    /// `/proc`.
    #[error("a file cannot be passed on for reading only")]
    ReadOnlyFile(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// A message could not be written: a mistake of this crate, and of nobody else.
    #[error("a message cannot be written")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Whoever owns the connection on this side has ended it.
    #[error("detached: {reason}")]
    Detached {
        /// What the owner says.
        reason: String,
    },
}

/// What a client did that it must not, although each message by itself was in order.
#[derive(Debug, Error)]
pub(crate) enum Misconduct {
    #[error("it said something else before greeting")]
    NotGreeted,
    #[error("it greeted twice")]
    GreetedTwice,
    #[error("it acknowledged change {sequence}, of {acknowledged} to {sealed} that are possible")]
    Acknowledged {
        sequence: u64,
        acknowledged: u64,
        sealed: u64,
    },
    #[error("it fetched, although all is sent to it")]
    NotLazy,
    #[error("it offered partition {partition} twice, or too many of them")]
    Offer { partition: u32 },
    #[error("it took back partition {partition}, which it had not offered")]
    Withdraw { partition: u32 },
}
