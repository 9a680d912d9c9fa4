//! Mapping a backing into reserved address space.

use std::io;
use std::ptr::NonNull;

use memory_range::{Access, MemoryRange, PAGE_SIZE};

use super::{Bounds, MapError, ReservedSpace, SpaceEditor, Urgency, is_out_of_memory};
use crate::backing::{Backing, Interrupted};
use crate::headroom::Headroom;
use crate::limits;
use crate::ones;
use crate::overcommit;
use crate::sys;

/// Which of the two mappings failed.
enum Failure {
    /// The one that was to prove that it can be done; nothing has changed.
    Proof(io::Error),
    /// The one over the range itself.
    Over(Interrupted),
}

impl Failure {
    fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Proof(source) | Self::Over(Interrupted { source, .. }) => {
                is_out_of_memory(source)
            }
        }
    }
}

impl SpaceEditor {
    /// Maps the part of `backing` that starts at `offset`, over whatever `range` shows now; see
    /// [`Reservation::map`](crate::Reservation::map).
    ///
    /// # Errors
    ///
    /// As [`Reservation::map`](crate::Reservation::map). Where it is [`MapError::Lost`], nothing is
    /// mapped in the range any more.
    pub fn map(
        &mut self,
        urgency: Urgency,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Result<(), MapError> {
        let Self { space, headroom } = self;
        let (addr, len) = space.in_bounds(range).map_err(|bounds| match bounds {
            Bounds::Empty => MapError::Empty {
                start: range.start(),
            },
            Bounds::Outside => MapError::OutOfBounds {
                range,
                len: space.len,
            },
        })?;
        let plain = plain(range, backing, offset, access);
        if plain.is_none() {
            check(range, addr, backing, offset, access)?;
        }
        if urgency == Urgency::Change {
            let armed = headroom.arm();
            armed.map_err(|source| refused(range, backing, source))?;
        }
        let calls = &space.calls;
        let attempt = || {
            if let Some(content) = plain {
                // SAFETY: as below.
                let mapped = unsafe { sys::map_over(calls, addr, len, content) };
                return mapped.map_err(|source| Failure::Over(Interrupted { done: 0, source }));
            }
            // Held until the mapping stands: it keeps what the kernel has set aside.
            let proof = backing.prove(calls, addr, len, (offset, access));
            let proof = proof.map_err(Failure::Proof)?;
            let shown = (offset, access);
            // SAFETY: `in_bounds` found the range in `pages`, which is ours. Whoever reads there
            // has promised, by `MappedRegion`, to expect any contents at any time.
            let mapped = unsafe { backing.map_over(calls, addr, range.start(), len, shown) };
            drop(proof);
            mapped.map_err(Failure::Over)
        };
        match headroom.call(urgency, Failure::is_out_of_memory, attempt) {
            Ok(()) => {}
            Err(Failure::Proof(source)) => return Err(refused(range, backing, source)),
            Err(Failure::Over(Interrupted { done, source })) => {
                return Err(if !space.survived(headroom, addr, len) {
                    lost(range, backing, source)
                } else if done > 0 {
                    space.take_away(headroom, addr, len);
                    lost(range, backing, source)
                } else {
                    refused(range, backing, source)
                });
            }
        }
        space.keep_private(range, addr, len, backing)
    }
}

impl ReservedSpace {
    /// Reserves a range again that shows something else in part than it should.
    #[cold]
    fn take_away(&self, headroom: &mut Headroom, addr: NonNull<u8>, len: usize) {
        let reserve = || {
            // SAFETY: the range is ours, as in `map`, and what it shows is to go.
            unsafe { sys::map_over(&self.calls, addr, len, sys::Content::Reserved) }
        };
        if reserve().is_err() && headroom.release() {
            let _ = reserve();
        }
    }

    /// Gives a new mapping the advice that its backing asks for.
    fn keep_private(
        &self,
        range: MemoryRange,
        addr: NonNull<u8>,
        len: usize,
        backing: &Backing,
    ) -> Result<(), MapError> {
        for advice in backing.advice(range.len()) {
            // SAFETY: the range is ours, as above, and the advice keeps contents.
            let advised = unsafe { sys::advise(&self.calls, addr, len, *advice) };
            if let Err(source) = advised {
                // Memory that is not to be in a core dump must not stay. No VMA is split, so only
                // a kernel without memory comes here.
                // SAFETY: as above.
                let _ = unsafe { sys::map_over(&self.calls, addr, len, sys::Content::Reserved) };
                return Err(lost(range, backing, source));
            }
        }
        Ok(())
    }
}

/// Returns what to map, if the arguments are in order and it takes one call and no proof: of a memfd
/// or a usual file, in the part of it that is known to be there, or of private memory.
#[inline]
fn plain(
    range: MemoryRange,
    backing: &Backing,
    offset: u64,
    access: Access,
) -> Option<sys::Content<'_>> {
    let end = offset.checked_add(range.len())?;
    match backing {
        Backing::Mappable(mappable) => mappable
            .is_surely_mapped(offset, end, access)
            .then(|| mappable.content(offset, access)),
        _ if !offset.is_multiple_of(PAGE_SIZE) => None,
        _ if access.is_writable() && overcommit::is_strict() => None,
        Backing::Anonymous | Backing::Zeros => Some(sys::Content::Anonymous(access)),
        Backing::Ones => ones::content(range, access),
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
    let past_end = mappable.past_end(end);
    match past_end.map_err(|source| MapError::Length { range, source })? {
        Some(size) => Err(MapError::PastEnd {
            range,
            name: name(),
            offset,
            size,
        }),
        None => Ok(()),
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

fn lost(range: MemoryRange, backing: &Backing, source: io::Error) -> MapError {
    MapError::Lost {
        range,
        name: backing.name().to_owned(),
        source,
    }
}
