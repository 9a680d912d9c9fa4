//! What there is to wait at.
//!
//! One epoll descriptor stands for the connection, whichever it is at the time: in it are the socket
//! and a timer. So a thread, or a runtime, can wait at it while the connection is replaced.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A flag that makes whoever polls it return.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    pub(super) fn ring(&self) {
        // It fails only where it has been rung 2^64 times.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where the connection is waited at.
#[derive(Debug)]
pub(super) struct Gate {
    epoll: Arc<OwnedFd>,
    timer: OwnedFd,
}

const SOCKET: u64 = 0;
const TIMER: u64 = 1;

impl Gate {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let data = epoll::EventData::new_u64(TIMER);
        epoll::add(&epoll, &timer, data, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll: Arc::new(epoll),
            timer,
        })
    }

    /// The descriptor that is readable when there is something to do.
    pub(super) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.epoll
    }

    pub(super) fn add(&self, socket: &OwnedFd) -> io::Result<()> {
        let data = epoll::EventData::new_u64(SOCKET);
        Ok(epoll::add(
            &*self.epoll,
            socket,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    /// Waits for room to write, too, or no more.
    pub(super) fn also_for_room(&self, socket: &OwnedFd, wanted: bool) -> io::Result<()> {
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, wanted);
        let data = epoll::EventData::new_u64(SOCKET);
        Ok(epoll::modify(&*self.epoll, socket, data, flags)?)
    }

    pub(super) fn remove(&self, socket: &OwnedFd) {
        // It fails if it was never added.
        let _ = epoll::delete(&*self.epoll, socket);
    }

    /// Has the descriptor become readable at a time; `None`: at none.
    pub(super) fn wake_at(&self, at: Option<Instant>) -> io::Result<()> {
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = match at {
            None => zero,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                // Zero would stop the timer.
                timespec(left.max(Duration::from_nanos(1))).unwrap_or(zero)
            }
        };
        let new = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &new)?;
        Ok(())
    }
}

/// `None`: more seconds than the kernel can count, as good as never.
fn timespec(duration: Duration) -> Option<Timespec> {
    Timespec::try_from(duration).ok()
}

/// Waits until one of the descriptors is ready, and for no longer than `timeout`.
pub(super) fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    match poll(fds, timeout.and_then(timespec).as_ref()) {
        // Whoever waits looks whether there is something to do, and waits again.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until a descriptor can be read, and for no longer than `timeout`.
pub(super) fn wait_to_read(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
    wait(&mut [PollFd::new(&fd, PollFlags::IN)], timeout)
}

/// How long it is until then; `None`: it is past.
pub(super) fn left(until: Option<Instant>) -> Option<Option<Duration>> {
    match until {
        None => Some(None),
        Some(until) => {
            let left = until.checked_duration_since(Instant::now());
            left.filter(|left| !left.is_zero()).map(Some)
        }
    }
}
