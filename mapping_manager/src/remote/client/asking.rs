//! What a lazy client does about a hole.

use super::inner::Inner;
use super::shared::{ClientState, FetchState};
use crate::fetch::{FetchOnFault, Unanswered};
use crate::remote::message::{Fetch, MOST_FETCH_LEN, MOST_FETCHES, ToServer};
use memory_range::MemoryRange;
use std::sync::Weak;
use std::time::Instant;

/// Asks the manager, for as long as the client lives.
pub(super) struct Asking(pub(super) Weak<Inner>);

impl FetchOnFault for Asking {
    fn fetch(&self, gpa: u64, len: u64) -> Result<(), Unanswered> {
        let inner = self.0.upgrade().ok_or(Unanswered::Gone)?;
        // More than may be asked for at once is asked for when the access gets there.
        let end = gpa.saturating_add(len.min(MOST_FETCH_LEN));
        let pages = MemoryRange::bounding(gpa..end).map_err(|_| Unanswered::Gone)?;
        let end = pages.start().saturating_add(MOST_FETCH_LEN);
        let end = end.min(pages.end()).min(inner.mapper.space().end());
        let piece = MemoryRange::try_new(pages.start()..end).map_err(|_| Unanswered::Gone)?;
        inner.ask(piece, ClientState::Connected)
    }
}

impl Inner {
    /// Asks what is at a place, not empty and at most [`MOST_FETCH_LEN`] long, and waits until it is
    /// mapped. Before `ready` is the state, it waits for that.
    pub(super) fn ask(&self, range: MemoryRange, ready: ClientState) -> Result<(), Unanswered> {
        if self.shared().is_serving() {
            return Err(Unanswered::ServingThread);
        }
        let deadline = Instant::now().checked_add(self.options.fetch_timeout);
        let ready = std::mem::discriminant(&ready);
        let begun = self.until(deadline, |shared| {
            if shared.lost().is_some() {
                return Some(Err(Unanswered::Gone));
            }
            if std::mem::discriminant(&shared.state) != ready {
                return None;
            }
            // An eager client has all that there is.
            if !shared.lazy {
                return Some(Ok(None));
            }
            if shared.fetches.len() >= MOST_FETCHES {
                return None;
            }
            let request = shared.next_fetch;
            shared.next_fetch = request.wrapping_add(1);
            shared.fetches.insert(request, FetchState::Waiting);
            shared.counts.fetches = shared.counts.fetches.wrapping_add(1);
            Some(Ok(Some(request)))
        });
        let Some(request) = begun.unwrap_or(Err(Unanswered::TimedOut))? else {
            return Ok(());
        };
        let sent = self.send(&ToServer::Fetch(Fetch { request, range }));
        if let Err(lost) = sent {
            self.lose(lost);
            return Err(Unanswered::Gone);
        }
        let answered = self.until(deadline, |shared| match shared.fetches.get(&request) {
            Some(FetchState::Answered) => Some(Ok(())),
            Some(_) => None,
            // With its connection.
            None => Some(Err(Unanswered::Gone)),
        });
        self.update(|shared| match shared.fetches.get_mut(&request) {
            Some(state @ FetchState::Waiting) => *state = FetchState::Abandoned,
            Some(_) => {
                shared.fetches.remove(&request);
            }
            None => {}
        });
        answered.unwrap_or(Err(Unanswered::TimedOut))
    }
}
