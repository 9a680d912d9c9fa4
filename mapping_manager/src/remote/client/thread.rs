//! A thread that serves a client.

use super::inner::Inner;
use super::waiting::Bell;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A thread that makes the changes that the manager sends. It ends when this is dropped.
///
/// A connection that is lost does not end it: it goes on with the next one.
#[derive(Debug)]
#[must_use = "the thread ends when this is dropped"]
pub struct ClientThread {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Stop {
    bell: Bell,
    is_asked: std::sync::atomic::AtomicBool,
}

impl ClientThread {
    pub(super) fn spawn(inner: Arc<Inner>) -> io::Result<Self> {
        let stop = Arc::new(Stop {
            bell: Bell::new()?,
            is_asked: false.into(),
        });
        let asked = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("guest memory".to_owned());
        let thread = thread.spawn(move || {
            while !asked.is_asked.load(std::sync::atomic::Ordering::Acquire) {
                inner.turn(None, Some(&asked.bell));
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for ClientThread {
    fn drop(&mut self) {
        use std::sync::atomic::Ordering;
        self.stop.is_asked.store(true, Ordering::Release);
        self.stop.bell.ring();
        if let Some(thread) = self.thread.take()
            // Dropped by a callback of the thread itself, it ends after that.
            && thread.thread().id() != std::thread::current().id()
        {
            // A callback that panicked has said so already.
            let _ = thread.join();
        }
    }
}
