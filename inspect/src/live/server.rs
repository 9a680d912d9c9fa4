//! The end of the socket that a program opens.

use crate::live::answer::{answer, encode};
use crate::live::budget::Budget;
use crate::live::connection;
use crate::live::error::ServeError;
use crate::live::message::{Answer, Ask, RefusalKind};
use crate::live::socket::{self, Named};
use crate::request::{Inspect, Sensitivity};
use nix::sys::socket::{Shutdown, shutdown};
use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Opens a Unix socket at `path`, from which this user, and no other, can read the tree of `object`
/// and change what it allows, until the server is dropped.
///
/// The object is asked from threads of the server: an `Arc` of it, or a closure made an object by
/// [`from_fn`](crate::from_fn), can be given. What is left at the path by a process that has ended is
/// replaced. This is [`ServerOptions::new`] and [`ServerOptions::serve`].
///
/// # Errors
///
/// Somebody listens at the path already; there is something that is no socket; the folder does not
/// exist or may not be written to; or the path is longer than a socket's may be (107 bytes).
pub fn serve(
    path: impl AsRef<Path>,
    object: impl Inspect + Send + Sync + 'static,
) -> Result<LiveServer, ServeError> {
    ServerOptions::new().serve(path, object)
}

/// Says what clients may do, and how much of it.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until they serve"]
pub struct ServerOptions {
    rules: Rules,
    connections: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) sensitivity: Sensitivity,
    pub(super) updates: bool,
    /// How long deferred answers are waited for.
    pub(super) deadline: Duration,
    /// How long a client may be silent between requests.
    pub(super) idle: Duration,
    /// How long a request may take to arrive, and an answer to be taken.
    pub(super) patience: Duration,
    /// How many requests may come at once, and one in what time from then on.
    pub(super) burst: u32,
    pub(super) interval: Duration,
}

impl ServerOptions {
    /// Chooses [`Sensitivity::Default`], updates where objects allow them, 8 connections, 50 requests
    /// at once and 25 in a second, and a second for deferred answers. A client may be silent for ten
    /// minutes, and has five seconds to send a request or to take an answer.
    pub const fn new() -> Self {
        Self {
            rules: Rules {
                sensitivity: Sensitivity::Default,
                updates: true,
                deadline: Duration::from_secs(1),
                idle: Duration::from_secs(600),
                patience: Duration::from_secs(5),
                burst: 50,
                interval: Duration::from_millis(40),
            },
            connections: 8,
        }
    }

    /// Lets clients see children up to that sensitivity.
    pub const fn sensitivity(mut self, sensitivity: Sensitivity) -> Self {
        self.rules.sensitivity = sensitivity;
        self
    }

    /// Refuses all updates.
    pub const fn read_only(mut self) -> Self {
        self.rules.updates = false;
        self
    }

    /// Waits that long for deferred answers. What has not come by then shows as unresolved.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.rules.deadline = deadline;
        self
    }

    /// Cuts off a client that is silent for longer than `idle` between two requests, or takes more
    /// than `patience` to send one or to take its answer.
    pub const fn patience(mut self, idle: Duration, patience: Duration) -> Self {
        self.rules.idle = idle;
        self.rules.patience = patience;
        self
    }

    /// Cuts off a client that sends more than `burst` requests at once, or, from then on, more than
    /// one in each `interval`. All clients together may send as many.
    pub const fn rate(mut self, burst: u32, interval: Duration) -> Self {
        self.rules.burst = burst;
        self.rules.interval = interval;
        self
    }

    /// Turns away whoever connects while there are `connections` already.
    pub const fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Opens the socket. See [`serve`].
    ///
    /// # Errors
    ///
    /// As [`serve`].
    pub fn serve(
        self,
        path: impl AsRef<Path>,
        object: impl Inspect + Send + Sync + 'static,
    ) -> Result<LiveServer, ServeError> {
        let named = Named::open(path.as_ref())?;
        let budget = Budget::new(self.rules.burst, self.rules.interval, Instant::now());
        let shared = Arc::new(Shared {
            object: Box::new(object),
            rules: self.rules,
            most: self.connections,
            budget: Mutex::new(budget),
            open: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let listener = named.listener.try_clone();
        let listener = listener.map_err(|source| ServeError::Thread { source })?;
        let for_thread = shared.clone();
        let thread = thread::Builder::new()
            .name("inspect".into())
            .spawn(move || accept(&listener, &for_thread));
        Ok(LiveServer {
            thread: Some(thread.map_err(|source| ServeError::Thread { source })?),
            named,
            shared,
        })
    }
}

impl ServerOptions {
    /// Answers one request without a socket, for who has another way to clients: what it takes and
    /// returns are messages of the protocol without their lengths, and any bytes are answered.
    ///
    /// Who may ask, how often and how long a request may be, is the caller's to bound there.
    ///
    /// ```
    /// use inspect::live::ServerOptions;
    ///
    /// let request = br#"{"version": 1, "get": {"path": "1"}}"#;
    /// let answer = ServerOptions::new().answer(&vec![5_u32, 7], request);
    /// assert_eq!(answer, r#"{"tree":7}"#);
    /// ```
    #[must_use]
    pub fn answer(&self, object: &impl Inspect, request: &[u8]) -> String {
        let answer = match Ask::decode(request) {
            Ok(ask) => answer(object, ask, &self.rules),
            Err(refusal) => Answer::Refused(refusal),
        };
        encode(&answer)
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves the tree for as long as it lives.
///
/// When it is dropped, the socket's name is removed and all connections are closed. The thread that is
/// asking the object at that moment is not waited for.
#[must_use = "the socket is closed when it is dropped"]
pub struct LiveServer {
    thread: Option<JoinHandle<()>>,
    named: Named,
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) object: Box<dyn Inspect + Send + Sync>,
    pub(super) rules: Rules,
    most: usize,
    /// For all clients together.
    pub(super) budget: Mutex<Budget>,
    /// The connections, so that they can be closed.
    open: Mutex<Open>,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Open {
    next: u64,
    streams: BTreeMap<u64, UnixStream>,
}

impl LiveServer {
    /// Returns the path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.named.path()
    }

    /// Returns the number of clients that are connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open().streams.len()
    }
}

impl fmt::Debug for LiveServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveServer")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

impl Drop for LiveServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = shutdown(self.named.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and nobody to say it to if it panicked.
            let _ = thread.join();
        }
        // No stream is added any more, now that the thread has ended.
        for stream in self.shared.open().streams.values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        // A list of streams is whole whatever panicked.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a connection out of the list when its thread ends, also by a panic of the object.
struct Listed {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.open().streams.remove(&self.number);
    }
}

/// Accepts connections until the server is dropped.
fn accept(listener: &std::os::unix::net::UnixListener, shared: &Arc<Shared>) {
    // Whoever connects over and over makes a thread each time.
    let mut budget = Budget::new(64, Duration::from_millis(10), Instant::now());
    while !shared.stopping.load(Ordering::SeqCst) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Descriptors have run out, or the listener was shut down: then the loop ends.
            Err(_) => {
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        if !budget.take(Instant::now()) {
            thread::sleep(Duration::from_millis(10));
        }
        admit(stream, shared);
    }
}

/// Starts a thread for a connection, if it may be served.
fn admit(mut stream: UnixStream, shared: &Arc<Shared>) {
    if !socket::is_trusted(&stream) {
        return;
    }
    let Ok(for_closing) = stream.try_clone() else {
        return;
    };
    let number = {
        let mut open = shared.open();
        let full = open.streams.len() >= shared.most;
        if full {
            drop(open);
            let message = format!(
                "{} clients are connected, and no more are served",
                shared.most
            );
            connection::cut_off(&mut stream, RefusalKind::Busy, message);
            return;
        }
        let number = open.next;
        open.next = number.wrapping_add(1);
        open.streams.insert(number, for_closing);
        number
    };
    let listed = Listed {
        shared: shared.clone(),
        number,
    };
    // If no thread can be started, the closure is dropped, and the stream is closed with it.
    let _ = thread::Builder::new()
        .name("inspect client".into())
        .spawn(move || {
            connection::serve(stream, &listed.shared);
            drop(listed);
        });
}
