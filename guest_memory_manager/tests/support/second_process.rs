//! This test program once more, as a second process that does what it is asked.

use std::env;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Tells the child where the manager is.
const CHILD: &str = "REMOTE_CHILD";
/// More than any machine needs.
const AMPLE: Duration = Duration::from_secs(60);

/// A second process, killed at the latest when this is dropped.
pub(crate) struct Process {
    child: Child,
    /// By which the two talk about the test: commands there, answers back.
    talk: UnixStream,
}

impl Process {
    /// Starts this program again, to run `test`, with a path to connect to; its standard input is a
    /// socket.
    pub(crate) fn start(test: &str, path: &Path) -> Self {
        let (talk, theirs) = UnixStream::pair().unwrap();
        talk.set_read_timeout(Some(AMPLE)).unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, path)
            // One test is one line of the report.
            .env_remove("GUEST_MEMORY_KVM_REPORT")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, talk }
    }

    /// Has the process do something, and returns what comes of it.
    pub(crate) fn ask(&mut self, command: u8, value: u64) -> u64 {
        let mut message = [command; 9];
        message[1..].copy_from_slice(&value.to_le_bytes());
        self.talk.write_all(&message).unwrap();
        let mut answer = [0; 8];
        self.talk.read_exact(&mut answer).unwrap();
        u64::from_le_bytes(answer)
    }

    /// The number by which the kernel knows it.
    #[allow(dead_code, reason = "not every test sends signals")]
    pub(crate) fn id(&self) -> libc::pid_t {
        self.child.id().cast_signed()
    }

    /// It must end by itself, and well.
    #[allow(dead_code, reason = "a benchmark just drops it")]
    pub(crate) fn end(mut self) {
        self.talk.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a child: the socket by which it was started, and the manager's path.
pub(crate) fn child() -> Option<(UnixStream, PathBuf)> {
    let path = env::var_os(CHILD)?;
    // Also where it was stopped, and where the test was killed.
    // SAFETY: a call that takes numbers only.
    let told = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    assert_eq!(told, 0);
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    Some((UnixStream::from(socket), path.into()))
}

/// In a child: does what it is asked, until nobody asks any more.
pub(crate) fn answer(talk: &mut UnixStream, mut doing: impl FnMut(u8, u64) -> u64) {
    let mut message = [0; 9];
    while talk.read_exact(&mut message).is_ok() {
        let value = u64::from_le_bytes(message[1..].try_into().unwrap());
        let answer = doing(message[0], value);
        talk.write_all(&answer.to_le_bytes()).unwrap();
    }
}
