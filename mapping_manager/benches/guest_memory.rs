//! What each access by guest physical address costs, for whoever changes it. Raw comes first in
//! each group. `cargo xtask bench access` compares more exactly, and with others.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark may stop at the first surprise; criterion's macros write no docs"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mapping_manager::{DirtyBitmap, GuestMemory, GuestRange, VaMapper};
use memory_range::{Access, MemoryRange};
use sparse_alloc::{Alignment, Backing, MappedRegion, SharedMemory};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const LEN: u64 = 1 << 20;
const ACCESSES: usize = 512;

/// A base and a length, in the address space that the guest memory uses.
struct Raw {
    base: *mut u8,
    len: u64,
}

impl Raw {
    #[inline(always)]
    fn at(&self, gpa: u64, len: u64) -> Option<*mut u8> {
        (gpa <= self.len - len).then(|| self.base.wrapping_add(gpa as usize))
    }
}

fn memory() -> (Raw, GuestMemory) {
    let ram = SharedMemory::new("bench", LEN).unwrap();
    let mapper = VaMapper::new("bench", LEN, Alignment::Page).unwrap();
    let range = MemoryRange::new(0..LEN);
    mapper
        .map(range, &Backing::from(&ram), 0, Access::ReadWrite)
        .unwrap();
    let raw = Raw {
        base: mapper.reservation().base().as_ptr(),
        len: LEN,
    };
    let memory = mapper.guest_memory();
    memory.fill_at(0, 0, LEN).unwrap();
    (raw, memory)
}

/// Addresses in the first 32 KiB, in no order, that leave room for 4 KiB behind each.
fn addresses() -> Vec<u64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..ACCESSES)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % ((28 << 10) / 8) * 8
        })
        .collect()
}

/// An access at every address, with its name.
type Named<'a> = (&'a str, &'a mut dyn FnMut(&[u64]));

/// Benches accesses; the first is raw.
fn group(criterion: &mut Criterion, name: &str, accesses: &mut [Named<'_>]) {
    let addresses = addresses();
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(ACCESSES as u64));
    for (name, access) in accesses {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| access(black_box(&addresses)));
        });
    }
    group.finish();
}

/// Makes an access at every address, in one loop.
macro_rules! each {
    (|$gpa:ident| $access:expr) => {
        &mut |addresses: &[u64]| {
            for gpa in addresses {
                let $gpa = *gpa;
                let _ = black_box($access);
            }
        }
    };
}

fn words(criterion: &mut Criterion) {
    let (raw, memory) = memory();
    let bitmap = DirtyBitmap::new(MemoryRange::new(0..LEN)).unwrap();
    let tracked = memory.tracked(Arc::new(bitmap)).unwrap();
    let (raw, memory, tracked) = black_box((&raw, &memory, &tracked));

    // SAFETY: in the memory, which stays mapped; aligned.
    let load = |word: *mut u8| unsafe { word.cast::<u64>().read_volatile() };
    group(
        criterion,
        "read u64",
        &mut [
            ("raw", each!(|gpa| raw.at(gpa, 8).map(load))),
            ("read_plain", each!(|gpa| memory.read_plain::<u64>(gpa))),
        ],
    );

    // SAFETY: as above.
    let store = |word: *mut u8| unsafe { word.cast::<u64>().write_volatile(0) };
    group(
        criterion,
        "write u64",
        &mut [
            ("raw", each!(|gpa| raw.at(gpa, 8).map(store))),
            ("write_plain", each!(|gpa| memory.write_plain(gpa, &0_u64))),
            (
                "write_plain, tracked",
                each!(|gpa| tracked.write_plain(gpa, &0_u64)),
            ),
        ],
    );

    let exchange = |word: *mut u8| {
        // SAFETY: as above, and nobody else accesses it.
        let word = unsafe { AtomicU32::from_ptr(word.cast()) };
        word.compare_exchange(0, 0, Ordering::SeqCst, Ordering::SeqCst)
    };
    group(
        criterion,
        "compare_exchange u32",
        &mut [
            ("raw", each!(|gpa| raw.at(gpa, 4).map(exchange))),
            (
                "compare_exchange",
                each!(|gpa| memory.compare_exchange(gpa, 0_u32, 0)),
            ),
            ("fetch_or", each!(|gpa| memory.fetch_or(gpa, 0_u32))),
        ],
    );
}

fn copies(criterion: &mut Criterion) {
    let (raw, memory) = memory();
    let (raw, memory) = black_box((&raw, &memory));
    for len in [64_usize, 4096] {
        let mut bytes = vec![0_u8; black_box(len)];
        let to = bytes.as_mut_ptr();
        let copy = |src: *mut u8| {
            // SAFETY: in the memory, which stays mapped; `bytes` has that length.
            unsafe { src.copy_to_nonoverlapping(to, len) };
            black_box(to);
        };
        group(
            criterion,
            &format!("read {len} B"),
            &mut [
                ("raw", each!(|gpa| raw.at(gpa, len as u64).map(copy))),
                ("read_at", each!(|gpa| memory.read_at(gpa, &mut bytes))),
            ],
        );

        let from = bytes.as_ptr();
        let copy = |dst: *mut u8| {
            // SAFETY: as above.
            unsafe { dst.copy_from_nonoverlapping(black_box(from), len) };
        };
        let half = len as u64 / 2;
        let halves = |gpa| [gpa, gpa + half].map(|gpa| GuestRange { gpa, len: half });
        group(
            criterion,
            &format!("write {len} B"),
            &mut [
                ("raw", each!(|gpa| raw.at(gpa, len as u64).map(copy))),
                ("write_at", each!(|gpa| memory.write_at(gpa, &bytes))),
                (
                    "write_scattered, two halves",
                    each!(|gpa| memory.write_scattered(&halves(gpa), &bytes)),
                ),
            ],
        );
    }
}

/// An access that fails: at least one fault, and an error with its name.
fn failures(criterion: &mut Criterion) {
    let mapper = VaMapper::new("bench", LEN, Alignment::Page).unwrap();
    let memory = mapper.guest_memory();
    let mut group = criterion.benchmark_group("hole");
    group.bench_function("read_plain", |bencher| {
        bencher.iter(|| memory.read_plain::<u64>(black_box(0)).is_err());
    });
    group.bench_function("compare_exchange", |bencher| {
        bencher.iter(|| memory.compare_exchange(black_box(0), 0_u32, 0).is_err());
    });
    group.finish();
}

criterion_group!(benches, words, copies, failures);
criterion_main!(benches);
