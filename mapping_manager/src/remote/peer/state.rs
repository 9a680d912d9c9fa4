//! What is known of a client, all of it behind one lock.

use super::files::Files;
use super::outgoing::{FlushError, Flushed, Outgoing};
use super::slots::Slots;
use super::view::View;
use crate::descriptors;
use crate::remote::event::PartitionOffer;
use crate::remote::eviction::Eviction;
use crate::remote::frame::{FrameLimits, FrameReader};
use crate::remote::hub::{Hub, Interest};
use crate::remote::message::{Fetch, MOST_TEXT, ToClient, bounded};
use crate::remote::options::PeerOptions;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// How long to wait before passing descriptors once more, when the kernel has too many on their way.
const RETRY: Duration = Duration::from_millis(10);

/// How far the conversation has got.
#[derive(Debug)]
pub(super) enum Phase {
    /// The client has not greeted.
    Greeting,
    /// It has.
    Live,
    /// It is no longer followed.
    Gone(Arc<Eviction>),
}

/// What the owner is to be told.
#[derive(Debug)]
pub(in crate::remote) enum Event {
    Ready { lazy: bool },
    Offered(PartitionOffer),
    Withdrawn { partition: u32 },
    Left(Arc<Eviction>),
}

/// When something must have happened.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// The client greets.
    pub(super) greeting: Option<Instant>,
    /// It sends the rest of a message.
    pub(super) half_read: Option<Instant>,
    /// It takes something of what is queued.
    pub(super) blocked: Option<Instant>,
    /// Sending is tried once more, without being asked to.
    pub(super) retry: Option<Instant>,
}

pub(super) struct State {
    /// By which the hub knows it.
    id: u64,
    /// What the hub watches the socket for.
    watched: Interest,
    pub(super) space: u64,
    pub(super) options: PeerOptions,
    pub(super) hub: Arc<Hub>,
    /// `None` when it is gone.
    pub(super) socket: Option<Arc<OwnedFd>>,
    pub(super) phase: Phase,
    /// As it has greeted.
    pub(super) client: String,
    pub(super) reader: FrameReader,
    /// Somebody who waits for an acknowledgement reads from the socket, so that nobody else need.
    pub(super) reading: bool,
    pub(super) outgoing: Outgoing,
    pub(super) view: View,
    pub(super) files: Files,
    pub(super) slots: Slots,
    pub(super) partitions: BTreeMap<u32, PartitionOffer>,
    /// Fetches that came within a change, to be answered when it is sealed.
    pub(super) postponed: Vec<Fetch>,
    /// The last change that was sealed before the client had greeted, with nothing after it.
    pub(super) sealed_early: bool,
    /// The number of the last change.
    pub(super) sealed: u64,
    /// The number up to which the client has acknowledged.
    pub(super) acknowledged: u64,
    /// What it has not acknowledged, and until when it must.
    pub(super) unacknowledged: VecDeque<(u64, Option<Instant>)>,
    pub(super) deadlines: Deadlines,
    /// What the owner was not told yet.
    pub(super) events: Vec<Event>,
    pub(super) wakers: Vec<(u64, Waker)>,
}

impl State {
    pub(super) fn new(
        id: u64,
        socket: OwnedFd,
        options: PeerOptions,
        space: u64,
        hub: Arc<Hub>,
        now: Instant,
    ) -> Self {
        Self {
            id,
            watched: Interest {
                read: true,
                write: false,
            },
            space,
            hub,
            socket: Some(Arc::new(socket)),
            phase: Phase::Greeting,
            client: String::new(),
            reader: FrameReader::new(FrameLimits::OF_CLIENT),
            reading: false,
            outgoing: Outgoing::default(),
            view: View::default(),
            files: Files::default(),
            slots: Slots::default(),
            partitions: BTreeMap::new(),
            postponed: Vec::new(),
            sealed_early: false,
            sealed: 0,
            acknowledged: 0,
            unacknowledged: VecDeque::new(),
            deadlines: Deadlines {
                greeting: now.checked_add(options.deadline),
                ..Deadlines::default()
            },
            events: Vec::new(),
            wakers: Vec::new(),
            options,
        }
    }

    pub(super) fn gone(&self) -> Option<&Arc<Eviction>> {
        match &self.phase {
            Phase::Gone(reason) => Some(reason),
            Phase::Greeting | Phase::Live => None,
        }
    }

    /// A time from now until which something must have happened; `None` if no clock gets there.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.options.deadline)
    }

    /// When to look after this client again, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let oldest = self.unacknowledged.front().and_then(|(_, until)| *until);
        let Deadlines {
            greeting,
            half_read,
            blocked,
            retry,
        } = self.deadlines;
        let all = [oldest, greeting, half_read, blocked, retry];
        all.into_iter().flatten().min()
    }

    /// Acts on what should have happened by now.
    pub(super) fn check_deadlines(&mut self, now: Instant) {
        let passed = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        if passed(self.deadlines.retry) {
            self.deadlines.retry = None;
            self.flush(now);
        }
        let reason = match self.unacknowledged.front() {
            Some((sequence, until)) if passed(*until) => Some(Eviction::NotAcknowledged {
                sequence: *sequence,
            }),
            _ if passed(self.deadlines.greeting) => Some(Eviction::NoGreeting),
            _ if passed(self.deadlines.half_read) => Some(Eviction::HalfMessage),
            _ if passed(self.deadlines.blocked) => Some(Eviction::NotReading),
            _ => None,
        };
        if let Some(reason) = reason {
            self.evict(reason);
        }
    }

    /// Has the socket watched from now on.
    pub(super) fn watch(&self) -> std::io::Result<()> {
        match &self.socket {
            Some(socket) => self.hub.watch(socket, self.id, self.watched),
            None => Ok(()),
        }
    }

    /// Whether room in the socket is what is lacking.
    pub(super) fn awaits_room(&self) -> bool {
        // An attempt that fails for too many descriptors frees what it had set up, which counts as new
        // room: there would be no end of that.
        !self.outgoing.is_empty() && self.deadlines.retry.is_none()
    }

    /// Has the socket watched for what is of interest now: what came, unless somebody waits for that
    /// elsewhere; and room, if something waits for it.
    pub(super) fn update_interest(&mut self) {
        let interest = Interest {
            read: !self.reading,
            write: self.awaits_room(),
        };
        if let Some(socket) = &self.socket
            && interest != self.watched
        {
            self.watched = interest;
            self.hub.watch_for(socket, self.id, interest);
        }
    }

    /// Sends what fits into the socket.
    pub(super) fn flush(&mut self, now: Instant) {
        let Some(socket) = self.socket.clone() else {
            return;
        };
        if self.outgoing.is_empty() {
            return;
        }
        let read_only = self.options.read_only;
        match self.outgoing.flush(socket.as_fd(), read_only) {
            Ok(Flushed::All) => {
                self.deadlines.blocked = None;
                self.deadlines.retry = None;
            }
            Ok(Flushed::Full { progress }) => {
                self.deadlines.retry = None;
                if progress || self.deadlines.blocked.is_none() {
                    self.deadlines.blocked = self.deadline(now);
                }
            }
            Ok(Flushed::TooManyInFlight) => {
                if self.deadlines.blocked.is_none() {
                    self.deadlines.blocked = self.deadline(now);
                }
                self.deadlines.retry = now.checked_add(RETRY);
            }
            Err(FlushError::Closed) => {
                // Its last words may say why.
                self.receive(now);
                self.evict(Eviction::Closed { within: 0 });
            }
            Err(error @ FlushError::Reopen { .. }) => {
                self.evict(Eviction::ReadOnlyFile(Box::new(error)));
            }
            Err(FlushError::Io(source)) => self.evict(Eviction::Io(source)),
        }
        let (queued, most) = (self.outgoing.queued(), self.options.most_queued);
        if queued > most {
            self.evict(Eviction::QueueFull { queued, most });
        }
    }

    /// Ends it. Nothing happens if it has ended.
    pub(super) fn evict(&mut self, reason: Eviction) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        let is_closed = matches!(reason, Eviction::Closed { .. } | Eviction::Io(_));
        if !is_closed && !self.outgoing.is_within_chunk() {
            let goodbye = ToClient::Goodbye {
                reason: bounded(&reason.to_string(), MOST_TEXT),
            };
            let mut bytes = Vec::new();
            if goodbye.encode(&mut bytes).is_ok() {
                // All of it, or what the client makes of it is its affair: nothing comes after it.
                let _ = descriptors::send_now(socket.as_fd(), &bytes, &[]);
            }
        }
        self.hub.unwatch(&socket);
        // Whoever waits for the socket learns of it.
        let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
        let reason = Arc::new(reason);
        self.phase = Phase::Gone(Arc::clone(&reason));
        self.events.push(Event::Left(reason));
        self.reader = FrameReader::new(FrameLimits::OF_CLIENT);
        self.outgoing.clear();
        self.view = View::default();
        self.files = Files::default();
        self.slots = Slots::default();
        self.partitions.clear();
        self.postponed = Vec::new();
        self.unacknowledged = VecDeque::new();
        self.deadlines = Deadlines::default();
    }
}
