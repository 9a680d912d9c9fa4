//! Tells a process what it is to show.

use inspect::Inspect;
use mapping_manager::remote::Peer;
use memory_range::{MemoryRange, sorted};
use region_manager::{DmaListener, ListenerError, MemoryKind, SubMapping};
use sparse_alloc::Backing;
use std::sync::Arc;

/// A process as a listener: cuts what the view shows to what the process was granted, and queues it.
///
/// Nothing here can fail or wait: what is queued is sent as one change when the change is over.
pub(super) struct PeerListener {
    name: String,
    peer: Arc<Peer>,
    /// Sorted and disjoint.
    granted: Vec<MemoryRange>,
    ram_only: bool,
}

impl PeerListener {
    pub(super) fn new(
        name: &str,
        peer: Arc<Peer>,
        granted: Vec<MemoryRange>,
        ram_only: bool,
    ) -> Self {
        Self {
            name: format!("process {name}"),
            peer,
            granted,
            ram_only,
        }
    }

    /// What the process is to have of a mapping.
    fn parts(&self, sub: &SubMapping<Backing>) -> impl Iterator<Item = MemoryRange> {
        let range = match sub.kind {
            MemoryKind::Ram => sub.range,
            _ if self.ram_only => MemoryRange::EMPTY,
            _ => sub.range,
        };
        let first = self
            .granted
            .partition_point(move |granted| granted.end() <= range.start());
        let granted = self.granted.iter().skip(first);
        let granted = granted.take_while(move |granted| granted.start() < range.end());
        sorted::overlap([range], granted)
    }
}

impl DmaListener<Backing> for PeerListener {
    fn name(&self) -> &str {
        &self.name
    }

    fn unmap(&mut self, sub: &SubMapping<Backing>) -> Result<(), ListenerError> {
        for part in self.parts(sub) {
            self.peer.hide(part);
        }
        Ok(())
    }

    fn map(&mut self, sub: &SubMapping<Backing>) -> Result<(), ListenerError> {
        for part in self.parts(sub) {
            let into = sub.range.offset_of(part.start()).unwrap_or(0);
            // Does not wrap: it was checked when the mapping was added.
            let offset = sub.offset.saturating_add(into);
            self.peer.show(part, &sub.backing, offset, sub.access);
        }
        Ok(())
    }

    /// The process keeps what it has: it is told that it is let go, or it is gone.
    fn detach(self: Box<Self>) -> Result<(), ListenerError> {
        Ok(())
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        self.peer.inspect(req);
    }
}
