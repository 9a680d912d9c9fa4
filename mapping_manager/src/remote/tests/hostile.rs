//! Clients that say what they must not, half of it, too much of it, or nothing.

use super::player::Player;
use super::{LONG, SHORT, World, impatient, options, ram};
use crate::descriptors;
use crate::remote::frame::{self, HEADER_LEN};
use crate::remote::message::{Hello, Offer, ToClient, ToServer};
use crate::remote::{Peer, PeerOptions};
use memory_range::{Access, MemoryRange};
use proptest::prelude::*;
use sparse_alloc::Backing;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

const A: MemoryRange = MemoryRange::new(0..0x10_0000);

fn hello(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let hello = Hello {
        name: name.to_owned(),
        lazy: false,
    };
    ToServer::Hello(hello).encode(&mut bytes).unwrap();
    bytes
}

/// Sends bytes as the first ones, and returns why the client was evicted.
fn refused(bytes: &[u8]) -> String {
    let world = World::new();
    let (peer, mut player) = world.connect(options());
    player.stream.write_all(bytes).unwrap();
    let reason = world.left(&peer);
    let reason = reason
        .strip_prefix("the client sent what it must not: ")
        .unwrap_or(&reason);
    // It is told, as far as it listens.
    assert!(player.end().is_some());
    world.service.close("");
    world.no_more_events();
    reason.to_owned()
}

#[test]
fn bytes_that_are_no_frames() {
    let good = hello("x");
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(
        refused(b"GET / HTTP/1.1\r\n\r\n"),
        "a frame begins with [47, 45, 54, 20]"
    );
    assert_eq!(
        refused(&with(4, 2)),
        "version 2 of the protocol, only 1 is known"
    );
    let header = "a frame of 3 bytes with";
    assert_eq!(
        refused(&with(12, 1)),
        format!("{header} 1 descriptors and 0x0 in its last field")
    );
    assert_eq!(
        refused(&with(15, 1)),
        format!("{header} 0 descriptors and 0x100 in its last field")
    );
    assert_eq!(
        refused(&with(10, 1)),
        "a frame of 65539 bytes with 0 descriptors and 0x0 in its last field"
    );
    assert_eq!(refused(&with(6, 99)), "message of unknown kind 99");
    // What a manager says is nothing for a client to say.
    let mut bytes = Vec::new();
    ToClient::Commit { sequence: 1 }.encode(&mut bytes).unwrap();
    assert_eq!(refused(&bytes), "message of unknown kind 7");
    // A text that is longer than its frame; then bytes after the end.
    assert_eq!(
        refused(&with(HEADER_LEN, 200)),
        "message of kind 101 is malformed"
    );
    let mut bytes = Vec::new();
    frame::append(&mut bytes, 101, 0, &("x", false, 7_u8)).unwrap();
    assert_eq!(refused(&bytes), "message of kind 101 has 1 bytes too many");
    assert_eq!(
        refused(&hello(&"x".repeat(65))),
        "a text of 65 bytes, of which 64 are allowed, or with control characters"
    );
    assert_eq!(
        refused(&hello("a\u{1b}[31mred")),
        "a text of 9 bytes, of which 64 are allowed, or with control characters"
    );
}

#[test]
fn messages_at_the_wrong_time() {
    let mut bytes = Vec::new();
    ToServer::Acknowledged { sequence: 1 }
        .encode(&mut bytes)
        .unwrap();
    assert_eq!(refused(&bytes), "it said something else before greeting");
}

#[test]
fn what_comes_after_a_greeting() {
    let range = |start: u64, len: u64| {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, 103, 0, &(1_u64, (start, len))).unwrap();
        bytes
    };
    let acknowledged = |sequence| {
        let mut bytes = Vec::new();
        ToServer::Acknowledged { sequence }
            .encode(&mut bytes)
            .unwrap();
        bytes
    };
    let cases: [(Vec<u8>, &str); 9] = [
        (hello("x"), "it greeted twice"),
        (
            acknowledged(0),
            "it acknowledged change 0, of 2 to 2 that are possible",
        ),
        (
            acknowledged(1),
            "it acknowledged change 1, of 2 to 2 that are possible",
        ),
        (
            acknowledged(3),
            "it acknowledged change 3, of 2 to 2 that are possible",
        ),
        (
            acknowledged(u64::MAX),
            "it acknowledged change 18446744073709551615, of 2 to 2 that are possible",
        ),
        (range(0x1234, 0x1000), "message of kind 103 is malformed"),
        (range(0x1000, 0), "message of kind 103 is malformed"),
        (range(!0xfff, 0x2000), "message of kind 103 is malformed"),
        (
            range(0x100_0000, 0x1000),
            "0x1000000-0x1001000 does not lie in a space of 0x1000000 bytes, or is longer than \
             allowed",
        ),
    ];
    let world = World::new();
    for (bytes, expected) in cases {
        let (peer, mut player) = world.greeted(options(), true);
        peer.seal();
        player.follow(1);
        assert!(peer.wait(1, None));
        peer.show(A, &ram("ram"), 0, Access::ReadWrite);
        peer.seal();
        player.fetch(1, MemoryRange::new(0..0x1000));
        player.step().unwrap();
        player.stream.write_all(&bytes).unwrap();
        assert_eq!(
            world.left(&peer),
            format!("the client sent what it must not: {expected}")
        );
    }
    world.no_more_events();
}

#[test]
fn a_range_that_is_too_long_to_fetch() {
    let world = World::new();
    let (peer, mut player) = world.greeted(options(), true);
    player.fetch(1, MemoryRange::new(0..0x20_1000));
    assert!(world.left(&peer).ends_with("or is longer than allowed"));
}

#[test]
fn silence_in_place_of_a_greeting() {
    let world = World::new();
    let (peer, mut player) = world.connect(impatient());
    assert_eq!(
        world.left(&peer),
        "the client did not greet before its deadline"
    );
    assert_eq!(
        player.end().unwrap(),
        "the client did not greet before its deadline"
    );
}

/// What has gone off is not left to go off again and again.
#[test]
fn a_deadline_passes_once() {
    let world = World::without_thread();
    let (peer, _player) = world.connect(impatient());
    while peer.is_gone().is_none() {
        world.service.turn(Some(LONG)).unwrap();
    }
    drop(world.left(&peer));
    // The notice of its end may still be there.
    let turns = (0..5).filter(|_| world.service.turn(Some(Duration::ZERO)).unwrap() > 0);
    assert!(turns.count() <= 1);
}

#[test]
fn half_a_message_and_then_silence() {
    let world = World::new();
    for len in [1, HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + 1] {
        let (peer, mut player) = world.greeted(impatient(), false);
        player.stream.write_all(&hello("again")[..len]).unwrap();
        assert_eq!(
            world.left(&peer),
            "the client did not finish a message before its deadline"
        );
    }
}

#[test]
fn the_end_in_the_middle_of_a_message() {
    let world = World::new();
    for len in [0, 1, HEADER_LEN, HEADER_LEN + 2] {
        let (peer, mut player) = world.eager();
        player.stream.write_all(&hello("again")[..len]).unwrap();
        drop(player);
        assert_eq!(
            world.left(&peer),
            format!("the client closed the connection, {len} bytes into a message")
        );
    }
}

#[test]
fn byte_by_byte_is_as_good_as_at_once() {
    let world = World::new();
    let (_peer, mut player) = world.connect(options());
    for byte in hello("slow") {
        player.stream.write_all(&[byte]).unwrap();
        std::thread::yield_now();
    }
    assert!(matches!(player.hear(), Some(ToClient::Welcome(_))));
}

#[test]
fn descriptors_from_a_client() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let bytes = hello("with a gift");
    let fds = [file.as_fd(); 3];
    descriptors::send_now(player.stream.as_fd(), &bytes, &fds).unwrap();
    assert_eq!(
        world.left(&peer),
        "the client sent what it must not: a frame that states 0 descriptors came with 0, or more \
         than fit"
    );
    assert!(player.end().is_some());
}

/// As a process that was stopped: its socket is open, and nothing is read.
#[test]
fn one_that_does_not_read_is_evicted_and_others_go_on() {
    let world = World::new();
    let (stuck, _stuck_player) = world.greeted(impatient(), false);
    let (well, mut player) = world.eager();
    let ram = ram("ram");
    stuck.show(A, &ram, 0, Access::ReadWrite);
    let sealed = stuck.seal().unwrap();
    let mut number = 0;
    let until = Instant::now() + LONG;
    while stuck.is_gone().is_none() && Instant::now() < until {
        number += 1;
        well.show(A, &ram, number % 2 * 0x1000, Access::ReadWrite);
        well.seal();
        player.follow(number);
        assert!(well.wait(number, Some(until)));
    }
    assert_eq!(
        world.left(&stuck),
        "the client did not acknowledge change 1 before its deadline"
    );
    assert!(stuck.wait(sealed, None));
    assert!(well.is_gone().is_none());
    world.no_more_events();
}

/// It acknowledges what it has not read, until the socket is full.
#[test]
fn one_that_acknowledges_without_reading() {
    let world = World::new();
    let options = PeerOptions {
        deadline: Duration::from_secs(1),
        ..options()
    };
    let (peer, mut player) = world.greeted(options, false);
    let files = [ram("one"), ram("other")];
    let mut number = 0;
    while queued(&peer) == 0 && peer.is_gone().is_none() {
        let sequence = repaint(&peer, &files[number % 2]).unwrap();
        number += 1;
        player.say(&ToServer::Acknowledged { sequence });
        assert!(peer.wait(sequence, None));
    }
    assert_eq!(
        world.left(&peer),
        "the client did not read before its deadline"
    );
}

fn queued(peer: &Peer) -> u64 {
    let tree = inspect::inspect(peer).to_json_string();
    let (_, rest) = tree.split_once("\"queued_bytes\":").unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// A change of 3 KiB and more.
fn repaint(peer: &Peer, file: &Backing) -> Option<u64> {
    for page in 0..256 {
        let range = MemoryRange::try_from_len(page * 0x2000, 0x1000).unwrap();
        peer.show(range, file, 0, Access::ReadWrite);
    }
    peer.seal()
}

/// One that is only slow gets everything.
#[test]
fn what_the_socket_does_not_take_follows_later() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    let files = [ram("one"), ram("other")];
    let mut sealed = 0;
    while queued(&peer) < 0x4_0000 {
        sealed = repaint(&peer, &files[usize::from(sealed % 2 == 0)]).unwrap();
    }
    // Nobody waits here, and no acknowledgement wakes anyone: there is room again, that is all.
    while player.sequence < sealed {
        player.step().unwrap();
    }
    player.acknowledge();
    assert_eq!(player.pages.len(), 256);
    assert_eq!(queued(&peer), 0);
    assert!(peer.wait(sealed, None));

    // The same with nobody but the one who waits.
    let world = World::without_thread();
    let (peer, mut player) = world.connect(options());
    let player = std::thread::spawn(move || {
        player.greet(false);
        player.step().unwrap();
        player.acknowledge();
        player
    });
    peer.seal();
    assert!(peer.wait(1, None));
    let mut player = player.join().unwrap();
    while queued(&peer) < 0x4_0000 {
        sealed = repaint(&peer, &files[usize::from(sealed % 2 == 0)]).unwrap();
    }
    let player = std::thread::spawn(move || {
        while player.sequence < sealed {
            player.step().unwrap();
        }
        player.acknowledge();
        player.pages.len()
    });
    assert!(peer.wait(sealed, None));
    assert_eq!(player.join().unwrap(), 256);
}

#[test]
fn what_waits_for_a_client_is_bounded() {
    let world = World::new();
    let options = PeerOptions {
        most_queued: 0x1_0000,
        ..options()
    };
    let (peer, _player) = world.greeted(options, false);
    let files = [ram("one"), ram("other")];
    let most = 1000;
    for number in 0..most {
        repaint(&peer, &files[number % 2]);
    }
    let reason = world.left(&peer);
    assert!(
        reason.ends_with("bytes wait for the client, of which 65536 may"),
        "{reason}"
    );
}

/// What the owner has not been told yet is bounded, too: nobody serves here.
#[test]
fn offers_without_end() {
    let world = World::without_thread();
    let (peer, mut player) = world.connect(options());
    player.stream.write_all(&hello("busy")).unwrap();
    for _ in 0..100 {
        let offer = Offer {
            partition: 1,
            name: String::new(),
            kind: String::new(),
            slots: None,
        };
        player.say(&ToServer::Offer(offer));
        player.say(&ToServer::Withdraw { partition: 1 });
    }
    peer.wait(u64::MAX, Some(Instant::now() + LONG));
    let reason = peer.is_gone().unwrap();
    assert_eq!(
        reason.to_string(),
        "the client has more than 64 requests that are not answered"
    );
}

fn serve_until_gone_or_idle(world: &World, peer: &Arc<Peer>) {
    while world.service.turn(Some(Duration::ZERO)).unwrap() > 0 && peer.is_gone().is_none() {}
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any bytes, also such that begin well.
    #[test]
    fn any_bytes_do_no_harm(
        greets in any::<bool>(),
        kinds in prop::collection::vec((100_u16..108, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let world = World::without_thread();
        let (peer, mut player) = world.connect(options());
        let mut bytes = Vec::new();
        if greets {
            bytes.extend(hello("x"));
        }
        for (kind, body) in kinds {
            bytes.extend(b"GMRM\x01\0");
            bytes.extend(kind.to_le_bytes());
            bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(body);
        }
        bytes.extend(tail);
        player.stream.write_all(&bytes).unwrap();
        peer.show(A, &ram("ram"), 0, Access::ReadWrite);
        serve_until_gone_or_idle(&world, &peer);
        peer.seal();
        player.stream.shutdown(std::net::Shutdown::Both).unwrap();
        serve_until_gone_or_idle(&world, &peer);
        // Gone in any case, and reported once, after whatever else.
        let events: Vec<_> = world.events.lock().unwrap().try_iter().collect();
        let left = events.iter().filter(|event| {
            matches!(event, crate::remote::RemoteEvent::Left { .. })
        });
        prop_assert_eq!(left.count(), 1);
        prop_assert!(world.service.peers().is_empty());
    }
}

#[test]
fn a_deadline_that_no_clock_reaches_never_passes() {
    let world = World::new();
    let options = PeerOptions {
        deadline: Duration::MAX,
        ..options()
    };
    let (peer, mut player): (_, Player) = world.greeted(options, false);
    peer.seal();
    assert!(!peer.wait(1, Some(Instant::now() + SHORT)));
    player.follow(1);
    assert!(peer.wait(1, None));
}
