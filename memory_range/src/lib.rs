//! Page-aligned address ranges, and maps keyed by them.
//!
//! Everything above this crate speaks of memory in ranges: what the guest sees, what a slot
//! covers, which bytes of a file lie where. This crate gives them one type whose arithmetic is
//! checked once and for all, and one map from ranges to values.
//!
//! - [`MemoryRange`]: a half-open range of page-aligned addresses. Its two ends are checked when
//!   it is made, so everything derived from it can neither wrap nor become unaligned.
//! - [`AlignedPieces`]: the fewest 4 KiB, 2 MiB and 1 GiB pages that make up a range.
//! - [`RangeMap`]: disjoint ranges with a value each ([`RangeValue`] says what a value becomes when
//!   its range is cut), with insertion that refuses or replaces, removal, overlap queries and gaps.
//! - [`sorted`]: algorithms over sorted lists of ranges: overlap, difference, union, and a walk
//!   over two lists in step.
//! - [`Access`]: read-only or read-write, where a boolean would say too little.
//!
//! # Neighbours
//!
//! It depends on no other layer. Every other layer depends on it. With the feature `inspect`, its
//! types implement `inspect::Inspect`.
//!
//! # What it does not do
//!
//! An address here is a number: the crate knows no host and no guest, so it does not say whether
//! a range is of guest physical addresses, of host virtual addresses, or of offsets in a file. It
//! holds no memory, makes no system call and has no `unsafe` code. It needs `alloc`, not `std`; with
//! the feature `inspect` it needs what that crate needs.
//!
//! The last page of a 64-bit address space cannot be named: ranges are half-open, and the end of
//! that page is 2^64. The highest end is `0xffff_ffff_ffff_f000`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod access;
mod aligned;
mod error;
#[cfg(feature = "inspect")]
mod inspection;
mod parse;
mod range;
mod range_map;
mod range_value;
pub mod sorted;

pub use access::Access;
pub use aligned::AlignedPieces;
pub use error::InvalidRange;
pub use parse::ParseRangeError;
pub use range::HUGE_1G;
pub use range::HUGE_2M;
pub use range::MemoryRange;
pub use range::PAGE_SIZE;
pub use range_map::Occupied;
pub use range_map::RangeMap;
pub use range_value::RangeValue;
