//! What a client is told, and in which order.

use super::player::inode;
use super::{SPACE, World, options, ram};
use crate::remote::message::{ToClient, ToServer};
use crate::remote::{AddPeerError, PeerOptions};
use memory_range::{Access, MemoryRange};
use sparse_alloc::Backing;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

const A: MemoryRange = MemoryRange::new(0x1000..0x3000);

#[test]
fn the_welcome_says_what_is_granted() {
    let world = World::new();
    let options = PeerOptions {
        alignment: 0x20_0000,
        read_only: true,
        allow_lazy: false,
        name: "a name\nin two lines, and much too long for anyone to read to its very end"
            .to_owned(),
        ..options()
    };
    let (peer, mut player) = world.connect(options);
    let welcome = player.greet(true);
    assert_eq!(welcome.space, SPACE);
    assert_eq!(welcome.alignment, 0x20_0000);
    assert!(welcome.read_only);
    assert!(!welcome.lazy, "it is not allowed");
    assert_eq!(
        welcome.name,
        "a name in two lines, and much too long for anyone to read to its"
    );
    drop(world.event());
    assert_eq!(peer.client_name(), "player");
}

#[test]
fn what_is_shown_comes_with_its_file_once() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    let ram = ram("ram");
    let file = ram.as_mappable().unwrap().as_fd();
    peer.show(A, &ram, 0x5000, Access::ReadWrite);
    peer.show(MemoryRange::new(0x8000..0x9000), &ram, 0, Access::ReadOnly);
    assert_eq!(peer.seal(), Some(1));
    assert_eq!(peer.last_sealed(), 1);
    player.follow(1);
    assert_eq!(player.changes, [["files", "ranges"]]);
    let name = inode(file);
    assert_eq!(player.pages[&0x1000], (name.clone(), 0x5000, true));
    assert_eq!(player.pages[&0x2000], (name.clone(), 0x6000, true));
    assert_eq!(player.pages[&0x8000], (name.clone(), 0, false));
    assert_eq!(player.pages.len(), 3);

    peer.show(A, &ram, 0x5000, Access::ReadOnly);
    peer.seal();
    player.follow(2);
    assert_eq!(player.changes[1], ["ranges"]);
    assert_eq!(player.pages[&0x1000], (name, 0x5000, false));

    peer.hide(MemoryRange::new(0..SPACE));
    peer.seal();
    player.follow(3);
    assert_eq!(player.changes[2], ["ranges", "forget"]);
    assert!(player.pages.is_empty() && player.files.is_empty());
}

#[test]
fn what_was_undone_is_not_sent() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    let (ram, rom) = (ram("ram"), ram("rom"));
    peer.show(A, &ram, 0, Access::ReadWrite);
    peer.seal();
    player.follow(1);

    // Away and back, in other pieces; replaced and back; something new that goes again.
    peer.hide(A);
    peer.show(MemoryRange::new(0x1000..0x2000), &ram, 0, Access::ReadWrite);
    peer.show(
        MemoryRange::new(0x2000..0x3000),
        &ram,
        0x1000,
        Access::ReadWrite,
    );
    peer.show(A, &rom, 0, Access::ReadOnly);
    peer.show(A, &ram, 0, Access::ReadWrite);
    peer.show(MemoryRange::new(0x9000..0xa000), &rom, 0, Access::ReadOnly);
    peer.hide(MemoryRange::new(0x9000..0xa000));
    assert_eq!(peer.seal(), None);
    assert_eq!(peer.last_sealed(), 1);

    peer.show(A, &rom, 0, Access::ReadOnly);
    assert_eq!(peer.seal(), Some(2));
    player.follow(2);
    assert_eq!(player.changes[1], ["files", "ranges", "forget"]);
}

#[test]
fn the_first_change_comes_even_if_it_is_nothing() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    assert_eq!(peer.seal(), Some(1));
    player.follow(1);
    assert_eq!(player.changes, [Vec::<&str>::new()]);
    assert_eq!(peer.seal(), None);
}

#[test]
fn what_is_sealed_before_the_greeting_is_the_first_change() {
    let world = World::new();
    let (peer, mut player) = world.connect(options());
    let ram = ram("ram");
    peer.show(A, &ram, 0, Access::ReadWrite);
    assert_eq!(peer.seal(), None);
    player.greet(false);
    player.follow(1);
    assert_eq!(player.pages.len(), 2);
    drop(world.event());

    // What is in the middle of a change waits for its end.
    let (peer, mut player) = world.connect(options());
    peer.show(A, &ram, 0, Access::ReadWrite);
    peer.seal();
    peer.hide(MemoryRange::new(0x1000..0x2000));
    player.greet(false);
    drop(world.event());
    assert_eq!(peer.last_sealed(), 0);
    assert_eq!(peer.seal(), Some(1));
    player.follow(1);
    assert_eq!(player.pages.len(), 1);
}

#[test]
fn neighbours_that_continue_each_other_are_one_range() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    let ram = ram("ram");
    for page in 0..16 {
        let range = MemoryRange::try_from_len(page * 0x1000, 0x1000).unwrap();
        peer.show(range, &ram, page * 0x1000, Access::ReadWrite);
    }
    peer.show(
        MemoryRange::new(0x20000..0x21000),
        &Backing::Zeros,
        0,
        Access::ReadOnly,
    );
    peer.show(
        MemoryRange::new(0x21000..0x22000),
        &Backing::Zeros,
        77,
        Access::ReadOnly,
    );
    peer.show(
        MemoryRange::new(0x22000..0x23000),
        &Backing::Ones,
        0,
        Access::ReadOnly,
    );
    peer.seal();
    let mut ops = Vec::new();
    loop {
        match player.hear() {
            Some(ToClient::Ranges(some)) => ops.extend(some),
            Some(ToClient::Commit { .. }) => break,
            Some(_) => {}
            None => panic!("closed"),
        }
    }
    let ranges: Vec<_> = ops.iter().map(|op| op.range.to_string()).collect();
    assert_eq!(
        ranges,
        ["0x0-0x10000", "0x20000-0x22000", "0x22000-0x23000"]
    );
}

#[test]
fn anonymous_memory_is_a_hole() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    peer.show(A, &ram("ram"), 0, Access::ReadWrite);
    let middle = MemoryRange::new(0x2000..0x3000);
    peer.show(middle, &Backing::Anonymous, 0, Access::ReadWrite);
    peer.show(MemoryRange::EMPTY, &Backing::Zeros, 0, Access::ReadWrite);
    peer.seal();
    player.follow(1);
    assert_eq!(player.pages.keys().collect::<Vec<_>>(), [&0x1000]);
}

#[test]
fn long_lists_are_split() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    // 150 files, so three messages of them; 3,000 ranges that don't continue each other.
    let files: Vec<_> = (0..150).map(|n| ram(&format!("file {n}"))).collect();
    for n in 0..3000 {
        let range = MemoryRange::try_from_len(n * 0x1000, 0x1000).unwrap();
        let file = &files[usize::try_from(n).unwrap() % files.len()];
        peer.show(range, file, 0, Access::ReadWrite);
    }
    peer.seal();
    player.follow(1);
    let names = &player.changes[0];
    assert_eq!(
        names[..],
        ["files", "files", "files", "ranges", "ranges", "ranges"]
    );
    assert_eq!((player.pages.len(), player.files.len()), (3000, 150));

    peer.hide(MemoryRange::new(0..SPACE));
    peer.seal();
    player.follow(2);
    assert!(player.files.is_empty());
}

#[test]
fn a_goodbye_says_why() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    peer.show(A, &ram("ram"), 0, Access::ReadWrite);
    peer.seal();
    peer.evict("no longer wanted");
    assert_eq!(player.end().unwrap(), "detached: no longer wanted");
    assert_eq!(player.sequence, 1, "what was sent before is there");
    assert_eq!(world.left(&peer), "detached: no longer wanted");
    // It swallows everything, and is reported once.
    peer.evict("again");
    peer.show(A, &ram("more"), 0, Access::ReadWrite);
    peer.hide(A);
    assert_eq!(peer.seal(), None);
    assert_eq!(peer.acknowledged(), u64::MAX);
    world.service.close("the end");
    world.no_more_events();
}

#[test]
fn a_client_that_fails_says_so() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    peer.seal();
    player.say(&ToServer::Failed(crate::remote::message::Failed {
        sequence: 1,
        text: "no address space".to_owned(),
    }));
    assert_eq!(
        world.left(&peer),
        "the client could not make change 1: no address space"
    );
}

#[test]
fn last_words_are_heard_when_sending_fails() {
    let world = World::without_thread();
    let (peer, mut player) = world.connect(options());
    player.say(&ToServer::Hello(crate::remote::message::Hello {
        name: "brief".to_owned(),
        lazy: false,
    }));
    world.service.turn(Some(super::LONG)).unwrap();
    drop(world.event());
    player.say(&ToServer::Failed(crate::remote::message::Failed {
        sequence: 0,
        text: "out of memory".to_owned(),
    }));
    drop(player);
    // It finds out by sending.
    peer.seal();
    let reason = "the client could not make change 0: out of memory";
    assert_eq!(peer.is_gone().unwrap().to_string(), reason);
    world.service.turn(Some(super::LONG)).unwrap();
    assert_eq!(world.left(&peer), reason);
}

#[test]
fn a_space_or_an_alignment_that_is_none() {
    let world = World::without_thread();
    let add = |options: PeerOptions, space| {
        let (here, _there) = UnixStream::pair().unwrap();
        world
            .service
            .add(here, options, space)
            .unwrap_err()
            .to_string()
    };
    let bad = PeerOptions {
        alignment: 0x800,
        ..options()
    };
    assert_eq!(
        add(options(), 0),
        "a space of 0x0 bytes is empty or unaligned"
    );
    assert_eq!(
        add(options(), 0x1234),
        "a space of 0x1234 bytes is empty or unaligned"
    );
    assert_eq!(
        add(bad, SPACE),
        "an alignment of 0x800 bytes is no power of two, or less than a page"
    );
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let refused = world.service.add(file, options(), SPACE).unwrap_err();
    assert!(matches!(refused, AddPeerError::Watch(_)));
    assert!(world.service.peers().is_empty());
}
