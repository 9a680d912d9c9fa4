//! Lets a DMA target follow the view.

use super::{DmaMapping, DmaTarget, DmaTargetError};
use inspect::Inspect;
use memory_range::{MemoryRange, sorted};
use region_manager::{DmaListener, Followed, ListenerError, MemoryKind, SubMapping};
use sparse_alloc::{Backing, HostRange, MappedRegion};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// A DMA target as a listener: cuts what the view shows to what the target is to see, knows what the
/// target has, and sees to it that none of it outlives the host addresses behind it.
pub(crate) struct Follower {
    target: Box<dyn DmaTarget>,
    va: Arc<dyn MappedRegion>,
    /// Sorted and disjoint.
    filter: Vec<MemoryRange>,
    /// Added to an address of the view.
    offset: u64,
    device_memory: bool,
    /// Exactly what the target has, by address in the view. Each holds a share of the addresses and
    /// of the file, and is released when the target has given it up, else leaked.
    held: BTreeMap<u64, DmaMapping>,
    /// Whether the target was called since it last finished.
    touched: bool,
    unfinished: Unfinished,
}

/// Why the target could not finish the last change, for whoever asks.
#[derive(Clone)]
pub(crate) struct Unfinished {
    target: Arc<str>,
    cause: Arc<Mutex<Option<DmaTargetError>>>,
}

impl Unfinished {
    fn of(target: &str) -> Self {
        Self {
            target: target.into(),
            cause: Arc::default(),
        }
    }

    /// The target's name.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// What went wrong, if the last change is not finished.
    pub(crate) fn cause(&self) -> Option<String> {
        self.slot().as_ref().map(ToString::to_string)
    }

    /// As [`cause`](Self::cause), for good.
    pub(crate) fn take(&self) -> Option<DmaTargetError> {
        self.slot().take()
    }

    fn slot(&self) -> MutexGuard<'_, Option<DmaTargetError>> {
        // An error is whole whatever panicked.
        self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a piece of a mapping lies, and what the target is given there.
type Piece = (u64, DmaMapping);

/// The offset moves a mapping past the end of the address space.
#[derive(Debug, Error)]
#[error("{range} moved up by {offset:#x} runs past the end of the address space")]
struct OffsetOverflow {
    range: MemoryRange,
    offset: u64,
}

/// A target has kept memory when it was detached.
#[derive(Debug, Error)]
#[error(
    "{target} still reaches guest memory at {} places, the first at gpa {first}; its host addresses \
     are leaked",
    .count
)]
struct StillReachable {
    target: String,
    count: usize,
    first: MemoryRange,
    #[source]
    cause: DmaTargetError,
}

/// A target was not told that it has nothing any more.
#[derive(Debug, Error)]
#[error("{target} could not be told that it has nothing any more; host addresses are leaked")]
struct NotTold {
    target: String,
    #[source]
    cause: DmaTargetError,
}

impl Follower {
    pub(crate) fn new(
        target: Box<dyn DmaTarget>,
        va: Arc<dyn MappedRegion>,
        filter: Vec<MemoryRange>,
        offset: u64,
        device_memory: bool,
    ) -> Self {
        let unfinished = Unfinished::of(target.name());
        Self {
            target,
            va,
            filter,
            offset,
            device_memory,
            held: BTreeMap::new(),
            touched: false,
            unfinished,
        }
    }

    pub(crate) fn unfinished(&self) -> Unfinished {
        self.unfinished.clone()
    }

    /// What the target is to have of a mapping, by address.
    fn pieces(&self, sub: &SubMapping<Backing>) -> Result<Vec<Piece>, DmaTargetError> {
        let wanted = self.device_memory || sub.kind == MemoryKind::Ram;
        let (Some(file), true) = (sub.backing.as_mappable(), wanted) else {
            return Ok(Vec::new());
        };
        let first = self
            .filter
            .partition_point(|shown| shown.end() <= sub.range.start());
        let shown = self.filter.iter().skip(first);
        let shown = shown.take_while(|shown| shown.start() < sub.range.end());
        let mut pieces = Vec::new();
        for view in sorted::overlap([sub.range], shown) {
            let gpa = view.shifted(self.offset).ok_or(OffsetOverflow {
                range: view,
                offset: self.offset,
            })?;
            let into = sub.range.offset_of(view.start()).unwrap_or(0);
            let mapping = DmaMapping {
                gpa,
                host: HostRange::new(self.va.clone(), view.start(), view.len())?,
                file: file.clone(),
                // Does not wrap: it was checked when the mapping was added.
                offset: sub.offset.saturating_add(into),
                access: sub.access,
                kind: sub.kind,
            };
            pieces.push((view.start(), mapping));
        }
        Ok(pieces)
    }

    fn all_pieces(&self, subs: &[SubMapping<Backing>]) -> Result<Vec<DmaMapping>, DmaTargetError> {
        let mut all = Vec::new();
        for sub in subs {
            all.extend(self.pieces(sub)?.into_iter().map(|(_, piece)| piece));
        }
        Ok(all)
    }

    /// Gives the target a piece, unless it has it: one that could not be taken back after a failure
    /// is found here again.
    fn give(&mut self, (at, mapping): &Piece) -> Result<(), DmaTargetError> {
        if self.held.get(at).is_some_and(|old| old.is_same(mapping)) {
            return Ok(());
        }
        while let Some(stray) = self.in_the_way(*at, mapping.gpa()) {
            self.take(stray)?;
        }
        self.touched = true;
        self.target.map(mapping)?;
        self.held.insert(*at, mapping.clone());
        Ok(())
    }

    /// Where a piece lies that overlaps this one.
    fn in_the_way(&self, at: u64, gpa: MemoryRange) -> Option<u64> {
        let end = at.saturating_add(gpa.len());
        let (start, last) = self.held.range(..end).next_back()?;
        last.gpa().overlaps(&gpa).then_some(*start)
    }

    /// Takes a piece away, unless the target lacks it already.
    fn take(&mut self, at: u64) -> Result<Option<Piece>, DmaTargetError> {
        let Some(mapping) = self.held.get(&at) else {
            return Ok(None);
        };
        self.touched = true;
        self.target.unmap(mapping)?;
        Ok(self.held.remove(&at).map(|mapping| (at, mapping)))
    }

    /// Takes everything from the target; leaks what it keeps.
    fn release(&mut self) -> Result<(), ListenerError> {
        let mut kept = Vec::new();
        let mut first_cause = None;
        while let Some((_, mapping)) = self.held.pop_last() {
            if let Err(cause) = self.target.unmap(&mapping) {
                first_cause.get_or_insert(cause);
                kept.push(mapping);
            }
        }
        let told = self.target.finish();
        let (count, target) = (kept.len(), self.target.name().to_owned());
        let first = kept.last().map(DmaMapping::gpa);
        // Nothing else is ever put at these addresses, and the files stay open.
        kept.into_iter().for_each(std::mem::forget);
        let error: ListenerError = match (first, first_cause, told) {
            (Some(first), Some(cause), _) => Box::new(StillReachable {
                target,
                count,
                first,
                cause,
            }),
            (_, _, Err(cause)) => {
                std::mem::forget(self.va.clone());
                Box::new(NotTold { target, cause })
            }
            _ => return Ok(()),
        };
        log::error!("{error}");
        Err(error)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if !self.held.is_empty() {
            // `release` has logged the error; nobody else is here to be told.
            let _ = self.release();
        }
    }
}

impl DmaListener<Backing> for Follower {
    fn name(&self) -> &str {
        self.target.name()
    }

    fn check(
        &mut self,
        removed: &[SubMapping<Backing>],
        added: &[SubMapping<Backing>],
    ) -> Result<(), ListenerError> {
        let (removed, added) = (self.all_pieces(removed)?, self.all_pieces(added)?);
        if removed.is_empty() && added.is_empty() {
            return Ok(());
        }
        self.target.check(&removed, &added)
    }

    fn unmap(&mut self, sub: &SubMapping<Backing>) -> Result<(), ListenerError> {
        let mut taken = Vec::new();
        for (at, _) in self.pieces(sub)?.iter().rev() {
            match self.take(*at) {
                Ok(piece) => taken.extend(piece),
                Err(cause) => {
                    // The rest of it must not be missing.
                    for piece in taken.iter().rev() {
                        if let Err(error) = self.give(piece) {
                            let gpa = piece.1.gpa();
                            log::error!("{} lost {gpa} in a failure: {error}", self.target.name());
                        }
                    }
                    return Err(cause);
                }
            }
        }
        Ok(())
    }

    fn map(&mut self, sub: &SubMapping<Backing>) -> Result<(), ListenerError> {
        let pieces = self.pieces(sub)?;
        for (index, piece) in pieces.iter().enumerate() {
            if let Err(cause) = self.give(piece) {
                for (at, given) in pieces.iter().take(index).rev() {
                    if let Err(error) = self.take(*at) {
                        let (name, gpa) = (self.target.name(), given.gpa());
                        log::error!("{name} keeps {gpa} after a failure: {error}");
                    }
                }
                return Err(cause);
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: Followed) {
        // The view also tells of what this target is not shown.
        if !std::mem::take(&mut self.touched) && self.unfinished.cause().is_none() {
            return;
        }
        let finished = self.target.finish();
        if let Err(error) = &finished {
            let name = self.target.name();
            log::error!("{name} has not finished a change of guest memory: {error}");
        }
        *self.unfinished.slot() = finished.err();
    }

    fn detach(mut self: Box<Self>) -> Result<(), ListenerError> {
        self.release()
    }

    fn inspection_copy(&self) -> Option<Box<dyn Inspect>> {
        Some(Box::new(self.copy()))
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        Inspect::inspect(&self.copy(), req);
    }
}

/// A follower at one moment, to be written when no change waits.
struct FollowerCopy {
    offset: u64,
    mappings: Vec<DmaMapping>,
    unfinished: Option<String>,
}

impl Follower {
    fn copy(&self) -> FollowerCopy {
        FollowerCopy {
            offset: self.offset,
            mappings: self.held.values().cloned().collect(),
            unfinished: self.unfinished.cause(),
        }
    }
}

impl Inspect for FollowerCopy {
    fn inspect(&self, req: inspect::Request<'_>) {
        let mut response = req.respond();
        response
            .hex("offset", self.offset)
            .child("mappings", |req| {
                req.by_key(self.mappings.iter().map(|mapping| {
                    let shown = inspect::from_fn(move |req: inspect::Request<'_>| {
                        let kind = match mapping.kind() {
                            MemoryKind::Ram => "ram",
                            _ => "device",
                        };
                        let (access, file) = (mapping.access(), mapping.file().name());
                        let offset = mapping.offset();
                        req.display(&format_args!("{access} {kind} {file} at {offset:#x}"));
                    });
                    (mapping.gpa(), shown)
                }));
            });
        if let Some(cause) = &self.unfinished {
            response.field("unfinished", cause);
        }
    }
}
