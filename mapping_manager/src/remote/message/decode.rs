//! From frames to messages, with every check that needs no memory of what came before.

use super::{
    Fetch, FileInfo, MOST_FETCH_LEN, MOST_FILES, MOST_ITEMS, MOST_NAME, MOST_TEXT, RangeOp, Shown,
    SlotAdded, Source, ToClient, ToServer, Welcome,
};
use memory_range::{MemoryRange, PAGE_SIZE};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// What is wrong with a message.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum MessageError {
    /// There is no such message, or not in this direction.
    #[error("message of unknown kind {kind}")]
    Kind { kind: u16 },
    /// The bytes are not what such a message consists of.
    #[error("message of kind {kind} is malformed")]
    Malformed { kind: u16 },
    /// There are bytes behind its end.
    #[error("message of kind {kind} has {count} bytes too many")]
    Trailing { kind: u16, count: usize },
    /// Not so many descriptors as files.
    #[error("message of kind {kind} came with {found} descriptors in place of {expected}")]
    Descriptors {
        kind: u16,
        found: usize,
        expected: usize,
    },
    /// A list is too long.
    #[error("a list of {count} items, of which {most} are allowed")]
    TooMany { count: usize, most: usize },
    /// A text is too long, or not one line.
    #[error("a text of {len} bytes, of which {most} are allowed, or with control characters")]
    Text { len: usize, most: usize },
    /// A range lies outside the guest physical addresses, or is too long.
    #[error("{range} does not lie in a space of {space:#x} bytes, or is longer than allowed")]
    Outside { range: MemoryRange, space: u64 },
    /// An address or an offset is unaligned, or too high.
    #[error("address, offset or length {value:#x} is unaligned or too high")]
    Value { value: u64 },
}

impl ToClient {
    /// Reads a message of a manager. `fds` is how many descriptors came with it; `space` is what the
    /// manager has said in its [`Welcome`], or `u64::MAX` before.
    pub(crate) fn decode(
        kind: u16,
        body: &[u8],
        fds: usize,
        space: u64,
    ) -> Result<Self, MessageError> {
        let message = match kind {
            1 => Self::Welcome(whole(kind, body)?),
            2 => Self::Files(whole(kind, body)?),
            3 => Self::Forget(whole(kind, body)?),
            4 => Self::SlotsRemoved(whole(kind, body)?),
            5 => Self::Ranges(whole(kind, body)?),
            6 => Self::SlotsAdded(whole(kind, body)?),
            7 => Self::Commit {
                sequence: whole(kind, body)?,
            },
            8 => Self::Fetched {
                request: whole(kind, body)?,
            },
            9 => Self::Goodbye {
                reason: whole(kind, body)?,
            },
            _ => return Err(MessageError::Kind { kind }),
        };
        let expected = match &message {
            Self::Files(files) => files.len(),
            _ => 0,
        };
        if fds != expected {
            return Err(MessageError::Descriptors {
                kind,
                found: fds,
                expected,
            });
        }
        message.check(space)?;
        Ok(message)
    }

    fn check(&self, space: u64) -> Result<(), MessageError> {
        match self {
            Self::Welcome(welcome) => welcome.check(),
            Self::Files(files) => {
                count(files, MOST_FILES)?;
                files.iter().try_for_each(FileInfo::check)
            }
            Self::Forget(ids) => count(ids, MOST_ITEMS),
            Self::SlotsRemoved(slots) => count(slots, MOST_ITEMS),
            Self::Ranges(ranges) => {
                count(ranges, MOST_ITEMS)?;
                ranges.iter().try_for_each(|op| op.check(space))
            }
            Self::SlotsAdded(slots) => {
                count(slots, MOST_ITEMS)?;
                slots.iter().try_for_each(|slot| slot.check(space))
            }
            Self::Commit { .. } | Self::Fetched { .. } => Ok(()),
            Self::Goodbye { reason } => text(reason, MOST_TEXT),
        }
    }
}

impl ToServer {
    /// Reads a message of a client. `fds` is how many descriptors came with it.
    pub(crate) fn decode(
        kind: u16,
        body: &[u8],
        fds: usize,
        space: u64,
    ) -> Result<Self, MessageError> {
        let message = match kind {
            101 => Self::Hello(whole(kind, body)?),
            102 => Self::Acknowledged {
                sequence: whole(kind, body)?,
            },
            103 => Self::Fetch(whole(kind, body)?),
            104 => Self::Offer(whole(kind, body)?),
            105 => Self::Withdraw {
                partition: whole(kind, body)?,
            },
            106 => Self::Failed(whole(kind, body)?),
            _ => return Err(MessageError::Kind { kind }),
        };
        if fds != 0 {
            return Err(MessageError::Descriptors {
                kind,
                found: fds,
                expected: 0,
            });
        }
        message.check(space)?;
        Ok(message)
    }

    fn check(&self, space: u64) -> Result<(), MessageError> {
        match self {
            Self::Hello(hello) => text(&hello.name, MOST_NAME),
            Self::Fetch(fetch) => fetch.check(space),
            Self::Offer(offer) => {
                text(&offer.name, MOST_NAME)?;
                text(&offer.kind, MOST_NAME)
            }
            Self::Failed(failed) => text(&failed.text, MOST_TEXT),
            Self::Acknowledged { .. } | Self::Withdraw { .. } => Ok(()),
        }
    }
}

impl Welcome {
    fn check(&self) -> Result<(), MessageError> {
        aligned(self.space)?;
        if self.space == 0 {
            return Err(MessageError::Value { value: self.space });
        }
        if !self.alignment.is_power_of_two() || self.alignment < PAGE_SIZE {
            return Err(MessageError::Value {
                value: self.alignment,
            });
        }
        text(&self.name, MOST_NAME)
    }
}

impl FileInfo {
    fn check(&self) -> Result<(), MessageError> {
        text(&self.name, MOST_NAME)
    }
}

impl RangeOp {
    fn check(&self, space: u64) -> Result<(), MessageError> {
        inside(self.range, space)?;
        self.shown
            .map_or(Ok(()), |shown| shown.check(self.range.len()))
    }
}

impl Shown {
    fn check(&self, len: u64) -> Result<(), MessageError> {
        aligned(self.offset)?;
        let value = self.offset;
        match self.source {
            // Offsets of files are signed.
            Source::File(_) => match value.checked_add(len) {
                Some(end) if i64::try_from(end).is_ok() => Ok(()),
                _ => Err(MessageError::Value { value }),
            },
            Source::Zeros | Source::Ones if value != 0 => Err(MessageError::Value { value }),
            Source::Zeros | Source::Ones => Ok(()),
        }
    }
}

impl SlotAdded {
    fn check(&self, space: u64) -> Result<(), MessageError> {
        match self.shown() {
            Some(shown) => inside(shown, space),
            None => Err(MessageError::Value { value: self.gpa }),
        }
    }
}

impl Fetch {
    fn check(&self, space: u64) -> Result<(), MessageError> {
        inside(self.range, space)?;
        if self.range.len() > MOST_FETCH_LEN {
            return Err(MessageError::Outside {
                range: self.range,
                space,
            });
        }
        Ok(())
    }
}

/// Reads every byte of a body.
fn whole<T: DeserializeOwned>(kind: u16, body: &[u8]) -> Result<T, MessageError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(MessageError::Trailing {
            kind,
            count: rest.len(),
        }),
        Err(_) => Err(MessageError::Malformed { kind }),
    }
}

fn count<T>(items: &[T], most: usize) -> Result<(), MessageError> {
    if items.len() > most {
        return Err(MessageError::TooMany {
            count: items.len(),
            most,
        });
    }
    Ok(())
}

fn text(text: &str, most: usize) -> Result<(), MessageError> {
    if text.len() > most || text.contains(char::is_control) {
        return Err(MessageError::Text {
            len: text.len(),
            most,
        });
    }
    Ok(())
}

fn inside(range: MemoryRange, space: u64) -> Result<(), MessageError> {
    if range.end() > space {
        return Err(MessageError::Outside { range, space });
    }
    Ok(())
}

fn aligned(value: u64) -> Result<(), MessageError> {
    if !value.is_multiple_of(PAGE_SIZE) {
        return Err(MessageError::Value { value });
    }
    Ok(())
}
