//! The same regions twice: as a guest's RAM with gaps, and as `GuestMemoryMmap`.

use guest_memory_manager::{GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, MemoryRange};
use std::sync::Arc;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::bitmap::Bitmap;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryAtomic, GuestMemoryMmap};
use vm_memory_adapter::{AccessView, AddressSpace, BackendSnapshot, SnapshotOptions, ThreadSpace};

/// The length of a region, and how far they are from each other.
pub(crate) const REGION: u64 = 0x4000;
const STEP: u64 = 2 * REGION;

/// How many addresses a pass visits.
pub(crate) const PASS: usize = 256;
/// How many passes differ.
const PASSES: usize = 64;

/// The length of a descriptor chain.
pub(crate) const CHAIN: u16 = 256;
const NEXT: u16 = 1;

pub(crate) type Theirs = GuestMemoryMmap<()>;

pub(crate) struct Fixture {
    pub(crate) regions: usize,
    pub(crate) backend: AddressSpace<BackendSnapshot>,
    pub(crate) view: AddressSpace<AccessView>,
    pub(crate) thread: ThreadSpace<AccessView>,
    pub(crate) theirs: GuestMemoryAtomic<Theirs>,
    pub(crate) shared: Arc<Theirs>,
    addresses: Vec<u64>,
    _manager: GuestMemoryManager,
}

impl Fixture {
    pub(crate) fn new(regions: usize) -> Self {
        let builder = GuestMemoryBuilder::new();
        let manager = builder.build_now(&layout(regions)).unwrap();
        let options = SnapshotOptions::new();
        let backend = AddressSpace::attach(&manager, "backend", &options).unwrap();
        let view = AddressSpace::attach(&manager, "view", &options).unwrap();
        let shared = Arc::new(Theirs::from_ranges(&ranges(regions)).unwrap());
        let theirs = GuestMemoryAtomic::from(shared.clone());
        let fixture = Self {
            regions,
            addresses: random(PASS * PASSES, regions as u64),
            backend,
            thread: view.for_this_thread(),
            view,
            theirs,
            shared,
            _manager: manager,
        };
        fixture.fill();
        fixture
    }

    /// The addresses of the nth pass: anywhere in any region, for eight bytes.
    pub(crate) fn pass(&self, nth: usize) -> &[u64] {
        let start = nth % PASSES * PASS;
        &self.addresses[start..start + PASS]
    }

    /// Gives both the same bytes, and sees that they have them.
    fn fill(&self) {
        use vm_memory::GuestAddressSpace;
        let (ours, theirs) = (self.backend.memory(), self.theirs.memory());
        for address in &self.addresses {
            let at = GuestAddress(*address);
            ours.write_obj(*address, at).unwrap();
            theirs.write_obj(*address, at).unwrap();
        }
        build_chain(&*ours);
        build_chain(&*theirs);
        let view = self.view.memory();
        for address in &self.addresses {
            let at = GuestAddress(*address);
            let expected: u64 = theirs.read_obj(at).unwrap();
            assert_eq!(ours.read_obj::<u64>(at).unwrap(), expected);
            assert_eq!(view.read_obj::<u64>(at).unwrap(), expected);
        }
        let count = usize::from(CHAIN);
        assert_eq!(walk(&mut chain_queue(), &*view), count);
        assert_eq!(walk(&mut chain_queue(), &*ours), count);
        assert_eq!(walk(&mut chain_queue(), &*theirs), count);
    }
}

/// So many regions, as a guest's RAM, with a gap behind each.
pub(crate) fn layout(regions: usize) -> MemoryLayout {
    let gaps: Vec<_> = ranges(regions)
        .into_iter()
        .map(|(start, _)| MemoryRange::new(start.0 + REGION..start.0 + STEP))
        .collect();
    MemoryLayout::new(regions as u64 * REGION, &gaps, None).unwrap()
}

/// The same, as vm-memory wants them.
pub(crate) fn ranges(regions: usize) -> Vec<(GuestAddress, usize)> {
    (0..regions as u64)
        .map(|nth| (GuestAddress(nth * STEP), REGION as usize))
        .collect()
}

/// Addresses of eight aligned bytes in the regions.
fn random(count: usize, regions: u64) -> Vec<u64> {
    // A linear congruential generator; its high bits are good enough to defeat a predictor.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    (0..count)
        .map(|_| match regions {
            1 => place(next()),
            // The same line of a region, so that both have all of them in the caches.
            _ => {
                let nth = next() % regions;
                nth * STEP + place(nth.wrapping_mul(37))
            }
        })
        .collect()
}

/// Where eight bytes lie in a region: not where the first one has the ring.
fn place(random: u64) -> u64 {
    RING_END + random % ((REGION - RING_END) / 8) * 8
}

/// The ring lies in the first region: descriptors, available ring, used ring.
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x1800;
const RING_END: u64 = 0x2800;

fn build_chain<M: GuestMemory>(memory: &M)
where
    M::Bitmap: Bitmap,
{
    for nth in 0..CHAIN {
        let flags = if nth + 1 < CHAIN { NEXT } else { 0 };
        let descriptor = Descriptor::new(RING_END, 8, flags, nth + 1);
        let at = GuestAddress(u64::from(nth) * 16);
        memory
            .write_obj(RawDescriptor::from(descriptor), at)
            .unwrap();
    }
    // One chain, which begins with the first descriptor.
    memory
        .write_obj(1_u16, GuestAddress(AVAILABLE + 2))
        .unwrap();
}

pub(crate) fn chain_queue() -> Queue {
    let mut queue = Queue::new(CHAIN).unwrap();
    queue.try_set_desc_table_address(GuestAddress(0)).unwrap();
    queue
        .try_set_avail_ring_address(GuestAddress(AVAILABLE))
        .unwrap();
    queue.try_set_used_ring_address(GuestAddress(USED)).unwrap();
    queue.set_ready(true);
    queue
}

/// Walks the chain once, and returns how many descriptors it has.
pub(crate) fn walk<M: GuestMemory>(queue: &mut Queue, memory: &M) -> usize {
    queue.set_next_avail(0);
    let chain = queue.pop_descriptor_chain(memory).unwrap();
    chain.map(std::hint::black_box).count()
}
