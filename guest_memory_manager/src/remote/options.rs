//! How other processes are served.

use super::RemoteProcess;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Says how processes are served. The default: a deadline of 5 seconds, 16 MiB that may wait to be
/// sent to each process, 64 processes, and nobody to be told.
#[derive(Clone)]
pub struct RemoteOptions {
    pub(super) deadline: Duration,
    pub(super) most_queued: usize,
    pub(super) most_processes: usize,
    pub(super) on_event: Option<Arc<Notice>>,
}

pub(super) type Notice = dyn Fn(&ProcessEvent) + Send + Sync;

/// Something that has happened to a process; see [`RemoteOptions::on_event`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProcessEvent {
    /// It follows the view from now on.
    Ready {
        /// Which one.
        process: RemoteProcess,
    },
    /// It has offered a partition, which [`RemoteProcess::partition`] returns now.
    PartitionOffered {
        /// Which one.
        process: RemoteProcess,
        /// The partition's name.
        partition: String,
    },
    /// It has taken a partition back. What was attached is detached.
    PartitionWithdrawn {
        /// Which one.
        process: RemoteProcess,
        /// The partition's name.
        partition: String,
    },
    /// It does not follow the view any more. Its listeners and its partitions are detached. The last
    /// event of a process; why is what [`RemoteProcess::gone`] returns.
    Left {
        /// Which one.
        process: RemoteProcess,
    },
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl RemoteOptions {
    /// Makes the default options.
    pub fn new() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            most_queued: 16 << 20,
            most_processes: 64,
            on_event: None,
        }
    }

    /// Evicts a process that has not followed a change by this time after it was made, or that has
    /// not finished what it began to say, to hear, or to greet with.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Evicts a process for which more than this would wait to be sent. In bytes, about.
    #[must_use]
    pub fn most_queued(mut self, bytes: usize) -> Self {
        self.most_queued = bytes;
        self
    }

    /// Serves at most this many processes at the same time.
    #[must_use]
    pub fn most_processes(mut self, processes: usize) -> Self {
        self.most_processes = processes;
        self
    }

    /// Has a function called when something has happened to a process, evictions above all: each is
    /// told once.
    ///
    /// It is called on a thread that does nothing else meanwhile, one event after the other, outside
    /// every lock: it may change guest memory, and wait for the other processes to follow.
    #[must_use]
    pub fn on_event(mut self, notice: impl Fn(&ProcessEvent) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(notice));
        self
    }
}

impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteOptions")
            .field("deadline", &self.deadline)
            .field("most_queued", &self.most_queued)
            .field("most_processes", &self.most_processes)
            .field("on_event", &self.on_event.is_some())
            .finish()
    }
}
