//! The partitions that a client offers, and their slots.

use super::batch::Batch;
use super::error::{ChangeError, ManagerLost, Violation};
use crate::VaMapper;
use crate::remote::message::{MOST_PARTITIONS, Offer, SlotAdded, SlotRemoved};
use memory_range::{Access, MemoryRange, RangeMap, RangeValue, sorted};
use sparse_alloc::HostRange;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

/// The memory slots of a partition in this process, which the manager decides on.
///
/// It is called while a change is made, and must not call the client: whatever would have to wait for
/// the connection gets an error. It is dropped when the partition is withdrawn or the client ends,
/// after its slots were taken away.
pub trait SlotTaker: Send {
    /// Shows host addresses to the guest at `range`, which is as long and overlaps no other slot.
    ///
    /// The addresses stay reserved while `host` or a clone of it lives; so a taker keeps one until the
    /// slot is gone. What is mapped there changes, and there may be nothing. `executable` says whether
    /// the guest may run what is there.
    ///
    /// # Errors
    ///
    /// The slot was not added. The client then gives up the connection, and tells the manager.
    fn add(
        &mut self,
        range: MemoryRange,
        host: HostRange,
        access: Access,
        executable: bool,
    ) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Takes away a slot that was added, of exactly this range.
    ///
    /// # Errors
    ///
    /// The slot is still there. The client then gives up the connection, and tells the manager.
    fn remove(&mut self, range: MemoryRange) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Says that a change is about to take slots away in these places, sorted and disjoint, and to give
    /// others there: a gap that a running vCPU could see. Who can stops the vCPUs until
    /// [`resume`](Self::resume) is called.
    fn pause(&mut self, gaps: &[MemoryRange]) {
        let _ = gaps;
    }

    /// Says that the gaps of the last [`pause`](Self::pause) are over, also when the change has failed.
    fn resume(&mut self) {}
}

/// A slot that the taker has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Taken {
    slot: SlotAdded,
    /// The manager of now has not given it, one before has.
    is_former: bool,
}

/// Slots are never cut.
impl RangeValue for Taken {}

struct Partition {
    number: u32,
    name: String,
    kind: String,
    limit: Option<u64>,
    taker: Box<dyn SlotTaker>,
    slots: RangeMap<Taken>,
    /// How many of them are former.
    former: usize,
    is_paused: bool,
}

/// Why a slot operation was not made: the manager's fault, or this side's.
pub(super) enum SlotFailure {
    Violation(Violation),
    Change(ChangeError),
}

impl From<Violation> for SlotFailure {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<ChangeError> for SlotFailure {
    fn from(error: ChangeError) -> Self {
        Self::Change(error)
    }
}

impl SlotFailure {
    pub(super) fn into_lost(self, sequence: u64) -> ManagerLost {
        match self {
            Self::Violation(violation) => violation.into(),
            Self::Change(source) => ManagerLost::Change {
                sequence,
                source: Arc::new(source),
            },
        }
    }
}

/// What is offered, by number. Numbers are not given twice, so that messages about a partition that was
/// withdrawn meanwhile can be told from messages about none.
#[derive(Default)]
pub(super) struct Partitions {
    offered: BTreeMap<u32, Partition>,
    next: u32,
}

impl Partitions {
    pub(super) fn is_full(&self) -> bool {
        self.offered.len() >= MOST_PARTITIONS
    }

    /// Adds one; returns what the manager is to be told.
    pub(super) fn add(
        &mut self,
        name: String,
        kind: String,
        limit: Option<u64>,
        taker: Box<dyn SlotTaker>,
    ) -> Offer {
        let number = self.next;
        self.next = number.saturating_add(1);
        let partition = Partition {
            number,
            name,
            kind,
            limit,
            taker,
            slots: RangeMap::new(),
            former: 0,
            is_paused: false,
        };
        let offer = partition.offer();
        self.offered.insert(number, partition);
        offer
    }

    /// Takes one back with its slots. `None`: there is none.
    pub(super) fn withdraw(&mut self, number: u32) -> Option<Result<(), ChangeError>> {
        let mut partition = self.offered.remove(&number)?;
        Some(partition.remove_all())
    }

    /// What a manager is told that knows none of them yet. What slots they have were given by another
    /// manager.
    pub(super) fn offer_anew(&mut self) -> Vec<Offer> {
        let offered = self.offered.values_mut().map(|partition| {
            let slots = partition.slots.iter();
            partition.slots = slots
                .map(|(range, taken)| {
                    let is_former = true;
                    (
                        range,
                        Taken {
                            is_former,
                            ..*taken
                        },
                    )
                })
                .collect();
            partition.former = partition.slots.len();
            partition.offer()
        });
        offered.collect()
    }

    /// How many partitions have how many slots: by number, name and count.
    pub(super) fn summary(&self) -> Vec<(u32, String, u64)> {
        let each = self.offered.iter().map(|(number, partition)| {
            let slots = partition.slots.len() as u64;
            (*number, partition.name.clone(), slots)
        });
        each.collect()
    }

    /// Says to those who will have slots taken away and others given in the same places that it begins.
    pub(super) fn pause(&mut self, batch: &Batch) {
        for partition in self.offered.values_mut() {
            let number = partition.number;
            let added = batch.added.iter().filter(|slot| slot.partition == number);
            let added: Vec<MemoryRange> = added.map(|slot| slot.range).collect();
            if added.is_empty() {
                continue;
            }
            let removed = batch.removed.iter();
            let removed = removed.filter(|slot| slot.partition == number);
            // What stays of a former manager's slots may be among them: that stops more, and loses
            // nothing.
            let former = match partition.former {
                0 => None,
                _ => Some(partition.slots.iter()),
            };
            let former = former.into_iter().flatten();
            let former = former.filter(|(_, taken)| taken.is_former);
            let former = former.map(|(range, _)| range);
            let gone: Vec<MemoryRange> = removed.map(|slot| slot.range).chain(former).collect();
            let (gone, added) = (sorted::flatten(&gone), sorted::flatten(&added));
            let gaps: Vec<MemoryRange> = sorted::overlap(gone, added).collect();
            if !gaps.is_empty() {
                partition.is_paused = true;
                partition.taker.pause(&gaps);
            }
        }
    }

    /// Says to those to whom it was said that it begins that it is over.
    pub(super) fn resume(&mut self) {
        for partition in self.offered.values_mut().filter(|one| one.is_paused) {
            partition.is_paused = false;
            partition.taker.resume();
        }
    }

    /// Takes away what goes, before memory changes.
    pub(super) fn take_away(&mut self, batch: &Batch) -> Result<(), SlotFailure> {
        for &SlotRemoved { partition, range } in &batch.removed {
            if let Some(partition) = self.find(partition)? {
                partition.remove(range)?;
            }
        }
        self.take_away_former(&batch.added)
    }

    /// The first slots that a manager gives are all that it gives in one change. What a manager before
    /// gave and this one does not goes; what is the same stays, untouched.
    fn take_away_former(&mut self, added: &[SlotAdded]) -> Result<(), SlotFailure> {
        for partition in self.offered.values_mut().filter(|one| one.former > 0) {
            let number = partition.number;
            let added = added.iter().filter(|slot| slot.partition == number);
            let added: BTreeMap<u64, &SlotAdded> =
                added.map(|slot| (slot.range.start(), slot)).collect();
            if added.is_empty() {
                continue;
            }
            let former = partition.slots.iter().filter(|(_, taken)| taken.is_former);
            let gone = former.filter(|(range, taken)| {
                let same = added.get(&range.start());
                same.is_none_or(|slot| **slot != taken.slot)
            });
            let gone: Vec<MemoryRange> = gone.map(|(range, _)| range).collect();
            for range in gone {
                partition.remove_slot(range)?;
            }
        }
        Ok(())
    }

    /// Gives what comes, after memory has changed.
    pub(super) fn give(&mut self, mapper: &VaMapper, batch: &Batch) -> Result<(), SlotFailure> {
        for slot in &batch.added {
            if let Some(partition) = self.find(slot.partition)? {
                partition.add(mapper, *slot)?;
            }
        }
        Ok(())
    }

    /// `None` if it was withdrawn, which the manager may not have known.
    fn find(&mut self, number: u32) -> Result<Option<&mut Partition>, Violation> {
        match self.offered.get_mut(&number) {
            Some(partition) => Ok(Some(partition)),
            None if number < self.next => Ok(None),
            None => Err(Violation::NoPartition { partition: number }),
        }
    }
}

impl Partition {
    fn offer(&self) -> Offer {
        Offer {
            partition: self.number,
            name: self.name.clone(),
            kind: self.kind.clone(),
            slots: self.limit,
        }
    }

    fn add(&mut self, mapper: &VaMapper, slot: SlotAdded) -> Result<(), SlotFailure> {
        let range = slot.range;
        let given = Taken {
            slot,
            is_former: false,
        };
        if let Some((existing, taken)) = self.slots.first_overlapping(range) {
            if taken.is_former && taken.slot == slot {
                self.slots.replace(range, given);
                self.former = self.former.saturating_sub(1);
                return Ok(());
            }
            let partition = slot.partition;
            return Err(SlotFailure::Violation(Violation::Overlap {
                partition,
                range,
                existing,
            }));
        }
        let name = || self.name.clone();
        let host = HostRange::new(mapper.va(), slot.gpa, range.len());
        let host = host.map_err(|source| ChangeError::SlotOutside {
            partition: name(),
            range,
            source,
        })?;
        let access = Access::from_writable(slot.writable);
        let added = self.taker.add(range, host, access, slot.executable);
        added.map_err(|source| ChangeError::AddSlot {
            partition: self.name.clone(),
            range,
            source,
        })?;
        self.slots.replace(range, given);
        Ok(())
    }

    fn remove(&mut self, range: MemoryRange) -> Result<(), SlotFailure> {
        match self.slots.get_exact(range) {
            Some(taken) if !taken.is_former => Ok(self.remove_slot(range)?),
            _ => Err(SlotFailure::Violation(Violation::NoSlot {
                partition: self.number,
                range,
            })),
        }
    }

    fn remove_slot(&mut self, range: MemoryRange) -> Result<(), ChangeError> {
        let removed = self.taker.remove(range);
        removed.map_err(|source| ChangeError::RemoveSlot {
            partition: self.name.clone(),
            range,
            source,
        })?;
        if self
            .slots
            .remove_exact(range)
            .is_some_and(|taken| taken.is_former)
        {
            self.former = self.former.saturating_sub(1);
        }
        Ok(())
    }

    /// Takes every slot away that can be; the first failure is reported.
    fn remove_all(&mut self) -> Result<(), ChangeError> {
        let ranges: Vec<MemoryRange> = self.slots.iter().map(|(range, _)| range).collect();
        let mut result = Ok(());
        for range in ranges {
            let removed = self.remove_slot(range);
            result = result.and(removed);
        }
        result
    }
}

/// Its slots go before its taker does.
impl Drop for Partition {
    fn drop(&mut self) {
        // The taker has a share of the addresses, and knows which of them it did not give up.
        let _ = self.remove_all();
    }
}
