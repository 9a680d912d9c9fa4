//! Clients that ask for what they touch.

use super::player::Player;
use super::{World, options, ram};
use crate::remote::message::{MOST_FETCHES, Offer, ToClient, ToServer};
use memory_range::{Access, MemoryRange};

const RAM: MemoryRange = MemoryRange::new(0..0x10_0000);
const PAGE: MemoryRange = MemoryRange::new(0x4000..0x5000);

fn fetched(player: &mut Player) -> u64 {
    match player.step() {
        Err(Some(ToClient::Fetched { request })) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_is_asked_for_comes_and_comes_whole() {
    let world = World::new();
    let (peer, mut player) = world.greeted(options(), true);
    let (ram, rom) = (ram("ram"), ram("rom"));
    peer.show(RAM, &ram, 0, Access::ReadWrite);
    peer.show(
        MemoryRange::new(0x20_0000..0x20_1000),
        &rom,
        0,
        Access::ReadOnly,
    );
    peer.seal();
    player.follow(1);
    assert!(player.pages.is_empty() && player.files.is_empty());

    player.fetch(7, PAGE);
    player.follow(2);
    assert_eq!(fetched(&mut player), 7);
    assert_eq!(player.pages.len(), 256);
    // It has it, or there is nothing: nothing more is sent.
    player.fetch(8, PAGE);
    assert_eq!(fetched(&mut player), 8);
    player.fetch(9, MemoryRange::new(0x30_0000..0x30_1000));
    assert_eq!(fetched(&mut player), 9);
    assert_eq!(player.sequence, 2);

    // What it hasn't asked for changes unnoticed; what it has is told.
    peer.hide(MemoryRange::new(0x20_0000..0x20_1000));
    assert_eq!(peer.seal(), None);
    peer.show(PAGE, &rom, 0, Access::ReadOnly);
    assert_eq!(peer.seal(), Some(3));
    player.follow(3);
    assert!(!player.pages[&0x4000].2 && player.pages[&0x5000].2);
    // What is taken away has to be asked for again.
    peer.hide(PAGE);
    peer.seal();
    player.follow(4);
    assert_eq!(player.pages.len(), 255);
    peer.show(PAGE, &rom, 0x1000, Access::ReadOnly);
    assert_eq!(peer.seal(), None);
    player.fetch(10, PAGE);
    player.follow(5);
    assert_eq!(fetched(&mut player), 10);
    assert_eq!(player.pages[&0x4000].1, 0x1000);
}

#[test]
fn a_fetch_within_a_change_is_answered_at_its_end() {
    let world = World::new();
    let (peer, mut player) = world.greeted(options(), true);
    let ram = ram("ram");
    peer.show(RAM, &ram, 0, Access::ReadWrite);
    peer.seal();
    player.follow(1);
    // Half a change, of which nobody must see anything.
    peer.hide(RAM);
    player.fetch(1, PAGE);
    player.fetch(2, MemoryRange::new(0x30_0000..0x30_1000));
    // It is undone. A moment later or earlier, both are answered by what there is in the end.
    peer.show(RAM, &ram, 0, Access::ReadWrite);
    peer.seal();
    player.follow(2);
    assert_eq!(fetched(&mut player), 1);
    assert_eq!(fetched(&mut player), 2);
    assert_eq!(player.pages.len(), 256);
    assert_eq!(player.changes.len(), 2);
}

/// Within a change of slots only, of a partition that is taken back before its end.
#[test]
fn a_fetch_is_answered_whatever_has_become_of_the_change() {
    let world = World::new();
    let (peer, mut player) = world.greeted(options(), true);
    peer.show(RAM, &ram("ram"), 0, Access::ReadWrite);
    peer.seal();
    player.follow(1);
    player.say(&ToServer::Offer(Offer {
        partition: 1,
        name: String::new(),
        kind: String::new(),
        slots: None,
    }));
    drop(world.event());
    peer.add_slot(1, RAM, 0, Access::ReadWrite, true);
    player.fetch(1, PAGE);
    player.say(&ToServer::Withdraw { partition: 1 });
    drop(world.event());
    peer.seal();
    player.follow(2);
    assert_eq!(fetched(&mut player), 1);
}

#[test]
fn too_many_fetches_are_refused() {
    let world = World::new();
    let (peer, mut player) = world.greeted(options(), true);
    peer.seal();
    player.follow(1);
    peer.show(RAM, &ram("ram"), 0, Access::ReadWrite);
    for request in 0..=u64::try_from(MOST_FETCHES).unwrap() {
        player.fetch(request, PAGE);
    }
    assert_eq!(
        world.left(&peer),
        "the client has more than 64 requests that are not answered"
    );
}

#[test]
fn an_eager_client_must_not_fetch() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    player.fetch(1, PAGE);
    assert_eq!(
        world.left(&peer),
        "the client sent what it must not: it fetched, although all is sent to it"
    );
}
