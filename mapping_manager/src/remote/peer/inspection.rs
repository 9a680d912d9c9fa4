//! What a client's connection shows of itself.

use super::Peer;
use super::state::Phase;
use inspect::{Inspect, Request};

/// Shows who it is, how far behind, and what waits for it.
impl Inspect for Peer {
    fn inspect(&self, req: Request<'_>) {
        let state = self.lock();
        let (phase, reason) = match &state.phase {
            Phase::Greeting => ("greeting", None),
            Phase::Live => ("live", None),
            Phase::Gone(reason) => ("gone", Some(reason.to_string())),
        };
        let lag = match phase {
            "live" => state.sealed.saturating_sub(state.acknowledged),
            _ => 0,
        };
        let fetched = state.view.fetched_len();
        let (client, sealed) = (state.client.clone(), state.sealed);
        let acknowledged = state.acknowledged;
        let [queued, ranges, files, slots] = [
            state.outgoing.queued(),
            state.view.len(),
            state.files.len(),
            state.slots.len(),
        ]
        .map(|count| u64::try_from(count).unwrap_or(u64::MAX));
        let partitions: Vec<_> = state
            .partitions
            .values()
            .map(|offer| format!("{} ({})", offer.name, offer.kind))
            .collect();
        drop(state);
        let mut response = req.respond();
        response
            .value("client", client.as_str())
            .value("state", phase)
            .counter("sealed", sealed)
            .counter("acknowledged", acknowledged)
            .value("lag", lag)
            .value("queued_bytes", queued)
            .value("ranges", ranges)
            .value("files", files)
            .value("slots", slots)
            .field("partitions", &partitions);
        if let Some(fetched) = fetched {
            let fetched = u64::try_from(fetched).unwrap_or(u64::MAX);
            response.value("fetched_ranges", fetched);
        }
        if let Some(reason) = reason {
            response.value("reason", reason.as_str());
        }
    }
}
