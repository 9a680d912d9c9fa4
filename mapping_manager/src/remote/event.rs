//! What happens to clients that their owner should know.

use super::eviction::Eviction;
use super::peer::Peer;
use std::sync::Arc;

/// What happened to a client.
///
/// Reported by the thread or task that serves the connections, with no lock held.
#[derive(Debug)]
#[non_exhaustive]
pub enum RemoteEvent {
    /// The client has greeted: what is shown to it from now on, it gets.
    Ready {
        /// The client's connection.
        peer: Arc<Peer>,
        /// Whether it gets ranges only when it asks for them.
        lazy: bool,
    },
    /// The client offers a partition, for its slots to be managed from here.
    PartitionOffered {
        /// The client's connection.
        peer: Arc<Peer>,
        /// What it offers.
        offer: PartitionOffer,
    },
    /// The client has taken back a partition and removed its slots.
    PartitionWithdrawn {
        /// The client's connection.
        peer: Arc<Peer>,
        /// The number of the partition.
        partition: u32,
    },
    /// The client is gone, or was evicted. It is the last event of this client, and comes exactly once.
    Left {
        /// The client's connection.
        peer: Arc<Peer>,
        /// Why.
        reason: Arc<Eviction>,
    },
}

/// A partition that a client offers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionOffer {
    /// The number that slots are addressed by.
    pub partition: u32,
    /// The client's name for it: at most 64 bytes, without control characters.
    pub name: String,
    /// The hypervisor, for people; as bounded as the name.
    pub kind: String,
    /// How many slots it has; `None` where there is no limit. The client's word.
    pub slots: Option<u64>,
}
