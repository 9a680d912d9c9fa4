//! The slots that a client's partitions are to have, and have.

use crate::remote::message::{SlotAdded, SlotRemoved};
use memory_range::MemoryRange;
use std::collections::BTreeMap;

/// A partition, and exactly the range of one of its slots: its start and its length.
type Key = (u32, u64, u64);

/// The slots of one client; as its view, they are compared with what they were at the last seal.
#[derive(Debug, Default)]
pub(super) struct Slots {
    now: BTreeMap<Key, SlotAdded>,
    before: BTreeMap<Key, Option<SlotAdded>>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    pub(super) fn is_touched(&self) -> bool {
        !self.before.is_empty()
    }

    pub(super) fn add(&mut self, slot: SlotAdded) {
        let key = key(slot.partition, slot.range);
        self.remember(key);
        self.now.insert(key, slot);
    }

    pub(super) fn remove(&mut self, partition: u32, range: MemoryRange) {
        let key = key(partition, range);
        self.remember(key);
        self.now.remove(&key);
    }

    /// The partition is gone with all that it had.
    pub(super) fn forget(&mut self, partition: u32) {
        self.now.retain(|key, _| key.0 != partition);
        self.before.retain(|key, _| key.0 != partition);
    }

    /// Finds out what a client must be told, and takes it for told.
    pub(super) fn take_differences(&mut self) -> (Vec<SlotRemoved>, Vec<SlotAdded>) {
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for (key, old) in std::mem::take(&mut self.before) {
            let new = self.now.get(&key).copied();
            if old == new {
                continue;
            }
            removed.extend(old.map(|slot| SlotRemoved {
                partition: slot.partition,
                range: slot.range,
            }));
            added.extend(new);
        }
        (removed, added)
    }

    fn remember(&mut self, key: Key) {
        let now = &self.now;
        let before = || now.get(&key).copied();
        self.before.entry(key).or_insert_with(before);
    }
}

fn key(partition: u32, range: MemoryRange) -> Key {
    (partition, range.start(), range.len())
}
