//! What holds the bytes of a mapping.

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use memory_range::Access;

use crate::mappable::Mappable;
use crate::ones::Pattern;
use crate::overcommit;
use crate::owned_pages::OwnedPages;
use crate::sys::{self, Advice, Calls, Content};

/// What holds the bytes of a mapping.
///
/// Equality is identity: two [`Mappable`](Self::Mappable) are equal if they are the same mappable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Backing {
    /// A memfd, a file, a ROM image or a device.
    Mappable(Mappable),
    /// Private zero-filled memory of the reservation. Its bytes are gone as soon as it is unmapped
    /// or mapped over; no other process and no other mapping can see them.
    Anonymous,
    /// A fill: pages that read as zeros and cost no memory, whatever their number.
    ///
    /// Mapped [`ReadWrite`](Access::ReadWrite), a page that is written becomes private to the place
    /// where it is mapped, keeps what was written, and takes memory, until it is mapped over,
    /// unmapped or [decommitted](crate::Reservation::decommit). So a guest that writes where nothing
    /// is mapped does neither crash its VMM nor change what anyone else reads.
    Zeros,
    /// A fill as [`Zeros`](Self::Zeros), but of pages that read as `0xff`, as a bus does where
    /// nothing answers.
    ///
    /// All of it in a process shows the same memory: 2 MiB, and 32 MiB more from the first range above
    /// 256 MiB on. A range of up to 2 MiB is one `mmap` and one VMA, wherever it starts. Longer ones
    /// take one for each 2 MiB, and above 256 MiB one for each 32 MiB: 512 for 16 GiB. They are
    /// mapped elsewhere first, to prove that there are VMAs enough; each of the pieces, but not
    /// the whole, appears in one step for whoever reads there.
    Ones,
}

/// What kind of backing a mapped range has; all that a reservation needs to remember of it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum BackingKind {
    Mappable,
    Anonymous,
    Zeros,
    Ones,
}

/// Says that a mapping was not made, or not all of it.
pub(crate) struct Interrupted {
    /// How many bytes from its start show it; most often none.
    pub(crate) done: usize,
    pub(crate) source: io::Error,
}

/// Tells backings apart without a share of any: two that exist have equal identities if and only if
/// they are equal. That of one that is gone may become another's.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BackingIdentity(usize);

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Backing {
    /// Returns the mappable's name, `anonymous`, `zeros` or `ones`.
    pub fn name(&self) -> &str {
        match self {
            Self::Mappable(mappable) => mappable.name(),
            Self::Anonymous => "anonymous",
            Self::Zeros => "zeros",
            Self::Ones => "ones",
        }
    }

    /// Returns what tells it apart from every other backing that exists.
    #[inline]
    pub fn identity(&self) -> BackingIdentity {
        BackingIdentity(match self {
            // None of them is the address of anything.
            Self::Anonymous => 1,
            Self::Zeros => 2,
            Self::Ones => 3,
            Self::Mappable(mappable) => mappable.address(),
        })
    }

    /// Returns what a mapping may allow at most.
    pub fn access(&self) -> Access {
        match self {
            Self::Mappable(mappable) => mappable.access(),
            Self::Anonymous | Self::Zeros | Self::Ones => Access::ReadWrite,
        }
    }

    /// Returns the mappable, if it is one.
    pub fn as_mappable(&self) -> Option<&Mappable> {
        match self {
            Self::Mappable(mappable) => Some(mappable),
            Self::Anonymous | Self::Zeros | Self::Ones => None,
        }
    }

    pub(crate) fn kind(&self) -> BackingKind {
        match self {
            Self::Mappable(_) => BackingKind::Mappable,
            Self::Anonymous => BackingKind::Anonymous,
            Self::Zeros => BackingKind::Zeros,
            Self::Ones => BackingKind::Ones,
        }
    }

    /// Maps `len` bytes over what is at `addr`, which is `start` bytes into a reservation.
    ///
    /// # Safety
    ///
    /// That address space is the caller's own, and nobody relies on its present contents.
    pub(crate) unsafe fn map_over(
        &self,
        calls: &Calls,
        addr: NonNull<u8>,
        start: u64,
        len: usize,
        (offset, access): (u64, Access),
    ) -> Result<(), Interrupted> {
        let content = match self {
            Self::Mappable(mappable) => mappable.content(offset, access),
            Self::Anonymous | Self::Zeros => Content::Anonymous(access),
            Self::Ones => {
                let failed = |done| move |source| Interrupted { done, source };
                let pattern = Pattern::for_len(len).map_err(failed(0))?;
                for piece in pattern.pieces(start, len) {
                    let content = pattern.content(piece, access);
                    let addr = sys::offset_by(addr, piece.at);
                    // SAFETY: the piece lies in the range, and the caller's promise is the one
                    // asked for.
                    unsafe { sys::map_over(calls, addr, piece.len, content) }
                        .map_err(failed(piece.at))?;
                }
                return Ok(());
            }
        };
        // SAFETY: the caller's promise is the one asked for.
        unsafe { sys::map_over(calls, addr, len, content) }
            .map_err(|source| Interrupted { done: 0, source })
    }

    /// Returns the advice that each new mapping of `len` bytes needs.
    #[inline]
    pub(crate) fn advice(&self, len: u64) -> &'static [Advice] {
        self.as_mappable()
            .map_or(&[], |mappable| mappable.advice(len))
    }

    /// Proves that a mapping can be made; see [`Mappable::prove`]. Where the proof is not to be
    /// held, it is enough that it could be made.
    pub(crate) fn prove(
        &self,
        calls: &Arc<Calls>,
        addr: NonNull<u8>,
        len: usize,
        (offset, access): (u64, Access),
    ) -> io::Result<Option<OwnedPages>> {
        match self {
            Self::Mappable(mappable) => mappable.prove(calls, addr, len, offset, access),
            Self::Ones => {
                let scratch = OwnedPages::new(calls, len, Content::Reserved)?;
                // SAFETY: the pages were mapped above, and nobody else knows of them.
                unsafe { self.map_over(calls, scratch.base(), 0, len, (0, access)) }
                    .map_err(|Interrupted { source, .. }| source)?;
                // Held, it would take from the VMAs whose presence it proves.
                drop(scratch);
                Ok(None)
            }
            Self::Anonymous | Self::Zeros if access.is_writable() && overcommit::is_strict() => {
                OwnedPages::new(calls, len, Content::Anonymous(access)).map(Some)
            }
            Self::Anonymous | Self::Zeros => Ok(None),
        }
    }
}

impl From<Mappable> for Backing {
    fn from(mappable: Mappable) -> Self {
        Self::Mappable(mappable)
    }
}
