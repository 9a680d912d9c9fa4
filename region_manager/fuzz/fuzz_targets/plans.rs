//! Any bytes are a history of changes; every plan in it must stand up to the checker.
//!
//! `cargo +nightly fuzz run plans NEW fuzz/corpus/plans`, in the folder of the crate, leaves what it
//! finds in the folder NEW, since the corpus is kept small. The decoder, the interpreter and the checker are
//! those of `tests/plan_checker.rs`, which plays the corpus without a fuzzer.

#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    support::history::play_bytes(bytes);
});
