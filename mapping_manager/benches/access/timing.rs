//! Pairs of slices of time.

use crate::fixture::{Addresses, PASS};
use crate::workload::{Host, PLACES};
use std::time::{Duration, Instant};

/// How long a slice should take.
const SLICE: Duration = Duration::from_micros(100);

/// A slice that takes as long as this was interrupted, and its pair does not count.
const LONGEST: Duration = Duration::from_millis(1);

/// How often a pair is tried before this round goes without it.
const TRIES: usize = 5;

/// One pass over some addresses.
pub(crate) type Pass<'a> = Box<dyn Fn(&[u64], &mut Host) + 'a>;

/// What is measured, with what it needs.
pub(crate) struct Bench {
    pub(crate) addresses: Addresses,
    pub(crate) host: Box<Host>,
}

/// A pass, at each of its places, repeated until it takes as long as a slice should.
pub(crate) struct Slice<'a> {
    at_places: [Pass<'a>; PLACES],
    passes: usize,
}

impl<'a> Slice<'a> {
    /// Warms the pass up and finds out how often it fits.
    pub(crate) fn new(bench: &mut Bench, at_places: [Pass<'a>; PLACES]) -> Self {
        let mut slice = Self {
            at_places,
            passes: 1,
        };
        let least = (0..4 * PLACES).map(|i| slice.run(bench, i)).min();
        let fit = SLICE.as_nanos() / least.unwrap_or(SLICE).as_nanos().max(1);
        slice.passes = usize::try_from(fit).unwrap_or(1).clamp(1, 1000);
        slice
    }

    fn run(&self, bench: &mut Bench, place: usize) -> Duration {
        let pass = &self.at_places[place % PLACES];
        // Another contestant had the caches before.
        pass(bench.addresses.next_pass(), &mut bench.host);
        let start = Instant::now();
        for _ in 0..self.passes {
            pass(bench.addresses.next_pass(), &mut bench.host);
        }
        start.elapsed()
    }

    /// Nanoseconds an access; `None` if the slice was interrupted.
    fn nanoseconds(&self, bench: &mut Bench, place: usize) -> Option<f64> {
        let took = self.run(bench, place);
        let accesses = (self.passes * PASS) as f64;
        (took < LONGEST).then(|| took.as_secs_f64() * 1e9 / accesses)
    }
}

/// A slice and what it is compared with.
pub(crate) struct Pair<'s, 'a> {
    subject: &'s Slice<'a>,
    baseline: &'s Slice<'a>,
    measured: Vec<(f64, f64)>,
}

impl<'s, 'a> Pair<'s, 'a> {
    pub(crate) fn new(subject: &'s Slice<'a>, baseline: &'s Slice<'a>) -> Self {
        Self {
            subject,
            baseline,
            measured: Vec::new(),
        }
    }

    /// How many pairs were measured undisturbed.
    pub(crate) fn count(&self) -> usize {
        self.measured.len()
    }

    /// The median nanoseconds of the subject.
    pub(crate) fn subject_ns(&self) -> f64 {
        median(self.measured.iter().map(|pair| pair.0))
    }

    /// The median nanoseconds of the baseline.
    pub(crate) fn baseline_ns(&self) -> f64 {
        median(self.measured.iter().map(|pair| pair.1))
    }

    /// The median of the paired ratios, subject by baseline.
    pub(crate) fn ratio(&self) -> f64 {
        median(
            self.measured
                .iter()
                .map(|(subject, baseline)| subject / baseline),
        )
    }

    /// Measures the pair; each round with the two in another order or at other places.
    fn measure(&mut self, bench: &mut Bench, round: usize) {
        let places = (round / 2, round / 2 / PLACES);
        for _ in 0..TRIES {
            let (subject, baseline) = if round.is_multiple_of(2) {
                let baseline = self.baseline.nanoseconds(bench, places.1);
                (self.subject.nanoseconds(bench, places.0), baseline)
            } else {
                let subject = self.subject.nanoseconds(bench, places.0);
                (subject, self.baseline.nanoseconds(bench, places.1))
            };
            if let (Some(subject), Some(baseline)) = (subject, baseline) {
                self.measured.push((subject, baseline));
                return;
            }
        }
    }
}

/// Measures every pair once a round.
pub(crate) fn take_turns(bench: &mut Bench, pairs: &mut [&mut Pair<'_, '_>], rounds: usize) {
    for round in 0..rounds {
        for pair in &mut *pairs {
            pair.measure(bench, round);
        }
    }
}

/// The middle of the values; not a number where there are none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values = values.collect::<Vec<_>>();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2);
    let lower = values.get(values.len().saturating_sub(1) / 2);
    match (lower, upper) {
        (Some(lower), Some(upper)) => (lower + upper) / 2.0,
        _ => f64::NAN,
    }
}
