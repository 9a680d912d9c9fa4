//! Processes that leave, hang, or talk nonsense; and managers that go.

use crate::fixture::{AMPLE, F_SEGMENT, Fixture, assert_same, build, in_vtl0, number_pages};
use guest_memory_manager::{
    AcceptError, ClientState, Eviction, ProcessEvent, ProcessWaitError, RamVisibility,
    RemoteClientOptions, RemoteGrant, RemoteGuestMemory, RemoteOptions, SoftwarePartition,
};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Short, and nobody measures it.
const SOON: Duration = Duration::from_millis(300);

/// One that never greets, one that greets with garbage, and one that closes: each is told of once, and
/// shown, and a fourth follows as if nothing were.
#[test]
fn strangers_are_evicted_once() {
    let fixture = Fixture::with(build(), RemoteOptions::new().deadline(SOON));
    let client = fixture.client(RemoteGrant::new().name("good"));
    let accept = |name: &str| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let grant = RemoteGrant::new().name(name);
        (fixture.server.accept(ours, grant).unwrap(), theirs)
    };
    let (silent, _kept_open) = accept("silent");
    let (garbage, mut socket) = accept("garbage");
    socket.write_all(&[0xa5; 64]).unwrap();
    let (closed, socket) = accept("closed");
    drop(socket);
    let mut left: Vec<String> = (0..3).map(|_| fixture.left().name().to_owned()).collect();
    left.sort();
    assert_eq!(left, ["closed", "garbage", "silent"]);
    assert!(matches!(*silent.gone().unwrap(), Eviction::NoGreeting));
    assert!(matches!(*garbage.gone().unwrap(), Eviction::Garbage(_)));
    assert!(matches!(*closed.gone().unwrap(), Eviction::Closed { .. }));
    let late = silent.wait_ready(AMPLE).unwrap_err();
    assert!(matches!(late, ProcessWaitError::Gone { .. }), "{late:?}");
    fixture.no_more_events();
    fixture.set(F_SEGMENT, RamVisibility::ReadOnly);
    assert_same(&fixture.view(), &client.view(), in_vtl0);

    let tree = inspect::inspect(&fixture.memory);
    let remote = tree.child("remote").unwrap().to_string();
    for text in ["good", "silent", "garbage", "closed", "did not greet"] {
        assert!(remote.contains(text), "{text}: {remote}");
    }
}

/// Nobody drives the client: it does not follow. The change is made, its acknowledgement comes at the
/// deadline, and the other process has long followed.
#[test]
fn who_hangs_is_evicted_at_the_deadline() {
    let fixture = Fixture::with(build(), RemoteOptions::new().deadline(SOON));
    let good = fixture.client(RemoteGrant::new().name("good"));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let process = fixture.server.accept(ours, RemoteGrant::new()).unwrap();
    let options = RemoteClientOptions::new("hangs");
    let hangs = RemoteGuestMemory::connect(theirs, options).unwrap();
    process.wait_ready(AMPLE).unwrap();
    let control = fixture.memory.ram_visibility_control();
    let followed = control
        .set_ram_visibility_now(F_SEGMENT, RamVisibility::ReadOnly)
        .unwrap();
    good.process.acknowledgement().wait();
    assert_same(&fixture.view(), &good.view(), in_vtl0);
    followed.wait();
    let reason = process.gone().unwrap();
    assert!(
        matches!(*reason, Eviction::NotAcknowledged { .. }),
        "{reason:?}"
    );
    assert_eq!(fixture.left().name(), process.name());
    fixture.no_more_events();
    // What it has, it keeps.
    hangs.guest_memory().write_plain(0x1000, &7_u8).unwrap();
    assert_eq!(fixture.view().read_plain::<u8>(0x1000).unwrap(), 7);
}

#[test]
fn who_is_disconnected_keeps_what_it_has() {
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    let client = fixture.client(RemoteGrant::new());
    assert!(matches!(fixture.event(), ProcessEvent::Ready { .. }));
    client.process.disconnect("maintenance");
    assert_eq!(fixture.left().name(), "process 0");
    assert!(fixture.server.processes().is_empty());
    let waited = client.remote.client().wait_for(u64::MAX, AMPLE);
    let lost = crate::support::chain(&waited.unwrap_err());
    assert!(lost.contains("maintenance"), "{lost}");
    fixture.set(F_SEGMENT, RamVisibility::Unmapped);
    let kept = client.view().read_plain::<u64>(F_SEGMENT.start());
    assert_eq!(kept.unwrap(), F_SEGMENT.start() ^ 0x5a5a);
}

/// Dropped in either order, with a process connected and a change to wait for.
#[test]
fn a_manager_that_goes_tells_its_processes() {
    for server_first in [false, true] {
        let fixture = Fixture::new();
        number_pages(&fixture.view());
        let client = fixture.client(RemoteGrant::new());
        let control = fixture.memory.ram_visibility_control();
        let Fixture { memory, server, .. } = fixture;
        let pending = control
            .set_ram_visibility_now(F_SEGMENT, RamVisibility::ReadOnly)
            .unwrap();
        if server_first {
            drop(server);
            assert!(client.process.gone().is_some());
            // There are no processes any more, and there is still guest memory.
            control
                .set_ram_visibility_now(F_SEGMENT, RamVisibility::Unmapped)
                .unwrap()
                .wait();
            drop(memory);
        } else {
            drop(memory);
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let refused = server.accept(ours, RemoteGrant::new());
            assert!(matches!(refused, Err(AcceptError::Closed)), "{refused:?}");
            drop(server);
        }
        pending.wait();
        let waited = client.remote.client().wait_for(u64::MAX, AMPLE);
        assert!(waited.is_err());
        let state = client.remote.client().state();
        assert!(!matches!(state, ClientState::Connected), "{state:?}");
        let kept = client.view().read_plain::<u64>(0x1000);
        assert_eq!(kept.unwrap(), 0x1000 ^ 0x5a5a);
    }
}

#[test]
fn there_are_no_more_processes_than_there_may_be() {
    let options = RemoteOptions::new().deadline(AMPLE).most_processes(1);
    let fixture = Fixture::with(build(), options);
    let client = fixture.client(RemoteGrant::new());
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let refused = fixture.server.accept(ours, RemoteGrant::new());
    assert!(
        matches!(refused, Err(AcceptError::TooMany { most: 1 })),
        "{refused:?}"
    );
    client.process.disconnect("make room");
    fixture.left();
    drop(fixture.client(RemoteGrant::new()));
}

/// Offers that nobody has time for: they are not kept without end.
#[test]
fn a_flood_of_offers_is_an_eviction() {
    let memory = build();
    let (hold, held) = channel::<()>();
    let (tell, told) = channel();
    let held = Mutex::new(held);
    let options = RemoteOptions::new().deadline(AMPLE).on_event(move |event| {
        let _ = tell.send(event.clone());
        // Whoever is told is busy, until nobody holds it any more.
        let _ = held.lock().unwrap().recv();
    });
    let server = memory.serve_remote(options).unwrap();
    let _driver = server.spawn().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let process = server.accept(ours, RemoteGrant::new()).unwrap();
    let options = RemoteClientOptions::new("client").deadline(AMPLE);
    let remote = RemoteGuestMemory::connect(theirs, options).unwrap();
    let _follower = remote.spawn().unwrap();
    let control = memory.ram_visibility_control();
    let partition = Arc::new(SoftwarePartition::new());
    while let Ok(number) = remote.offer_partition("vm", partition.clone()) {
        let _ = remote.withdraw_partition(number);
        // What was said before a change was followed has been heard by then.
        for visibility in [RamVisibility::ReadOnly, RamVisibility::ReadWrite] {
            let followed = control.set_ram_visibility_now(F_SEGMENT, visibility);
            followed.unwrap().wait();
        }
    }
    let reason = loop {
        if let Some(reason) = process.gone() {
            break reason;
        }
        std::thread::yield_now();
    };
    // The second, where they were heard, but not taken from the connection yet.
    assert!(
        matches!(
            *reason,
            Eviction::Detached { .. } | Eviction::TooManyRequests { .. }
        ),
        "{reason:?}"
    );
    drop(hold);
    let mut count = 0;
    while let Ok(event) = told.recv_timeout(AMPLE) {
        count += 1;
        if matches!(event, ProcessEvent::Left { .. }) {
            break;
        }
    }
    assert!(count <= 70, "{count}");
}

/// From inside the callback guest memory can be changed, and waited for.
#[test]
fn the_callback_may_change_guest_memory() {
    let memory = build();
    let control = memory.ram_visibility_control();
    let (tell, told) = std::sync::mpsc::channel();
    let options = RemoteOptions::new().deadline(AMPLE).on_event(move |event| {
        if let ProcessEvent::Ready { process } = event {
            let followed = control.set_ram_visibility_now(F_SEGMENT, RamVisibility::ReadOnly);
            followed.unwrap().wait();
            let _ = tell.send(process.acknowledged() == process.last_sealed());
        }
    });
    let fixture = memory.serve_remote(options).unwrap();
    let _driver = fixture.spawn().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let _process = fixture.accept(ours, RemoteGrant::new()).unwrap();
    let options = RemoteClientOptions::new("client").deadline(AMPLE);
    let remote = RemoteGuestMemory::connect(theirs, options).unwrap();
    let _follower = remote.spawn().unwrap();
    assert!(told.recv_timeout(AMPLE).unwrap());
    assert!(
        remote
            .guest_memory()
            .write_plain(F_SEGMENT.start(), &1_u8)
            .is_err()
    );
}

/// A change that waits for an acknowledgement while it holds the lock does not stop who brings it.
#[test]
fn an_open_transaction_stops_no_acknowledgement() {
    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let control = fixture.memory.ram_visibility_control();
    let followed = control
        .set_ram_visibility_now(F_SEGMENT, RamVisibility::ReadOnly)
        .unwrap();
    let open = fixture.memory.transaction().unwrap();
    // This process wants to be shown the view, for which the lock is needed.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let process = fixture.server.accept(ours, RemoteGrant::new()).unwrap();
    let late = std::thread::spawn(move || {
        let options = RemoteClientOptions::new("late").deadline(AMPLE);
        RemoteGuestMemory::connect(theirs, options)
    });
    followed.wait();
    client.process.acknowledgement().wait();
    drop(open);
    let _late = late.join().unwrap().unwrap();
    process.wait_ready(AMPLE).unwrap();
}
