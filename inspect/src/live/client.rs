//! The end of the socket that reads.

use crate::live::error::{ConnectError, RequestError};
use crate::live::frame::{self, FrameError};
use crate::live::message::{Answer, Ask, LONGEST_ANSWER};
use crate::live::socket;
use crate::node::Node;
use crate::path::Path;
use crate::request::Sensitivity;
use crate::value::Value;
use nix::errno::Errno;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path as FilePath, PathBuf};
use std::thread;
use std::time::Duration;

/// How long an answer is waited for, unless something else is chosen.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often, and after what time again, a connection is tried where others wait, too.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Asks a process that serves its tree.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    patience: Duration,
}

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    ///
    /// There is no socket; nobody listens; the socket belongs to another user; or so many others wait
    /// to be accepted that there is no place for a second.
    pub fn connect(path: impl AsRef<FilePath>) -> Result<Self, ConnectError> {
        let path = path.as_ref().to_owned();
        let mut tries = 0;
        let stream = loop {
            match socket::connect_now(&path) {
                Ok(stream) => break stream,
                Err(Errno::EAGAIN) if tries < TRIES => {
                    tries += 1;
                    thread::sleep(PAUSE);
                }
                Err(Errno::ENOENT) => return Err(ConnectError::NoSocket { path }),
                Err(Errno::ECONNREFUSED) => return Err(ConnectError::NobodyListens { path }),
                Err(Errno::EACCES | Errno::EPERM) => return Err(ConnectError::NotAllowed { path }),
                Err(error) => {
                    let source = io::Error::from(error);
                    return Err(ConnectError::Connect { path, source });
                }
            }
        };
        if let Err(source) = stream.set_nonblocking(false) {
            return Err(ConnectError::Connect { path, source });
        }
        Ok(Self {
            stream,
            path,
            patience: PATIENCE,
        })
    }

    /// Returns the path of the socket.
    #[must_use]
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// Waits that long for each answer, and for each request to be taken; 30 seconds otherwise.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Returns what stands at `path`, with `depth` levels of directories opened, and up to that
    /// sensitivity or to the server's, whichever sees less.
    ///
    /// # Errors
    ///
    /// Nothing stands at the path, the server refuses for another reason, or the connection fails.
    pub fn get(
        &mut self,
        path: &Path,
        depth: usize,
        sensitivity: Sensitivity,
    ) -> Result<Node, RequestError> {
        let ask = Ask::Get {
            path: path.clone(),
            depth,
            sensitivity,
        };
        match self.ask(&ask)? {
            Answer::Tree(node) => Ok(node),
            Answer::Refused(refusal) => Err(refusal.into()),
            Answer::Value(_) => Err(RequestError::BadAnswer),
        }
    }

    /// Changes what stands at `path` to the value that `text` means there, and returns it as it is then.
    ///
    /// # Errors
    ///
    /// Nothing stands at the path, it can't be changed, the text is none of its values, or the
    /// connection fails.
    pub fn set(&mut self, path: &Path, text: &str) -> Result<Value, RequestError> {
        let ask = Ask::Set {
            path: path.clone(),
            value: text.to_owned(),
        };
        match self.ask(&ask)? {
            Answer::Value(Node::Value(value)) => Ok(value),
            Answer::Refused(refusal) => Err(refusal.into()),
            _ => Err(RequestError::BadAnswer),
        }
    }

    fn ask(&mut self, ask: &Ask) -> Result<Answer, RequestError> {
        let sent = frame::write(&mut self.stream, ask.encode().as_bytes(), self.patience);
        // A server that cuts a client off may say why before it closes.
        let read = frame::read(
            &mut self.stream,
            LONGEST_ANSWER,
            self.patience,
            self.patience,
        );
        match read {
            Ok(bytes) => Answer::decode(&bytes).ok_or(RequestError::BadAnswer),
            Err(FrameError::TooLong(_)) => Err(RequestError::BadAnswer),
            Err(FrameError::Ended) => Err(RequestError::Closed),
            Err(FrameError::Io(error)) => Err(failed(sent.err().unwrap_or(error))),
        }
    }
}

fn failed(source: io::Error) -> RequestError {
    match source.kind() {
        ErrorKind::TimedOut => RequestError::TimedOut,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
            RequestError::Closed
        }
        _ => RequestError::Io { source },
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}
