//! A thread, a task, or an event loop.

use super::{LONG, World, options, ram};
use crate::remote::{RemoteEvent, RemoteService, ServeError};
use memory_range::{Access, MemoryRange};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[test]
fn a_task_serves_as_well_as_a_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let world = World::without_thread();
    let service = Arc::clone(&world.service);
    let task = runtime.spawn(async move { service.serve().await.map(|_| ()) });
    let (here, there) = UnixStream::pair().unwrap();
    let peer = world.service.add(here, options(), super::SPACE).unwrap();
    let player = thread::spawn(move || {
        let mut player = super::Player::new(there);
        player.greet(false);
        player.follow(50);
        player
    });
    let ram = ram("ram");
    let range = MemoryRange::new(0..0x1000);
    runtime.block_on(async {
        for n in 1..=50 {
            peer.show(range, &ram, n * 0x1000, Access::ReadWrite);
            peer.seal();
            std::future::poll_fn(|cx| peer.poll_acknowledged(cx, n)).await;
        }
    });
    // The greeting came later than the first seals; they are one change then.
    assert!(peer.last_sealed() <= 50);
    peer.evict("enough");
    task.abort();
    let _ = runtime.block_on(task);
    // Somebody else goes on.
    while world.service.turn(Some(Duration::ZERO)).unwrap() > 0 {}
    drop(world.event());
    assert_eq!(world.left(&peer), "detached: enough");
    drop(player);
}

#[test]
fn deadlines_pass_under_a_runtime_without_timers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let world = World::without_thread();
    let (peer, _player) = world.connect(super::impatient());
    let service = Arc::clone(&world.service);
    let task = runtime.spawn(async move { service.serve().await.map(|_| ()) });
    runtime.block_on(std::future::poll_fn(|cx| peer.poll_acknowledged(cx, 1)));
    task.abort();
    assert_eq!(
        world.left(&peer),
        "the client did not greet before its deadline"
    );
}

#[test]
fn only_one_serves_at_a_time() {
    let (sender, results) = channel();
    let slot: Arc<Mutex<Option<Arc<RemoteService>>>> = Arc::default();
    let service = RemoteService::new({
        let slot = Arc::clone(&slot);
        move |event| {
            // From within a report it can be looked at, but not driven.
            let service = slot.lock().unwrap().clone().unwrap();
            let busy = matches!(service.turn(None), Err(ServeError::Busy));
            let left = matches!(event, RemoteEvent::Left { .. });
            let _ = sender.send((busy, left, service.peers().len()));
        }
    })
    .unwrap();
    *slot.lock().unwrap() = Some(Arc::clone(&service));
    let thread = service.spawn().unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let _peer = service.add(here, options(), super::SPACE).unwrap();
    drop(there);
    assert_eq!(results.recv_timeout(LONG).unwrap(), (true, true, 0));
    drop(thread);
    // Nobody is at it now; what woke the thread to end may still be there.
    assert!(service.turn(Some(Duration::ZERO)).unwrap() <= 1);
    *slot.lock().unwrap() = None;
}

#[test]
fn a_service_that_ends_tells_everyone() {
    let world = World::without_thread();
    let (first, mut one) = world.connect(options());
    let (second, mut other) = world.connect(options());
    let World {
        service, events, ..
    } = world;
    drop(service);
    let events: Vec<_> = events.lock().unwrap().try_iter().collect();
    let left: Vec<_> = events
        .iter()
        .map(|event| match event {
            RemoteEvent::Left { peer, .. } => Arc::as_ptr(peer),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(left, [Arc::as_ptr(&first), Arc::as_ptr(&second)]);
    for player in [&mut one, &mut other] {
        assert_eq!(player.end().unwrap(), "detached: the manager ends");
    }
}

#[test]
fn a_thread_that_is_dropped_by_what_it_reports() {
    let (sender, done) = channel();
    let guard: Arc<Mutex<Option<crate::remote::ServiceThread>>> = Arc::default();
    let service = RemoteService::new({
        let guard = Arc::clone(&guard);
        move |_| {
            drop(guard.lock().unwrap().take());
            let _ = sender.send(());
        }
    })
    .unwrap();
    *guard.lock().unwrap() = Some(service.spawn().unwrap());
    let (here, there) = UnixStream::pair().unwrap();
    let _peer = service.add(here, options(), super::SPACE).unwrap();
    drop(there);
    done.recv_timeout(LONG).unwrap();
}
