//! From a socket to a view that is all there.

use super::error::{ManagerLost, Violation};
use super::inner::Inner;
use super::options::ClientOptions;
use super::shared::ClientState;
use super::waiting::{left, wait_to_read};
use crate::descriptors::{Deadline, TransferError, send};
use crate::remote::frame::{Frame, FrameLimits, FrameReader, ReadOutcome};
use crate::remote::message::{
    Hello, MOST_FETCH_LEN, MOST_NAME, ToClient, ToServer, Welcome, bounded,
};
use sparse_alloc::Alignment;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// A manager that has said its welcome.
pub(super) struct Greeted {
    pub(super) welcome: Welcome,
    /// What came behind it may be in there.
    pub(super) reader: FrameReader,
}

/// When the manager must have shown all of its view.
pub(super) fn deadline(options: &ClientOptions) -> Option<Instant> {
    Instant::now().checked_add(options.deadline)
}

/// Says hello, and waits for the welcome.
pub(super) fn greet(
    socket: &OwnedFd,
    options: &ClientOptions,
    until: Option<Instant>,
) -> Result<Greeted, ManagerLost> {
    let hello = ToServer::Hello(Hello {
        name: bounded(&options.name, MOST_NAME),
        lazy: options.lazy,
    });
    let mut bytes = Vec::new();
    hello.encode(&mut bytes)?;
    let late = |what| ManagerLost::TimedOut {
        what,
        within: options.deadline,
    };
    send(
        socket.as_fd(),
        &bytes,
        &[],
        &Deadline::after(options.deadline),
    )
    .map_err(|error| match error {
        TransferError::Ended { .. } => ManagerLost::Closed,
        TransferError::TimedOut { .. } => late("read the client's greeting"),
        TransferError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            ManagerLost::Closed
        }
        TransferError::Io(error) => ManagerLost::io(error),
    })?;
    let mut reader = FrameReader::new(FrameLimits::OF_SERVER);
    loop {
        if let Some(Frame { kind, body, fds }) = reader.next_frame()? {
            let welcome = match ToClient::decode(kind, body, fds.len(), u64::MAX)? {
                ToClient::Welcome(welcome) => welcome,
                ToClient::Goodbye { reason } => return Err(ManagerLost::Goodbye { reason }),
                _ => {
                    let found = "other than welcome";
                    return Err(Violation::Unexpected { found }.into());
                }
            };
            // An eager client would take its holes for holes.
            if welcome.lazy && !options.lazy {
                return Err(Violation::Lazy.into());
            }
            return Ok(Greeted { welcome, reader });
        }
        if reader.read(socket.as_fd())? == ReadOutcome::WouldBlock {
            let left = left(until).ok_or_else(|| late("welcome the client"))?;
            wait_to_read(socket, left).map_err(ManagerLost::io)?;
        }
    }
}

/// How the address space is to be aligned for what the manager hints at.
pub(super) fn alignment(hint: u64) -> Alignment {
    if hint >= memory_range::HUGE_1G {
        Alignment::Huge1G
    } else if hint >= memory_range::HUGE_2M {
        Alignment::Huge2M
    } else {
        Alignment::Page
    }
}

impl Inner {
    /// Waits until all of the view is there.
    pub(super) fn first_view(&self, until: Option<Instant>) -> Result<(), ManagerLost> {
        // Some of it may have come with the welcome: nothing will tell of that again.
        while self.work() {}
        let come = self.until(until, |shared| match shared.lost() {
            Some(lost) => Some(Err(lost.clone())),
            None if shared.sequence > 0 => Some(Ok(())),
            None => None,
        });
        come.unwrap_or_else(|| {
            let lost = ManagerLost::TimedOut {
                what: "show its first view",
                within: self.options.deadline,
            };
            self.lose(lost.clone());
            Err(lost)
        })?;
        self.settle_all()?;
        self.update(|shared| {
            if matches!(shared.state, ClientState::Connecting) {
                shared.state = ClientState::Connected;
            }
        });
        match self.shared().lost() {
            Some(lost) => Err(lost.clone()),
            None => Ok(()),
        }
    }

    /// Asks about all that another manager showed and this one has not: a lazy client's first view is
    /// empty.
    fn settle_all(&self) -> Result<(), ManagerLost> {
        let mut from = 0;
        while let Some(piece) = {
            let serving = self.driver();
            serving.driver.unsettled(self, from, MOST_FETCH_LEN)
        } {
            if self.ask(piece, ClientState::Connecting).is_err() {
                let lost = self.shared().lost().cloned();
                let lost = lost.unwrap_or(ManagerLost::TimedOut {
                    what: "say what it shows",
                    within: self.options.fetch_timeout,
                });
                self.lose(lost.clone());
                return Err(lost);
            }
            let mut serving = self.driver();
            if let Err(lost) = serving.driver.settle(self, piece) {
                serving.driver.lose(self, lost.clone());
                return Err(lost);
            }
            from = piece.end();
        }
        self.driver().driver.all_settled();
        Ok(())
    }
}
