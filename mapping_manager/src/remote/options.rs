//! What a client is granted, and what is expected of it.

use memory_range::PAGE_SIZE;
use std::time::Duration;

/// What a client is granted, and what is expected of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerOptions {
    /// What the client is told of who it is connected to; cut at 64 bytes.
    pub name: String,
    /// How the client should align its addresses so that it gets huge pages, in bytes; a power of two
    /// of at least a page. Only a hint.
    pub alignment: u64,
    /// How long the client may take: for its greeting; from a change being sealed to its
    /// acknowledgement; from the first byte of a message to its last; and without reading.
    pub deadline: Duration,
    /// How many bytes may wait because the client doesn't take them.
    pub most_queued: usize,
    /// Whether the client gets files opened for reading only, and no range that it can write.
    ///
    /// Devices without a length are holes for it: opening one anew may make another one of it.
    ///
    /// A process that may open a file for writing can do so with the descriptor that it has, through
    /// `/proc/self/fd`. The memfds of `sparse_alloc` let only their owner: so this keeps another user's
    /// client from writing, and one of the same user from writing by mistake. To keep that one from
    /// writing on purpose, too, it takes a client without `/proc`. A memfd from elsewhere says yes to
    /// everyone until its mode is changed.
    pub read_only: bool,
    /// Whether the client may get ranges only when it asks for them, if it wants to. One that wants to
    /// and may not gets all.
    pub allow_lazy: bool,
}

impl PeerOptions {
    /// Makes the usual options: five seconds, 16 MiB, reading and writing, eager or lazy as the client
    /// likes.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            alignment: PAGE_SIZE,
            deadline: Duration::from_secs(5),
            most_queued: 16 << 20,
            read_only: false,
            allow_lazy: true,
        }
    }
}
