//! What a client says.

use super::state::{Event, Phase, State};
use crate::remote::event::PartitionOffer;
use crate::remote::eviction::{Eviction, Misconduct};
use crate::remote::frame::{FrameError, ReadOutcome};
use crate::remote::message::{
    Fetch, Hello, MOST_FETCHES, MOST_NAME, MOST_PARTITIONS, MessageError, Offer, ToClient,
    ToServer, Welcome, bounded,
};
use std::os::fd::AsFd;
use std::time::Instant;

/// How often to read from one client before looking after others.
const READS: usize = 32;
/// How much the owner may not have been told yet.
const MOST_EVENTS: usize = 64;

impl State {
    /// Reads what is there, and acts on it; what it answers is queued, and not sent. `true`: there may
    /// be more.
    pub(super) fn receive(&mut self, now: Instant) -> bool {
        for _ in 0..READS {
            let Some(socket) = self.socket.clone() else {
                return false;
            };
            match self.reader.read(socket.as_fd()) {
                Ok(ReadOutcome::Some) => self.take_frames(now),
                Ok(ReadOutcome::WouldBlock) => return false,
                Err(FrameError::Ended { within }) => self.evict(Eviction::Closed { within }),
                Err(FrameError::Io(source)) => self.evict(Eviction::Io(source)),
                Err(error) => self.evict(Eviction::Garbage(Box::new(error))),
            }
        }
        true
    }

    fn take_frames(&mut self, now: Instant) {
        let mut any = false;
        while self.socket.is_some() {
            let message = match self.reader.next_frame() {
                Ok(Some(frame)) => {
                    ToServer::decode(frame.kind, frame.body, frame.fds.len(), self.space)
                }
                Ok(None) => break,
                Err(error) => {
                    self.evict(Eviction::Garbage(Box::new(error)));
                    return;
                }
            };
            any = true;
            let answered = message
                .map_err(Refused::from)
                .and_then(|m| self.hear(m, now));
            if let Err(Refused(reason)) = answered {
                self.evict(reason);
            }
        }
        if self.reader.pending() == 0 {
            self.deadlines.half_read = None;
        } else if any || self.deadlines.half_read.is_none() {
            self.deadlines.half_read = self.deadline(now);
        }
    }

    fn hear(&mut self, message: ToServer, now: Instant) -> Result<(), Refused> {
        match (message, &self.phase) {
            (_, Phase::Gone(_)) => Ok(()),
            (ToServer::Hello(hello), Phase::Greeting) => self.hear_hello(hello, now),
            (_, Phase::Greeting) => Err(Misconduct::NotGreeted.into()),
            (ToServer::Hello(_), Phase::Live) => Err(Misconduct::GreetedTwice.into()),
            (ToServer::Acknowledged { sequence }, _) => self.hear_acknowledged(sequence),
            (ToServer::Fetch(fetch), _) => self.hear_fetch(fetch, now),
            (ToServer::Offer(offer), _) => self.hear_offer(offer),
            (ToServer::Withdraw { partition }, _) => self.hear_withdraw(partition),
            (ToServer::Failed(failed), _) => Err(Refused(Eviction::ChangeFailed {
                sequence: failed.sequence,
                text: failed.text,
            })),
        }
    }

    fn hear_hello(&mut self, hello: Hello, now: Instant) -> Result<(), Refused> {
        let lazy = hello.lazy && self.options.allow_lazy;
        if lazy {
            self.view.become_lazy();
        }
        let welcome = Welcome {
            space: self.space,
            alignment: self.options.alignment,
            lazy,
            read_only: self.options.read_only,
            name: bounded(&self.options.name, MOST_NAME),
        };
        self.push(&ToClient::Welcome(welcome), Vec::new())
            .map_err(Refused)?;
        self.client = hello.name;
        self.phase = Phase::Live;
        self.deadlines.greeting = None;
        self.tell(Event::Ready { lazy })?;
        if std::mem::take(&mut self.sealed_early) {
            self.seal(now);
        }
        Ok(())
    }

    fn hear_acknowledged(&mut self, sequence: u64) -> Result<(), Refused> {
        if sequence <= self.acknowledged || sequence > self.sealed {
            return Err(Misconduct::Acknowledged {
                sequence,
                acknowledged: self.acknowledged.saturating_add(1),
                sealed: self.sealed,
            }
            .into());
        }
        self.acknowledged = sequence;
        while self
            .unacknowledged
            .pop_front_if(|(oldest, _)| *oldest <= sequence)
            .is_some()
        {}
        Ok(())
    }

    fn hear_fetch(&mut self, fetch: Fetch, now: Instant) -> Result<(), Refused> {
        if self.view.fetched_len().is_none() {
            return Err(Misconduct::NotLazy.into());
        }
        let open = self.outgoing.fetched().saturating_add(self.postponed.len());
        if open >= MOST_FETCHES {
            return Err(Refused(Eviction::TooManyRequests { most: MOST_FETCHES }));
        }
        if self.view.is_touched() || self.slots.is_touched() {
            // What is half made may yet be undone.
            self.postponed.push(fetch);
            return Ok(());
        }
        self.answer(fetch, now);
        Ok(())
    }

    fn hear_offer(&mut self, offer: Offer) -> Result<(), Refused> {
        let Offer {
            partition,
            name,
            kind,
            slots,
        } = offer;
        if self.partitions.contains_key(&partition) || self.partitions.len() >= MOST_PARTITIONS {
            return Err(Misconduct::Offer { partition }.into());
        }
        let offer = PartitionOffer {
            partition,
            name,
            kind,
            slots,
        };
        self.partitions.insert(partition, offer.clone());
        self.tell(Event::Offered(offer))
    }

    fn hear_withdraw(&mut self, partition: u32) -> Result<(), Refused> {
        if self.partitions.remove(&partition).is_none() {
            return Err(Misconduct::Withdraw { partition }.into());
        }
        self.slots.forget(partition);
        self.tell(Event::Withdrawn { partition })
    }

    fn tell(&mut self, event: Event) -> Result<(), Refused> {
        if self.events.len() >= MOST_EVENTS {
            return Err(Refused(Eviction::TooManyRequests { most: MOST_EVENTS }));
        }
        self.events.push(event);
        Ok(())
    }
}

/// The client is not kept.
struct Refused(Eviction);

impl From<Misconduct> for Refused {
    fn from(misconduct: Misconduct) -> Self {
        Self(Eviction::Garbage(Box::new(misconduct)))
    }
}

impl From<MessageError> for Refused {
    fn from(error: MessageError) -> Self {
        Self(Eviction::Garbage(Box::new(error)))
    }
}
