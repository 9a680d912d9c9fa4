//! The memory table of a vhost device.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{
    DmaOptions, GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, MemoryTable,
    MemoryTableEntry, RamVisibility, SharedMemory, TableFull,
};
use memory_range::MemoryRange;
use std::sync::{Arc, Mutex};
use support::{cause, memory_of, numbered, range};

const GAP: MemoryRange = MemoryRange::new(0x10_0000..0x12_0000);
const END: u64 = 0x14_0000;

fn pc() -> GuestMemoryManager {
    let layout = MemoryLayout::new(0x12_0000, &[GAP], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    builder.build_now(&layout).unwrap()
}

fn segment(nth: u64) -> MemoryRange {
    let start = 0xc_0000 + nth * 0x4000;
    range(start, start + 0x4000)
}

/// What a consumer was sent.
#[derive(Clone, Default)]
struct Consumer {
    sent: Arc<Mutex<Vec<Vec<MemoryTableEntry>>>>,
    refuses: Arc<Mutex<bool>>,
}

impl Consumer {
    fn table(&self, limit: usize) -> Box<MemoryTable> {
        let consumer = self.clone();
        Box::new(MemoryTable::new("net0", limit, move |table| {
            if *consumer.refuses.lock().unwrap() {
                return Err("the socket is closed".into());
            }
            consumer.sent.lock().unwrap().push(table.to_vec());
            Ok(())
        }))
    }

    fn count(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    /// The last table: address, file, offset.
    fn last(&self) -> Vec<(MemoryRange, String, u64)> {
        let sent = self.sent.lock().unwrap();
        let table = sent.last().cloned().unwrap_or_default();
        let entries = table
            .iter()
            .map(|one| (one.gpa(), one.file().name().to_owned(), one.offset()));
        entries.collect()
    }
}

fn ram(start: u64, end: u64, offset: u64) -> (MemoryRange, String, u64) {
    (range(start, end), "guest-ram".to_owned(), offset)
}

/// Low RAM and high RAM, which begins in the file where low RAM ends.
fn whole() -> [(MemoryRange, String, u64); 2] {
    [ram(0, 0x10_0000, 0), ram(GAP.end(), END, 0x10_0000)]
}

#[test]
fn sixteen_regions_of_one_memfd_are_two_entries() {
    let manager = pc();
    let consumer = Consumer::default();
    let table = consumer.table(8);
    manager.attach_dma_target(table, DmaOptions::new()).unwrap();
    assert_eq!(consumer.count(), 1, "one table for all of it");
    assert_eq!(consumer.last(), whole());
    // One piece of host memory, too.
    memory_of(&manager).write_plain(0xf_fffc, &7_u32).unwrap();
    let entry = consumer.sent.lock().unwrap()[0][0].clone();
    let mut word = [0; 4];
    entry.host().read(0xf_fffc, &mut word).unwrap();
    assert_eq!(u32::from_le_bytes(word), 7);
    assert_eq!(entry.host().len(), 0x10_0000);
}

#[test]
fn twelve_segments_of_one_memfd_fit_into_eight_entries() {
    let manager = pc();
    let consumer = Consumer::default();
    let twelve = range(segment(0).start(), segment(11).end());
    let options = DmaOptions::new().only([twelve]);
    manager
        .attach_dma_target(consumer.table(8), options)
        .unwrap();
    assert_eq!(
        consumer.last(),
        [ram(twelve.start(), twelve.end(), twelve.start())]
    );
}

#[test]
fn one_table_for_each_change_that_makes_a_difference() {
    let manager = pc();
    let consumer = Consumer::default();
    let table = consumer.table(8);
    let id = manager.attach_dma_target(table, DmaOptions::new()).unwrap();
    let control = manager.ram_visibility_control();

    // Firmware locks a segment: a device must not write there any more.
    control
        .set_ram_visibility_now(segment(3), RamVisibility::ReadOnly)
        .unwrap()
        .wait();
    assert_eq!(consumer.count(), 2);
    let (low, high) = (segment(3).start(), segment(3).end());
    let [_, above] = whole();
    assert_eq!(
        consumer.last(),
        [ram(0, low, 0), ram(high, 0x10_0000, high), above.clone()]
    );
    // From locked to hidden: the same table.
    control
        .set_ram_visibility_now(segment(3), RamVisibility::Unmapped)
        .unwrap()
        .wait();
    assert_eq!(consumer.count(), 2);
    // All twelve in one step: one table.
    let all: Vec<_> = (0..12)
        .map(|nth| (segment(nth), RamVisibility::ReadOnly))
        .collect();
    control.set_several_now(&all).unwrap().wait();
    assert_eq!(consumer.count(), 3);
    assert_eq!(
        consumer.last(),
        [
            ram(0, 0xc_0000, 0),
            ram(0xf_0000, 0x10_0000, 0xf_0000),
            above
        ]
    );
    let back: Vec<_> = all
        .iter()
        .map(|(range, _)| (*range, RamVisibility::ReadWrite))
        .collect();
    control.set_several_now(&back).unwrap().wait();
    assert_eq!((consumer.count(), consumer.last()), (4, whole().to_vec()));
    // What does not concern it.
    let (mut bar, window) = manager
        .device_memory_mapper()
        .new_region(0x1000, "bar".into())
        .unwrap();
    window
        .map(0, &numbered("bar", 1, 1), 0, 0x1000, true)
        .unwrap();
    bar.map_to_guest(GAP.start(), true).unwrap();
    assert_eq!(consumer.count(), 4);
    // In the end it has nothing.
    manager.detach_dma_target(id).unwrap();
    assert_eq!((consumer.count(), consumer.last()), (5, Vec::new()));
}

#[test]
fn two_memfds_side_by_side_are_two_entries() {
    let manager = pc();
    let consumer = Consumer::default();
    let options = DmaOptions::new().include_device_memory();
    manager
        .attach_dma_target(consumer.table(8), options)
        .unwrap();
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x4000, "bar".into()).unwrap();
    let file = numbered("bar", 4, 1);
    window.map(0, &file, 0, 0x4000, true).unwrap();
    control.map_to_guest(0x10_0000, true).unwrap();
    let bar = (range(0x10_0000, 0x10_4000), "bar".to_owned(), 0);
    let [low, high] = whole();
    assert_eq!(consumer.last(), [low.clone(), bar, high.clone()]);
    // At the offset where low RAM ends, but of another file.
    let other = SharedMemory::new("other", 0x20_0000).unwrap();
    window.map(0, &other, 0x10_0000, 0x4000, true).unwrap();
    let continued = (range(0x10_0000, 0x10_4000), "other".to_owned(), 0x10_0000);
    assert_eq!(consumer.last(), [low.clone(), continued, high.clone()]);
    // In one file, but not in this order: not one piece.
    window.map(0, &file, 0x2000, 0x2000, true).unwrap();
    window.map(0x2000, &file, 0, 0x2000, true).unwrap();
    let halves = [
        (range(0x10_0000, 0x10_2000), "bar".to_owned(), 0x2000),
        (range(0x10_2000, 0x10_4000), "bar".to_owned(), 0),
    ];
    let [first, second] = halves;
    assert_eq!(consumer.last(), [low, first, second, high]);
}

#[test]
fn a_table_that_would_be_too_long_is_known_before() {
    let manager = pc();
    let consumer = Consumer::default();
    for limit in [0, 1] {
        let error = manager.attach_dma_target(consumer.table(limit), DmaOptions::new());
        let error = error.unwrap_err();
        let full = cause::<TableFull>(&error).unwrap();
        assert_eq!((full.limit, full.needed), (limit, 2));
        assert_eq!(
            full.to_string(),
            format!("the memory table of \"net0\" takes {limit} entries, and 2 are needed")
        );
    }
    assert_eq!(consumer.count(), 0);

    manager
        .attach_dma_target(consumer.table(3), DmaOptions::new())
        .unwrap();
    let control = manager.ram_visibility_control();
    let hide = |nth: &[u64]| {
        let hidden: Vec<_> = nth
            .iter()
            .map(|nth| (segment(*nth), RamVisibility::Unmapped))
            .collect();
        control.set_several_now(&hidden).map(|done| done.wait())
    };
    hide(&[3]).unwrap();
    let (before, count) = (inspect::inspect(&manager), consumer.count());
    let error = hide(&[5]).unwrap_err();
    assert_eq!(
        cause::<TableFull>(&error).unwrap(),
        &TableFull {
            table: "net0".to_owned(),
            limit: 3,
            needed: 4
        }
    );
    let regions = |tree: &inspect::Node| {
        tree.get(&"view/flat_view".parse().unwrap())
            .unwrap()
            .to_string()
    };
    assert_eq!(regions(&inspect::inspect(&manager)), regions(&before));
    assert_eq!(consumer.count(), count);
    memory_of(&manager)
        .write_plain(segment(5).start(), &1_u8)
        .unwrap();
    // Next to the other: no entry more.
    hide(&[4]).unwrap();
    assert_eq!(consumer.last().len(), 3);
}

#[test]
fn a_table_that_could_not_be_sent_is_sent_with_the_next_change() {
    let manager = pc();
    let consumer = Consumer::default();
    let table = consumer.table(8);
    manager.attach_dma_target(table, DmaOptions::new()).unwrap();
    let control = manager.ram_visibility_control();
    *consumer.refuses.lock().unwrap() = true;
    control
        .set_ram_visibility_now(segment(3), RamVisibility::Unmapped)
        .unwrap()
        .wait();
    let failures = manager.dma_failures().unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        failures[0].to_string(),
        "net0 has not finished a change: the socket is closed"
    );
    *consumer.refuses.lock().unwrap() = false;
    control
        .set_ram_visibility_now(segment(4), RamVisibility::Unmapped)
        .unwrap()
        .wait();
    assert_eq!(manager.dma_failures(), Some(Vec::new()));
    assert_eq!(consumer.count(), 2);
    let hole = range(segment(3).start(), segment(4).end());
    assert!(consumer.last().iter().all(|(gpa, ..)| !gpa.overlaps(&hole)));
}
