//! A guest whose memory is flipped by a region manager while it runs.

#![allow(dead_code, reason = "each test file uses a part of it")]

use crate::kvm::kvm_for;
use crate::native_vcpu::{self, Exit, NativeVcpu, Program, low};
use crate::support::pages;
use kvm_ioctls::VmFd;
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use partition_mapper::{
    KvmOptions, KvmPartition, KvmVcpuBarrier, MapperOptions, PartitionMapper, PauseError,
    PausedVcpus, RunGate, VcpuBarrier,
};
use region_manager::{
    MapParams, MappingSink, RegionId, RegionManager, RegionSpec, SinkError, Transaction, VaOp,
};
use sparse_alloc::{Alignment, Backing, Reservation, SharedMemory};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) const RW: Access = Access::ReadWrite;
pub(crate) const RO: Access = Access::ReadOnly;
/// As many pages as the guest has addresses.
const SPACE: u64 = 0x400;

/// Puts backings into the reservation.
struct Sink(Arc<Reservation>);

impl MappingSink<Backing> for Sink {
    fn apply(&mut self, op: &VaOp<Backing>) -> Result<(), SinkError> {
        match op {
            VaOp::Map {
                range,
                backing,
                offset,
                access,
            } => self.0.map(*range, backing, *offset, *access)?,
            VaOp::Protect { range, access } => self.0.protect(*range, *access)?,
            VaOp::Reserve { range } => self.0.unmap(*range)?,
        }
        Ok(())
    }

    fn undo(&mut self, op: &VaOp<Backing>) -> Result<(), SinkError> {
        self.apply(op)
    }
}

/// The barrier of the crate, which counts how often it is taken.
pub(crate) struct Counting {
    inner: KvmVcpuBarrier,
    count: AtomicU64,
}

impl VcpuBarrier for Counting {
    fn pause(&self) -> Result<PausedVcpus, PauseError> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.inner.pause()
    }
}

/// Held while a guest may run: a guest and who changes its memory take two processors, and more of
/// them at once would mostly wait for each other.
static ALONE: Mutex<()> = Mutex::new(());

/// A VM, and the manager of its memory.
pub(crate) struct World {
    pub(crate) vm: Arc<VmFd>,
    pub(crate) memory: Arc<Reservation>,
    pub(crate) manager: RegionManager<Backing>,
    barrier: Option<Arc<Counting>>,
    _alone: MutexGuard<'static, ()>,
}

/// Whether vCPUs are paused over gaps.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gaps {
    Hidden,
    Shown,
}

impl World {
    /// `None` means that the test must return at once.
    pub(crate) fn new(test: &str, gaps: Gaps) -> Option<Self> {
        let kvm = kvm_for(test)?;
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let vm = Arc::new(kvm.create_vm().unwrap());
        let mut options = KvmOptions::new();
        let barrier = (gaps == Gaps::Hidden).then(|| {
            Arc::new(Counting {
                inner: KvmVcpuBarrier::new().unwrap(),
                count: AtomicU64::new(0),
            })
        });
        if let Some(barrier) = &barrier {
            options = options.barrier(barrier.clone());
        }
        let partition = Arc::new(KvmPartition::with_options(vm.clone(), options).unwrap());
        let memory = Arc::new(Reservation::new(SPACE * PAGE_SIZE, Alignment::Page).unwrap());
        let sink = Box::new(Sink(memory.clone()));
        let manager = RegionManager::new(SPACE * PAGE_SIZE, sink).unwrap();
        // Two mappers of one partition: one pause does for both.
        let plain = MapperOptions::new();
        let high = MapperOptions::new().offset(1 << 40);
        for options in [plain, high] {
            let mapper = PartitionMapper::new(partition.clone(), memory.clone(), options).unwrap();
            manager.add_listener(Box::new(mapper)).unwrap();
        }
        let world = Self {
            vm,
            memory,
            manager,
            barrier,
            _alone: alone,
        };
        let low_ram = ram("low", low().page_count());
        world.change(|change| region(change, &low_ram, low(), 0, RW));
        Some(world)
    }

    pub(crate) fn change<R>(&self, edit: impl FnOnce(&mut Transaction<'_, Backing>) -> R) -> R {
        let mut change = self.manager.transaction().unwrap();
        let result = edit(&mut change);
        let _ = change.commit().unwrap();
        result
    }

    /// How often the vCPUs were paused.
    pub(crate) fn pauses(&self) -> u64 {
        let barrier = self.barrier.as_ref();
        barrier.map_or(0, |barrier| barrier.count.load(Ordering::Relaxed))
    }

    pub(crate) fn gate(&self, vcpu: u64) -> Option<RunGate> {
        let barrier = self.barrier.as_ref()?;
        Some(barrier.inner.gate(vcpu))
    }

    pub(crate) fn peek(&self, at: u64) -> u64 {
        native_vcpu::peek(&self.memory, at)
    }

    pub(crate) fn poke(&self, at: u64, word: u64) {
        native_vcpu::poke(&self.memory, at, word);
    }

    /// Runs a guest that watches, and changes its memory meanwhile; then stops the guest. The
    /// changes begin when the guest has made a few rounds.
    pub(crate) fn watched(&self, program: Program, changes: impl FnOnce(&Watch)) -> Watched {
        let Program::Watch { count, .. } = program else {
            panic!("{program:?} does not watch");
        };
        let mut vcpu = NativeVcpu::new(&self.vm, 0, &self.memory, program);
        let mut gate = self.gate(0);
        let watch = Watch::default();
        let (strays, wrong) = std::thread::scope(|scope| {
            let watch = &watch;
            let thread = scope.spawn(move || {
                let mut strays = Vec::new();
                let mut wrong = 0;
                loop {
                    match vcpu.run(gate.as_mut()) {
                        Exit::Out(native_vcpu::DONE) => break,
                        Exit::Out(native_vcpu::WRONG) => wrong += 1,
                        exit => {
                            watch.strays.fetch_add(1, Ordering::Relaxed);
                            strays.push(exit);
                        }
                    }
                }
                (vcpu, strays, wrong)
            });
            {
                // However this ends, the guest is told to stop, so that nobody waits for ever.
                let _stops = Stops(self);
                while self.peek(count) < 1000 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                changes(watch);
            }
            let (vcpu, strays, wrong) = thread.join().unwrap();
            watch.rounds.store(vcpu.rounds(), Ordering::Relaxed);
            (strays, wrong)
        });
        let rounds = watch.rounds.into_inner();
        Watched {
            strays,
            wrong,
            rounds,
            lost: rounds.wrapping_sub(self.peek(count)),
        }
    }
}

/// Tells the guest to stop when it is dropped.
pub(crate) struct Stops<'a>(pub(crate) &'a World);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.poke(native_vcpu::STOP, 1);
    }
}

/// What is known of a guest that runs.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    strays: AtomicU64,
    rounds: AtomicU64,
}

impl Watch {
    /// How many stray exits there were so far.
    pub(crate) fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }
}

/// What a guest has met.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) strays: Vec<Exit>,
    /// How often it read another value than it should.
    pub(crate) wrong: u64,
    pub(crate) rounds: u64,
    /// How many of its writes are not there.
    pub(crate) lost: u64,
}

impl Watched {
    /// Nothing unusual.
    pub(crate) fn must_be_undisturbed(&self) {
        assert_eq!((&self.strays[..], self.wrong, self.lost), (&[][..], 0, 0));
        assert!(self.rounds >= 1000);
    }
}

/// So many pages of RAM.
pub(crate) fn ram(name: &str, page_count: u64) -> Backing {
    let memory = SharedMemory::new(name, page_count * PAGE_SIZE).unwrap();
    Backing::Mappable(memory.mappable().clone())
}

/// Makes a region that shows the backing from the page `first` on, and maps it.
pub(crate) fn region(
    change: &mut Transaction<'_, Backing>,
    backing: &Backing,
    range: MemoryRange,
    first: u64,
    access: Access,
) -> RegionId {
    let spec = RegionSpec::new(backing.to_string(), range.len(), 1);
    let id = change.create_region(spec).unwrap();
    let all = pages(0, range.page_count());
    let offset = first * PAGE_SIZE;
    change
        .add_mapping(id, all, backing.clone(), offset, RW)
        .unwrap();
    change
        .map_region(id, MapParams::new(range.start(), access))
        .unwrap();
    id
}

/// A region whose borders move, over memory that stays where it is: the slot in the middle goes and
/// comes each time.
pub(crate) struct Moving {
    ram: Backing,
    first: u64,
    id: RegionId,
    nth: u64,
}

impl Moving {
    /// The number of pages that are there in either place, from the page `first` + 4 on.
    pub(crate) const COMMON: u64 = 4;

    /// Shows eight pages from the page `first` on.
    pub(crate) fn new(world: &World, first: u64) -> Self {
        let ram = ram("ram", 12);
        let id = world.change(|change| region(change, &ram, pages(first, first + 8), 0, RW));
        Self {
            ram,
            first,
            id,
            nth: 0,
        }
    }

    pub(crate) fn id(&self) -> RegionId {
        self.id
    }

    /// Four pages up, or down again.
    pub(crate) fn move_on(&mut self, world: &World) {
        self.nth += 1;
        let up = 4 * (self.nth % 2);
        let place = pages(self.first + up, self.first + up + 8);
        self.id = world.change(|change| {
            change.remove_region(self.id).unwrap();
            region(change, &self.ram, place, up, RW)
        });
    }
}
