//! Any bytes, with descriptors, from a client to a manager or from a manager to a client.
//!
//! `cargo +nightly fuzz run remote NEW fuzz/corpus/remote`, in the folder of the crate, leaves what it
//! finds in the folder NEW, since the corpus is kept small. What is done with the bytes stands in
//! `tests/remote_server/play.rs`, which plays the corpus without a fuzzer.

#![no_main]

#[path = "../../tests/remote_server/play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    play::play(bytes);
});
