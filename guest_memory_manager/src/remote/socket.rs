//! A socket with a name in the file system.

use super::server::ServerInner;
use super::{AcceptError, ListenError, RemoteGrant};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many connections wait to be accepted.
const WAITING: i32 = 16;
/// How often, and after what time again, the folder is tried to be locked.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);
/// How long nobody is accepted after a failure, which is most often a want of descriptors.
const REST: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Accepts processes at a path, on a thread of its own, until it is dropped; then the path is removed.
#[must_use = "nobody is accepted any more when it is dropped"]
#[derive(Debug)]
pub struct RemoteSocket {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    name: Name,
}

impl RemoteSocket {
    pub(super) fn open(
        path: &Path,
        server: &Arc<ServerInner>,
        grant: RemoteGrant,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Open {
            path: path.to_owned(),
            source,
        };
        let (socket, name) = listen(path)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let stop = Arc::new(stop);
        let (server, told) = (Arc::downgrade(server), stop.clone());
        let thread = std::thread::Builder::new().name("remote-accept".to_owned());
        let thread = thread.spawn(move || accept_all(&socket, &told, &server, &grant));
        Ok(Self {
            stop,
            thread: Some(thread.map_err(failed)?),
            name,
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.name.path
    }
}

impl Drop for RemoteSocket {
    fn drop(&mut self) {
        // An eventfd that counts to one takes this.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // Had it panicked, nobody would be accepted, either.
            let _ = thread.join();
        }
    }
}

/// Accepts until it is told to stop, or there is no server any more.
fn accept_all(socket: &OwnedFd, stop: &OwnedFd, server: &Weak<ServerInner>, grant: &RemoteGrant) {
    let mut resting = false;
    loop {
        let mut fds = [
            PollFd::new(stop, PollFlags::IN),
            PollFd::new(socket, PollFlags::IN),
        ];
        let watched = if resting { 1 } else { 2 };
        let rest = resting.then_some(&REST);
        match poll(fds.get_mut(..watched).unwrap_or_default(), rest) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                log::error!("nobody is accepted any more: {error}");
                return;
            }
        }
        let [stopped, ready] = fds.map(|fd| !fd.revents().is_empty());
        if stopped {
            return;
        }
        if std::mem::take(&mut resting) || !ready {
            continue;
        }
        let stream = match rustix::net::accept_with(socket, SocketFlags::CLOEXEC) {
            Ok(stream) => stream,
            // It has gone again.
            Err(Errno::INTR | Errno::AGAIN | Errno::CONNABORTED) => continue,
            Err(error) => {
                log::warn!("a process cannot be accepted: {error}");
                resting = true;
                continue;
            }
        };
        let Some(server) = server.upgrade() else {
            return;
        };
        match server.accept(stream, grant.clone()) {
            Ok(_) => {}
            Err(AcceptError::Closed) => return,
            Err(error) => log::warn!("a process is not accepted: {error}"),
        }
    }
}

/// A name in the file system that is removed when this is dropped.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    /// The device and the number of the file, by which it is told from one that replaced it.
    file: (u64, u64),
}

impl Drop for Name {
    fn drop(&mut self) {
        let file = fs::symlink_metadata(&self.path);
        if file.is_ok_and(|file| (file.dev(), file.ino()) == self.file) {
            // If it can't be removed, the next process finds a socket that nobody listens at.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a socket that only this user can connect to.
///
/// Its mode is set before it has a name, and `bind` gives the file the socket's mode, so that there is
/// no moment at which it is wider; the umask, which all threads share, is left alone. A socket left
/// over from a process that was killed is replaced. The folder is locked from the look at what is there
/// until the socket listens, so that nobody takes one for a leftover that is only not ready yet.
fn listen(path: &Path) -> Result<(OwnedFd, Name), ListenError> {
    let failed = |source| ListenError::Open {
        path: path.to_owned(),
        source,
    };
    let sys = |errno: Errno| failed(errno.into());
    let address = SocketAddrUnix::new(path).map_err(sys)?;
    let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map_err(sys)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(sys)?;
    let _lock = lock_folder(path).map_err(failed)?;
    match rustix::net::bind(&socket, &address) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => {
            remove_leftover(path, &address)?;
            rustix::net::bind(&socket, &address).map_err(sys)?;
        }
        Err(error) => return Err(sys(error)),
    }
    let file = fs::symlink_metadata(path).map_err(failed)?;
    let name = Name {
        path: path.to_owned(),
        file: (file.dev(), file.ino()),
    };
    rustix::net::listen(&socket, WAITING).map_err(sys)?;
    Ok((socket, name))
}

fn new_socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Removes a socket that nobody listens at.
fn remove_leftover(path: &Path, address: &SocketAddrUnix) -> Result<(), ListenError> {
    let failed = |source| ListenError::Open {
        path: path.to_owned(),
        source,
    };
    let file = fs::symlink_metadata(path).map_err(failed)?;
    if !file.file_type().is_socket() {
        return Err(ListenError::NotASocket {
            path: path.to_owned(),
        });
    }
    let probe = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    let probe = probe.map_err(|errno| failed(errno.into()))?;
    match rustix::net::connect(probe.as_fd(), address) {
        // The second: there is a listener that is slow to accept.
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::InUse {
            path: path.to_owned(),
        }),
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(failed),
        Err(errno) => Err(failed(errno.into())),
    }
}

fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder)?;
    for _ in 0..TRIES {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(
        ErrorKind::WouldBlock,
        "another process keeps the socket's folder locked",
    ))
}
