//! The range map beside the structures it might have been made of.
//!
//! The first entry of each group, a sorted `Vec`, is the limit for few entries; the `BTreeMap` with
//! nothing around it is the limit for many. Entries are 15 pages long with a page between them, so
//! a random address is a hit 15 times of 16.

#![allow(
    missing_docs,
    reason = "criterion's macro makes an undocumented function"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that meets a surprise has to stop"
)]

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use memory_range::MemoryRange;
use memory_range::PAGE_SIZE;
use memory_range::RangeMap;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

const STRIDE: u64 = 16 * PAGE_SIZE;
const SIZES: [u64; 3] = [20, 1_000, 100_000];

/// What is measured, for each structure.
trait Candidate {
    const NAME: &'static str;

    fn build(entries: &[(Range<u64>, u64)]) -> Self;
    fn get(&self, addr: u64) -> Option<u64>;
    /// Sums the values of the entries that overlap the range.
    fn overlap(&self, range: Range<u64>) -> u64;
    fn insert(&mut self, range: Range<u64>, value: u64);
    fn remove(&mut self, range: Range<u64>);
}

struct SortedVec(Vec<(Range<u64>, u64)>);

impl SortedVec {
    /// The first entry that ends above the address.
    fn position(&self, addr: u64) -> usize {
        self.0.partition_point(|(range, _)| range.end <= addr)
    }
}

impl Candidate for SortedVec {
    const NAME: &'static str = "sorted_vec";

    fn build(entries: &[(Range<u64>, u64)]) -> Self {
        Self(entries.to_vec())
    }

    fn get(&self, addr: u64) -> Option<u64> {
        let (range, value) = self.0.get(self.position(addr))?;
        (range.start <= addr).then_some(*value)
    }

    fn overlap(&self, range: Range<u64>) -> u64 {
        self.0[self.position(range.start)..]
            .iter()
            .take_while(|(entry, _)| entry.start < range.end)
            .map(|(_, value)| value)
            .sum()
    }

    fn insert(&mut self, range: Range<u64>, value: u64) {
        let at = self.position(range.start);
        assert!(
            self.0
                .get(at)
                .is_none_or(|(entry, _)| range.end <= entry.start)
        );
        self.0.insert(at, (range, value));
    }

    fn remove(&mut self, range: Range<u64>) {
        let at = self.position(range.start);
        if self.0[at].0 == range {
            self.0.remove(at);
        }
    }
}

struct Tree(BTreeMap<u64, (u64, u64)>);

impl Candidate for Tree {
    const NAME: &'static str = "btree_map";

    fn build(entries: &[(Range<u64>, u64)]) -> Self {
        Self(
            entries
                .iter()
                .map(|(range, value)| (range.start, (range.end, *value)))
                .collect(),
        )
    }

    fn get(&self, addr: u64) -> Option<u64> {
        let (_, (end, value)) = self.0.range(..=addr).next_back()?;
        (addr < *end).then_some(*value)
    }

    fn overlap(&self, range: Range<u64>) -> u64 {
        self.0
            .range(..range.end)
            .rev()
            .take_while(|(_, (end, _))| range.start < *end)
            .map(|(_, (_, value))| value)
            .sum()
    }

    fn insert(&mut self, range: Range<u64>, value: u64) {
        let before = self.0.range(..range.end).next_back();
        assert!(before.is_none_or(|(_, (end, _))| *end <= range.start));
        self.0.insert(range.start, (range.end, value));
    }

    fn remove(&mut self, range: Range<u64>) {
        self.0.remove(&range.start);
    }
}

struct ThirdParty(rangemap::RangeMap<u64, u64>);

impl Candidate for ThirdParty {
    const NAME: &'static str = "rangemap";

    fn build(entries: &[(Range<u64>, u64)]) -> Self {
        Self(entries.iter().cloned().collect())
    }

    fn get(&self, addr: u64) -> Option<u64> {
        self.0.get(&addr).copied()
    }

    fn overlap(&self, range: Range<u64>) -> u64 {
        self.0.overlapping(range).map(|(_, value)| value).sum()
    }

    fn insert(&mut self, range: Range<u64>, value: u64) {
        assert!(!self.0.overlaps(&range));
        self.0.insert(range, value);
    }

    fn remove(&mut self, range: Range<u64>) {
        self.0.remove(range);
    }
}

struct Ours(RangeMap<u64>);

impl Candidate for Ours {
    const NAME: &'static str = "memory_range";

    fn build(entries: &[(Range<u64>, u64)]) -> Self {
        Self(
            entries
                .iter()
                .map(|(range, value)| (MemoryRange::new(range.clone()), *value))
                .collect(),
        )
    }

    fn get(&self, addr: u64) -> Option<u64> {
        self.0.get(addr).map(|(_, value)| *value)
    }

    fn overlap(&self, range: Range<u64>) -> u64 {
        self.0
            .overlapping(MemoryRange::new(range))
            .map(|(_, value)| value)
            .sum()
    }

    fn insert(&mut self, range: Range<u64>, value: u64) {
        self.0.insert(MemoryRange::new(range), value).unwrap();
    }

    fn remove(&mut self, range: Range<u64>) {
        self.0.remove_exact(MemoryRange::new(range));
    }
}

/// The entry with this number: its range and, as its value, the number.
fn entry(number: u64) -> (Range<u64>, u64) {
    let start = number * STRIDE;
    (start..start + STRIDE - PAGE_SIZE, number)
}

/// Numbers below the limit in an order that no cache or branch predictor knows: a xorshift sequence.
fn scattered(limit: u64) -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let numbers: Vec<u64> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    })
    .take(1 << 16)
    .collect();
    numbers.into_iter().cycle()
}

fn measure<C: Candidate>(criterion: &mut Criterion) {
    for size in SIZES {
        let entries: Vec<_> = (0..size).map(entry).collect();
        let mut map = C::build(&entries);

        criterion
            .benchmark_group(format!("get/{size}"))
            .bench_function(BenchmarkId::from_parameter(C::NAME), |bencher| {
                let mut addresses = scattered(size * STRIDE);
                bencher.iter(|| map.get(black_box(addresses.next().unwrap())));
            });

        criterion
            .benchmark_group(format!("overlap_of_4/{size}"))
            .bench_function(BenchmarkId::from_parameter(C::NAME), |bencher| {
                let mut numbers = scattered(size - 4);
                bencher.iter(|| {
                    let start = black_box(numbers.next().unwrap()) * STRIDE + PAGE_SIZE;
                    map.overlap(start..start + 3 * STRIDE)
                });
            });

        criterion
            .benchmark_group(format!("remove_insert/{size}"))
            .bench_function(BenchmarkId::from_parameter(C::NAME), |bencher| {
                let mut numbers = scattered(size);
                bencher.iter(|| {
                    let (range, value) = entry(black_box(numbers.next().unwrap()));
                    map.remove(range.clone());
                    map.insert(range, value);
                });
            });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50);
    targets = measure::<SortedVec>, measure::<Tree>, measure::<ThirdParty>, measure::<Ours>
}
criterion_main!(benches);
