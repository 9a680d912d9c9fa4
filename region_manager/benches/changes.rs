//! What a change costs in this crate alone: neighbours that do nothing, so that what remains is
//! the overlay, the plan, and the books.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macro makes an undocumented function; a benchmark may stop at a surprise"
)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use memory_range::{Access, MemoryRange};
use region_manager::{
    ListenerError, MapParams, MappingSink, RegionId, RegionListener, RegionManager, RegionSpec,
    SinkError, Slot, VaOp,
};
use std::hint::black_box;
use std::sync::Arc;

/// A handle that costs what a real one costs: a share of something.
#[derive(Clone, Debug)]
struct Handle(Arc<str>);

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Display for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

struct Nothing;

impl MappingSink<Handle> for Nothing {
    fn apply(&mut self, op: &VaOp<Handle>) -> Result<(), SinkError> {
        black_box(op);
        Ok(())
    }

    fn undo(&mut self, op: &VaOp<Handle>) -> Result<(), SinkError> {
        self.apply(op)
    }
}

impl RegionListener for Nothing {
    fn name(&self) -> &str {
        "nothing"
    }

    fn remove(&mut self, slot: &Slot) -> Result<(), ListenerError> {
        black_box(slot);
        Ok(())
    }

    fn add(&mut self, slot: &Slot) -> Result<(), ListenerError> {
        black_box(slot);
        Ok(())
    }

    fn contents_replaced(&mut self, range: MemoryRange) -> Result<(), ListenerError> {
        black_box(range);
        Ok(())
    }

    fn detach(self: Box<Self>) -> Result<(), ListenerError> {
        Ok(())
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        req.value("nothing");
    }
}

const SEGMENT: u64 = 0x4000;

/// `count` segments side by side, all mapped, and a ROM under the first of them.
fn segments(count: u64) -> (RegionManager<Handle>, Vec<RegionId>) {
    let manager = RegionManager::new(count * SEGMENT, Box::new(Nothing)).unwrap();
    manager.add_listener(Box::new(Nothing)).unwrap();
    let ram = Handle("ram".into());
    let mut ids = Vec::new();
    let mut change = manager.transaction().unwrap();
    for index in 0..count {
        let gpa = index * SEGMENT;
        let spec = RegionSpec::new("segment", SEGMENT, 255).placed_at(gpa);
        let id = change.create_region(spec).unwrap();
        let all = MemoryRange::new(0..SEGMENT);
        change
            .add_mapping(id, all, ram.clone(), gpa, Access::ReadWrite)
            .unwrap();
        change
            .map_region(id, MapParams::new(gpa, Access::ReadWrite))
            .unwrap();
        ids.push(id);
    }
    let rom = change
        .create_region(RegionSpec::new("rom", SEGMENT, 0))
        .unwrap();
    let all = MemoryRange::new(0..SEGMENT);
    change
        .add_mapping(rom, all, Handle("rom".into()), 0, Access::ReadOnly)
        .unwrap();
    change
        .map_region(rom, MapParams::new(0, Access::ReadOnly))
        .unwrap();
    let _ = change.commit().unwrap();
    (manager, ids)
}

fn change(
    manager: &RegionManager<Handle>,
    edit: impl FnOnce(&mut region_manager::Transaction<'_, Handle>),
) {
    let mut change = manager.transaction().unwrap();
    edit(&mut change);
    let _ = black_box(change.commit().unwrap());
}

/// A window that can be seen at two places, those of the segments 5 and 9.
fn window(manager: &RegionManager<Handle>, segments: &[RegionId]) -> RegionId {
    let mut change = manager.transaction().unwrap();
    let window = change
        .create_region(RegionSpec::new("window", SEGMENT, 0))
        .unwrap();
    let all = MemoryRange::new(0..SEGMENT);
    let bar = Handle("bar".into());
    change
        .add_mapping(window, all, bar, 0, Access::ReadWrite)
        .unwrap();
    for hidden in [5, 9] {
        change.unmap_region(segments[hidden]).unwrap();
    }
    let _ = change.commit().unwrap();
    window
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair of changes");
    for count in [17, 1_000, 30_000] {
        let (manager, ids) = segments(count);
        let first = ids[0];
        group.bench_function(BenchmarkId::new("protect and back", count), |bencher| {
            bencher.iter(|| {
                for access in [Access::ReadOnly, Access::ReadWrite] {
                    change(&manager, |change| {
                        change.map_region(first, MapParams::new(0, access)).unwrap();
                    });
                }
            });
        });
        group.bench_function(BenchmarkId::new("ROM for RAM and back", count), |bencher| {
            bencher.iter(|| {
                change(&manager, |change| change.unmap_region(first).unwrap());
                change(&manager, |change| {
                    change
                        .map_region(first, MapParams::new(0, Access::ReadOnly))
                        .unwrap();
                });
            });
        });
        group.bench_function(
            BenchmarkId::new("twelve segments and back", count),
            |bencher| {
                bencher.iter(|| {
                    for access in [Access::ReadOnly, Access::ReadWrite] {
                        change(&manager, |change| {
                            for (index, id) in ids.iter().enumerate().skip(1).take(12) {
                                let params = MapParams::new(index as u64 * SEGMENT, access);
                                change.map_region(*id, params).unwrap();
                            }
                        });
                    }
                });
            },
        );
        group.bench_function(BenchmarkId::new("slice replaced", count), |bencher| {
            let slices = ["one", "other"].map(|name| Handle(name.into()));
            let at = MemoryRange::new(0x1000..0x2000);
            bencher.iter(|| {
                for slice in &slices {
                    change(&manager, |change| {
                        let slice = slice.clone();
                        change
                            .add_mapping(ids[2], at, slice, 0, Access::ReadWrite)
                            .unwrap();
                    });
                }
            });
        });
        // Two places where it is visible, and where it has its own borders.
        let places = [5, 9].map(|index: usize| index as u64 * SEGMENT);
        let window = window(&manager, &ids);
        group.bench_function(BenchmarkId::new("window moved", count), |bencher| {
            bencher.iter(|| {
                for gpa in places {
                    change(&manager, |change| {
                        let params = MapParams::new(gpa, Access::ReadWrite);
                        change.map_region(window, params).unwrap();
                    });
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
