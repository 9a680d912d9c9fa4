//! Slots of partitions that clients offer.

use super::player::Player;
use super::{World, ram};
use crate::remote::message::{MOST_PARTITIONS, Offer, ToServer};
use crate::remote::{Peer, RemoteEvent};
use memory_range::{Access, MemoryRange};
use std::sync::Arc;

const A: MemoryRange = MemoryRange::new(0x1000..0x3000);

fn offer(world: &World, peer: &Arc<Peer>, player: &mut Player, partition: u32) {
    player.say(&ToServer::Offer(Offer {
        partition,
        name: "vtl0".to_owned(),
        kind: "kvm".to_owned(),
        slots: Some(509),
    }));
    match world.event() {
        RemoteEvent::PartitionOffered { peer: of, offer } => {
            assert!(Arc::ptr_eq(&of, peer));
            assert_eq!((offer.partition, offer.slots), (partition, Some(509)));
            assert_eq!((&*offer.name, &*offer.kind), ("vtl0", "kvm"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn slots_go_before_ranges_and_come_after_them() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    offer(&world, &peer, &mut player, 3);
    let ram = ram("ram");
    // In whatever order they are said.
    peer.add_slot(3, A, 0x1000, Access::ReadWrite, true);
    peer.show(A, &ram, 0, Access::ReadWrite);
    peer.seal();
    player.follow(1);
    assert_eq!(player.changes[0], ["files", "ranges", "slots added"]);
    let slot = player.slots[&(3, 0x1000)];
    assert_eq!((slot.range, slot.gpa), (A, 0x1000));
    assert!(slot.writable && slot.executable);

    // Another permission: it goes and comes.
    peer.remove_slot(3, A);
    peer.add_slot(3, A, 0x1000, Access::ReadOnly, true);
    peer.show(A, &ram, 0, Access::ReadOnly);
    peer.seal();
    player.follow(2);
    assert_eq!(
        player.changes[1],
        ["slots removed", "ranges", "slots added"]
    );
    assert!(!player.slots[&(3, 0x1000)].writable);

    // Undone: nothing.
    peer.remove_slot(3, A);
    peer.add_slot(3, A, 0x1000, Access::ReadOnly, true);
    peer.add_slot(
        3,
        MemoryRange::new(0x8000..0x9000),
        0,
        Access::ReadOnly,
        true,
    );
    peer.remove_slot(3, MemoryRange::new(0x8000..0x9000));
    assert_eq!(peer.seal(), None);
}

#[test]
fn a_partition_that_is_taken_back_has_no_slots() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    offer(&world, &peer, &mut player, 1);
    peer.add_slot(1, A, 0x1000, Access::ReadWrite, true);
    // One that was never offered.
    peer.add_slot(2, A, 0x1000, Access::ReadWrite, true);
    peer.seal();
    player.follow(1);
    assert_eq!(player.slots.len(), 1);
    player.say(&ToServer::Withdraw { partition: 1 });
    match world.event() {
        RemoteEvent::PartitionWithdrawn { partition: 1, .. } => {}
        other => panic!("{other:?}"),
    }
    peer.remove_slot(1, A);
    peer.add_slot(1, A, 0x1000, Access::ReadWrite, true);
    assert_eq!(peer.seal(), None);
    // The number is free again, and knows nothing of what was.
    offer(&world, &peer, &mut player, 1);
    peer.remove_slot(1, A);
    assert_eq!(peer.seal(), None);
}

#[test]
fn offers_and_withdrawals_that_make_no_sense() {
    let world = World::new();
    let garbage = |text: &str| format!("the client sent what it must not: {text}");
    let (peer, mut player) = world.eager();
    offer(&world, &peer, &mut player, 1);
    player.say(&ToServer::Withdraw { partition: 9 });
    assert_eq!(
        world.left(&peer),
        garbage("it took back partition 9, which it had not offered")
    );

    let (peer, mut player) = world.eager();
    for partition in 0..u32::try_from(MOST_PARTITIONS).unwrap() {
        offer(&world, &peer, &mut player, partition);
    }
    player.say(&ToServer::Offer(Offer {
        partition: 99,
        name: "one more".to_owned(),
        kind: String::new(),
        slots: None,
    }));
    assert_eq!(
        world.left(&peer),
        garbage("it offered partition 99 twice, or too many of them")
    );
}
