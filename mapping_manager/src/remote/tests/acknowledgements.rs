//! Waiting for clients.

use super::{LONG, World, impatient, options, ram};
use memory_range::{Access, MemoryRange};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Instant;

const A: MemoryRange = MemoryRange::new(0x1000..0x3000);

#[test]
fn numbers_come_in_order_and_are_awaited() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    let ram = ram("ram");
    let player = thread::spawn(move || {
        player.follow(1000);
        player
    });
    for n in 1..=1000_u64 {
        peer.show(A, &ram, n % 2 * 0x1000, Access::ReadWrite);
        assert_eq!(peer.seal(), Some(n));
        assert!(peer.acknowledged() <= n);
        if n % 3 == 0 {
            assert!(peer.wait(n, None));
            assert_eq!(peer.acknowledged(), n);
        }
    }
    assert!(peer.wait(1000, None));
    let player = player.join().unwrap();
    assert_eq!(player.sequence, 1000);
    // What is past is acknowledged for good.
    assert!(peer.wait(1, Some(Instant::now())));
}

#[test]
fn without_a_thread_whoever_waits_reads() {
    let world = World::without_thread();
    let (peer, mut player) = world.connect(options());
    let player = thread::spawn(move || {
        player.greet(false);
        player.follow(3);
        player
    });
    // Greets, too.
    peer.show(A, &ram("ram"), 0, Access::ReadWrite);
    peer.seal();
    assert!(peer.wait(1, None));
    peer.hide(A);
    peer.seal();
    peer.show(A, &ram("more"), 0, Access::ReadWrite);
    peer.seal();
    assert!(peer.wait(3, None));
    player.join().unwrap();
}

#[test]
fn several_may_wait_at_once() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    let waiters: Vec<_> = (1..=8_u64)
        .map(|n| {
            let peer = Arc::clone(&peer);
            thread::spawn(move || assert!(peer.wait(n.div_ceil(2), Some(Instant::now() + LONG))))
        })
        .collect();
    let ram = ram("ram");
    for n in 1..=4 {
        peer.show(A, &ram, n * 0x1000, Access::ReadWrite);
        peer.seal();
        player.follow(n);
    }
    for waiter in waiters {
        waiter.join().unwrap();
    }
}

#[test]
fn who_gives_up_leaves_the_reading_to_others() {
    let world = World::without_thread();
    let (peer, mut player) = world.connect(options());
    player.say_hello(false);
    peer.seal();
    let wait = |time| {
        let peer = Arc::clone(&peer);
        thread::spawn(move || peer.wait(1, Some(Instant::now() + time)))
    };
    // Whichever of them reads first, the others outlast it.
    let short: Vec<_> = (0..4).map(|_| wait(super::SHORT)).collect();
    let long: Vec<_> = (0..4).map(|_| wait(LONG)).collect();
    for waiter in short {
        assert!(!waiter.join().unwrap());
    }
    player.hear_welcome();
    player.follow(1);
    for waiter in long {
        assert!(waiter.join().unwrap());
    }
}

#[test]
fn a_wait_ends_when_its_time_is_up_or_the_client_is_gone() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    peer.seal();
    player.step().unwrap();
    assert!(!peer.wait(1, Some(Instant::now())));
    assert!(!peer.wait(1, Some(Instant::now() + super::SHORT)));
    let waiter = thread::spawn({
        let peer = Arc::clone(&peer);
        move || peer.wait(1, None)
    });
    drop(player);
    assert!(waiter.join().unwrap());
    assert!(
        world
            .left(&peer)
            .starts_with("the client closed the connection, 0 bytes")
    );

    // It doesn't take its deadline to end without anyone else's help.
    let world = World::without_thread();
    let (peer, mut player) = world.connect(impatient());
    let hello = thread::spawn(move || {
        player.greet(false);
        player.step().unwrap();
        player
    });
    peer.seal();
    assert!(peer.wait(1, None));
    world.service.turn(Some(LONG)).unwrap();
    let _player = hello.join().unwrap();
    drop(world.event());
    assert_eq!(
        world.left(&peer),
        "the client did not acknowledge change 1 before its deadline"
    );
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn tasks_are_woken_when_it_is_their_turn() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    let ram = ram("ram");
    peer.seal();
    peer.show(A, &ram, 0, Access::ReadWrite);
    peer.seal();
    let counts = [(); 2].map(|()| Arc::new(Count(AtomicUsize::new(0))));
    let poll = |at: usize| {
        let waker = Waker::from(Arc::clone(&counts[at]));
        let sequence = u64::try_from(at).unwrap() + 1;
        peer.poll_acknowledged(&mut Context::from_waker(&waker), sequence)
    };
    for at in [0, 1, 1, 1] {
        assert_eq!(poll(at), Poll::Pending);
    }
    player.step().unwrap();
    player.acknowledge();
    assert!(peer.wait(1, None));
    assert_eq!(poll(0), Poll::Ready(()));
    assert_eq!(poll(1), Poll::Pending);
    player.follow(2);
    assert!(peer.wait(2, None));
    assert_eq!(poll(1), Poll::Ready(()));
    // By whichever thread; the wait may have ended a moment before.
    let woken = || {
        counts
            .iter()
            .all(|count| count.0.load(Ordering::SeqCst) >= 1)
    };
    let until = Instant::now() + LONG;
    while !woken() && Instant::now() < until {
        thread::yield_now();
    }
    assert!(woken());
}
