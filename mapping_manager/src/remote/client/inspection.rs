//! What a client shows of itself.

use super::RemoteClient;
use super::error::line;
use super::shared::ClientState;
use inspect::{Inspect, Request};

/// Shows how it stands with the manager, what of its changes is made, what is offered to it, and what
/// is mapped.
impl Inspect for RemoteClient {
    fn inspect(&self, req: Request<'_>) {
        let inner = &*self.inner;
        let (state, manager, lazy, read_only, sequence, counts, waiting) = {
            let shared = inner.shared();
            let state = shared.state.clone();
            let flags = (shared.lazy, shared.read_only);
            let waiting = shared.fetches.len() as u64;
            let manager = shared.manager.clone();
            let (lazy, read_only) = flags;
            (
                state,
                manager,
                lazy,
                read_only,
                shared.sequence,
                shared.counts,
                waiting,
            )
        };
        // By a callback of its own, in the middle of a change, it would wait for itself.
        let is_serving = inner.shared().is_serving();
        let (files, partitions) = match is_serving {
            true => (0, Vec::new()),
            false => {
                let serving = inner.driver();
                let driver = &serving.driver;
                (driver.files.len() as u64, driver.partitions.summary())
            }
        };
        let mut resp = req.respond();
        resp.value("manager", manager);
        match &state {
            ClientState::Connecting => resp.value("state", "connecting"),
            ClientState::Connected => resp.value("state", "connected"),
            ClientState::Lost(lost) => resp.value("state", "lost").value("reason", line(lost)),
        };
        resp.value("lazy", lazy)
            .value("read_only", read_only)
            .value("sequence", sequence)
            .counter("changes", counts.changes)
            .counter("connections", counts.connections)
            .counter("fetches", counts.fetches)
            .value("fetching", waiting)
            .value("files", files)
            .child("partitions", |req| {
                let mut resp = req.respond();
                for (number, name, slots) in partitions {
                    resp.child(number.to_string(), |req| {
                        req.respond().value("name", name).value("slots", slots);
                    });
                }
            })
            .field("mapper", &**self.mapper());
    }
}
