//! Any bytes are a request to the live socket, and every one has an answer.
//!
//! `cargo +nightly fuzz run requests NEW fuzz/corpus/requests`, in the folder of the crate, leaves what
//! it finds in the folder NEW, since the corpus is kept small. What is asked and what is checked are
//! those of `tests/requests.rs`, which plays the corpus without a fuzzer.

#![no_main]

#[path = "../../tests/support/requests.rs"]
mod requests;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    requests::play(bytes);
});
