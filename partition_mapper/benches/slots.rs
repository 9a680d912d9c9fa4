//! What showing 4 KiB to a guest and taking it away costs: the bare ioctls, and the layers above.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark stops at the first surprise, and the macros document nothing"
)]

#[path = "../tests/support/kvm.rs"]
mod kvm;
#[path = "../tests/support/memory.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use kvm_bindings::kvm_userspace_memory_region;
use memory_range::Access;
use partition_mapper::{
    KvmPartition, MapperOptions, PartitionMapper, PartitionMemoryMap, SoftwarePartition,
};
use region_manager::RegionListener;
use sparse_alloc::{HostRange, MappedRegion};
use std::sync::Arc;
use support::{memory, pages, permissions, slot};

const RW: Access = Access::ReadWrite;

fn add_and_remove(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("add and remove 4 KiB");
    let va = memory(1);
    let gpa = pages(0, 1);
    let host = HostRange::new(va.clone(), 0, gpa.len()).unwrap();
    if let Some(kvm) = kvm::kvm_for("benchmark") {
        let vm = Arc::new(kvm.create_vm().unwrap());
        let mut region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: 0,
            userspace_addr: va.base().addr().get() as u64,
        };
        group.bench_function("raw ioctls", |bencher| {
            bencher.iter(|| {
                for size in [gpa.len(), 0] {
                    region.memory_size = size;
                    // SAFETY: the memory outlives the VM, which runs no vCPU.
                    unsafe { vm.set_user_memory_region(region) }.unwrap();
                }
            });
        });
        let partition = Arc::new(KvmPartition::new(vm).unwrap());
        group.bench_function("kvm partition", |bencher| {
            bencher.iter(|| {
                // SAFETY: unmapped at once; and the partition holds a share of the memory.
                unsafe { partition.map(gpa, &host, permissions(RW)) }.unwrap();
                partition.unmap(gpa).unwrap();
            });
        });
        let options = MapperOptions::new();
        let mut mapper = PartitionMapper::new(partition, va.clone(), options).unwrap();
        group.bench_function("mapper on kvm", |bencher| {
            bencher.iter(|| {
                mapper.add(&slot(gpa, RW)).unwrap();
                mapper.remove(&slot(gpa, RW)).unwrap();
            });
        });
    }
    let partition = Arc::new(SoftwarePartition::new());
    let mut mapper = PartitionMapper::new(partition, va, MapperOptions::new()).unwrap();
    group.bench_function("mapper on software", |bencher| {
        bencher.iter(|| {
            mapper.add(&slot(gpa, RW)).unwrap();
            mapper.remove(&slot(gpa, RW)).unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, add_and_remove);
criterion_main!(benches);
