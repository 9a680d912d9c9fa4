//! Waiting until a client has followed.

use super::Peer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

/// # Acknowledgements
impl Peer {
    /// Returns the number up to which the client has acknowledged changes; `u64::MAX` when it is gone.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Waits until the client has acknowledged change `sequence`, or is gone. `false`: `until` came
    /// first.
    ///
    /// The client's own deadline ends the wait as well, by evicting it. Whoever waits here takes the
    /// answer off the socket, so that no other thread need be woken for it, and even if none serves
    /// the connections.
    pub fn wait(&self, sequence: u64, until: Option<Instant>) -> bool {
        let mut state = self.lock();
        loop {
            if self.acknowledged() >= sequence {
                return true;
            }
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                return false;
            }
            if state.reading {
                // It is woken when that reader has read, and when it goes.
                state = match until {
                    Some(until) => {
                        let left = until.saturating_duration_since(now);
                        let waited = self.changed.wait_timeout(state, left);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => {
                        let waited = self.changed.wait(state);
                        waited.unwrap_or_else(PoisonError::into_inner)
                    }
                };
                continue;
            }
            let Some(socket) = state.socket.clone() else {
                return true;
            };
            let mut ready = PollFlags::IN;
            if state.awaits_room() {
                ready |= PollFlags::OUT;
            }
            let wake = [until, state.next_deadline()].into_iter().flatten().min();
            // The thread that serves need not wake for what this one waits for.
            state.reading = true;
            state.update_interest();
            drop(state);
            wait_for(&socket, ready, wake);
            state = self.lock();
            state.reading = false;
            let now = Instant::now();
            // What was left to this thread is done by it; what comes from now on is not.
            let more = state.receive(now);
            state.flush(now);
            state.check_deadlines(now);
            self.settle(state);
            self.changed.notify_all();
            if more {
                self.hub.notice(self.id);
            }
            state = self.lock();
        }
    }

    /// As [`wait`](Self::wait), for a task: ready when the client has acknowledged change `sequence`,
    /// or is gone. Somebody must serve the connections meanwhile.
    pub fn poll_acknowledged(&self, cx: &mut Context<'_>, sequence: u64) -> Poll<()> {
        if self.acknowledged() >= sequence {
            return Poll::Ready(());
        }
        let mut state = self.lock();
        if self.acknowledged() >= sequence {
            return Poll::Ready(());
        }
        let known = state
            .wakers
            .iter()
            .any(|(awaited, waker)| *awaited == sequence && waker.will_wake(cx.waker()));
        if !known {
            state.wakers.push((sequence, cx.waker().clone()));
        }
        Poll::Pending
    }
}

/// Waits for a socket, for a signal, or until a time; which of them it was, the caller finds out.
fn wait_for(socket: &OwnedFd, ready: PollFlags, until: Option<Instant>) {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    // More seconds than the kernel can count are as good as never.
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    let _ = poll(&mut [PollFd::new(socket, ready)], left.as_ref());
}
