//! What every thread of a client may look at, and wait for.

use super::error::ManagerLost;
use std::collections::BTreeMap;
use std::thread::ThreadId;

/// How it stands with the manager.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientState {
    /// The client is connecting to another manager, whose first view has not all come.
    Connecting,
    /// Changes come and are made.
    Connected,
    /// There is no manager. What it had shown stays mapped.
    Lost(ManagerLost),
}

/// What became of a question.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum FetchState {
    Waiting,
    Answered,
    /// Nobody waits any more, but the manager has yet to answer.
    Abandoned,
}

/// What happened so far.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Counts {
    /// Changes made, on all connections.
    pub(super) changes: u64,
    /// Questions asked.
    pub(super) fetches: u64,
    /// How often a manager was connected to.
    pub(super) connections: u64,
}

/// See [`ClientState`]; behind a lock that is held for moments only.
pub(super) struct Shared {
    pub(super) state: ClientState,
    /// The manager's name.
    pub(super) manager: String,
    /// Whether the manager shows only what is fetched.
    pub(super) lazy: bool,
    pub(super) read_only: bool,
    /// The last change that was made, as this connection counts.
    pub(super) sequence: u64,
    pub(super) counts: Counts,
    /// Those that the manager has not answered, or the asker has not seen answered.
    pub(super) fetches: BTreeMap<u64, FetchState>,
    pub(super) next_fetch: u64,
    /// The one thread that waits at the socket for what it needs itself. Others wait for it.
    pub(super) leader: Option<ThreadId>,
    /// The thread that works on what the manager sent.
    pub(super) serving: Option<ThreadId>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            state: ClientState::Connecting,
            manager: String::new(),
            lazy: false,
            read_only: false,
            sequence: 0,
            counts: Counts::default(),
            fetches: BTreeMap::new(),
            next_fetch: 0,
            leader: None,
            serving: None,
        }
    }

    /// Why there is no manager, if there is none.
    pub(super) fn lost(&self) -> Option<&ManagerLost> {
        match &self.state {
            ClientState::Lost(lost) => Some(lost),
            _ => None,
        }
    }

    /// Whether the calling thread is in the middle of a change.
    pub(super) fn is_serving(&self) -> bool {
        self.serving == Some(std::thread::current().id())
    }
}
