//! How a region is mapped, and with which permissions.

use inspect::Inspect;
use memory_range::Access;
use std::fmt;

/// Says whether the guest may fetch instructions from a range.
///
/// Not every hypervisor can deny it: KVM has no such permission, and its backend refuses
/// [`Execute::Denied`] rather than to accept it silently.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Inspect)]
pub enum Execute {
    /// The guest may execute from the range.
    Allowed,
    /// The guest may not execute from the range.
    Denied,
}

/// What a guest may do with a visible range.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Inspect)]
pub struct Permissions {
    /// Loads only, or loads and stores.
    #[inspect(display)]
    pub access: Access,
    /// Instruction fetches.
    pub execute: Execute,
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let execute = match self.execute {
            Execute::Allowed => "x",
            Execute::Denied => "",
        };
        write!(f, "{}{execute}", self.access)
    }
}

/// Where a region is mapped, and with which permissions.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Inspect)]
pub struct MapParams {
    /// The guest physical address of the region's first byte; page aligned.
    #[inspect(hex)]
    pub gpa: u64,
    /// What the region allows; a mapping in it may allow less, and then does.
    #[inspect(display)]
    pub access: Access,
    /// Whether the guest may execute from the region.
    pub execute: Execute,
    /// Whether listeners are asked to fault the memory in as soon as they show it.
    pub prefetch: bool,
}

impl MapParams {
    /// Maps at `gpa` with `access`, executable, without prefetch.
    pub const fn new(gpa: u64, access: Access) -> Self {
        Self {
            gpa,
            access,
            execute: Execute::Allowed,
            prefetch: false,
        }
    }

    /// Denies instruction fetches.
    #[must_use]
    pub const fn not_executable(mut self) -> Self {
        self.execute = Execute::Denied;
        self
    }

    /// Asks listeners to fault the memory in.
    #[must_use]
    pub const fn prefetched(mut self, prefetch: bool) -> Self {
        self.prefetch = prefetch;
        self
    }
}
