//! The requests that the fuzzer starts from, played without one.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may stop at the first surprise; the module is shared"
)]

#[path = "support/requests.rs"]
mod requests;

use std::fs;
use std::path::Path;

/// A file's name begins with the sort of answer that is expected.
#[test]
fn every_request_of_the_corpus_is_answered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/requests");
    let mut played = 0;
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let request = fs::read(file.path()).unwrap();
        assert_eq!(
            name.split_once('-').unwrap().0,
            requests::play(&request),
            "{name}"
        );
        // Cut short anywhere, it is answered too.
        for len in 0..request.len() {
            requests::play(&request[..len]);
        }
        played += 1;
    }
    assert!(played >= 12, "{played}");
}
