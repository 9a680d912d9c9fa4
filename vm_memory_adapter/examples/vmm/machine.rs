//! The machine: its memory, and who works on it.

use crate::block::{Buffer, Disk, FAILED, OK, SECTOR};
use crate::driver::{PackedRing, Places, Ring, SIZE, SplitRing};
use crate::packed::PackedQueue;
use guest_memory_manager::{
    DmaOptions, GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, MemoryRange, RamVisibility,
    SharedMemory,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestAddressSpace};
use vm_memory_adapter::{AccessView, AddressSpace, SnapshotOptions};

pub(crate) const RAM: u64 = 16 << 20;
pub(crate) const GAP: MemoryRange = MemoryRange::new(0xe0_0000..0xf0_0000);
const SPLIT: u64 = 0x40_0000;
const PACKED: u64 = 0x50_0000;
pub(crate) const SECTORS: u64 = 64;

/// What was done.
pub(crate) struct Seen {
    pub(crate) turns: u64,
    pub(crate) changes: u64,
}

/// The guest's memory.
pub(crate) fn build() -> GuestMemoryManager {
    let layout = MemoryLayout::new(RAM, &[GAP], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    builder.build_now(&layout).unwrap()
}

/// Runs a disk for so many turns of each queue at least.
pub(crate) fn run(manager: &GuestMemoryManager, turns: u64) -> Seen {
    let options = SnapshotOptions::new().reach(DmaOptions::new().include_device_memory());
    let space = AddressSpace::<AccessView>::attach(manager, "disk", &options).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(SECTORS * SECTOR).unwrap();
    let disk = Disk::new(file);
    let (done, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let turns = std::thread::scope(|scope| {
        let device = scope.spawn(|| serve(&space, &disk, &done));
        let changer = scope.spawn(|| change(manager, &done, &changes));
        let mut split = SplitRing {
            places: Places::from(SPLIT),
            sent: 0,
        };
        let mut packed = PackedRing {
            places: Places::from(PACKED),
            next: (0, true),
            under_way: (0, true),
        };
        // However fast that is, some changes are to come between.
        let mut turn = 0;
        while turn < turns || changes.load(Ordering::Relaxed) < 20 {
            assert!(!changer.is_finished(), "a change failed");
            use_disk(&space, &mut split, turn);
            use_disk(&space, &mut packed, turn);
            turn += 1;
        }
        done.store(true, Ordering::Relaxed);
        device.join().unwrap();
        changer.join().unwrap();
        manager.detach_dma_target(space.id()).unwrap();
        turn
    });
    Seen {
        turns,
        changes: changes.into_inner(),
    }
}

/// The device: it asks for the present memory before each request.
fn serve(space: &AddressSpace, disk: &Disk, done: &AtomicBool) {
    let places = Places::from(SPLIT);
    let mut split = Queue::new(SIZE).unwrap();
    split.set_size(SIZE);
    let queue = &mut split;
    queue
        .try_set_desc_table_address(GuestAddress(places.descriptors))
        .unwrap();
    queue
        .try_set_avail_ring_address(GuestAddress(places.available))
        .unwrap();
    queue
        .try_set_used_ring_address(GuestAddress(places.used))
        .unwrap();
    queue.set_ready(true);
    assert!(queue.is_valid(&*space.memory()));
    let mut packed = PackedQueue::new(GuestAddress(PACKED), SIZE);
    while !done.load(Ordering::Relaxed) {
        let memory = space.memory();
        if let Some(chain) = split.pop_descriptor_chain(memory.clone()) {
            let head = chain.head_index();
            let buffers: Vec<_> = chain.map(|one| Buffer::from(&one)).collect();
            let written = disk.serve(&*memory, &buffers);
            split.add_used(&*memory, head, written).unwrap();
        } else if let Some(chain) = packed.pop(&*memory).unwrap() {
            let written = disk.serve(&*memory, &chain.buffers);
            packed.answer(&*memory, &chain, written).unwrap();
        } else {
            std::thread::yield_now();
        }
    }
}

/// The driver: writes a few sectors, reads them back, and now and then asks for nonsense.
pub(crate) fn use_disk(space: &AddressSpace, ring: &mut impl Ring, turn: u64) {
    let memory = space.memory();
    let sector = turn % (SECTORS - 4);
    let bytes: Vec<u8> = (0..4 * SECTOR).map(|n| (n * 3 + turn) as u8).collect();
    assert_eq!(ring.write(&*memory, sector, &bytes), OK);
    let mut found = vec![0; bytes.len()];
    assert_eq!(ring.read(&*memory, sector, &mut found), OK);
    assert!(found == bytes, "sector {sector} has other bytes");
    if turn.is_multiple_of(16) {
        assert_eq!(ring.read(&*memory, SECTORS, &mut found), FAILED);
    }
}

/// Somebody else: hides and shows segments that the disk has nothing to do with, and moves a BAR.
fn change(manager: &GuestMemoryManager, done: &AtomicBool, changes: &AtomicU64) {
    let control = manager.ram_visibility_control();
    let bar = SharedMemory::new("bar", 0x4000).unwrap();
    let mapper = manager.device_memory_mapper();
    let (mut bar_control, window) = mapper.new_region(0x4000, "bar".into()).unwrap();
    window.map(0, &bar, 0, 0x4000, true).unwrap();
    for turn in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
        let start = 0xc_0000 + turn % 12 * 0x4000;
        let segment = MemoryRange::new(start..start + 0x4000);
        for visibility in [
            RamVisibility::ReadOnly,
            RamVisibility::Unmapped,
            RamVisibility::ReadWrite,
        ] {
            control.set_ram_visibility_now(segment, visibility).unwrap();
        }
        bar_control.unmap_from_guest();
        let gpa = GAP.start() + turn % 16 * 0x4000;
        bar_control.map_to_guest(gpa, true).unwrap();
        changes.fetch_add(5, Ordering::Relaxed);
    }
}
