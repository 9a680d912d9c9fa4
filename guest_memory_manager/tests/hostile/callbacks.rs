//! Changes made from inside a partition that is just being changed.

use crate::GAP;
use crate::support::{cause, chain, memory_of, numbered, range};
use guest_memory_manager::{
    AttachError, ChangeError, DetachError, GuestAccess, GuestMemoryBuilder, GuestMemoryManager,
    MemoryLayout, PartitionId, PartitionMemoryMap, RamVisibility, SoftwarePartition,
    VisibilityError, Vtl,
};
use memory_range::MemoryRange;
use partition_mapper::{MapError, Pin, Prefetch, UnmapError};
use region_manager::{AddListenerError, LockError, Permissions, RemoveListenerError};
use sparse_alloc::HostRange;
use std::sync::{Arc, Mutex};

type Callback = Box<dyn FnMut() -> Result<(), MapError> + Send>;

/// Calls back before every map and every unmap; whether that fails decides whether a map does.
struct CallingBack {
    inner: SoftwarePartition,
    callback: Mutex<Option<Callback>>,
}

impl CallingBack {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: SoftwarePartition::new(),
            callback: Mutex::default(),
        })
    }

    fn set(&self, callback: impl FnMut() -> Result<(), MapError> + Send + 'static) {
        *self.callback.lock().unwrap() = Some(Box::new(callback));
    }

    fn clear(&self) {
        *self.callback.lock().unwrap() = None;
    }

    fn call(&self) -> Result<(), MapError> {
        match &mut *self.callback.lock().unwrap() {
            Some(callback) => callback(),
            None => Ok(()),
        }
    }
}

// SAFETY: a call either fails before it has changed anything, or is the partition's inside.
unsafe impl PartitionMemoryMap for CallingBack {
    fn name(&self) -> &str {
        "calling back"
    }

    unsafe fn map(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), MapError> {
        self.call()?;
        // SAFETY: the caller makes the promise that the partition inside asks for.
        unsafe { self.inner.map(gpa, host, permissions) }
    }

    fn unmap(&self, gpa: MemoryRange) -> Result<(), UnmapError> {
        // Only maps fail here.
        let _ = self.call();
        self.inner.unmap(gpa)
    }

    fn prefetch(&self) -> Option<&dyn Prefetch> {
        None
    }

    fn pin(&self) -> Option<&dyn Pin> {
        None
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        self.inner.inspect(req);
    }
}

const SEGMENT: MemoryRange = MemoryRange::new(0xe_0000..0xe_4000);
const OTHER: MemoryRange = MemoryRange::new(0xd_0000..0xd_4000);

fn pc() -> (Arc<GuestMemoryManager>, Arc<CallingBack>, PartitionId) {
    let layout = MemoryLayout::new(2 << 20, &[GAP], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let manager = Arc::new(builder.build_now(&layout).unwrap());
    let partition = CallingBack::new();
    let id = manager
        .attach_partition_now(Vtl::Vtl0, partition.clone(), None)
        .unwrap();
    (manager, partition, id)
}

fn is_reentrant(error: &(dyn std::error::Error + 'static)) -> bool {
    // Transparent errors show the lock's words as their own.
    chain(error).contains(&LockError::Reentrant.to_string())
}

fn refuse(error: impl std::error::Error + Send + Sync + 'static) -> MapError {
    MapError::Refused {
        gpa: MemoryRange::EMPTY,
        source: Box::new(error),
    }
}

/// The callback's change is refused; the change that it was called from goes on.
#[test]
fn a_change_from_a_callback_is_refused_and_the_outer_change_completes() {
    let (manager, partition, _) = pc();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (inside, told) = (manager.ram_visibility_control(), answers.clone());
    let mapper = manager.device_memory_mapper();
    let counted = Arc::downgrade(&manager);
    partition.set(move || {
        let change = inside.set_ram_visibility_now(OTHER, RamVisibility::Unmapped);
        let Err(VisibilityError::Change(ChangeError::Lock(change))) = change else {
            panic!("{change:?}");
        };
        let Err(VisibilityError::Change(ChangeError::Lock(read))) = inside.ram_visibility(OTHER)
        else {
            panic!("read");
        };
        let Err(ChangeError::Lock(new)) = mapper.new_region(0x1000, "inside".into()) else {
            panic!("new region");
        };
        told.lock().unwrap().extend([change, read, new]);
        let manager = counted.upgrade().unwrap();
        assert_eq!(manager.damaged(), None, "cannot be told now");
        assert!(
            inspect::inspect(&*manager)
                .to_string()
                .contains("inside another one")
        );
        // An access takes no lock.
        memory_of(&manager).write_plain(0x1000, &5_u8).unwrap();
        Ok(())
    });
    let control = manager.ram_visibility_control();
    control
        .set_ram_visibility_now(SEGMENT, RamVisibility::ReadOnly)
        .unwrap()
        .wait();
    partition.clear();
    let answers = answers.lock().unwrap();
    assert!(answers.len() >= 6 && answers.iter().all(|one| *one == LockError::Reentrant));
    assert_eq!(
        control.ram_visibility(SEGMENT).unwrap(),
        RamVisibility::ReadOnly
    );
    assert_eq!(
        control.ram_visibility(OTHER).unwrap(),
        RamVisibility::ReadWrite
    );
    let store = partition.inner.store(SEGMENT.start(), &[1]).unwrap();
    assert!(matches!(store, GuestAccess::Mmio(_)));
    assert_eq!(partition.inner.broken_rules(), []);
}

/// The callback hands its error on: the outer change is undone, and its error has the reason.
#[test]
fn a_partition_that_gives_up_undoes_the_outer_change() {
    let (manager, partition, _) = pc();
    let slots = partition.inner.slots();
    let inside = manager.ram_visibility_control();
    let mut first = true;
    partition.set(move || {
        // Undoing calls back, too.
        match std::mem::take(&mut first) {
            false => Ok(()),
            true => inside
                .set_ram_visibility_now(OTHER, RamVisibility::Unmapped)
                .map(drop)
                .map_err(refuse),
        }
    });
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x1000, "window".into()).unwrap();
    window
        .map(0, &numbered("file", 1, 1), 0, 0x1000, true)
        .unwrap();
    let error = control.map_to_guest(GAP.start(), true).unwrap_err();
    assert!(is_reentrant(&error), "{}", chain(&error));
    assert_eq!(control.gpa().unwrap(), None);
    assert_eq!(partition.inner.slots(), slots);
    control.map_to_guest(GAP.start(), true).unwrap();
    assert_eq!(partition.inner.slots().len(), slots.len() + 1);
}

/// Attaching and detaching from inside a change, attaching included.
#[test]
fn partitions_neither_come_nor_go_inside_a_change() {
    let (manager, partition, id) = pc();
    let tries = Arc::new(Mutex::new(0));
    let (inside, count) = (Arc::downgrade(&manager), tries.clone());
    let another = Arc::new(SoftwarePartition::new());
    let attempt = move || {
        let manager = inside.upgrade().unwrap();
        let error = manager
            .attach_partition_now(Vtl::Vtl0, another.clone(), None)
            .unwrap_err();
        assert!(matches!(
            error,
            AttachError::Replay(AddListenerError::Lock(LockError::Reentrant))
        ));
        assert_eq!(another.slots(), []);
        let error = manager.detach_partition(id).unwrap_err();
        assert!(matches!(
            error,
            DetachError::Remove(RemoveListenerError::Lock(LockError::Reentrant))
        ));
        *count.lock().unwrap() += 1;
        Ok(())
    };
    partition.set(attempt.clone());
    let control = manager.ram_visibility_control();
    control
        .set_ram_visibility_now(SEGMENT, RamVisibility::ReadOnly)
        .unwrap()
        .wait();
    partition.clear();
    let in_a_change = *tries.lock().unwrap();
    assert!(in_a_change > 0);
    let second = CallingBack::new();
    second.set(attempt);
    manager
        .attach_partition_now(Vtl::Vtl0, second.clone(), None)
        .unwrap();
    second.clear();
    assert!(*tries.lock().unwrap() > in_a_change);

    // The partition is still attached, and can be detached now.
    assert_eq!(partition.inner.slots().len(), second.inner.slots().len());
    manager.detach_partition(id).unwrap();
    assert_eq!(partition.inner.slots(), []);
}

/// A handle that is dropped where nothing can be changed leaves the window in sight, and no hole.
#[test]
fn a_control_dropped_in_a_callback_leaves_its_window() {
    let (manager, partition, _) = pc();
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x1000, "window".into()).unwrap();
    window
        .map(0, &numbered("file", 1, 0x77), 0, 0x1000, true)
        .unwrap();
    control.map_to_guest(GAP.start(), true).unwrap();
    let mut control = Some(control);
    partition.set(move || {
        drop(control.take());
        Ok(())
    });
    let visibility = manager.ram_visibility_control();
    visibility
        .set_ram_visibility_now(SEGMENT, RamVisibility::ReadOnly)
        .unwrap()
        .wait();
    partition.clear();
    let memory = memory_of(&manager);
    assert_eq!(memory.read_plain::<u32>(GAP.start()), Ok(0x77));
    drop(window);
    assert!(memory.read_plain::<u32>(GAP.start()).is_err());
    let slots = partition.inner.slots();
    assert!(
        !slots
            .iter()
            .any(|slot| slot.gpa.overlaps(&range(GAP.start(), GAP.end())))
    );
}

/// Another thread waits for its turn; it is no error.
#[test]
fn a_change_from_another_thread_waits() {
    let (manager, partition, _) = pc();
    let started = Arc::new(std::sync::Barrier::new(2));
    let (inside, barrier) = (manager.ram_visibility_control(), started.clone());
    let other = std::thread::spawn(move || {
        barrier.wait();
        inside
            .set_ram_visibility_now(OTHER, RamVisibility::Unmapped)
            .map(drop)
    });
    let mut first = true;
    partition.set(move || {
        if std::mem::take(&mut first) {
            started.wait();
        }
        Ok(())
    });
    let control = manager.ram_visibility_control();
    control
        .set_ram_visibility_now(SEGMENT, RamVisibility::ReadOnly)
        .unwrap()
        .wait();
    other.join().unwrap().unwrap();
    partition.clear();
    assert_eq!(
        control.ram_visibility(OTHER).unwrap(),
        RamVisibility::Unmapped
    );
    assert!(cause::<LockError>(&LockError::Reentrant).is_some());
}
