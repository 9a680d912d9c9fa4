//! Other processes that follow guest memory: as threads of this one, each with a mapper and a
//! connection of its own, and for real.

#![cfg(feature = "remote")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod evictions;
mod failures;
mod fixture;
mod follow;
mod grants;
mod listen;
mod partitions;
mod processes;
#[path = "../support/second_process.rs"]
mod second_process;
mod successor;
#[path = "../support/mod.rs"]
mod support;
