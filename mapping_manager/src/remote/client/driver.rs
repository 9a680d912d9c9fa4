//! What is done with what the manager says.

use super::apply::apply;
use super::batch::Batch;
use super::error::{ChangeError, ManagerLost, Violation, line};
use super::files::Files;
use super::inner::Inner;
use super::partitions::{Partitions, SlotFailure};
use super::shared::{ClientState, FetchState};
use crate::remote::frame::{Frame, FrameLimits, FrameReader, ReadOutcome};
use crate::remote::message::{Failed, MOST_TEXT, ToClient, ToServer, Welcome, bounded};
use memory_range::{MemoryRange, RangeMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

/// How often the socket is read before others get a turn.
const MOST_READS: u32 = 64;

/// What the next commit is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Commit {
    /// All that an eager client is shown: what it does not name goes.
    WholeView,
    /// What changes.
    Change,
}

/// The connection's one reader, and all that only it touches. Whoever holds its lock serves.
pub(super) struct Driver {
    socket: Option<Arc<OwnedFd>>,
    reader: FrameReader,
    batch: Batch,
    pub(super) files: Files,
    pub(super) partitions: Partitions,
    next: Commit,
    /// While a lazy client finds out what of its mappings another manager shows, too: where that is
    /// settled.
    settled: Option<RangeMap<()>>,
    space: u64,
    read_only: bool,
    sequence: u64,
    /// Since when a message, or a change, has been begun and not completed.
    begun: Option<Instant>,
    /// When the timer rings.
    alarm: Option<Instant>,
}

impl Driver {
    pub(super) fn new() -> Self {
        Self {
            socket: None,
            reader: FrameReader::new(FrameLimits::OF_SERVER),
            batch: Batch::default(),
            files: Files::default(),
            partitions: Partitions::default(),
            next: Commit::Change,
            settled: None,
            space: 0,
            read_only: false,
            sequence: 0,
            begun: None,
            alarm: None,
        }
    }

    /// Begins with a manager that has said its welcome.
    pub(super) fn begin(
        &mut self,
        inner: &Inner,
        socket: Arc<OwnedFd>,
        reader: FrameReader,
        welcome: &Welcome,
    ) -> Result<(), ManagerLost> {
        if let Some(before) = self.socket.take() {
            inner.gate.remove(&before);
        }
        self.reader = reader;
        self.batch = Batch::default();
        self.files.begin_anew();
        self.next = match welcome.lazy {
            true => Commit::Change,
            false => Commit::WholeView,
        };
        self.settled = welcome.lazy.then(RangeMap::new);
        self.space = welcome.space;
        self.read_only = welcome.read_only;
        self.sequence = 0;
        self.begun = None;
        self.alarm = None;
        self.socket = Some(Arc::clone(&socket));
        inner.gate.wake_at(None).map_err(ManagerLost::io)?;
        inner.gate.add(&socket).map_err(ManagerLost::io)?;
        inner.outgoing().connect(Some(socket));
        for offer in self.partitions.offer_anew() {
            inner.send(&ToServer::Offer(offer))?;
        }
        Ok(())
    }

    /// Does what there is to do. `true`: there may be more, at once.
    pub(super) fn work(&mut self, inner: &Inner) -> Result<bool, ManagerLost> {
        let Some(socket) = self.socket.clone() else {
            // The alarm that told of the loss.
            inner.gate.wake_at(None).map_err(ManagerLost::io)?;
            return Ok(false);
        };
        if inner.outgoing().waiting_since().is_some() {
            inner.outgoing().flush(&inner.gate)?;
        }
        // What came with the welcome.
        self.take_all(inner)?;
        for _ in 0..MOST_READS {
            if self.reader.read(socket.as_fd())? == ReadOutcome::WouldBlock {
                self.keep_time(inner)?;
                return Ok(false);
            }
            // All of it: nobody is told of what has been read.
            self.take_all(inner)?;
        }
        self.keep_time(inner)?;
        Ok(true)
    }

    /// Takes the messages that have been read.
    fn take_all(&mut self, inner: &Inner) -> Result<(), ManagerLost> {
        while let Some(Frame { kind, body, fds }) = self.reader.next_frame()? {
            let message = ToClient::decode(kind, body, fds.len(), self.space)?;
            self.begun = None;
            self.take(inner, message, fds)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        inner: &Inner,
        message: ToClient,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ManagerLost> {
        match message {
            ToClient::Welcome(_) => {
                let found = "welcome";
                return Err(Violation::Unexpected { found }.into());
            }
            ToClient::Files(files) => {
                for (info, fd) in files.into_iter().zip(fds) {
                    self.files.add(info, fd)?;
                }
            }
            ToClient::Forget(ids) => self.files.forget(&ids)?,
            ToClient::SlotsRemoved(slots) => self.batch.remove_slots(slots)?,
            ToClient::Ranges(ops) => {
                self.batch.set_ranges(ops, &self.files, self.read_only)?;
            }
            ToClient::SlotsAdded(slots) => self.batch.add_slots(slots)?,
            ToClient::Commit { sequence } => self.commit(inner, sequence)?,
            ToClient::Fetched { request } => fetched(inner, request)?,
            ToClient::Goodbye { reason } => return Err(ManagerLost::Goodbye { reason }),
        }
        Ok(())
    }

    fn commit(&mut self, inner: &Inner, sequence: u64) -> Result<(), ManagerLost> {
        let last = self.sequence;
        if last.checked_add(1) != Some(sequence) {
            let found = sequence;
            return Err(Violation::Sequence { last, found }.into());
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.make(inner, sequence, &mut batch)?;
        self.sequence = sequence;
        inner.update(|shared| {
            shared.sequence = sequence;
            shared.counts.changes = shared.counts.changes.wrapping_add(1);
        });
        inner.send(&ToServer::Acknowledged { sequence })
    }

    /// Makes one change.
    fn make(&mut self, inner: &Inner, sequence: u64, batch: &mut Batch) -> Result<(), ManagerLost> {
        if self.next == Commit::WholeView {
            let gaps: Vec<MemoryRange> = batch.ranges.gaps(inner.mapper.space()).collect();
            for gap in gaps {
                batch.ranges.replace(gap, None);
            }
        }
        if let Some(settled) = &mut self.settled {
            settled.extend(batch.ranges.iter().map(|(range, _)| (range, ())));
        }
        self.partitions.pause(batch);
        let made = self.make_in_order(inner, batch);
        self.partitions.resume();
        made.map_err(|failure| failure.into_lost(sequence))?;
        if self.next == Commit::WholeView {
            self.next = Commit::Change;
            self.files.forget_former();
        }
        Ok(())
    }

    fn make_in_order(&mut self, inner: &Inner, batch: &Batch) -> Result<(), SlotFailure> {
        self.partitions.take_away(batch)?;
        apply(&inner.mapper, &batch.ranges)?;
        self.partitions.give(&inner.mapper, batch)
    }

    /// Finds the next piece, of at most `most` bytes, that was mapped by another manager and that this
    /// one has said nothing about.
    pub(super) fn unsettled(&self, inner: &Inner, from: u64, most: u64) -> Option<MemoryRange> {
        let settled = self.settled.as_ref()?;
        let rest = MemoryRange::try_new(from..inner.mapper.space().end()).ok()?;
        let table = inner.mapper.read_table();
        let mut unsettled = table.parts(rest).flat_map(|(part, _)| {
            let gap = settled.gaps(part).next();
            gap.into_iter()
        });
        let piece = unsettled.next()?;
        let end = piece.end().min(piece.start().saturating_add(most));
        MemoryRange::try_new(piece.start()..end).ok()
    }

    /// Takes away what the manager does not show in a piece that it was asked about.
    pub(super) fn settle(&mut self, inner: &Inner, piece: MemoryRange) -> Result<(), ManagerLost> {
        let Some(settled) = &mut self.settled else {
            return Ok(());
        };
        let gone: Vec<MemoryRange> = settled.gaps(piece).collect();
        for range in gone {
            let unmapped = inner.mapper.unmap(range);
            unmapped.map_err(|source| ManagerLost::Change {
                sequence: self.sequence,
                source: Arc::new(ChangeError::Unmap { range, source }),
            })?;
        }
        settled.replace(piece, ());
        Ok(())
    }

    /// All that was mapped by another manager is settled.
    pub(super) fn all_settled(&mut self) {
        self.settled = None;
        self.files.forget_former();
    }

    /// Looks whether the manager has taken too long over something, and when to look again.
    fn keep_time(&mut self, inner: &Inner) -> Result<(), ManagerLost> {
        let is_begun = self.reader.pending() > 0 || !self.batch.is_empty();
        self.begun = match is_begun {
            true => Some(self.begun.unwrap_or_else(Instant::now)),
            false => None,
        };
        let unread = inner.outgoing().waiting_since();
        let within = inner.options.deadline;
        let mut alarm: Option<Instant> = None;
        let overdue = [
            (self.begun, "complete what it began"),
            (unread, "read what it was sent"),
        ];
        for (since, what) in overdue {
            // A time that no clock reaches is never.
            let Some(at) = since.and_then(|since| since.checked_add(within)) else {
                continue;
            };
            if at <= Instant::now() {
                return Err(ManagerLost::TimedOut { what, within });
            }
            alarm = Some(alarm.map_or(at, |alarm| alarm.min(at)));
        }
        if alarm != self.alarm {
            inner.gate.wake_at(alarm).map_err(ManagerLost::io)?;
            self.alarm = alarm;
        }
        Ok(())
    }

    /// Ends the connection. What is mapped stays so.
    pub(super) fn lose(&mut self, inner: &Inner, lost: ManagerLost) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        if lost.is_ours_to_tell() {
            let failed = ToServer::Failed(Failed {
                sequence: self.sequence.saturating_add(1),
                text: bounded(&line(&lost), MOST_TEXT),
            });
            // The connection ends in any case.
            let _ = inner.send(&failed);
        }
        inner.gate.remove(&socket);
        inner.outgoing().connect(None);
        self.batch = Batch::default();
        self.begun = None;
        self.alarm = None;
        inner.update(|shared| {
            shared.fetches.clear();
            shared.state = ClientState::Lost(lost);
        });
        // Whoever waits for something to do gets to know that there is nothing any more.
        let _ = inner.gate.wake_at(Some(Instant::now()));
    }
}

/// Tells whoever asked.
fn fetched(inner: &Inner, request: u64) -> Result<(), ManagerLost> {
    let mut is_known = true;
    inner.update(|shared| match shared.fetches.get_mut(&request) {
        Some(state @ FetchState::Waiting) => *state = FetchState::Answered,
        Some(FetchState::Abandoned) => {
            shared.fetches.remove(&request);
        }
        Some(FetchState::Answered) | None => is_known = false,
    });
    match is_known {
        true => Ok(()),
        false => Err(Violation::NoFetch { request }.into()),
    }
}
