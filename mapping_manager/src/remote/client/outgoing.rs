//! What the manager is told.

use super::error::ManagerLost;
use super::waiting::Gate;
use crate::descriptors::send_now;
use crate::remote::message::ToServer;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

/// The most bytes that wait for a manager that reads none.
const MOST_BYTES: usize = 1 << 20;

/// Messages on their way to the manager. Whoever has something to say sends it at once; what does not
/// fit into the socket waits here for room.
#[derive(Default)]
pub(super) struct Outgoing {
    /// `None` while there is no connection: what is said then is said to nobody.
    socket: Option<Arc<OwnedFd>>,
    bytes: Vec<u8>,
    /// How many of them were sent.
    sent: usize,
    /// Since when something waits.
    since: Option<Instant>,
}

impl Outgoing {
    /// Begins with another connection, or with none.
    pub(super) fn connect(&mut self, socket: Option<Arc<OwnedFd>>) {
        *self = Self {
            socket,
            ..Self::default()
        };
    }

    /// Since when the manager has left unread what it was sent.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.since
    }

    /// Sends a message, or keeps it until there is room.
    pub(super) fn send(&mut self, message: &ToServer, gate: &Gate) -> Result<(), ManagerLost> {
        if self.socket.is_none() {
            return Ok(());
        }
        message.encode(&mut self.bytes)?;
        if self.bytes.len() > MOST_BYTES {
            return Err(ManagerLost::io(io::ErrorKind::StorageFull));
        }
        match self.since {
            None => self.flush(gate),
            Some(_) => Ok(()),
        }
    }

    /// Sends what there is room for.
    pub(super) fn flush(&mut self, gate: &Gate) -> Result<(), ManagerLost> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match send_now(socket.as_fd(), rest, &[]) {
                Ok(sent) => {
                    self.sent = self.sent.saturating_add(sent);
                    // It reads: its time begins anew.
                    self.since = self.since.and(Some(Instant::now()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.since.is_none() {
                        self.since = Some(Instant::now());
                        gate.also_for_room(socket, true).map_err(ManagerLost::io)?;
                    }
                    return Ok(());
                }
                // The manager is gone. What it said before that is there to be read, and then its end.
                Err(_) => break,
            }
        }
        self.bytes.clear();
        self.sent = 0;
        if self.since.take().is_some() {
            gate.also_for_room(socket, false).map_err(ManagerLost::io)?;
        }
        Ok(())
    }
}
