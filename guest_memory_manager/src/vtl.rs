//! Who looks at guest memory.

use inspect::Inspect;
use std::fmt;

/// A virtual trust level, of which a partition runs one.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Inspect)]
pub enum Vtl {
    /// The guest proper.
    Vtl0,
    /// The guest's own secure kernel; it sees the same addresses as VTL0.
    Vtl1,
    /// The paravisor; it sees its own RAM besides, and the alias map if there is one.
    Vtl2,
}

impl fmt::Display for Vtl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vtl0 => "vtl0",
            Self::Vtl1 => "vtl1",
            Self::Vtl2 => "vtl2",
        })
    }
}

/// A process that owns a VM, where that is another one than this.
///
/// Without the feature `remote` there are none: the type has no value, so nothing but `None` can be
/// given where an `Option<RemoteProcess>` is asked for.
#[cfg(not(feature = "remote"))]
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RemoteProcess {}

#[cfg(feature = "remote")]
pub use crate::remote::RemoteProcess;
