//! The memory of a guest passes to another process.
//!
//! The descriptors travel as `SCM_RIGHTS`, and with them goes a description of what they are to be
//! ([`message`]): how long each memory is, how it is sealed, and which guest physical addresses
//! show which part of it. Whoever receives it believes nothing: every statement is compared with
//! what the kernel says of the descriptor, and every number is checked before it is used.

mod adopt;
mod claim;
mod error;
mod message;

pub use claim::{BackingClaim, ClaimError};
pub use error::{ReceiveBackingError, SendBackingError};

use crate::backing::SharedMemoryBacking;
use mapping_manager::descriptors::{self, Deadline, Incoming};
use message::{Description, HEADER_LEN, Header, MOST_MEMORIES};
use sparse_alloc::SharedMemory;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// # Hand-over to another process
impl SharedMemoryBacking {
    /// Sends the memory through a connected socket, to a process that [receives](Self::receive) it.
    ///
    /// The peer gets the memory itself and no copy: what either of them writes, the other reads. So
    /// it can read and write all of RAM, for as long as it likes. RAM is all that is sent: device
    /// windows, partitions and what is visible are for the new manager to set up. The socket is the
    /// caller's: one of a pair, of a path, or inherited; bytes that were sent through it before or
    /// are sent later do not mix with the message. Returning means that the message is in the
    /// socket, not that the peer has taken it: a peer that refuses it cannot say so here.
    ///
    /// All of it must fit into the socket within `within`. The call waits in the kernel, whether
    /// the socket is a blocking one or not. A [claim](Self::claim) is not sent.
    ///
    /// ```
    /// use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, SharedMemoryBacking};
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    ///
    /// let layout = MemoryLayout::new(16 << 20, &[], None)?;
    /// let memory = GuestMemoryBuilder::new().build_now(&layout)?;
    /// memory.client().guest_memory_now().write_plain(0x1000, &42_u32)?;
    ///
    /// // The other end is as a rule in another process.
    /// let (here, there) = UnixStream::pair()?;
    /// let within = Duration::from_secs(5);
    /// memory.shared_memory_backing().send(&here, within)?;
    ///
    /// let backing = SharedMemoryBacking::receive(&there, within)?;
    /// let again = GuestMemoryBuilder::new().existing_backing(Some(backing)).build_now(&layout)?;
    /// assert_eq!(again.client().guest_memory_now().read_plain::<u32>(0x1000)?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The peer is gone or takes too long, the layout has so many gaps that the description exceeds
    /// 64 KiB, or the kernel refuses. The message may then have been sent in part, so that the
    /// socket is of no use any more.
    pub fn send(&self, socket: &UnixStream, within: Duration) -> Result<(), SendBackingError> {
        let deadline = Deadline::after(within);
        let memories = self.memories();
        let mut seals = Vec::new();
        for memory in memories {
            let seal = rustix::fs::fcntl_get_seals(memory.mappable().as_fd());
            seals.push(seal.map_err(|errno| SendBackingError::Io(errno.into()))?);
        }
        let lens = memories.iter().map(SharedMemory::len);
        let description = Description::new(lens.zip(seals), self.places());
        let message = description.encode()?;
        let fds: Vec<_> = memories.iter().map(|m| m.mappable().as_fd()).collect();
        descriptors::send(socket.as_fd(), &message, &fds, &deadline)
            .map_err(|failure| SendBackingError::new(failure, within))
    }

    /// Receives memory that another process, or this one, [sends](Self::send).
    ///
    /// It is built into a manager by
    /// [`existing_backing`](crate::GuestMemoryBuilder::existing_backing), with a layout that must
    /// be the sender's. Nothing that the peer sends is trusted: it can make this call fail, and no
    /// more. The message takes at most 64 KiB and 16 descriptors; whatever descriptors come and are
    /// not asked for are closed. A memory must be a memfd that is sealed against shrinking and
    /// growing, so that the peer cannot make accesses fault later. What the memory *contains*
    /// remains the peer's to change, as long as it has it.
    ///
    /// All of the message must have come within `within`, also when it trickles in. The call waits
    /// in the kernel, whether the socket is a blocking one or not.
    ///
    /// # Errors
    ///
    /// The peer closes the socket or takes too long; what it sends is no such message, of another
    /// version, too long, or broken; the memory isn't what the message says, which is then told
    /// number by number; this process has no descriptors or no address space left. After an
    /// error the socket is of no use any more.
    pub fn receive(socket: &UnixStream, within: Duration) -> Result<Self, ReceiveBackingError> {
        let deadline = Deadline::after(within);
        let mut incoming = Incoming::new(socket.as_fd(), &deadline, MOST_MEMORIES);
        let mut bytes = [0; HEADER_LEN];
        let failed =
            |failure, what, expected| ReceiveBackingError::new(failure, within, what, expected);
        incoming
            .fill(&mut bytes)
            .map_err(|failure| failed(failure, "header", HEADER_LEN))?;
        let header = Header::decode(bytes)?;
        let received = incoming.count();
        if incoming.is_truncated() || received != header.memories {
            return Err(ReceiveBackingError::Descriptors {
                expected: header.memories,
                received,
            });
        }
        // Not longer than the header may say, which is little: it is taken at once.
        let mut body = vec![0; header.body_len];
        incoming
            .fill(&mut body)
            .map_err(|failure| failed(failure, "description", header.body_len))?;
        if incoming.is_truncated() || incoming.count() != received {
            return Err(ReceiveBackingError::MoreDescriptors);
        }
        let description = Description::decode(&body)?;
        adopt::adopt(&description, incoming.into_fds())
    }
}
