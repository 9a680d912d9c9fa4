//! Any bytes, with any number of descriptors, are received or refused.
//!
//! `cargo +nightly fuzz run handover NEW fuzz/corpus/handover`, in the folder of the crate, leaves
//! what it finds in the folder NEW, since the corpus is kept small. What is done with the bytes
//! stands in `tests/handover/play.rs`, which plays the corpus without a fuzzer.

#![no_main]

#[path = "../../tests/handover/play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    play::play(bytes);
});
