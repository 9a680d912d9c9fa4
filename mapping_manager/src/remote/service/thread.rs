//! A plain thread that serves the connections.

use super::{RemoteService, ServeError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A thread that serves the connections until this is dropped.
///
/// Dropping it waits for the thread, but for what is being reported by the thread that drops it. The
/// clients stay connected: another thread or a task may go on serving them.
#[must_use = "the thread ends when this is dropped"]
#[derive(Debug)]
pub struct ServiceThread {
    service: Arc<RemoteService>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RemoteService {
    /// Serves the connections by a thread of its own.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub fn spawn(self: &Arc<Self>) -> Result<ServiceThread, ServeError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (service, stopped) = (Arc::clone(self), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("remote-mappers".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    if let Err(error) = service.turn_after_others(None) {
                        service.close(&error.to_string());
                        return;
                    }
                }
            })
            .map_err(ServeError::Io)?;
        Ok(ServiceThread {
            service: Arc::clone(self),
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for ServiceThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.service.hub.poke();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // It ends with nothing to tell, or has panicked and said so.
            let _ = thread.join();
        }
    }
}
