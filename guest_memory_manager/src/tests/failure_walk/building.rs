//! Failures while guest memory is built.

use super::failing_sink::{FailingSink, SinkFaults};
use super::world;
use crate::{BuildError, GuestMemoryManager, SharedMemoryBacking};
use memory_range::PAGE_SIZE;
use region_manager::MappingSink;
use sparse_alloc::Backing;
use std::sync::{Arc, Mutex};

fn build(
    existing: Option<SharedMemoryBacking>,
    faults: &Arc<Mutex<SinkFaults>>,
) -> Result<GuestMemoryManager, BuildError> {
    let wrap = |sink| -> Box<dyn MappingSink<Backing>> {
        Box::new(FailingSink::new(sink, faults.clone()))
    };
    let builder = world::builder().existing_backing(existing);
    builder.build_with(&world::layout(), &wrap)
}

/// Each call of a build fails: there is no manager then, and the memory that it was to be built of
/// is as it was.
#[test]
fn building_from_existing_memory() {
    let faults = Arc::<Mutex<SinkFaults>>::default();
    let first = build(None, &faults).unwrap();
    let count = faults.lock().unwrap().calls();
    assert!(count > 0);
    first
        .client()
        .guest_memory_now()
        .write_plain(0x5000, &42_u32)
        .unwrap();
    let backing = first.shared_memory_backing();
    drop(first);
    for k in 0..count {
        faults.lock().unwrap().set(Some(k..k + 1));
        let error = build(Some(backing.clone()), &faults).err().unwrap();
        assert!(matches!(error, BuildError::Map(_)), "{error}");
        assert!(world::was_told_to_fail(&error));
        // The wrapped sink holds a share of this: nothing of the failed build is left.
        assert_eq!(Arc::strong_count(&faults), 1);
    }
    faults.lock().unwrap().set(None);
    let again = build(Some(backing), &faults).unwrap();
    assert_eq!(faults.lock().unwrap().calls(), count);
    let memory = again.client().guest_memory_now();
    assert_eq!(memory.read_plain::<u32>(0x5000).unwrap(), 42);
    assert!(memory.read_plain::<u8>(world::GAP.start()).is_err());
    assert_eq!(
        memory
            .read_plain::<u8>(world::GAP.start() - PAGE_SIZE)
            .unwrap(),
        0
    );
}
