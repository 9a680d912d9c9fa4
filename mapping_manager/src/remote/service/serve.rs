//! A task that serves the connections.

use super::{RemoteService, ServeError};
use crate::remote::hub::Hub;
use std::convert::Infallible;
use std::future::poll_fn;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often to look for more before other tasks have their turn.
const TURNS: usize = 8;

impl RemoteService {
    /// Serves the connections by the task that awaits this, under a tokio runtime with its I/O driver.
    /// It needs no timers of the runtime.
    ///
    /// It never ends by itself. Dropping it loses nothing: another task or a thread may go on.
    ///
    /// # Errors
    ///
    /// The connections are served already, or the runtime can watch no more descriptors.
    ///
    /// # Panics
    ///
    /// Outside a runtime, or in one without an I/O driver, as everything of tokio's that watches a
    /// descriptor.
    pub async fn serve(&self) -> Result<Infallible, ServeError> {
        let hub = Watched(Arc::clone(&self.hub));
        // SAFETY: `hub` holds a share of the hub, whose descriptor is the same, and open, for as long as
        // it exists.
        let hub = unsafe { AsyncFd::register_with_interest(hub, Interest::READABLE) };
        let hub = hub.map_err(|error| ServeError::Io(error.into()))?;
        loop {
            let mut guard = hub.readable().await.map_err(ServeError::Io)?;
            let mut left = TURNS;
            while left > 0 && self.turn(Some(Duration::ZERO))? > 0 {
                left = left.saturating_sub(1);
            }
            if left > 0 {
                // Nothing was there at the last look; what has come since, the runtime will tell.
                guard.clear_ready();
            } else {
                give_way().await;
            }
        }
    }
}

/// The descriptor that is readable when something has happened.
struct Watched(Arc<Hub>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Lets other tasks run once.
async fn give_way() {
    let mut has_given = false;
    poll_fn(|cx| {
        if has_given {
            return Poll::Ready(());
        }
        has_given = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
