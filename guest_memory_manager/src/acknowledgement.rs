//! What a change hands back.

use std::future::{IntoFuture, Ready, ready};

/// Stands for the processes that have yet to follow a change.
///
/// The change itself is complete in this process when this is handed out. Waiting for it tells
/// that every other process has followed; dropping it waits for nobody and changes nothing.
/// Without other processes there is nothing to wait for.
#[derive(Debug)]
pub struct Acknowledgement {
    _no_remote_processes_yet: (),
}

impl Acknowledgement {
    pub(crate) fn complete() -> Self {
        Self {
            _no_remote_processes_yet: (),
        }
    }

    /// Blocks until every process has followed.
    pub fn wait(self) {}
}

impl IntoFuture for Acknowledgement {
    type Output = ();
    type IntoFuture = Ready<()>;

    fn into_future(self) -> Ready<()> {
        ready(())
    }
}
