//! Guest memory in several real processes at once: what they see after each of many changes, and what
//! is left of them when they are killed, stopped, or talk nonsense; the same for managers.
//!
//! Each process is started by `exec` and dies with the test. The tests take turns, because some count
//! what this process has open and mapped.

#![cfg(feature = "remote")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod census;
mod changes;
mod child;
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../remote/fixture.rs"]
mod fixture;
mod garbage;
mod kills;
mod model;
mod nonsense;
mod random;
#[path = "../support/second_process.rs"]
mod second_process;
mod stopped;
mod successor;
#[path = "../support/mod.rs"]
mod support;
