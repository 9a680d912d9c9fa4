//! Numbers that look random, and come again for the same seed.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Sets the seed: what a failed test has printed.
const SEED: &str = "PROCESSES_SEED";

pub(crate) struct Random(u64);

impl Random {
    /// With a seed that nobody knows, and that is printed; or the one that is asked for.
    pub(crate) fn new() -> Self {
        let asked = std::env::var(SEED).ok();
        let seed = match asked.and_then(|seed| seed.parse().ok()) {
            Some(seed) => seed,
            None => RandomState::new().build_hasher().finish(),
        };
        println!("{SEED}={seed}");
        Self(seed)
    }

    pub(crate) fn with(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number; the generator is SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below another.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of these.
    pub(crate) fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
