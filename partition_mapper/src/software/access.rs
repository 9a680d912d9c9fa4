//! Loads and stores as a guest would make them.

use super::SoftwarePartition;
use memory_range::{MemoryRange, PAGE_SIZE};
use sparse_alloc::HostRange;
use std::ops::Range;
use std::sync::Weak;
use thiserror::Error;

/// How a guest's load or store ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an access may have left for the VMM instead of reaching memory"]
pub enum GuestAccess {
    /// All of it reached memory.
    Done,
    /// These parts of it, in ascending order, left the guest for the VMM to answer. The others
    /// reached memory.
    Mmio(Vec<MmioExit>),
}

/// A part of an access that reached no memory. KVM would hand it to the VMM in pieces of at most
/// 8 bytes; here it is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MmioExit {
    /// A load from a hole. The buffer holds there what it held before.
    Read {
        /// The guest physical address of the first byte.
        gpa: u64,
        /// The number of bytes.
        len: u64,
    },
    /// A store to a hole or to read-only memory, which has not changed.
    Write {
        /// The guest physical address of the first byte.
        gpa: u64,
        /// What the guest would have stored.
        data: Vec<u8>,
    },
}

/// The cause for which a guest's load or store failed altogether.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GuestAccessError {
    /// The access runs past the end of the address space.
    #[error("{len:#x} bytes at gpa {gpa:#x} run past the end of the address space")]
    Wraps {
        /// The guest physical address of the first byte.
        gpa: u64,
        /// The number of bytes.
        len: u64,
    },
    /// The host memory behind a slot could not be accessed: nothing is mapped there, or its file
    /// was truncated. What a hypervisor does here is best not relied on.
    #[error("host memory behind {len:#x} bytes at gpa {gpa:#x} is not accessible")]
    Host {
        /// The guest physical address of the part that failed.
        gpa: u64,
        /// The length of that part in bytes. Those before it are done.
        len: u64,
        /// What the host's access reported.
        #[source]
        source: crate::Cause,
    },
}

/// A stretch of an access that meets one slot, or none.
struct Stretch {
    gpa: Range<u64>,
    slot: Option<(u64, HostRange, Writable)>,
}

type Writable = bool;

impl SoftwarePartition {
    /// Loads from `gpa` on, as a guest's instruction would.
    ///
    /// An empty buffer is `Done`, wherever. An access may cross any number of slot borders.
    ///
    /// # Errors
    ///
    /// The access runs past the end of the address space, or the host memory behind it faults.
    pub fn load(&self, gpa: u64, buffer: &mut [u8]) -> Result<GuestAccess, GuestAccessError> {
        let mut exits = Vec::new();
        let mut rest = buffer;
        self.walk(gpa, rest.len() as u64, |stretch| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(stretch.len());
            rest = after;
            match &stretch.slot {
                Some((offset, host, _)) => {
                    let read = host.read(*offset, part);
                    read.map_err(|error| stretch.failed(Box::new(error)))
                }
                None => {
                    exits.push(MmioExit::Read {
                        gpa: stretch.gpa.start,
                        len: stretch.len() as u64,
                    });
                    Ok(())
                }
            }
        })?;
        Ok(GuestAccess::from_exits(exits))
    }

    /// Stores from `gpa` on, as a guest's instruction would. Read-only memory does not change. What
    /// reaches no memory is offered to whoever takes [such stores](crate::StoreTaker); what is taken
    /// counts as done.
    ///
    /// Empty data is `Done`, wherever. An access may cross any number of slot borders.
    ///
    /// # Errors
    ///
    /// The access runs past the end of the address space, or the host memory behind it faults.
    pub fn store(&self, gpa: u64, data: &[u8]) -> Result<GuestAccess, GuestAccessError> {
        let mut exits = Vec::new();
        let mut rest = data;
        self.walk(gpa, rest.len() as u64, |stretch| {
            let (part, after) = rest.split_at(stretch.len());
            rest = after;
            match &stretch.slot {
                Some((offset, host, true)) => {
                    let written = host.write(*offset, part);
                    written.map_err(|error| stretch.failed(Box::new(error)))
                }
                Some((_, _, false)) | None => {
                    exits.push(MmioExit::Write {
                        gpa: stretch.gpa.start,
                        data: part.to_vec(),
                    });
                    Ok(())
                }
            }
        })?;
        // After the walk, and so without the table's lock: a taker may wait for a change.
        exits.retain(|exit| !self.is_taken(exit));
        Ok(GuestAccess::from_exits(exits))
    }

    /// Offers a store to the takers, the first of them first.
    fn is_taken(&self, exit: &MmioExit) -> bool {
        let MmioExit::Write { gpa, data } = exit else {
            return false;
        };
        let takers: Vec<_> = self.takers().iter().filter_map(Weak::upgrade).collect();
        takers.iter().any(|taker| taker.take(*gpa, data))
    }

    /// Calls back for each stretch of an access, in ascending order, under the table's lock.
    fn walk(
        &self,
        gpa: u64,
        len: u64,
        mut each: impl FnMut(&Stretch) -> Result<(), GuestAccessError>,
    ) -> Result<(), GuestAccessError> {
        let end = gpa
            .checked_add(len)
            .ok_or(GuestAccessError::Wraps { gpa, len })?;
        let table = self.read();
        let mut at = gpa;
        while at < end {
            let (stop, slot) = match table.slot_at(at) {
                Some((range, host, permissions)) => {
                    let offset = at.saturating_sub(range.start());
                    let writable = permissions.access.is_writable();
                    (range.end(), Some((offset, host, writable)))
                }
                None => {
                    let next = table.slots().overlapping(pages_from(at)).next();
                    (next.map_or(end, |(range, _)| range.start()), None)
                }
            };
            let stop = stop.min(end);
            each(&Stretch {
                gpa: at..stop,
                slot,
            })?;
            at = stop;
        }
        Ok(())
    }
}

impl Stretch {
    /// At most the length of a slice, so it fits.
    fn len(&self) -> usize {
        usize::try_from(self.gpa.end.saturating_sub(self.gpa.start)).unwrap_or(usize::MAX)
    }

    fn failed(&self, source: crate::Cause) -> GuestAccessError {
        GuestAccessError::Host {
            gpa: self.gpa.start,
            len: self.gpa.end.saturating_sub(self.gpa.start),
            source,
        }
    }
}

impl GuestAccess {
    fn from_exits(exits: Vec<MmioExit>) -> Self {
        if exits.is_empty() {
            Self::Done
        } else {
            Self::Mmio(exits)
        }
    }
}

/// Every page from the one at `addr` on that a range can name.
fn pages_from(addr: u64) -> MemoryRange {
    const TOP: u64 = u64::MAX - (PAGE_SIZE - 1);
    let first = addr - addr % PAGE_SIZE;
    MemoryRange::try_new(first..TOP).unwrap_or(MemoryRange::EMPTY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_of_the_address_space_is_a_hole() {
        let partition = SoftwarePartition::new();
        let mut bytes = [7; 4];
        let top = u64::MAX - 4;
        let exit = MmioExit::Read { gpa: top, len: 4 };
        assert_eq!(
            partition.load(top, &mut bytes).unwrap(),
            GuestAccess::Mmio(vec![exit])
        );
        assert_eq!(bytes, [7; 4]);
        assert!(matches!(
            partition.store(top + 1, &bytes),
            Err(GuestAccessError::Wraps { gpa, len: 4 }) if gpa == top + 1
        ));
        assert_eq!(partition.store(u64::MAX, &[]).unwrap(), GuestAccess::Done);
    }
}
