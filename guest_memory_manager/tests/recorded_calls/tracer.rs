//! Which system calls a thread makes, as the kernel tells by `ptrace`.
//!
//! The thread is one of a child process, which is this program again. It asks to be traced, and marks
//! what shall be recorded by system calls that nobody else makes. Threads that it starts
//! meanwhile are traced with it, so that no call hides in one.

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

/// Set for the child; says what it shall do.
const CHILD: &str = "GUEST_MEMORY_RECORDED_CHILD";

/// `prctl` knows no such operation, and changes nothing.
const BEGIN: u64 = 0x4d41_524b;
const END: u64 = BEGIN + 1;

const KVM_SET_USER_MEMORY_REGION: u64 = 0x4020_ae46;
const KVM_SET_USER_MEMORY_REGION2: u64 = 0x40a0_ae49;

/// A system call, or several of the same kind.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// An `ioctl` that makes or deletes a memory slot of a VM.
    Slot,
    Mmap,
    Mprotect,
    Munmap,
    Madvise,
    Fstat,
    Futex,
    /// Any other `ioctl`, by its request.
    Ioctl(u64),
    /// Any other call, by its number.
    Other(i64),
}

impl Kind {
    /// The kind of a call, by its number and its second argument.
    fn of(number: i64, request: u64) -> Self {
        match number {
            libc::SYS_mmap => Self::Mmap,
            libc::SYS_mprotect => Self::Mprotect,
            libc::SYS_munmap => Self::Munmap,
            libc::SYS_madvise => Self::Madvise,
            // By which of the two is the C library's affair.
            libc::SYS_fstat | libc::SYS_newfstatat => Self::Fstat,
            libc::SYS_futex => Self::Futex,
            libc::SYS_ioctl => match request {
                KVM_SET_USER_MEMORY_REGION | KVM_SET_USER_MEMORY_REGION2 => Self::Slot,
                request => Self::Ioctl(request),
            },
            _ => Self::Other(number),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot => f.write_str("slot ioctl"),
            Self::Mmap => f.write_str("mmap"),
            Self::Mprotect => f.write_str("mprotect"),
            Self::Munmap => f.write_str("munmap"),
            Self::Madvise => f.write_str("madvise"),
            Self::Fstat => f.write_str("fstat"),
            Self::Futex => f.write_str("futex"),
            Self::Ioctl(request) => write!(f, "ioctl {request:#x}"),
            Self::Other(number) => write!(f, "system call {number}"),
        }
    }
}

/// What was recorded between two marks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Recording {
    /// What the child called it.
    pub(crate) name: String,
    /// The calls in their order, each with how many of the kind followed one another.
    pub(crate) calls: Vec<(usize, Kind)>,
}

impl Recording {
    fn push(&mut self, kind: Kind) {
        match self.calls.last_mut() {
            Some((count, last)) if *last == kind => *count += 1,
            _ => self.calls.push((1, kind)),
        }
    }
}

/// The calls as one writes them down.
pub(crate) fn in_words(calls: &[(usize, Kind)]) -> String {
    let words = calls.iter().map(|(count, kind)| match count {
        1 => kind.to_string(),
        _ => format!("{count} {kind}"),
    });
    match words.collect::<Vec<_>>() {
        words if words.is_empty() => "none".to_owned(),
        words => words.join(", "),
    }
}

/// Whether this process is the child.
pub(crate) fn is_child() -> bool {
    task().is_some()
}

/// What this process shall do, if it is the child.
pub(crate) fn task() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// Has the parent trace this thread from now on. If that is forbidden, the process ends, having said
/// why.
pub(crate) fn be_traced() {
    if let Err(error) = ptrace::traceme() {
        println!("{FORBIDDEN}{error}");
        std::process::exit(0);
    }
    // To let it see that the thread is ready.
    // SAFETY: a signal to the calling thread, which stops there.
    let result = unsafe { libc::raise(libc::SIGSTOP) };
    assert_eq!(result, 0);
}

const FORBIDDEN: &str = "recorded_calls: cannot be traced: ";

/// Has a change recorded under a name.
pub(crate) fn recorded(name: &str, change: impl FnOnce()) {
    mark(BEGIN, name);
    change();
    mark(END, "");
}

fn mark(which: u64, name: &str) {
    let option = libc::c_int::try_from(which).unwrap();
    // SAFETY: the operation is unknown, so the kernel looks at none of the arguments.
    unsafe { libc::prctl(option, name.as_ptr(), name.len(), 0, 0) };
}

/// Runs this program again as the child that does `task`, with these arguments, and records.
///
/// # Errors
///
/// The kernel does not let a process be traced; says why.
pub(crate) fn record(
    task: &str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Vec<Recording>, String> {
    #[expect(
        clippy::zombie_processes,
        reason = "it is waited for as what is traced has to be"
    )]
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(args)
        .env(CHILD, task)
        // The allocator makes no calls of its own while something is recorded: all threads share
        // one heap, which grows in large steps and never shrinks.
        .env("MALLOC_ARENA_MAX", "1")
        .env("MALLOC_TOP_PAD_", (64 << 20).to_string())
        .env("MALLOC_TRIM_THRESHOLD_", (1_u64 << 40).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut followed = Followed::default();
    let code = followed.until_it_ends(Pid::from_raw(child.id().cast_signed()));
    let mut said = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut said).unwrap();
    if let Some((_, why)) = said.split_once(FORBIDDEN) {
        return Err(why.lines().next().unwrap_or_default().to_owned());
    }
    assert_eq!(code, 0, "the child failed\n{said}");
    Ok(followed.recordings)
}

/// What the traced threads have done so far.
#[derive(Default)]
struct Followed {
    recordings: Vec<Recording>,
    /// Whether the last one is still being made.
    recording: bool,
}

impl Followed {
    /// Lets the child run, from one system call to the next, until it ends; returns its exit code.
    fn until_it_ends(&mut self, process: Pid) -> i32 {
        // Threads as well as processes, but only those that this thread has started or traces: other
        // tests have children, too.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let (thread, signal) = match waitpid(None, Some(flags)).unwrap() {
                WaitStatus::Exited(pid, code) if pid == process => return code,
                WaitStatus::Signaled(pid, signal, _) if pid == process => {
                    panic!("the child was killed by {signal}")
                }
                WaitStatus::Stopped(thread, Signal::SIGSTOP) => {
                    let options = Options::PTRACE_O_TRACESYSGOOD
                        | Options::PTRACE_O_TRACECLONE
                        | Options::PTRACE_O_EXITKILL;
                    ptrace::setoptions(thread, options).unwrap();
                    (thread, None)
                }
                WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
                WaitStatus::PtraceSyscall(thread) => {
                    self.look(thread);
                    (thread, None)
                }
                WaitStatus::PtraceEvent(thread, ..) => (thread, None),
                _ => continue,
            };
            match ptrace::syscall(thread, signal) {
                // Gone between the two: its end is told next.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => panic!("thread {thread} cannot go on: {error}"),
            }
        }
    }

    /// Looks at the system call that a thread begins or ends.
    fn look(&mut self, thread: Pid) {
        let info = ptrace::syscall_info(thread).unwrap();
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return;
        }
        // SAFETY: for this kind of stop, the kernel has filled in this part.
        let call = unsafe { info.u.entry };
        let number = i64::try_from(call.nr).unwrap();
        match (number, call.args[0]) {
            (libc::SYS_prctl, BEGIN) => {
                self.recording = true;
                self.recordings.push(Recording {
                    name: text_of(thread, call.args[1], call.args[2]),
                    calls: Vec::new(),
                });
            }
            (libc::SYS_prctl, END) => self.recording = false,
            _ if self.recording => {
                let kind = Kind::of(number, call.args[1]);
                self.recordings.last_mut().unwrap().push(kind);
            }
            _ => {}
        }
    }
}

/// Reads a text in the child's memory.
fn text_of(thread: Pid, at: u64, len: u64) -> String {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    let memory = File::open(format!("/proc/{thread}/mem")).unwrap();
    memory.read_exact_at(&mut bytes, at).unwrap();
    String::from_utf8(bytes).unwrap()
}
