//! Why other processes are not served.

use super::Eviction;
use mapping_manager::remote::{AddPeerError, ServeError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why processes cannot be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeRemoteError {
    /// What waits for the processes, a descriptor or a thread, cannot be made; or somebody drives the
    /// server already.
    #[error(transparent)]
    Service(#[from] ServeError),
    /// The view cannot be changed any more.
    #[error(transparent)]
    Lock(#[from] region_manager::LockError),
}

/// Why a process was not accepted. Its socket is closed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The manager is gone.
    #[error("no process is accepted any more: the guest memory is gone")]
    Closed,
    /// There are enough.
    #[error("no process is accepted beside the {most} that there are")]
    TooMany {
        /// How many are served at the same time.
        most: usize,
    },
    /// The socket cannot be waited for.
    #[error("the socket of {process} cannot be waited for")]
    Service {
        /// The process's name.
        process: String,
        /// Why.
        #[source]
        source: AddPeerError,
    },
}

/// Why no socket listens at a path.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody listens there.
    #[error("a process listens at {} already", .path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// There is a file that is no socket.
    #[error("{} is not a socket", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket, or the thread that accepts, cannot be made.
    #[error("a socket cannot be opened at {}", .path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a process is not as far as it was waited for.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ProcessWaitError {
    /// It never will be.
    #[error("{process} does not follow guest memory any more")]
    Gone {
        /// The process's name.
        process: String,
        /// Why not.
        #[source]
        reason: Arc<Eviction>,
    },
    /// It still may be.
    #[error("{process} was not so far within {timeout:?}")]
    TimedOut {
        /// The process's name.
        process: String,
        /// How long it was waited for.
        timeout: Duration,
    },
}
