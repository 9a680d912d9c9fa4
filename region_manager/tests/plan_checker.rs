//! Plans, replayed by a checker that knows only what they say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

#[path = "support/random.rs"]
mod random;
mod support;

use proptest::prelude::*;
use random::changes;
use support::history::{play, play_bytes};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Each step is right at its moment, none is needless, and they lead where they should.
    #[test]
    fn every_plan_stands_up_to_the_checker(changes in changes(), with_dma in any::<bool>()) {
        play(&changes, with_dma, |_| None);
    }

    /// What the fuzz target does, with bytes that nobody chose.
    #[test]
    fn any_bytes_are_a_history(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        play_bytes(&bytes);
    }
}

/// Every history in the fuzz target's corpus.
#[test]
fn the_corpus_plays() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/plans");
    let mut played = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(bytes.len() < 1024, "the corpus is kept small");
        play_bytes(&bytes);
        played += 1;
    }
    assert!((1..=20).contains(&played), "{played} files");
}
