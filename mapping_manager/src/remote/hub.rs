//! What wakes whoever serves the connections.

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many events are taken at once.
const EVENTS: usize = 64;

/// What has happened.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// Somebody left a notice, or only wants whoever serves to look around.
    Notices,
    /// The earliest deadline has come.
    Timer,
    /// There is something at a client's socket.
    Peer(u64),
}

const NOTICES: u64 = 0;
const TIMER: u64 = 1;
/// The first number for a client.
pub(super) const FIRST_PEER: u64 = 2;

/// What is worth waking somebody for at a client's socket. That it is closed always is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    /// There is something to read.
    pub(super) read: bool,
    /// There is room to write. Asked for only while something waits for it: the client makes room
    /// whenever it reads.
    pub(super) write: bool,
}

impl Interest {
    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::ET;
        if self.read {
            flags |= EventFlags::IN | EventFlags::RDHUP;
        }
        if self.write {
            flags |= EventFlags::OUT;
        }
        flags
    }
}

/// One epoll instance that watches all sockets, an eventfd for notices, and a timer. So there is one
/// descriptor to wait for, whatever waits for it: a thread, a task, or somebody's event loop.
#[derive(Debug)]
pub(super) struct Hub {
    epoll: OwnedFd,
    notify: OwnedFd,
    timer: OwnedFd,
    /// What times are counted from.
    start: Instant,
    /// When the timer goes off, in nanoseconds; `u64::MAX` if it doesn't.
    armed: AtomicU64,
    /// Held while the timer is set.
    arming: Mutex<()>,
    /// Clients that need looking after although nothing is at their sockets.
    notices: Mutex<Vec<u64>>,
}

impl Hub {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let notify = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let number = EventData::new_u64;
        epoll::add(&epoll, &notify, number(NOTICES), EventFlags::IN)?;
        epoll::add(&epoll, &timer, number(TIMER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            notify,
            timer,
            start: Instant::now(),
            armed: AtomicU64::new(u64::MAX),
            arming: Mutex::new(()),
            notices: Mutex::new(Vec::new()),
        })
    }

    /// Begins to watch a client's socket: each event is told once.
    pub(super) fn watch(&self, socket: &OwnedFd, peer: u64, interest: Interest) -> io::Result<()> {
        let data = EventData::new_u64(peer);
        Ok(epoll::add(&self.epoll, socket, data, interest.flags())?)
    }

    /// Watches it for something else. What is there at that moment is told.
    pub(super) fn watch_for(&self, socket: &OwnedFd, peer: u64, interest: Interest) {
        let data = EventData::new_u64(peer);
        // It fails for want of kernel memory, or when it is not watched: then it has not begun.
        let _ = epoll::modify(&self.epoll, socket, data, interest.flags());
    }

    pub(super) fn unwatch(&self, socket: &OwnedFd) {
        // It may never have been watched.
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Has a client looked after soon.
    pub(super) fn notice(&self, peer: u64) {
        let mut notices = lock(&self.notices);
        if !notices.contains(&peer) {
            notices.push(peer);
        }
        drop(notices);
        self.poke();
    }

    /// Ends a wait.
    pub(super) fn poke(&self) {
        // It fails only when the counter is full, and then it wakes already.
        let _ = rustix::io::write(&self.notify, &1_u64.to_ne_bytes());
    }

    /// The clients for which there are notices.
    pub(super) fn take_notices(&self) -> Vec<u64> {
        std::mem::take(&mut *lock(&self.notices))
    }

    /// Sees to it that the timer goes off by then.
    pub(super) fn wake_by(&self, at: Instant) {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        if self.armed.load(Ordering::Acquire) <= nanos {
            return;
        }
        let _arming = lock(&self.arming);
        if self.armed.load(Ordering::Acquire) <= nanos {
            return;
        }
        // 0 would disarm it.
        let left = at.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_nanos(1));
        if self.set_timer(left) {
            self.armed.store(nanos, Ordering::Release);
        }
    }

    /// Forgets when the timer was to go off. The caller asks everyone who may have wanted it to.
    fn disarm(&self) {
        let _arming = lock(&self.arming);
        self.armed.store(u64::MAX, Ordering::Release);
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.timer, &mut count);
    }

    fn set_timer(&self, left: Duration) -> bool {
        let Ok(it_value) = Timespec::try_from(left) else {
            // A time that the kernel cannot count to.
            return false;
        };
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).is_ok()
    }

    /// Waits until something has happened, at most for `timeout`.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Ready>> {
        // More seconds than the kernel can count are as good as never.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut events = Vec::with_capacity(EVENTS);
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, room, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = events.iter().map(|event| match event.data.u64() {
            NOTICES => {
                let mut count = [0; 8];
                let _ = rustix::io::read(&self.notify, &mut count);
                Ready::Notices
            }
            TIMER => {
                self.disarm();
                Ready::Timer
            }
            peer => Ready::Peer(peer),
        });
        Ok(ready.collect())
    }
}

/// Is readable when something has happened.
impl AsRawFd for Hub {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in them is whole at all times.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
