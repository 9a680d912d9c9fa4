//! The mapper between a view and the software partition.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/memory.rs"]
mod support;

use memory_range::{Access, MemoryRange, PAGE_SIZE};
use partition_mapper::testing::{FailingPartition, PartitionCall};
use partition_mapper::{
    AddError, GuestAccess, MapError, MapperOptions, MmioExit, NewMapperError, PartitionMapper,
    Power, RemoveError, SoftwareOptions, SoftwarePartition,
};
use region_manager::{Execute, Permissions, RegionListener, Slot};
use sparse_alloc::MappedRegion;
use std::sync::Arc;
use support::{chain, memory, pages, permissions, slot};

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;

fn mapper(
    guest: &Arc<SoftwarePartition>,
    va: Arc<dyn MappedRegion>,
    options: MapperOptions,
) -> PartitionMapper {
    PartitionMapper::new(guest.clone(), va, options).unwrap()
}

/// What the partition shows: ranges in pages, and whether the guest may store.
fn shown(guest: &SoftwarePartition) -> Vec<(u64, u64, bool)> {
    assert_eq!(guest.broken_rules(), []);
    guest
        .slots()
        .iter()
        .map(|slot| {
            let page = |addr: u64| addr / PAGE_SIZE;
            let writable = slot.permissions.access.is_writable();
            (page(slot.gpa.start()), page(slot.gpa.end()), writable)
        })
        .collect()
}

fn add_error(mapper: &mut PartitionMapper, slot: &Slot) -> AddError {
    *mapper.add(slot).unwrap_err().downcast().unwrap()
}

fn remove_error(mapper: &mut PartitionMapper, slot: &Slot) -> RemoveError {
    *mapper.remove(slot).unwrap_err().downcast().unwrap()
}

#[test]
fn follows_additions_and_removals() {
    let guest = Arc::new(SoftwarePartition::new());
    let va = memory(16);
    let base = va.base().addr().get() as u64;
    let mut mapper = mapper(&guest, va, MapperOptions::new());
    mapper.add(&slot(pages(2, 4), RW)).unwrap();
    mapper.add(&slot(pages(4, 5), RO)).unwrap();
    assert_eq!(shown(&guest), [(2, 4, true), (4, 5, false)]);
    for slot in guest.slots() {
        assert_eq!(slot.hva, base + slot.gpa.start());
    }

    assert_eq!(guest.store(0x3ffe, &[1, 2, 3, 4]).unwrap(), {
        let data = vec![3, 4];
        GuestAccess::Mmio(vec![MmioExit::Write { gpa: 0x4000, data }])
    });
    let mut bytes = [9; 6];
    let exit = MmioExit::Read {
        gpa: 0x5000,
        len: 2,
    };
    assert_eq!(
        guest.load(0x4ffc, &mut bytes).unwrap(),
        GuestAccess::Mmio(vec![exit])
    );
    assert_eq!(bytes, [0, 0, 0, 0, 9, 9]);
    assert_eq!(guest.load(0x3ffc, &mut bytes).unwrap(), GuestAccess::Done);
    assert_eq!(bytes, [0, 0, 1, 2, 0, 0]);

    mapper.remove(&slot(pages(2, 4), RW)).unwrap();
    assert_eq!(shown(&guest), [(4, 5, false)]);
    assert!(mapper.is_healthy());
}

#[test]
fn shows_the_view_at_an_offset() {
    let guest = Arc::new(SoftwarePartition::new());
    let options = MapperOptions::new().offset(0x10_0000);
    let mut mapper = mapper(&guest, memory(16), options);
    assert_eq!(mapper.offset(), 0x10_0000);
    mapper.add(&slot(pages(2, 4), RW)).unwrap();
    assert_eq!(shown(&guest), [(0x102, 0x104, true)]);
    mapper.remove(&slot(pages(2, 4), RW)).unwrap();
    assert_eq!(shown(&guest), []);
}

#[test]
fn an_offset_past_the_end_of_the_address_space_is_an_error() {
    let guest = Arc::new(SoftwarePartition::new());
    let options = MapperOptions::new().offset(u64::MAX - 0xfff);
    let mut mapper = mapper(&guest, memory(16), options);
    let one = slot(pages(2, 4), RW);
    assert!(matches!(
        add_error(&mut mapper, &one),
        AddError::OffsetOverflow { range, .. } if range == pages(2, 4)
    ));
    assert!(matches!(
        remove_error(&mut mapper, &one),
        RemoveError::OffsetOverflow { range, .. } if range == pages(2, 4)
    ));
    assert!(matches!(
        PartitionMapper::new(guest.clone(), memory(1), MapperOptions::new().offset(0x800)),
        Err(NewMapperError::UnalignedOffset { offset: 0x800 })
    ));
    assert_eq!(shown(&guest), []);
}

#[test]
fn cuts_a_slot_to_the_filter() {
    let guest = Arc::new(SoftwarePartition::new());
    let options = MapperOptions::new()
        .only([pages(8, 20), pages(1, 3), MemoryRange::EMPTY, pages(5, 6)])
        .offset(0x1000);
    let mut mapper = mapper(&guest, memory(16), options);
    let whole = slot(pages(2, 9), RW);
    let hidden = slot(pages(3, 5), RW);
    mapper.add(&whole).unwrap();
    assert_eq!(shown(&guest), [(3, 4, true), (6, 7, true), (9, 10, true)]);
    mapper.remove(&whole).unwrap();
    mapper.add(&hidden).unwrap();
    assert_eq!(shown(&guest), []);
    mapper.remove(&hidden).unwrap();

    let nothing: [MemoryRange; 0] = [];
    let options = MapperOptions::new().only(nothing);
    let mut mapper = PartitionMapper::new(guest.clone(), memory(16), options).unwrap();
    mapper.add(&whole).unwrap();
    assert_eq!(shown(&guest), []);
}

#[test]
fn removing_and_adding_in_the_opposite_order_keeps_slot_ids() {
    let guest = Arc::new(SoftwarePartition::new());
    let options = MapperOptions::new().only([pages(0, 2), pages(3, 5), pages(6, 8)]);
    let mut mapper = mapper(&guest, memory(16), options);
    let (low, high) = (slot(pages(0, 4), RW), slot(pages(4, 8), RW));
    mapper.add(&low).unwrap();
    mapper.add(&high).unwrap();
    let before = guest.slots();
    assert_eq!(before.len(), 4);
    mapper.remove(&low).unwrap();
    mapper.remove(&high).unwrap();
    mapper.add(&high).unwrap();
    mapper.add(&low).unwrap();
    assert_eq!(guest.slots(), before);
}

#[test]
fn several_partitions_show_one_memory() {
    let va = memory(16);
    let first = Arc::new(SoftwarePartition::new());
    let second = Arc::new(SoftwarePartition::new());
    let mut plain = mapper(&first, va.clone(), MapperOptions::new());
    let mut alias = mapper(&second, va, MapperOptions::new().offset(0x8000_0000));
    plain.add(&slot(pages(0, 4), RW)).unwrap();
    alias.add(&slot(pages(0, 4), RO)).unwrap();
    assert_eq!(first.store(0x1234, b"shared").unwrap(), GuestAccess::Done);
    let mut bytes = [0; 6];
    assert_eq!(
        second.load(0x8000_1234, &mut bytes).unwrap(),
        GuestAccess::Done
    );
    assert_eq!(&bytes, b"shared");
    drop(plain);
    assert_eq!(first.slots(), []);
    assert_eq!(second.slots().len(), 1);
}

#[test]
fn refuses_what_does_not_fit() {
    let guest = Arc::new(SoftwarePartition::new());
    let mut mapper = mapper(&guest, memory(4), MapperOptions::new());
    assert!(matches!(
        add_error(&mut mapper, &slot(pages(3, 5), RW)),
        AddError::OutsideReservation { range, len: 0x4000 } if range == pages(3, 5)
    ));
    let top = MemoryRange::new(0xffff_ffff_ffff_e000..0xffff_ffff_ffff_f000);
    assert!(matches!(
        add_error(&mut mapper, &slot(top, RW)),
        AddError::OutsideReservation { range, .. } if range == top
    ));
    mapper.add(&slot(pages(1, 3), RW)).unwrap();
    assert!(matches!(
        add_error(&mut mapper, &slot(pages(2, 4), RW)),
        AddError::Occupied { range, existing } if range == pages(2, 4) && existing == pages(1, 3)
    ));
    for wrong in [pages(0, 1), pages(1, 2), pages(1, 4), pages(0, 4)] {
        assert!(matches!(
            remove_error(&mut mapper, &slot(wrong, RW)),
            RemoveError::NotAdded { range } if range == wrong
        ));
    }
    let no_execute = Slot {
        permissions: Permissions {
            access: RW,
            execute: Execute::Denied,
        },
        ..slot(pages(0, 1), RW)
    };
    let error = add_error(&mut mapper, &no_execute);
    assert_eq!(
        chain(&error),
        "range 0x0-0x1000 could not be mapped into partition software: \
         gpa range 0x0-0x1000 denies execution, which software cannot enforce"
    );
    assert_eq!(shown(&guest), [(1, 3, true)]);
    // An empty slot is nothing to add, and nothing to remove.
    mapper.add(&slot(MemoryRange::EMPTY, RW)).unwrap();
    mapper.remove(&slot(MemoryRange::EMPTY, RW)).unwrap();
}

#[test]
fn running_out_of_slots_changes_nothing() {
    let options = SoftwareOptions::new().max_slots(2);
    let guest = Arc::new(SoftwarePartition::with_options(options));
    let options = MapperOptions::new().only([pages(0, 2), pages(3, 5), pages(6, 8)]);
    let mut mapper = mapper(&guest, memory(16), options);
    let error = add_error(&mut mapper, &slot(pages(0, 8), RW));
    assert!(matches!(
        &error,
        AddError::Map {
            range,
            source: MapError::SlotsExhausted { limit: 2, .. },
            ..
        } if *range == pages(6, 8)
    ));
    assert_eq!(guest.slots(), []);
    mapper.add(&slot(pages(0, 6), RW)).unwrap();
    let ids: Vec<u32> = guest.slots().iter().map(|slot| slot.id).collect();
    assert_eq!(ids, [0, 1]);
}

#[test]
fn a_backend_without_read_only_slots_refuses_them() {
    let options = SoftwareOptions::new().without_read_only_slots().name("old");
    let guest = Arc::new(SoftwarePartition::with_options(options));
    let mut mapper = mapper(&guest, memory(16), MapperOptions::new());
    assert!(matches!(
        add_error(&mut mapper, &slot(pages(0, 2), RO)),
        AddError::Map {
            source: MapError::ReadOnlyUnsupported { partition, .. },
            ..
        } if partition == "old"
    ));
    mapper.add(&slot(pages(0, 2), RW)).unwrap();
    assert_eq!(shown(&guest), [(0, 2, true)]);
}

#[test]
fn a_power_that_the_backend_lacks_is_an_error() {
    let options = SoftwareOptions::new().without_pin().without_prefetch();
    let guest = Arc::new(SoftwarePartition::with_options(options));
    let unsupported = NewMapperError::Unsupported {
        partition: "software".to_owned(),
        power: Power::Pin,
    };
    let refused = PartitionMapper::new(guest.clone(), memory(4), MapperOptions::new().pinned());
    assert_eq!(refused.err(), Some(unsupported));
    let mut mapper = mapper(&guest, memory(4), MapperOptions::new());
    let prefetched = Slot {
        prefetch: true,
        ..slot(pages(0, 2), RW)
    };
    assert!(matches!(
        add_error(&mut mapper, &prefetched),
        AddError::Unsupported {
            power: Power::Prefetch,
            ..
        }
    ));
    assert_eq!(shown(&guest), []);
}

#[test]
fn replaced_contents_are_made_present_again() {
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::new()));
    let options = MapperOptions::new().pinned().offset(0x10000);
    let mut mapper = PartitionMapper::new(guest.clone(), memory(16), options).unwrap();
    mapper.add(&slot(pages(0, 2), RW)).unwrap();
    let prefetched = Slot {
        prefetch: true,
        ..slot(pages(2, 6), RO)
    };
    mapper.add(&prefetched).unwrap();
    assert_eq!(
        guest.calls(),
        [
            PartitionCall::Map {
                gpa: pages(16, 18),
                permissions: permissions(RW)
            },
            PartitionCall::Pin { gpa: pages(16, 18) },
            PartitionCall::Map {
                gpa: pages(18, 22),
                permissions: permissions(RO)
            },
            PartitionCall::Prefetch { gpa: pages(18, 22) },
            PartitionCall::Pin { gpa: pages(18, 22) },
        ]
    );
    guest.fail_never();
    mapper.contents_replaced(pages(1, 4)).unwrap();
    assert_eq!(
        guest.calls(),
        [
            PartitionCall::Pin { gpa: pages(17, 18) },
            PartitionCall::Prefetch { gpa: pages(18, 20) },
            PartitionCall::Pin { gpa: pages(18, 20) },
        ]
    );
    guest.fail_never();
    mapper.contents_replaced(pages(8, 12)).unwrap();
    assert_eq!(guest.calls(), []);
}

#[test]
fn pinned_memory_is_locked_and_prefetched_memory_is_there() {
    let guest = Arc::new(SoftwarePartition::new());
    let va = memory(8);
    let mut mapper = mapper(&guest, va.clone(), MapperOptions::new().pinned());
    mapper.add(&slot(pages(2, 4), RW)).unwrap();
    let base = va.base().addr().get() as u64;
    assert_eq!(locked_kib(base + 2 * PAGE_SIZE), 8);

    let unpinned = Arc::new(SoftwarePartition::new());
    let mut other = PartitionMapper::new(unpinned, va, MapperOptions::new()).unwrap();
    let prefetched = Slot {
        prefetch: true,
        ..slot(pages(5, 8), RW)
    };
    assert_eq!(locked_kib(base + 5 * PAGE_SIZE), 0);
    assert_eq!(resident_pages(base + 5 * PAGE_SIZE, 3), 0);
    other.add(&prefetched).unwrap();
    assert_eq!(resident_pages(base + 5 * PAGE_SIZE, 3), 3);
}

/// The `Locked` line of the mapping at this address, in KiB.
fn locked_kib(address: u64) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Some((start, end)) = first.split_once('-')
            && let Ok(start) = u64::from_str_radix(start, 16)
            && let Ok(end) = u64::from_str_radix(end, 16)
        {
            inside = (start..end).contains(&address);
        } else if inside && first == "Locked:" {
            return line.split_whitespace().nth(1).unwrap().parse().unwrap();
        }
    }
    panic!("no mapping at {address:#x}");
}

/// How many of the pages from this address on are in memory.
fn resident_pages(address: u64, count: u64) -> usize {
    use std::io::{Read, Seek, SeekFrom};
    let mut pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    pagemap
        .seek(SeekFrom::Start(address / PAGE_SIZE * 8))
        .unwrap();
    let mut entries = vec![0; count as usize * 8];
    pagemap.read_exact(&mut entries).unwrap();
    entries
        .chunks_exact(8)
        // The top bit says that the page is present.
        .filter(|entry| entry[7] & 0x80 != 0)
        .count()
}

#[test]
fn is_shown_by_inspection() {
    let guest = Arc::new(SoftwarePartition::with_options(
        SoftwareOptions::new().max_slots(8),
    ));
    let options = MapperOptions::new()
        .name("vtl2 alias")
        .offset(0x10_0000)
        .only([pages(0, 4), pages(6, 8)]);
    let va = memory(8);
    let base = va.base().addr().get() as u64;
    let mut mapper = mapper(&guest, va, options);
    mapper.add(&slot(pages(3, 7), RW)).unwrap();
    let text = inspect::inspect(&mapper).to_string();
    let text = text
        .replace(&format!("{:#x}", base + 0x3000), "BASE+0x3000")
        .replace(&format!("{:#x}", base + 0x6000), "BASE+0x6000");
    expect_test::expect![[r#"
        filter:
          0: 0x0-0x4000
          1: 0x6000-0x8000
        healthy: true
        name: vtl2 alias
        offset: 0x100000
        partition:
          broken_rules: {}
          kind: software
          name: software
          read_only_slots: true
          slot_limit: 8
          slots:
            0:
              access: rw
              execute: Allowed
              flags: none
              gpa: 0x103000-0x104000
              hva: BASE+0x3000
              id: 0
            1:
              access: rw
              execute: Allowed
              flags: none
              gpa: 0x106000-0x107000
              hva: BASE+0x6000
              id: 1
          slots_used: 2
        pieces:
          0x3000-0x4000: rwx
          0x6000-0x7000: rwx
        pinned: false
        ram_only: false"#]]
    .assert_eq(&text);
    assert_eq!(RegionListener::name(&mapper), "vtl2 alias");
}

#[test]
fn a_dropped_partition_share_does_not_end_the_partition() {
    let guest = Arc::new(SoftwarePartition::new());
    let mut mapper = mapper(&guest, memory(4), MapperOptions::new());
    let weak = Arc::downgrade(&guest);
    drop(guest);
    mapper.add(&slot(pages(0, 2), RW)).unwrap();
    assert_eq!(weak.upgrade().unwrap().slots().len(), 1);
    drop(mapper);
    assert!(weak.upgrade().is_none());
}
