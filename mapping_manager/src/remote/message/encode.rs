//! From messages to frames.

use super::{MOST_FILES, MOST_ITEMS, ToClient, ToServer};
use crate::remote::frame::{self, EncodeError};
use serde::Serialize;

impl ToClient {
    pub(super) fn kind(&self) -> u16 {
        match self {
            Self::Welcome(_) => 1,
            Self::Files(_) => 2,
            Self::Forget(_) => 3,
            Self::SlotsRemoved(_) => 4,
            Self::Ranges(_) => 5,
            Self::SlotsAdded(_) => 6,
            Self::Commit { .. } => 7,
            Self::Fetched { .. } => 8,
            Self::Goodbye { .. } => 9,
        }
    }

    /// Appends the message as one frame. A list must not have more than [`MOST_ITEMS`] items, files
    /// not more than [`MOST_FILES`].
    pub(crate) fn encode(&self, to: &mut Vec<u8>) -> Result<(), EncodeError> {
        let kind = self.kind();
        match self {
            Self::Welcome(body) => frame::append(to, kind, 0, body),
            Self::Files(files) => {
                let fds = files.len();
                list(to, kind, files, MOST_FILES, fds)
            }
            Self::Forget(ids) => list(to, kind, ids, MOST_ITEMS, 0),
            Self::SlotsRemoved(slots) => list(to, kind, slots, MOST_ITEMS, 0),
            Self::Ranges(ranges) => list(to, kind, ranges, MOST_ITEMS, 0),
            Self::SlotsAdded(slots) => list(to, kind, slots, MOST_ITEMS, 0),
            Self::Commit { sequence: number } | Self::Fetched { request: number } => {
                frame::append(to, kind, 0, number)
            }
            Self::Goodbye { reason } => frame::append(to, kind, 0, reason),
        }
    }
}

impl ToServer {
    pub(super) fn kind(&self) -> u16 {
        match self {
            Self::Hello(_) => 101,
            Self::Acknowledged { .. } => 102,
            Self::Fetch(_) => 103,
            Self::Offer(_) => 104,
            Self::Withdraw { .. } => 105,
            Self::Failed(_) => 106,
        }
    }

    /// Appends the message as one frame.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) -> Result<(), EncodeError> {
        let kind = self.kind();
        match self {
            Self::Hello(body) => frame::append(to, kind, 0, body),
            Self::Acknowledged { sequence } => frame::append(to, kind, 0, sequence),
            Self::Fetch(body) => frame::append(to, kind, 0, body),
            Self::Offer(body) => frame::append(to, kind, 0, body),
            Self::Withdraw { partition } => frame::append(to, kind, 0, partition),
            Self::Failed(body) => frame::append(to, kind, 0, body),
        }
    }
}

fn list<T: Serialize>(
    to: &mut Vec<u8>,
    kind: u16,
    items: &[T],
    most: usize,
    fds: usize,
) -> Result<(), EncodeError> {
    if items.len() > most {
        return Err(EncodeError::TooMany {
            count: items.len(),
            most,
        });
    }
    frame::append(to, kind, fds, items)
}
