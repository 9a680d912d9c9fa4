//! What a fault-safe access costs, beside the raw one. Raw comes first in each group.
//!
//! Raw is a base and a length behind a reference, a bounds check, and a volatile access or
//! `memcpy`, at addresses that were computed before; ours has the same check and the same
//! addresses.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark may stop at the first surprise; criterion's macros write no docs"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use sparse_alloc::access;

const WINDOW: usize = 32 << 10;
const ACCESSES: usize = 1024;

/// The guest: bytes that are always there.
struct Guest {
    base: *mut u8,
    len: u64,
}

impl Guest {
    fn new() -> Self {
        let len = WINDOW + 8192;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses; it is never unmapped.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Self {
            base: base.cast(),
            len: len as u64,
        }
    }

    /// The bounds check that every access here makes.
    #[inline(always)]
    fn offset(&self, gpa: u64, len: usize) -> Option<usize> {
        (gpa <= self.len - len as u64).then_some(gpa as usize)
    }

    #[inline(always)]
    fn at(&self, offset: usize) -> *mut u8 {
        self.base.wrapping_add(offset)
    }
}

/// Addresses of words, in no order.
fn addresses() -> Vec<u64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..ACCESSES)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % (WINDOW as u64 / 8) * 8
        })
        .collect()
}

/// Runs `access` at every address.
fn throughput(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    access: impl Fn(&Guest, u64) -> Option<u64>,
) {
    let guest = Guest::new();
    let addresses = addresses();
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let guest = black_box(&guest);
            let mut sum = 0_u64;
            for gpa in black_box(&addresses) {
                sum = sum.wrapping_add(access(guest, *gpa)?);
            }
            Some(sum)
        });
    });
}

/// Runs `access` at every address, each of which depends on what the access before returned. The
/// guest is all zeroes.
fn chain(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    access: impl Fn(&Guest, u64) -> Option<u64>,
) {
    let guest = Guest::new();
    let addresses = addresses();
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let guest = black_box(&guest);
            let mut last = 0;
            for gpa in black_box(&addresses) {
                last = access(guest, *gpa ^ last)?;
            }
            Some(last)
        });
    });
}

fn raw_load(guest: &Guest, gpa: u64) -> Option<u64> {
    let word = guest.at(guest.offset(gpa, 8)?).cast::<u64>();
    // SAFETY: inside the mapping, which is readable.
    Some(unsafe { word.read_volatile() })
}

fn load(guest: &Guest, gpa: u64) -> Option<u64> {
    let word = guest.at(guest.offset(gpa, 8)?).cast::<u64>();
    // SAFETY: inside the mapping, which is raw bytes.
    unsafe { access::load(word) }.ok()
}

fn load_at(guest: &Guest, gpa: u64) -> Option<u64> {
    let offset = guest.offset(gpa, 8)?;
    // SAFETY: inside the mapping, which is raw bytes.
    unsafe { access::load_at(guest.base, offset) }.ok()
}

fn raw_store(guest: &Guest, gpa: u64) -> Option<u64> {
    let word = guest.at(guest.offset(gpa, 8)?).cast::<u64>();
    // SAFETY: inside the mapping, which is writable.
    unsafe { word.write_volatile(0) };
    Some(0)
}

fn store(guest: &Guest, gpa: u64) -> Option<u64> {
    let word = guest.at(guest.offset(gpa, 8)?).cast::<u64>();
    // SAFETY: inside the mapping, which is raw bytes.
    unsafe { access::store(word, 0) }.ok()?;
    Some(0)
}

fn store_at(guest: &Guest, gpa: u64) -> Option<u64> {
    let offset = guest.offset(gpa, 8)?;
    // SAFETY: inside the mapping, which is raw bytes.
    unsafe { access::store_at(guest.base, offset, 0_u64) }.ok()?;
    Some(0)
}

fn raw_compare_exchange(guest: &Guest, gpa: u64) -> Option<u64> {
    let word = guest.at(guest.offset(gpa, 4)?).cast::<u32>();
    // SAFETY: inside the mapping, aligned, and accessed atomically only.
    let word = unsafe { AtomicU32::from_ptr(word) };
    word.compare_exchange(0, 0, Ordering::SeqCst, Ordering::SeqCst)
        .ok()
        .map(u64::from)
}

fn compare_exchange(guest: &Guest, gpa: u64) -> Option<u64> {
    let word = guest.at(guest.offset(gpa, 4)?).cast::<u32>();
    // SAFETY: inside the mapping, which is raw bytes.
    let exchanged = unsafe { access::compare_exchange(word, 0, 0) }.ok()?;
    exchanged.ok().map(u64::from)
}

fn words(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load, throughput");
    group.throughput(Throughput::Elements(ACCESSES as u64));
    throughput(&mut group, "raw", raw_load);
    throughput(&mut group, "load", load);
    throughput(&mut group, "load_at", load_at);
    group.finish();

    let mut group = criterion.benchmark_group("load, dependent chain");
    group.throughput(Throughput::Elements(ACCESSES as u64));
    chain(&mut group, "raw", raw_load);
    chain(&mut group, "load", load);
    chain(&mut group, "load_at", load_at);
    group.finish();

    let mut group = criterion.benchmark_group("store, throughput");
    group.throughput(Throughput::Elements(ACCESSES as u64));
    throughput(&mut group, "raw", raw_store);
    throughput(&mut group, "store", store);
    throughput(&mut group, "store_at", store_at);
    group.finish();

    let mut group = criterion.benchmark_group("compare_exchange");
    group.throughput(Throughput::Elements(ACCESSES as u64));
    chain(&mut group, "raw", raw_compare_exchange);
    chain(&mut group, "compare_exchange", compare_exchange);
    group.finish();
}

/// Copies of one length, out of the guest and into it. The length is black-boxed, as it is where a
/// caller hands over a slice.
fn copies(criterion: &mut Criterion) {
    for len in [8_usize, 16, 64, 256, 4096] {
        let guest = Guest::new();
        let addresses = addresses();
        let mut host = vec![0_u8; len];

        let mut group = criterion.benchmark_group(format!("copy_from, {len} bytes"));
        group.throughput(Throughput::Elements(ACCESSES as u64));
        group.bench_function("raw", |bencher| {
            bencher.iter(|| {
                let (guest, len) = (black_box(&guest), black_box(len));
                for gpa in black_box(&addresses) {
                    let src = guest.at(guest.offset(*gpa, len)?);
                    // SAFETY: inside the mapping; `host` has that length.
                    unsafe { src.copy_to_nonoverlapping(host.as_mut_ptr(), len) };
                    black_box(&mut host);
                }
                Some(())
            });
        });
        group.bench_function("copy_from", |bencher| {
            bencher.iter(|| {
                let (guest, len) = (black_box(&guest), black_box(len));
                for gpa in black_box(&addresses) {
                    let src = guest.at(guest.offset(*gpa, len)?);
                    // SAFETY: inside the mapping; `host` has that length.
                    unsafe { access::copy_from(host.as_mut_ptr(), src, len) }.ok()?;
                    black_box(&mut host);
                }
                Some(())
            });
        });
        group.finish();

        let mut group = criterion.benchmark_group(format!("copy_to, {len} bytes"));
        group.throughput(Throughput::Elements(ACCESSES as u64));
        group.bench_function("raw", |bencher| {
            bencher.iter(|| {
                let (guest, len) = (black_box(&guest), black_box(len));
                for gpa in black_box(&addresses) {
                    let dst = guest.at(guest.offset(*gpa, len)?);
                    // SAFETY: inside the mapping; `host` has that length.
                    unsafe { dst.copy_from_nonoverlapping(black_box(&host).as_ptr(), len) };
                    black_box(dst);
                }
                Some(())
            });
        });
        group.bench_function("copy_to", |bencher| {
            bencher.iter(|| {
                let (guest, len) = (black_box(&guest), black_box(len));
                for gpa in black_box(&addresses) {
                    let dst = guest.at(guest.offset(*gpa, len)?);
                    // SAFETY: inside the mapping; `host` has that length.
                    unsafe { access::copy_to(dst, black_box(&host).as_ptr(), len) }.ok()?;
                    black_box(dst);
                }
                Some(())
            });
        });
        group.finish();
    }
}

/// A fault that is caught: two switches into the kernel.
fn faults(criterion: &mut Criterion) {
    let missing = std::ptr::null::<u64>();
    criterion.bench_function("a caught fault", |bencher| {
        bencher.iter(|| {
            // SAFETY: nothing can be mapped there, so it belongs to no one.
            unsafe { access::load(black_box(missing)) }
        });
    });
}

fn install(_: &mut Criterion) {
    access::install().unwrap();
}

criterion_group!(benches, install, words, copies, faults);
criterion_main!(benches);
