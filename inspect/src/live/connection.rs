//! One client, from its first request to its last.

use crate::live::answer::{answer, encode};
use crate::live::budget::Budget;
use crate::live::error::Refusal;
use crate::live::frame::{self, FrameError};
use crate::live::message::{Answer, Ask, LONGEST_REQUEST, RefusalKind};
use crate::live::server::{Rules, Shared};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Answers requests until the client goes away or is cut off.
pub(super) fn serve(mut stream: UnixStream, shared: &Shared) {
    let rules = &shared.rules;
    let mut own = Budget::new(rules.burst, rules.interval, Instant::now());
    loop {
        let read = frame::read(&mut stream, LONGEST_REQUEST, rules.idle, rules.patience);
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(FrameError::TooLong(length)) => {
                let message = format!(
                    "a request may have {LONGEST_REQUEST} bytes, and this one has {length}"
                );
                cut_off(&mut stream, RefusalKind::BadRequest, message);
                return;
            }
            // There is nobody to tell, or nobody who keeps to the rules.
            Err(FrameError::Ended | FrameError::Io(_)) => return,
        };
        let now = Instant::now();
        let all = &shared.budget;
        let within = own.take(now) && all.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        if !within {
            let message = "too many requests in too short a time; connect again and send fewer";
            cut_off(&mut stream, RefusalKind::Busy, message);
            return;
        }
        let sent = match Ask::decode(&bytes) {
            Ok(ask) => {
                let answer = answer(&*shared.object, ask, rules);
                send(&mut stream, &answer, rules)
            }
            Err(refusal) => {
                // Who sends something else may have lost its place in the stream.
                let _ = send(&mut stream, &Answer::Refused(refusal), rules);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn send(stream: &mut UnixStream, answer: &Answer, rules: &Rules) -> io::Result<()> {
    frame::write(stream, encode(answer).as_bytes(), rules.patience)
}

/// Tells a client why it is no longer served, if it takes the message without being waited for.
pub(super) fn cut_off(stream: &mut UnixStream, kind: RefusalKind, message: impl Into<String>) {
    let answer = Answer::Refused(Refusal::new(kind, message));
    let _ = frame::write(
        stream,
        answer.encode().as_bytes(),
        Duration::from_millis(10),
    );
}
