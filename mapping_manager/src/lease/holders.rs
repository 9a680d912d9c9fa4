//! Who holds leases, as far as they gave a name.

use crate::table::LeaseAccess;
use inspect::Inspect;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The leases that were taken by name.
#[derive(Default)]
pub(crate) struct Holders {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

struct Entry {
    name: String,
    range: Range<u64>,
    access: LeaseAccess,
}

/// An entry in the list, for as long as this lives.
pub(super) struct Holder {
    holders: Arc<Holders>,
    id: u64,
}

impl Holder {
    pub(super) fn new(
        holders: &Arc<Holders>,
        name: &str,
        range: Range<u64>,
        access: LeaseAccess,
    ) -> Self {
        let entry = Entry {
            name: name.to_owned(),
            range,
            access,
        };
        let mut list = holders.list();
        let id = list.next;
        list.next = list.next.wrapping_add(1);
        list.entries.insert(id, entry);
        drop(list);
        Self {
            holders: holders.clone(),
            id,
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.holders.list().entries.remove(&self.id);
    }
}

impl Holders {
    fn list(&self) -> MutexGuard<'_, List> {
        // A list of names is whole whatever panicked.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A directory with an entry for each lease, in the order in which they were taken.
impl Inspect for Holders {
    fn inspect(&self, req: inspect::Request<'_>) {
        let list = self.list();
        req.by_index(list.entries.values());
    }
}

impl Inspect for Entry {
    fn inspect(&self, req: inspect::Request<'_>) {
        let Range { start, end } = self.range;
        req.respond()
            .value("name", &self.name)
            .display("range", &format_args!("{start:#x}-{end:#x}"))
            .display("access", &self.access);
    }
}
