//! Handles dropped in every order.

use crate::support::{memory_of, numbered};
use crate::{GAP, pc};
use guest_memory_manager::{DetachError, GuestAccess, SoftwarePartition, Vtl};
use std::any::Any;
use std::sync::Arc;

/// Every order of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let mut all = Vec::new();
    for order in orders(last) {
        for at in 0..=order.len() {
            let mut longer = order.clone();
            longer.insert(at, last);
            all.push(longer);
        }
    }
    all
}

#[test]
fn every_handle_may_go_first() {
    let orders = orders(6);
    assert_eq!(orders.len(), 720);
    for order in orders {
        let (manager, partition) = pc();
        let memory = memory_of(&manager);
        let mapper = Arc::downgrade(memory.mapper());
        let file = numbered("file", 2, 0x77);
        let windows = manager.device_memory_mapper();
        let (mut control, window) = windows.new_region(0x2000, "window".into()).unwrap();
        window.map(0, &file, 0, 0x2000, true).unwrap();
        control.map_to_guest(GAP.start(), true).unwrap();
        let visibility = manager.ram_visibility_control();
        let partition_left = Arc::downgrade(&partition);
        let mut handles: Vec<Option<Box<dyn Any>>> = vec![
            Some(Box::new(manager)),
            Some(Box::new(control)),
            Some(Box::new(window)),
            Some(Box::new((windows, visibility))),
            Some(Box::new(partition)),
            Some(Box::new(memory.clone())),
        ];
        for nth in order {
            handles[nth] = None;
            // While the manager is there, so is the partition, whoever else holds it.
            if let (Some(_), None) = (&handles[0], &handles[4]) {
                assert!(!partition_left.upgrade().unwrap().slots().is_empty());
            }
            // Without it, the guest sees nothing.
            if let (None, Some(partition)) = (&handles[0], partition_left.upgrade()) {
                assert_eq!(partition.slots(), []);
            }
            // Devices see the window as long as its control is there.
            let word = memory.read_plain::<u32>(GAP.start());
            assert_eq!(word.ok(), handles[1].is_some().then_some(0x77));
        }
        assert!(partition_left.upgrade().is_none());
        memory.write_plain(0x1000, &1_u8).unwrap();
        drop(memory);
        assert!(
            mapper.upgrade().is_none(),
            "nobody keeps anybody alive in a circle"
        );
    }
}

#[test]
fn a_partition_that_everybody_else_has_dropped_stays_in_step() {
    let (manager, _first) = pc();
    let partition = Arc::new(SoftwarePartition::new());
    let left = Arc::downgrade(&partition);
    let id = manager
        .attach_partition_now(Vtl::Vtl0, partition, None)
        .unwrap();
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x1000, "window".into()).unwrap();
    window
        .map(0, &numbered("file", 1, 0x77), 0, 0x1000, true)
        .unwrap();
    control.map_to_guest(GAP.start(), true).unwrap();
    let mut word = [0; 4];
    let load = left
        .upgrade()
        .unwrap()
        .load(GAP.start(), &mut word)
        .unwrap();
    assert_eq!((load, word), (GuestAccess::Done, [0x77, 0, 0, 0]));
    manager.detach_partition(id).unwrap();
    assert!(left.upgrade().is_none());
    assert!(matches!(
        manager.detach_partition(id),
        Err(DetachError::Unknown { .. })
    ));
}

/// The same partition attached a second time would have everything twice.
#[test]
fn attaching_a_partition_twice_is_refused() {
    let (manager, partition) = pc();
    let slots = partition.slots();
    let again = manager.attach_partition_now(Vtl::Vtl0, partition.clone(), None);
    assert!(again.is_err());
    assert_eq!(partition.slots(), slots);
    let mut byte = [0];
    assert_eq!(partition.load(0, &mut byte).unwrap(), GuestAccess::Done);
}
