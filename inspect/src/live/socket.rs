//! Opening the socket so that nobody else ever can use it, and nobody is cut off by it.

use crate::live::error::ServeError;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt::PeerCredentials,
};
use nix::sys::stat::{Mode, fchmod};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How many connections wait to be accepted.
const WAITING: i32 = 16;

/// How often, and after what time again, the folder is tried to be locked.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// A listening socket that has a name in the file system for as long as this lives.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// The device and the number of the file, by which it is told from one that replaced it.
    file: (u64, u64),
}

impl Named {
    /// Opens a socket at `path`, which only this user can connect to.
    ///
    /// It listens before it gets its name. So whatever has the name and refuses connections is left
    /// over from a process that has ended, and is replaced; a process that still listens is not.
    pub(super) fn open(path: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Open {
            path: path.to_owned(),
            source,
        };
        let (listener, aside) = listen_aside(path).map_err(failed)?;
        let named = fs::symlink_metadata(&aside.0)
            .map_err(failed)
            .and_then(|file| {
                give_name(&aside.0, path)?;
                Ok((file.dev(), file.ino()))
            })?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file: named,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Named {
    /// Removes the name, unless it has been given to another file meanwhile.
    fn drop(&mut self) {
        let file = fs::symlink_metadata(&self.path);
        if file.is_ok_and(|file| (file.dev(), file.ino()) == self.file) {
            // If it can't be removed, the next process finds a socket that nobody listens at, and
            // replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A name that is removed when this is dropped.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // It may have been moved to the place where it belongs.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes a socket that listens under a name that nobody looks for.
fn listen_aside(path: &Path) -> io::Result<(UnixListener, Aside)> {
    if path.file_name().is_none() {
        return Err(ErrorKind::InvalidInput.into());
    }
    // A file can have a longer name than an address has room for; nobody could connect to it.
    UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The file that `bind` makes takes its mode from the socket.
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let mut number = 0_u32;
    let aside = loop {
        let name = format!(".{}-{number}", std::process::id());
        let aside = Aside(path.with_file_name(name));
        match bind(fd.as_raw_fd(), &UnixAddr::new(&aside.0)?) {
            Ok(()) => break aside,
            // Another thread of this process, or one of the same number that has died.
            Err(Errno::EADDRINUSE) if number < 64 => {
                std::mem::forget(aside);
                number = number.saturating_add(1);
            }
            Err(error) => {
                std::mem::forget(aside);
                return Err(error.into());
            }
        }
    };
    listen(&fd, Backlog::new(WAITING)?)?;
    Ok((UnixListener::from(fd), aside))
}

/// Gives a listening socket its name, in place of one that nobody listens at.
fn give_name(aside: &Path, path: &Path) -> Result<(), ServeError> {
    let failed = |source| ServeError::Open {
        path: path.to_owned(),
        source,
    };
    // Fails if there is anything, so that of two processes only one gets a free name.
    match fs::hard_link(aside, path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    // Two processes may find the same leftover. Without the lock the second one would replace the
    // socket of the first.
    let _lock = lock_folder(path).map_err(failed)?;
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(ServeError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    match probe(path).map_err(failed)? {
        Found::Listener => Err(ServeError::InUse {
            path: path.to_owned(),
        }),
        Found::Leftover => fs::rename(aside, path).map_err(failed),
        Found::Nothing => fs::hard_link(aside, path).map_err(failed),
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
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(
        ErrorKind::WouldBlock,
        "another process keeps the socket's folder locked",
    ))
}

enum Found {
    Nothing,
    Leftover,
    Listener,
}

/// Finds out whether somebody listens at a path, without waiting.
fn probe(path: &Path) -> io::Result<Found> {
    match connect_now(path) {
        Ok(_) => Ok(Found::Listener),
        // There is a listener that is slow to accept.
        Err(Errno::EAGAIN) => Ok(Found::Listener),
        Err(Errno::ECONNREFUSED) => Ok(Found::Leftover),
        Err(Errno::ENOENT) => Ok(Found::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// Connects to a socket, or fails at once with EAGAIN where too many others wait.
pub(super) fn connect_now(path: &Path) -> nix::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

/// Tells whether the peer is this user, or root.
pub(super) fn is_trusted(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    let peer = getsockopt(stream, PeerCredentials);
    peer.is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}
