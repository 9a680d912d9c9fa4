//! The files that a client has, and how much of its view refers to each.

use super::view::{Difference, Held};
use sparse_alloc::Mappable;
use std::collections::HashMap;

/// Each file is sent once, and has a number from then until no range refers to it any more.
#[derive(Debug, Default)]
pub(super) struct Files {
    known: HashMap<Mappable, Known>,
    /// Numbers that may be given anew.
    free: Vec<u32>,
    next: u32,
}

#[derive(Copy, Clone, Debug)]
struct Known {
    id: u32,
    /// Of the ranges that refer to it. Bytes, and not ranges, since ranges are cut and joined.
    bytes: u64,
}

/// What a change means for the files.
#[derive(Debug, Default)]
pub(super) struct FileChanges {
    /// To be sent before the ranges.
    pub(super) new: Vec<(u32, Mappable)>,
    /// To be forgotten after them.
    pub(super) unused: Vec<u32>,
}

impl Files {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The number of a file that some range refers to.
    pub(super) fn id(&self, file: &Mappable) -> Option<u32> {
        self.known.get(file).map(|known| known.id)
    }

    /// Counts what a change refers to. `None`: there are no numbers left.
    ///
    /// What is unused keeps its number, for the ranges of this change, until it is
    /// [released](Self::release).
    pub(super) fn count(&mut self, differences: &[Difference]) -> Option<FileChanges> {
        let mut changes = FileChanges::default();
        let mut released = Vec::new();
        for difference in differences {
            let len = difference.range.len();
            if let Some(file) = file(difference.new.as_ref()) {
                match self.known.get_mut(file) {
                    Some(known) => known.bytes = known.bytes.saturating_add(len),
                    None => {
                        let id = self.take_id()?;
                        changes.new.push((id, file.clone()));
                        self.known.insert(file.clone(), Known { id, bytes: len });
                    }
                }
            }
            if let Some(file) = file(difference.old.as_ref())
                && let Some(known) = self.known.get_mut(file)
            {
                known.bytes = known.bytes.saturating_sub(len);
                if known.bytes == 0 {
                    released.push(file);
                }
            }
        }
        for file in released {
            // It may be in use again.
            if self.known.get(file).is_some_and(|known| known.bytes == 0)
                && let Some(known) = self.known.remove(file)
            {
                changes.unused.push(known.id);
            }
        }
        Some(changes)
    }

    /// Lets numbers be given anew, once the client was told to forget them.
    pub(super) fn release(&mut self, unused: &[u32]) {
        self.free.extend(unused);
    }

    fn take_id(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            return Some(id);
        }
        let id = self.next;
        self.next = id.checked_add(1)?;
        Some(id)
    }
}

fn file(held: Option<&Held>) -> Option<&Mappable> {
    held.and_then(|held| held.backing.as_mappable())
}
