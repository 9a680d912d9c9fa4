//! What can go wrong at either end of the socket.

use crate::live::message::RefusalKind;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Says why no socket could be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Somebody listens there already.
    #[error("a process is already listening at `{}`", path.display())]
    InUse {
        /// The path of the socket.
        path: PathBuf,
    },
    /// There is something else, which is left alone.
    #[error("`{}` exists and is no socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("no socket could be opened at `{}`", path.display())]
    Open {
        /// The path of the socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("no thread could be started for the socket")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

/// Says why a socket could not be connected to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is nothing at the path.
    #[error("there is no socket at `{}`", path.display())]
    NoSocket {
        /// The path of the socket.
        path: PathBuf,
    },
    /// The process that has made the socket is gone, or there is something else.
    #[error("nobody is listening at `{}`", path.display())]
    NobodyListens {
        /// The path of the socket.
        path: PathBuf,
    },
    /// The socket belongs to another user.
    #[error("the socket at `{}` belongs to another user", path.display())]
    NotAllowed {
        /// The path of the socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("could not connect to `{}`", path.display())]
    Connect {
        /// The path of the socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Says why a request has no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The server has refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server took too long.
    #[error("the process did not answer in time")]
    TimedOut,
    /// The server has closed the connection.
    #[error("the process has closed the connection: it has ended, or it serves only its own user")]
    Closed,
    /// The answer is none.
    #[error("the answer is none that this program understands")]
    BadAnswer,
    /// The connection failed.
    #[error("the connection failed")]
    Io {
        /// What the system says.
        source: io::Error,
    },
}

/// Holds the reason for which a server has refused a request.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Refusal {
    pub(super) kind: RefusalKind,
    pub(super) message: String,
    pub(super) found: usize,
    pub(super) children: Vec<String>,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            found: 0,
            children: Vec::new(),
        }
    }

    /// Returns the kind of the reason.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// Returns what the server says.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns how many names of a path that leads nowhere, from its beginning, lead somewhere.
    #[must_use]
    pub fn found(&self) -> usize {
        self.found
    }

    /// Returns, for a path that leads nowhere, names that could stand where it goes wrong: some of
    /// them, if there are very many.
    #[must_use]
    pub fn children(&self) -> &[String] {
        &self.children
    }
}
