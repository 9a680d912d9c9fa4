//! From what was changed to one batch of messages.

use super::state::{Phase, State};
use super::view::{Difference, Held};
use crate::remote::eviction::Eviction;
use crate::remote::message::{
    Fetch, FileInfo, MOST_FILES, MOST_ITEMS, MOST_NAME, MOST_PENDING, RangeOp, Shown, SlotAdded,
    SlotRemoved, Source, ToClient, bounded,
};
use memory_range::MemoryRange;
use sparse_alloc::{Backing, Mappable};
use std::time::Instant;

impl State {
    /// Makes one change of what was touched since the last seal, and queues it. The first seal makes
    /// one even of nothing: it tells the client that it has all there is.
    pub(super) fn seal(&mut self, now: Instant) -> Option<u64> {
        match self.phase {
            Phase::Live => {}
            Phase::Greeting => {
                self.sealed_early = true;
                return None;
            }
            Phase::Gone(_) => return None,
        }
        let is_first = self.sealed == 0;
        let is_touched = self.view.is_touched() || self.slots.is_touched();
        if !is_first && !is_touched && self.postponed.is_empty() {
            return None;
        }
        let differences = self.view.take_differences();
        let (removed, added) = self.slots.take_differences();
        let is_something = !differences.is_empty() || !removed.is_empty() || !added.is_empty();
        let sequence = if is_first || is_something {
            self.commit(&differences, &removed, &added, now)
        } else {
            None
        };
        for fetch in std::mem::take(&mut self.postponed) {
            self.answer(fetch, now);
        }
        sequence
    }

    /// Sends a lazy client what it lacks at a place, and says that it has it.
    pub(super) fn answer(&mut self, fetch: Fetch, now: Instant) {
        let lacking = self.view.fetch(fetch.range);
        if !lacking.is_empty() {
            self.commit(&lacking, &[], &[], now);
        }
        let fetched = ToClient::Fetched {
            request: fetch.request,
        };
        self.push_or_evict(&fetched, Vec::new());
    }

    /// Queues a change; what cannot be queued evicts the client.
    fn commit(
        &mut self,
        differences: &[Difference],
        removed: &[SlotRemoved],
        added: &[SlotAdded],
        now: Instant,
    ) -> Option<u64> {
        match self.try_commit(differences, removed, added, now) {
            Ok(sequence) => Some(sequence),
            Err(reason) => {
                self.evict(reason);
                None
            }
        }
    }

    fn try_commit(
        &mut self,
        differences: &[Difference],
        removed: &[SlotRemoved],
        added: &[SlotAdded],
        now: Instant,
    ) -> Result<u64, Eviction> {
        if self.unacknowledged.len() >= MOST_PENDING
            && let Some((sequence, _)) = self.unacknowledged.front()
        {
            // Its deadline may be long.
            return Err(Eviction::TooFarBehind {
                sequence: *sequence,
                most: MOST_PENDING,
            });
        }
        let most = MOST_PENDING;
        let count = differences.len().saturating_add(removed.len());
        let count = count.saturating_add(added.len());
        let too_long = |count| Eviction::ChangeTooLong { count, most };
        if count > most {
            return Err(too_long(count));
        }
        let files = self.files.count(differences);
        let files = files.ok_or_else(|| too_long(count))?;
        for some in files.new.chunks(MOST_FILES) {
            let infos = some.iter().map(|(id, file)| info(*id, file));
            let infos = infos.collect::<Result<_, Eviction>>()?;
            let fds = some.iter().map(|(_, file)| file.clone()).collect();
            self.push(&ToClient::Files(infos), fds)?;
        }
        for some in removed.chunks(MOST_ITEMS) {
            self.push(&ToClient::SlotsRemoved(some.to_vec()), Vec::new())?;
        }
        let mut ranges = self.ranges(differences).into_iter().peekable();
        while ranges.peek().is_some() {
            let some = ranges.by_ref().take(MOST_ITEMS).collect();
            self.push(&ToClient::Ranges(some), Vec::new())?;
        }
        for some in added.chunks(MOST_ITEMS) {
            self.push(&ToClient::SlotsAdded(some.to_vec()), Vec::new())?;
        }
        for some in files.unused.chunks(MOST_ITEMS) {
            self.push(&ToClient::Forget(some.to_vec()), Vec::new())?;
        }
        self.files.release(&files.unused);
        let sequence = self.sealed.saturating_add(1);
        self.push(&ToClient::Commit { sequence }, Vec::new())?;
        self.sealed = sequence;
        let until = self.deadline(now);
        self.unacknowledged.push_back((sequence, until));
        Ok(sequence)
    }

    /// What the client is told of its ranges: neighbours that continue each other are one.
    fn ranges(&self, differences: &[Difference]) -> Vec<RangeOp> {
        let mut ops: Vec<RangeOp> = Vec::with_capacity(differences.len());
        for Difference { range, new, .. } in differences {
            let shown = new.as_ref().and_then(|held| self.shown(held));
            let op = RangeOp {
                range: *range,
                shown,
            };
            match ops.last_mut() {
                Some(last) => match joined(last, &op) {
                    Some(both) => last.range = both,
                    None => ops.push(op),
                },
                None => ops.push(op),
            }
        }
        ops
    }

    fn shown(&self, held: &Held) -> Option<Shown> {
        let source = match &held.backing {
            Backing::Mappable(file) => Source::File(self.files.id(file)?),
            Backing::Zeros => Source::Zeros,
            Backing::Ones => Source::Ones,
            Backing::Anonymous => return None,
        };
        Some(Shown {
            source,
            offset: held.offset,
            writable: held.access.is_writable(),
        })
    }

    pub(super) fn push(
        &mut self,
        message: &ToClient,
        files: Vec<Mappable>,
    ) -> Result<(), Eviction> {
        let pushed = self.outgoing.push(message, files);
        pushed.map_err(|error| Eviction::Encode(Box::new(error)))
    }

    fn push_or_evict(&mut self, message: &ToClient, files: Vec<Mappable>) {
        if let Err(reason) = self.push(message, files) {
            self.evict(reason);
        }
    }
}

fn info(id: u32, file: &Mappable) -> Result<FileInfo, Eviction> {
    let len = file
        .len()
        .map_err(|error| Eviction::Io(std::io::Error::other(error)))?;
    Ok(FileInfo {
        id,
        len,
        name: bounded(file.name(), MOST_NAME),
    })
}

/// The range of both, if the second goes on where the first ends.
fn joined(first: &RangeOp, second: &RangeOp) -> Option<MemoryRange> {
    if first.range.end() != second.range.start() {
        return None;
    }
    let continues = match (first.shown, second.shown) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            let offset = match one.source {
                Source::File(_) => one.offset.checked_add(first.range.len())?,
                Source::Zeros | Source::Ones => 0,
            };
            one.source == other.source && one.writable == other.writable && other.offset == offset
        }
        _ => false,
    };
    let both = MemoryRange::try_new(first.range.start()..second.range.end()).ok()?;
    continues.then_some(both)
}
