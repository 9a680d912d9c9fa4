//! What is kept out of core dumps and forked children.

use crate::sys::Advice;

/// Whether mappings are left out of core dumps and forked children.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Exclusion {
    /// They are in both, as the kernel's default is.
    None,
    /// They are in neither.
    DumpAndFork,
}

impl Exclusion {
    /// Returns the advice that each new mapping needs.
    pub(crate) fn advice(self) -> &'static [Advice] {
        match self {
            Self::None => &[],
            Self::DumpAndFork => &[Advice::DontDump, Advice::DontFork],
        }
    }
}
