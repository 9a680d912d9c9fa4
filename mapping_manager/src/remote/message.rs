//! What a manager and the mappers in other processes say to each other.
//!
//! Every message is one frame: its kind stands in the frame's header, its body is what postcard makes
//! of the fields. Decoding checks all that can be checked without knowing what came before: lengths,
//! counts, texts, alignment, wrapping, and whether a range lies in the space. Which files and
//! partitions there are, and what may come when, is for the receiver to know.

mod decode;
mod encode;
mod span;
#[cfg(test)]
mod tests;

pub(crate) use decode::MessageError;

use memory_range::{Access, MemoryRange};
use serde::{Deserialize, Serialize};

/// The longest name of a client, a partition or a file, in bytes.
pub(crate) const MOST_NAME: usize = 64;
/// The longest explanation for people, in bytes.
pub(crate) const MOST_TEXT: usize = 256;
/// The most items in a list. A list that is longer is split over several messages.
pub(crate) const MOST_ITEMS: usize = 1024;
/// The most files in one message: each has a descriptor beside it.
pub(crate) const MOST_FILES: usize = super::frame::MOST_FDS;
/// The most operations from one commit to the next. A client that is sent more gives up; a manager
/// that has more to send evicts the client.
pub(crate) const MOST_PENDING: usize = 1 << 20;
/// The most fetches of a client that are not answered yet.
pub(crate) const MOST_FETCHES: usize = 64;
/// The longest range that is fetched at once, in bytes. What it touches is sent whole.
pub(crate) const MOST_FETCH_LEN: u64 = 2 << 20;
/// The most partitions that a client offers.
pub(crate) const MOST_PARTITIONS: usize = 16;

/// What a manager says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToClient {
    /// The first message, in answer to [`ToServer::Hello`].
    Welcome(Welcome),
    /// Files that ranges will refer to; one descriptor each, in this order.
    Files(Vec<FileInfo>),
    /// Files to which no range refers any more. Their numbers may be given anew.
    Forget(Vec<u32>),
    /// Slots to take away, before the ranges change.
    SlotsRemoved(Vec<SlotRemoved>),
    /// What ranges show from now on.
    Ranges(Vec<RangeOp>),
    /// Slots to give, after the ranges have changed.
    SlotsAdded(Vec<SlotAdded>),
    /// What came since the last one is one change, to be made and acknowledged now.
    Commit {
        /// One more than the last one's; the first is 1.
        sequence: u64,
    },
    /// What there is at the place asked for was sent, and committed, before this.
    Fetched {
        /// The number that the client gave its [`ToServer::Fetch`].
        request: u64,
    },
    /// The last message: the manager closes the connection.
    Goodbye {
        /// Why, for people.
        reason: String,
    },
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToServer {
    /// The first message.
    Hello(Hello),
    /// All changes up to this one are made.
    Acknowledged {
        /// The number of the last commit.
        sequence: u64,
    },
    /// Asks for what is shown at a place; only a lazy client does.
    Fetch(Fetch),
    /// Offers a partition, whose slots are the manager's from now on.
    Offer(Offer),
    /// Takes back an offer. The client has removed the partition's slots.
    Withdraw {
        /// The number that the client gave its [`ToServer::Offer`].
        partition: u32,
    },
    /// A change could not be made. The client is of no use any more.
    Failed(Failed),
}

/// See [`ToClient::Welcome`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// Guest physical addresses go from 0 to this, in bytes; page aligned, not 0.
    pub(crate) space: u64,
    /// How the addresses should be aligned so that all processes get huge pages: a power of two of
    /// at least a page, in bytes. Only a hint.
    pub(crate) alignment: u64,
    /// Whether ranges come only when fetched.
    pub(crate) lazy: bool,
    /// Whether no range is ever writable.
    pub(crate) read_only: bool,
    /// The manager's.
    pub(crate) name: String,
}

/// A file that ranges refer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileInfo {
    /// What the ranges call it.
    pub(crate) id: u32,
    /// In bytes; `None` for a device, which has no length.
    pub(crate) len: Option<u64>,
    /// For people; cut where it was longer.
    pub(crate) name: String,
}

/// What a range shows from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RangeOp {
    /// Inside the space, not empty.
    #[serde(with = "span")]
    pub(crate) range: MemoryRange,
    /// `None`: nothing.
    pub(crate) shown: Option<Shown>,
}

/// What stands behind a range.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) source: Source,
    /// In the source, in bytes, of the range's first byte; page aligned. 0 for a fill.
    pub(crate) offset: u64,
    pub(crate) writable: bool,
}

/// What holds the bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Source {
    /// The file with this number.
    File(u32),
    /// Pages that read as zeros; each process has its own.
    Zeros,
    /// Pages that read as `0xff`; each process has its own.
    Ones,
}

/// A slot that goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotRemoved {
    pub(crate) partition: u32,
    /// The partition's addresses, exactly as they were added.
    #[serde(with = "span")]
    pub(crate) range: MemoryRange,
}

/// A slot that comes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotAdded {
    pub(crate) partition: u32,
    /// The partition's addresses. They may lie outside the space: a partition may see it moved.
    #[serde(with = "span")]
    pub(crate) range: MemoryRange,
    /// The address in the space that the first byte of the slot shows; page aligned, and the whole
    /// slot lies in the space.
    pub(crate) gpa: u64,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
}

impl SlotAdded {
    /// The part of the space that the slot shows.
    pub(crate) fn shown(&self) -> Option<MemoryRange> {
        MemoryRange::try_from_len(self.gpa, self.range.len()).ok()
    }
}

impl Shown {
    /// What the range may be used for.
    pub(crate) fn access(&self) -> Access {
        Access::from_writable(self.writable)
    }
}

/// See [`ToServer::Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// For people.
    pub(crate) name: String,
    /// Whether ranges are to come only when fetched.
    pub(crate) lazy: bool,
}

/// See [`ToServer::Fetch`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fetch {
    /// Chosen by the client; comes back with the answer.
    pub(crate) request: u64,
    /// Inside the space, not empty, at most [`MOST_FETCH_LEN`] long.
    #[serde(with = "span")]
    pub(crate) range: MemoryRange,
}

/// See [`ToServer::Offer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// Chosen by the client: none that it uses already.
    pub(crate) partition: u32,
    pub(crate) name: String,
    /// The hypervisor, for people.
    pub(crate) kind: String,
    /// How many slots there are for the manager; `None` where there is no limit.
    pub(crate) slots: Option<u64>,
}

/// See [`ToServer::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// The number of the change that failed; 0 if it had none yet.
    pub(crate) sequence: u64,
    /// Why, for people.
    pub(crate) text: String,
}

/// Cuts a text to what a message may carry, between two characters, and makes it one line.
pub(crate) fn bounded(text: &str, most: usize) -> String {
    let mut bounded = String::new();
    for c in text.chars() {
        if bounded.len().saturating_add(c.len_utf8()) > most {
            break;
        }
        bounded.push(if c.is_control() { ' ' } else { c });
    }
    bounded
}
