//! How a client behaves.

use std::time::Duration;

/// How a [`RemoteClient`](super::RemoteClient) is to behave.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub(super) name: String,
    pub(super) lazy: bool,
    pub(super) deadline: Duration,
    pub(super) fetch_timeout: Duration,
}

impl ClientOptions {
    /// Makes options for an eager client, with five seconds for the manager wherever it has to answer.
    ///
    /// The name is for people: it stands in errors, and in both processes' inspection. The manager is
    /// told its first 64 bytes.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            lazy: false,
            deadline: Duration::from_secs(5),
            fetch_timeout: Duration::from_secs(5),
        }
    }

    /// Sets whether memory is mapped only when it is first touched. Partitions need an eager client.
    #[must_use = "the options that are returned are the changed ones"]
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.lazy = lazy;
        self
    }

    /// Sets how long the manager may take to complete what it has begun: the handshake with its first
    /// view, and then each message, and the rest of a change after its first message; and how long it
    /// may leave unread what it is sent. Past that it counts as gone. Between changes it may be silent
    /// for ever.
    #[must_use = "the options that are returned are the changed ones"]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how long an access waits for what it fetches, in a lazy client. Past that the access
    /// fails; the manager does not count as gone.
    #[must_use = "the options that are returned are the changed ones"]
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.fetch_timeout = timeout;
        self
    }
}
