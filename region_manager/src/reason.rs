//! What a change was asked for.

use crate::{MapParams, RegionId};
use memory_range::{Access, MemoryRange};

/// One edit of a transaction, without what it edits with.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Edit {
    Create(RegionId),
    CreateAlias(RegionId),
    Remove(RegionId),
    Map(RegionId, MapParams),
    Unmap(RegionId),
    AddMapping(RegionId, MemoryRange, Access),
    RemoveMappings(RegionId, MemoryRange),
}

impl Edit {
    /// The region that was edited.
    pub(crate) fn region(&self) -> RegionId {
        match self {
            Self::Create(id)
            | Self::CreateAlias(id)
            | Self::Remove(id)
            | Self::Map(id, _)
            | Self::Unmap(id)
            | Self::AddMapping(id, ..)
            | Self::RemoveMappings(id, _) => *id,
        }
    }
}

/// Why there was a change: the first edit of its transaction, and how many there were.
///
/// Kept as numbers, and put into words only when somebody looks: a change must not pay for that.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(crate) struct Reason {
    first: Option<Edit>,
    edits: u64,
}

impl Reason {
    pub(crate) fn add(&mut self, edit: Edit) {
        if self.first.is_none() {
            self.first = Some(edit);
        }
        self.edits = self.edits.wrapping_add(1);
    }

    pub(crate) fn edits(&self) -> u64 {
        self.edits
    }

    /// Puts the reason into words. `name` knows the regions that there are.
    pub(crate) fn describe(&self, name: impl Fn(RegionId) -> Option<String>) -> String {
        let Some(first) = self.first else {
            return "nothing was asked for".to_owned();
        };
        let region =
            |id: RegionId| name(id).unwrap_or_else(|| format!("region {id}, which is gone"));
        let first = match first {
            Edit::Create(id) => format!("create {}", region(id)),
            Edit::CreateAlias(id) => format!("create alias {}", region(id)),
            Edit::Remove(id) => format!("remove region {id}"),
            Edit::Map(id, params) => {
                format!("map {} at {:#x} {}", region(id), params.gpa, params.access)
            }
            Edit::Unmap(id) => format!("unmap {}", region(id)),
            Edit::AddMapping(id, range, access) => {
                format!(
                    "show a backing {access} in {} at offsets {range}",
                    region(id)
                )
            }
            Edit::RemoveMappings(id, range) => {
                format!("clear {} at offsets {range}", region(id))
            }
        };
        match self.edits {
            0 | 1 => first,
            2 => format!("{first}, and 1 more edit"),
            edits => format!("{first}, and {} more edits", edits.wrapping_sub(1)),
        }
    }
}
