//! What a mapper shows of itself, copied while its view's change lock is held and written when it is
//! free again.

use super::PartitionMapper;
use super::options::{Kinds, Pinning};
use super::pieces::{HeldPiece, PieceState, Window};
use crate::PartitionMemoryMap;
use inspect::{Inspect, Request};
use memory_range::MemoryRange;
use std::sync::Arc;

/// A mapper at one moment. The partition is asked when this is: it has a lock of its own.
struct MapperCopy {
    name: String,
    window: Window,
    kinds: Kinds,
    pinning: Pinning,
    healthy: bool,
    pieces: Vec<(MemoryRange, HeldPiece)>,
    partition: Arc<dyn PartitionMemoryMap>,
}

impl PartitionMapper {
    pub(super) fn copy(&self) -> Box<dyn Inspect> {
        let mut pieces = Vec::with_capacity(self.pieces.len());
        pieces.extend(self.pieces.iter().map(|(range, held)| (range, *held)));
        Box::new(MapperCopy {
            name: self.name.clone(),
            window: self.window.clone(),
            kinds: self.kinds,
            pinning: self.pinning,
            healthy: self.is_healthy(),
            pieces,
            partition: Arc::clone(&self.partition),
        })
    }
}

impl Inspect for PartitionMapper {
    fn inspect(&self, req: Request<'_>) {
        self.copy().inspect(req);
    }
}

impl Inspect for MapperCopy {
    fn inspect(&self, req: Request<'_>) {
        req.respond()
            .field("name", &self.name)
            .hex("offset", self.window.offset)
            .child("filter", |req| match &self.window.filter {
                None => req.value("everything"),
                Some(ranges) => req.by_index(ranges.iter().map(inspect::display)),
            })
            .field("ram_only", &(self.kinds == Kinds::Ram))
            .field("pinned", &(self.pinning == Pinning::Yes))
            .field("healthy", &self.healthy)
            .child("pieces", |req| {
                req.by_key(self.pieces.iter().map(|(view, held)| {
                    let shown = inspect::from_fn(|req: Request<'_>| {
                        let state = match held.state {
                            PieceState::Mapped => "",
                            PieceState::Stray => " (stray: should be gone)",
                            PieceState::Missing => " (missing)",
                        };
                        let prefetch = if held.prefetch { " prefetch" } else { "" };
                        req.display(&format_args!("{}{prefetch}{state}", held.permissions));
                    });
                    (view, shown)
                }));
            })
            .child("partition", |req| self.partition.inspect(req));
    }
}
