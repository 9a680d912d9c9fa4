//! The alignment of a reservation.

use memory_range::{HUGE_1G, HUGE_2M, PAGE_SIZE};

/// How the base of a [`Reservation`](crate::Reservation) is aligned.
///
/// With a base at a multiple of 2 MiB or 1 GiB, an offset and its address agree in their low 21 or
/// 30 bits. KVM maps 2 MiB pages only where the low 21 bits of GPA and HVA agree.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Alignment {
    /// A multiple of 4 KiB: 12 bits agree.
    #[default]
    Page,
    /// A multiple of 2 MiB: 21 bits agree.
    Huge2M,
    /// A multiple of 1 GiB: 30 bits agree.
    Huge1G,
}

impl Alignment {
    /// Returns the alignment in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Page => PAGE_SIZE,
            Self::Huge2M => HUGE_2M,
            Self::Huge1G => HUGE_1G,
        }
    }
}
