//! What a lease costs, and what the table behind it adds to a change.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use mapping_manager::{GuestMemory, LeaseAccess, VaMapper};
use memory_range::{Access, MemoryRange};
use sparse_alloc::{Alignment, Backing, SharedMemory, SpaceEditor, Urgency};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;
const PAGE: u64 = 0x1000;
/// Where RAM is.
const RAM: u64 = 0x1000_0000;
const RAM_LEN: u64 = 0x100_0000;

fn range(start: u64, len: u64) -> MemoryRange {
    MemoryRange::try_from_len(start, len).unwrap_or(MemoryRange::EMPTY)
}

/// RAM, below it `mappings` pages of another memory that are no neighbours in it, and behind RAM
/// two pages of it in the wrong order.
fn memory(mappings: u64) -> Result<(Arc<VaMapper>, SharedMemory), Box<dyn std::error::Error>> {
    let mapper = VaMapper::new("bench", RAM + 2 * RAM_LEN, Alignment::Page)?;
    let ram = SharedMemory::new("ram", RAM_LEN)?;
    mapper.map(range(RAM, RAM_LEN), &Backing::from(&ram), 0, RW)?;
    let swapped = RAM + RAM_LEN + PAGE;
    mapper.map(range(swapped, PAGE), &Backing::from(&ram), PAGE, RW)?;
    mapper.map(range(swapped + PAGE, PAGE), &Backing::from(&ram), 0, RW)?;
    let other = SharedMemory::new("other", 2 * PAGE)?;
    for page in 0..mappings {
        mapper.map(range(2 * page * PAGE, PAGE), &Backing::from(&other), 0, RO)?;
    }
    Ok((mapper, other))
}

fn take_and_drop(memory: &GuestMemory, gpa: u64, len: u64, access: LeaseAccess) {
    drop(black_box(memory.lock(black_box(gpa..gpa + len), access)));
}

fn leases(c: &mut Criterion) {
    let mut group = c.benchmark_group("lease taken and dropped");
    let counter = AtomicU64::new(0);
    group.bench_function("raw: two locked instructions", |b| {
        b.iter(|| {
            black_box(&counter).fetch_add(1, Ordering::Relaxed);
            black_box(&counter).fetch_sub(1, Ordering::Relaxed);
        });
    });
    for mappings in [0, 1_000, 30_000] {
        let Ok((mapper, _other)) = memory(mappings) else {
            continue;
        };
        let memory = mapper.guest_memory();
        for (name, access) in [("read", LeaseAccess::Read), ("write", LeaseAccess::Write)] {
            group.bench_function(BenchmarkId::new(name, mappings), |b| {
                let mut gpa = RAM;
                b.iter(|| {
                    take_and_drop(&memory, gpa, 512, access);
                    gpa = RAM + (gpa + 0x5_3000) % (RAM_LEN - PAGE);
                });
            });
        }
        group.bench_function(BenchmarkId::new("read of any page", mappings), |b| {
            let (mut page, pages) = (0, mappings.max(1));
            let base = if mappings == 0 { RAM } else { 0 };
            b.iter(|| {
                take_and_drop(&memory, base + 2 * page * PAGE, 512, LeaseAccess::Read);
                page = (page + 7_919) % pages;
            });
        });
        group.bench_function(BenchmarkId::new("two slices", mappings), |b| {
            let gpa = RAM + RAM_LEN + 2 * PAGE - 256;
            b.iter(|| take_and_drop(&memory, gpa, 512, LeaseAccess::Read));
        });
    }
    if let Ok((mapper, _other)) = memory(0) {
        let memory = mapper.guest_memory();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    take_and_drop(&memory, RAM, 512, LeaseAccess::Read);
                }
            });
            group.bench_function("read, with another thread at it", |b| {
                b.iter(|| take_and_drop(&memory, RAM, 512, LeaseAccess::Read));
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

/// Address space with one page mapped, and changed without a table.
fn bare(page: MemoryRange, backing: &Backing) -> Result<SpaceEditor, Box<dyn std::error::Error>> {
    let mut space = SpaceEditor::new(RAM, Alignment::Page)?;
    space.map(Urgency::Change, page, backing, 0, RO)?;
    Ok(space)
}

/// A change of the mapper is a system call and the change of the table. The same without a table is
/// measured beside it.
fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("change");
    for mappings in [10, 1_000, 30_000] {
        let Ok((mapper, other)) = memory(mappings) else {
            continue;
        };
        let backing = Backing::from(&other);
        let page = range(mappings / 2 * 2 * PAGE, PAGE);
        let hole = range((mappings / 2 * 2 + 1) * PAGE, PAGE);
        let (there, back) = (RW, RO);
        let Ok(mut space) = bare(page, &backing) else {
            continue;
        };
        let change = Urgency::Change;
        group.bench_function(BenchmarkId::new("protect, no table", mappings), |b| {
            b.iter(|| {
                let _ = black_box(space.protect(change, page, there, || [(page, back)]));
                let _ = black_box(space.protect(change, page, back, || [(page, there)]));
            });
        });
        group.bench_function(BenchmarkId::new("protect", mappings), |b| {
            b.iter(|| {
                let _ = black_box(mapper.protect(page, there));
                let _ = black_box(mapper.protect(page, back));
            });
        });
        group.bench_function(BenchmarkId::new("map and unmap, no table", mappings), |b| {
            b.iter(|| {
                let _ = black_box(space.map(change, hole, &backing, 0, RO));
                let _ = black_box(space.unmap(change, hole, false));
            });
        });
        group.bench_function(BenchmarkId::new("map and unmap", mappings), |b| {
            b.iter(|| {
                let _ = black_box(mapper.map(hole, &backing, 0, RO));
                let _ = black_box(mapper.unmap(hole));
            });
        });
    }
    group.finish();
}

/// What dropping the last mapping of a backing costs, leased or not.
fn last_mappings(c: &mut Criterion) {
    let Ok((mapper, _other)) = memory(10) else {
        return;
    };
    let memory = mapper.guest_memory();
    let window = range(RAM + RAM_LEN + 8 * PAGE, PAGE);
    let mut group = c.benchmark_group("last mapping of a backing");
    let Ok(shown) = SharedMemory::new("shown", PAGE) else {
        return;
    };
    let backing = Backing::from(&shown);
    group.bench_function("map and unmap", |b| {
        b.iter(|| {
            let _ = black_box(mapper.map(window, &backing, 0, RW));
            let _ = black_box(mapper.unmap(window));
        });
    });
    group.bench_function("the same while leased", |b| {
        b.iter_batched(
            || {
                let _ = mapper.map(window, &backing, 0, RW);
                memory.lock(window, LeaseAccess::Write)
            },
            |lease| {
                let _ = black_box(mapper.unmap(window));
                lease
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, leases, changes, last_mappings);
criterion_main!(benches);
