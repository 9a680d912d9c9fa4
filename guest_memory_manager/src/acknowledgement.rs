//! What a change hands back.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use thiserror::Error;

#[cfg(feature = "remote")]
use mapping_manager::remote::Peer;
#[cfg(feature = "remote")]
use std::sync::Arc;

/// Stands for the processes that have yet to follow a change.
///
/// The change itself is complete in this process when this is handed out. Waiting for it tells that
/// every other process has followed: each shows what the view shows, and has let go of what was
/// unmapped. Dropping it waits for nobody and changes nothing. Without other processes there is nothing
/// to wait for, and it costs nothing.
///
/// Changes reach each process in order, so that who has followed one has followed those before it, too;
/// what other threads change in the same moment may be waited for with it. A process that is
/// evicted is not waited for, so that the wait ends at the latest when the
#[cfg_attr(
    feature = "remote",
    doc = "[deadline](crate::RemoteOptions::deadline) has passed, as long as somebody drives the \
           [server](crate::RemoteServer)."
)]
#[cfg_attr(
    not(feature = "remote"),
    doc = "deadline has passed. (There are other processes with the feature `remote`.)"
)]
/// Don't wait while a [transaction](crate::GuestMemoryTransaction) is open on this thread.
///
/// ```
/// # use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, MemoryRange, RamVisibility};
/// # async fn change() -> Result<(), Box<dyn std::error::Error>> {
/// let layout = MemoryLayout::new(1 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new().x86_legacy_support(true).build_now(&layout)?;
/// let visibility = memory.ram_visibility_control();
/// let segment = MemoryRange::new(0xf_0000..0x10_0000);
/// let followed = visibility.set_ram_visibility_now(segment, RamVisibility::ReadOnly)?;
/// // Here the segment is read-only. Everywhere:
/// followed.await;
/// # Ok(())
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     tokio::runtime::Builder::new_current_thread().build()?.block_on(change())
/// # }
/// ```
#[derive(Default)]
pub struct Acknowledgement {
    /// Those that have not followed yet, when last looked at.
    #[cfg(feature = "remote")]
    pending: Vec<Pending>,
    #[cfg(not(feature = "remote"))]
    pending: [std::convert::Infallible; 0],
}

/// A process, and how far it must come.
#[cfg(feature = "remote")]
struct Pending {
    peer: Arc<Peer>,
    sequence: u64,
}

/// Some processes have not followed in time. They may still.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{count} processes have not followed the change in time")]
pub struct NotFollowed {
    /// How many.
    pub count: usize,
}

impl Acknowledgement {
    /// Nobody is to be waited for.
    pub(crate) fn complete() -> Self {
        Self::default()
    }

    /// Blocks until every process has followed or is evicted.
    pub fn wait(self) {
        #[cfg(feature = "remote")]
        for Pending { peer, sequence } in self.pending {
            // Without a time limit it ends only when that is so.
            let _ = peer.wait(sequence, None);
        }
    }

    /// Blocks until every process has followed or is evicted, but not longer than to `deadline`.
    ///
    /// # Errors
    ///
    /// Some have not followed by then. That changes nothing for them.
    pub fn wait_until(mut self, deadline: Instant) -> Result<(), NotFollowed> {
        #[cfg(feature = "remote")]
        self.pending
            .retain(|one| !one.peer.wait(one.sequence, Some(deadline)));
        #[cfg(not(feature = "remote"))]
        let _ = (&mut self, deadline);
        match self.pending.len() {
            0 => Ok(()),
            count => Err(NotFollowed { count }),
        }
    }

    /// Says whether every process has followed or is evicted.
    pub fn is_complete(&self) -> bool {
        #[cfg(feature = "remote")]
        let followed = self.pending.iter().all(Pending::is_over);
        #[cfg(not(feature = "remote"))]
        let followed = self.pending.is_empty();
        followed
    }
}

#[cfg(feature = "remote")]
impl Acknowledgement {
    /// What these have yet to follow of what was sealed for them so far.
    pub(crate) fn of<'a>(peers: impl IntoIterator<Item = &'a Arc<Peer>>) -> Self {
        let pending = peers.into_iter().map(|peer| Pending {
            peer: peer.clone(),
            sequence: peer.last_sealed(),
        });
        Self {
            pending: pending.filter(|one| !one.is_over()).collect(),
        }
    }
}

#[cfg(feature = "remote")]
impl Pending {
    fn is_over(&self) -> bool {
        self.peer.acknowledged() >= self.sequence
    }
}

/// Completes when every process has followed or is evicted; see [`Acknowledgement`].
#[must_use = "a future does nothing until it is polled"]
pub struct Followed {
    acknowledgement: Acknowledgement,
}

impl Future for Followed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let acknowledgement = &mut self.acknowledgement;
        #[cfg(feature = "remote")]
        acknowledgement
            .pending
            .retain(|one| one.peer.poll_acknowledged(cx, one.sequence).is_pending());
        #[cfg(not(feature = "remote"))]
        let _ = cx;
        match acknowledgement.pending.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl IntoFuture for Acknowledgement {
    type Output = ();
    type IntoFuture = Followed;

    fn into_future(self) -> Followed {
        Followed {
            acknowledgement: self,
        }
    }
}

impl fmt::Debug for Acknowledgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acknowledgement")
            .field("pending", &self.pending.len())
            .finish()
    }
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Followed")
            .field(&self.acknowledgement)
            .finish()
    }
}
