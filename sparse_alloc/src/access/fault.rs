//! What a caught fault says.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;

/// A fault that an access ran into, caught.
///
/// It says at which host address and of which kind. It is one machine word, so that a
/// `Result<u64, Fault>` travels in two registers.
///
/// ```
/// use sparse_alloc::access::{Fault, FaultKind};
///
/// let fault = Fault::new(0x7000_1000, FaultKind::Bus);
/// assert_eq!(fault.address(), 0x7000_1000);
/// assert_eq!(fault.kind(), FaultKind::Bus);
/// ```
//
// Layout F1: bit 63 is set (so it is never zero); bits 58..63 are the page shift of a hardware
// error; bits 56..58 the kind; bits 0..56 the address. User addresses have at most 56 bits, with
// five-level paging.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Fault(NonZeroU64);

/// What kind of fault an access ran into.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FaultKind {
    /// Nothing is mapped there, or the mapping forbids the access (`SIGSEGV`).
    Access,
    /// The mapping has no page there, because its file ends before it: someone truncated the
    /// file (`SIGBUS`). A file system that cannot read or allocate the page, and a huge page pool
    /// that has run dry, show themselves in the same way.
    Bus,
    /// The processor refuses to access this address unaligned (`SIGBUS`): where the host is set
    /// up to forbid locked accesses that cross a cache line.
    Misaligned,
    /// The memory itself is broken (`SIGBUS` with `BUS_MCEERR_AR`), and the kernel has taken the
    /// page away.
    HardwareError {
        /// How much is lost: `1 << page_shift` bytes, naturally aligned, around the fault's
        /// address. 12 is a 4 KiB page. At most 31.
        page_shift: u8,
    },
}

/// Makes the word non-zero whatever the rest is, by F1.
const PRESENT: u64 = 1 << 63;
const SHIFT_AT: u32 = 58;
const SHIFT_MAX: u8 = 31;
const KIND_AT: u32 = 56;
const ADDRESS: u64 = (1 << KIND_AT) - 1;

impl Fault {
    /// Makes a fault of that kind at a host address, as a fake of this module does.
    ///
    /// Only the low 56 bits of the address are kept, which every user address fits, and a page
    /// shift above 31 becomes 31.
    #[must_use]
    pub const fn new(address: usize, kind: FaultKind) -> Self {
        let (kind, shift) = match kind {
            FaultKind::Access => (0, 0),
            FaultKind::Bus => (1, 0),
            FaultKind::Misaligned => (2, 0),
            FaultKind::HardwareError { page_shift } => (
                3,
                if page_shift > SHIFT_MAX {
                    SHIFT_MAX
                } else {
                    page_shift
                },
            ),
        };
        let rest = (shift as u64) << SHIFT_AT | kind << KIND_AT | (address as u64 & ADDRESS);
        // `|` of the constant keeps it non-zero; `NonZeroU64` has a const one only of its own kind.
        match NonZeroU64::new(PRESENT | rest) {
            Some(word) => Self(word),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Reads a status register: `None` if it is still zero.
    #[inline(always)]
    pub(super) const fn from_status(status: u64) -> Option<Self> {
        match NonZeroU64::new(status) {
            Some(word) => Some(Self(word)),
            None => None,
        }
    }

    /// Returns what a status register is set to.
    pub(super) const fn to_status(self) -> u64 {
        self.0.get()
    }

    /// Returns the host address that faulted.
    ///
    /// Exact to the byte for [`FaultKind::Access`] and [`FaultKind::Bus`]: the first byte of the
    /// access that could not be reached. For a hardware error the kernel may have rounded it down
    /// to the page that is lost.
    #[must_use]
    pub const fn address(self) -> usize {
        (self.0.get() & ADDRESS) as usize
    }

    /// Returns what kind of fault it was.
    #[must_use]
    pub const fn kind(self) -> FaultKind {
        match (self.0.get() >> KIND_AT) & 3 {
            0 => FaultKind::Access,
            1 => FaultKind::Bus,
            2 => FaultKind::Misaligned,
            _ => FaultKind::HardwareError {
                page_shift: (self.0.get() >> SHIFT_AT) as u8 & SHIFT_MAX,
            },
        }
    }

    /// Returns the half-open range of host addresses whose contents are lost, for a hardware
    /// error; `None` for any other fault.
    #[must_use]
    pub const fn lost_page(self) -> Option<Range<usize>> {
        match self.kind() {
            FaultKind::HardwareError { page_shift } => {
                let size = 1_usize << page_shift;
                let start = self.address() & !(size - 1);
                // Bounded by 2^56 + 2^31.
                Some(start..start + size)
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("address", &format_args!("{:#x}", self.address()))
            .field("kind", &self.kind())
            .finish()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at hva {:#x}", self.kind(), self.address())
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Access => f.write_str("unmapped or protected memory"),
            Self::Bus => f.write_str("memory without a page behind it"),
            Self::Misaligned => f.write_str("forbidden unaligned access"),
            Self::HardwareError { page_shift } => {
                write!(f, "hardware memory error of 2^{page_shift} bytes")
            }
        }
    }
}

/// A copy, fill or comparison that ran into a fault part of the way.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[error("fault after {done:#x} bytes")]
pub struct CopyFault {
    /// How many bytes were done before the first that could not be: exact to the byte.
    pub done: usize,
    /// What stopped it.
    #[source]
    pub fault: Fault,
}

impl CopyFault {
    /// Returns the same fault, `before` bytes further into a longer operation.
    #[must_use]
    pub const fn after(self, before: usize) -> Self {
        Self {
            done: self.done.saturating_add(before),
            fault: self.fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_and_unpacks_every_kind() {
        let kinds = [
            FaultKind::Access,
            FaultKind::Bus,
            FaultKind::Misaligned,
            FaultKind::HardwareError { page_shift: 0 },
            FaultKind::HardwareError { page_shift: 12 },
            FaultKind::HardwareError { page_shift: 31 },
        ];
        for kind in kinds {
            for address in [0, 1, 0xfff, 0x7fff_ffff_f000, (1 << 56) - 1] {
                let fault = Fault::new(address, kind);
                assert_eq!((fault.address(), fault.kind()), (address, kind));
                assert_eq!(Fault::from_status(fault.to_status()), Some(fault));
            }
        }
        assert_eq!(Fault::from_status(0), None);
    }

    #[test]
    fn a_result_is_two_words() {
        assert_eq!(size_of::<Result<u64, Fault>>(), 16);
        assert_eq!(size_of::<Result<(), Fault>>(), 8);
        assert_eq!(size_of::<Result<(), CopyFault>>(), 16);
    }

    #[test]
    fn a_hardware_error_loses_the_page_around_its_address() {
        let lost = |address, page_shift| {
            Fault::new(address, FaultKind::HardwareError { page_shift }).lost_page()
        };
        assert_eq!(lost(0x1234, 12), Some(0x1000..0x2000));
        assert_eq!(lost(0x1000, 12), Some(0x1000..0x2000));
        assert_eq!(lost(0x3f_ffff, 21), Some(0x20_0000..0x40_0000));
        assert_eq!(lost(0x1234, 0), Some(0x1234..0x1235));
        assert_eq!(Fault::new(0x1234, FaultKind::Bus).lost_page(), None);
    }

    #[test]
    fn says_where_and_what() {
        let fault = Fault::new(0x1000, FaultKind::Access);
        assert_eq!(
            fault.to_string(),
            "unmapped or protected memory at hva 0x1000"
        );
        let copy = CopyFault { done: 16, fault };
        assert_eq!(copy.to_string(), "fault after 0x10 bytes");
        assert_eq!(copy.after(16).done, 32);
    }
}
