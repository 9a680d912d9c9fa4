//! Pairs of slices of time.

use std::time::{Duration, Instant};

/// How long a slice should take.
const SLICE: Duration = Duration::from_micros(100);

/// A slice that takes as long as this was interrupted, and its pair does not count.
const LONGEST: Duration = Duration::from_millis(1);

/// How often a pair is tried before this round goes without it.
const TRIES: usize = 5;

/// One pass over addresses; it is told the how manieth.
pub(crate) type Pass<'a> = Box<dyn FnMut(usize) + 'a>;

/// A pass, repeated until it takes as long as a slice should.
pub(crate) struct Slice<'a> {
    pass: Pass<'a>,
    /// How many operations a pass makes.
    operations: usize,
    passes: usize,
    nth: usize,
}

impl<'a> Slice<'a> {
    /// Warms the pass up and finds out how often it fits.
    pub(crate) fn new(operations: usize, pass: Pass<'a>) -> Self {
        let mut slice = Self {
            pass,
            operations,
            passes: 1,
            nth: 0,
        };
        let least = (0..8).map(|_| slice.run()).min().unwrap_or(SLICE);
        let fit = SLICE.as_nanos() / least.as_nanos().max(1);
        slice.passes = usize::try_from(fit).unwrap_or(1).clamp(1, 10_000);
        slice
    }

    fn run(&mut self) -> Duration {
        // Another contestant had the caches before.
        (self.pass)(self.nth);
        let start = Instant::now();
        for _ in 0..self.passes {
            self.nth += 1;
            (self.pass)(self.nth);
        }
        start.elapsed()
    }

    /// Nanoseconds an operation; `None` if the slice was interrupted.
    fn nanoseconds(&mut self) -> Option<f64> {
        let took = self.run();
        let operations = (self.passes * self.operations) as f64;
        (took < LONGEST).then(|| took.as_secs_f64() * 1e9 / operations)
    }
}

/// What was measured in pairs.
pub(crate) struct Measured {
    /// Ours, theirs.
    pairs: Vec<(f64, f64)>,
}

impl Measured {
    /// Measures pairs in turns, each round in another order.
    pub(crate) fn pairs(ours: &mut Slice<'_>, theirs: &mut Slice<'_>, rounds: usize) -> Self {
        let mut pairs = Vec::new();
        for round in 0..rounds {
            for _ in 0..TRIES {
                let pair = if round.is_multiple_of(2) {
                    let theirs = theirs.nanoseconds();
                    (ours.nanoseconds(), theirs)
                } else {
                    (ours.nanoseconds(), theirs.nanoseconds())
                };
                if let (Some(ours), Some(theirs)) = pair {
                    pairs.push((ours, theirs));
                    break;
                }
            }
        }
        Self { pairs }
    }

    pub(crate) fn count(&self) -> usize {
        self.pairs.len()
    }

    pub(crate) fn ours_ns(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.0))
    }

    pub(crate) fn theirs_ns(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.1))
    }

    /// How many times faster ours is.
    pub(crate) fn faster(&self) -> f64 {
        median(self.pairs.iter().map(|(ours, theirs)| theirs / ours))
    }
}

/// The middle of the values; not a number where there are none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values = values.collect::<Vec<_>>();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2);
    let lower = values.get(values.len().saturating_sub(1) / 2);
    match (lower, upper) {
        (Some(lower), Some(upper)) => (lower + upper) / 2.0,
        _ => f64::NAN,
    }
}
