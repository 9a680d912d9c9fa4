//! What is kept out of core dumps and forked children.
//!
//! The kernel keeps this with each mapping and not with the file, so each mapping takes two calls.
//! For a few pages of RAM that come back where a ROM was, these would be most of the cost.

use crate::sys::Advice;

/// Whether mappings are left out of core dumps and forked children.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Exclusion {
    /// They are in both, as the kernel's default is.
    None,
    /// They are in neither.
    DumpAndFork,
}

/// The length in bytes from which on a mapping is kept out. Unit tests want to map less.
pub(crate) const SHORTEST: u64 = if cfg!(test) { 16 << 10 } else { 1 << 20 };

impl Exclusion {
    /// Returns the advice that a new mapping of `len` bytes needs.
    pub(crate) fn advice(self, len: u64) -> &'static [Advice] {
        match self {
            Self::DumpAndFork if len >= SHORTEST => &[Advice::DontDump, Advice::DontFork],
            Self::None | Self::DumpAndFork => &[],
        }
    }
}
