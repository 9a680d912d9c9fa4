//! Mapping a backing into a reservation.

use std::io;
use std::ptr::NonNull;

use memory_range::{Access, MemoryRange, PAGE_SIZE};

use super::{Bounds, MapError, Mapped, Reservation, State, Urgency, is_out_of_memory};
use crate::backing::Backing;
use crate::limits;
use crate::sys;

/// Which of the two mappings failed.
enum Failure {
    /// The one that was to prove that it can be done; nothing has changed.
    Proof(io::Error),
    /// The one over the range itself.
    Over(io::Error),
}

impl Failure {
    fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Proof(error) | Self::Over(error) => is_out_of_memory(error),
        }
    }
}

impl Reservation {
    /// Maps the part of `backing` that starts at `offset`, over whatever `range` shows now.
    ///
    /// `range` is half-open and in offsets from the start of the reservation; `offset` is page
    /// aligned, and means nothing for anonymous memory and zeros.
    ///
    /// It is one `mmap`, atomic for whoever accesses the range, for memfds and the regular files
    /// of common file systems. Backings that may refuse one range and allow another (huge pages,
    /// devices) are mapped elsewhere first, to prove that they can be.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the arguments is found before anything changes: an empty range
    /// or one outside the reservation, an unaligned or overflowing offset, the end of the range
    /// past the end of the file, a writable mapping of a read-only backing. See [`MapError`] for
    /// what the kernel may refuse.
    pub fn map(
        &self,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Result<(), MapError> {
        self.map_with(Urgency::Change, range, backing, offset, access)
    }

    pub(super) fn map_with(
        &self,
        urgency: Urgency,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Result<(), MapError> {
        let (addr, len) = self.in_bounds(range).map_err(|bounds| match bounds {
            Bounds::Empty => MapError::Empty {
                start: range.start(),
            },
            Bounds::Outside => MapError::OutOfBounds {
                range,
                len: self.len,
            },
        })?;
        check(range, addr, backing, offset, access)?;

        let mut state = self.state();
        if urgency == Urgency::Change {
            let armed = state.headroom.arm();
            armed.map_err(|source| refused(range, backing, source))?;
        }
        let attempt = || {
            // Held until the mapping stands: it keeps what the kernel has set aside.
            let proof = backing.prove(&self.calls, addr, len, offset, access);
            let proof = proof.map_err(Failure::Proof)?;
            let content = backing.content(offset, access);
            // SAFETY: `in_bounds` found the range in `pages`, which is ours. Whoever reads there
            // has promised, by `MappedRegion`, to expect any contents at any time.
            unsafe { sys::map_over(&self.calls, addr, len, content) }.map_err(Failure::Over)?;
            drop(proof);
            Ok(())
        };
        match state.call(urgency, Failure::is_out_of_memory, attempt) {
            Ok(()) => {}
            Err(Failure::Proof(source)) => return Err(refused(range, backing, source)),
            Err(Failure::Over(source)) => {
                return Err(if self.survived(&mut state, addr, len) {
                    refused(range, backing, source)
                } else {
                    lost(&mut state, range, backing, source)
                });
            }
        }
        self.keep_private(&mut state, range, addr, len, backing)?;
        let mapped = Mapped {
            access,
            limit: backing.access(),
            kind: backing.kind(),
        };
        state.mapped.replace(range, mapped);
        Ok(())
    }

    /// Gives a new mapping the advice that its backing asks for.
    fn keep_private(
        &self,
        state: &mut State,
        range: MemoryRange,
        addr: NonNull<u8>,
        len: usize,
        backing: &Backing,
    ) -> Result<(), MapError> {
        for advice in backing.advice() {
            // SAFETY: the range is ours, as above, and the advice keeps contents.
            let advised = unsafe { sys::advise(&self.calls, addr, len, *advice) };
            if let Err(source) = advised {
                // Memory that is not to be in a core dump must not stay. No VMA is split, so only
                // a kernel without memory comes here.
                // SAFETY: as above.
                let _ = unsafe { sys::map_over(&self.calls, addr, len, sys::Content::Reserved) };
                return Err(lost(state, range, backing, source));
            }
        }
        Ok(())
    }
}

/// Finds what is wrong with the arguments, without a call that changes anything.
fn check(
    range: MemoryRange,
    addr: NonNull<u8>,
    backing: &Backing,
    offset: u64,
    access: Access,
) -> Result<(), MapError> {
    let name = || backing.name().to_owned();
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(MapError::UnalignedOffset {
            range,
            name: name(),
            offset,
        });
    }
    let Some(end) = offset.checked_add(range.len()) else {
        return Err(MapError::OffsetOverflow {
            range,
            name: name(),
            offset,
        });
    };
    if access.is_writable() && !backing.access().is_writable() {
        return Err(MapError::ReadOnly {
            range,
            name: name(),
        });
    }
    let Some(mappable) = backing.as_mappable() else {
        return Ok(());
    };
    let page = mappable.granule();
    let addr = u64::try_from(addr.addr().get()).unwrap_or(u64::MAX);
    if ![addr, offset, range.len()]
        .iter()
        .all(|value| value.is_multiple_of(page))
    {
        return Err(MapError::PartOfHugePage {
            range,
            name: name(),
            offset,
            page,
        });
    }
    let size = mappable
        .len()
        .map_err(|source| MapError::Length { range, source })?;
    match size {
        Some(size) if end > size => Err(MapError::PastEnd {
            range,
            name: name(),
            offset,
            size,
        }),
        _ => Ok(()),
    }
}

fn refused(range: MemoryRange, backing: &Backing, source: io::Error) -> MapError {
    let name = backing.name().to_owned();
    match limits::vma_limit(&source) {
        Some(used) => MapError::VmaLimit {
            range,
            count: used.count,
            limit: used.limit,
        },
        None if is_out_of_memory(&source) => MapError::OutOfMemory {
            range,
            name,
            source,
        },
        None => MapError::Refused {
            range,
            name,
            source,
        },
    }
}

fn lost(state: &mut State, range: MemoryRange, backing: &Backing, source: io::Error) -> MapError {
    state.mapped.remove(range);
    MapError::Lost {
        range,
        name: backing.name().to_owned(),
        source,
    }
}
