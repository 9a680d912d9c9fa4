//! What the manager's view shows, the client's shows, as soon as a change is acknowledged.

use crate::fixture::{
    AMPLE, C_SEGMENT, Client, F_SEGMENT, Fixture, GAP, assert_same, in_vtl0, number_pages,
};
use crate::support::numbered;
use guest_memory_manager::{
    Cause, LeaseAccess, RamVisibility, RemoteClientOptions, RemoteGrant, RemoteGuestMemory,
    RemoteOptions,
};
use std::os::unix::net::UnixStream;

#[test]
fn contents_are_the_same_there_and_back() {
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    let client = fixture.client(RemoteGrant::new());
    assert_same(&fixture.view(), &client.view(), in_vtl0);
    client.view().write_plain(0x3000, &0x1234_u32).unwrap();
    assert_eq!(fixture.view().read_plain::<u32>(0x3000).unwrap(), 0x1234);
    fixture.view().write_plain(0x3000, &0x4321_u32).unwrap();
    assert_eq!(client.view().read_plain::<u32>(0x3000).unwrap(), 0x4321);
}

#[test]
fn every_kind_of_change_is_followed() {
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    let client = fixture.client(RemoteGrant::new());
    let same = || assert_same(&fixture.view(), &client.view(), in_vtl0);

    fixture.set(F_SEGMENT, RamVisibility::ReadOnly);
    same();
    let error = client
        .view()
        .write_plain(F_SEGMENT.start(), &1_u8)
        .unwrap_err();
    assert!(matches!(error.cause(), Cause::ReadOnly { .. }), "{error:?}");
    fixture.set(F_SEGMENT, RamVisibility::Unmapped);
    same();
    fixture.set(F_SEGMENT, RamVisibility::ReadWrite);
    same();

    let frames = numbered("frames", 8, 100);
    let windows = fixture.memory.device_memory_mapper();
    let (mut control, window) = windows.new_region(0x8000, "bar".into()).unwrap();
    window.map(0, &frames, 0x2000, 0x4000, true).unwrap().wait();
    control.map_to_guest(GAP.start(), true).unwrap().wait();
    same();
    assert_eq!(client.view().read_plain::<u32>(GAP.start()).unwrap(), 102);
    // Other contents in the same place, half of it; then the whole window moves.
    window
        .map(0x2000, &frames, 0, 0x1000, false)
        .unwrap()
        .wait();
    same();
    control
        .map_to_guest(GAP.start() + 0x1_0000, true)
        .unwrap()
        .wait();
    same();
    window.unmap(0, 0x1000).unwrap().wait();
    same();
    control.try_unmap_from_guest().unwrap().wait();
    same();
    assert!(client.view().read_plain::<u8>(GAP.start()).is_err());
}

/// Under RAM, over one another, and twelve at once.
#[test]
fn a_transaction_is_one_change() {
    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let frames = numbered("frames", 4, 7);
    let windows = fixture.memory.device_memory_mapper();
    let (mut control, window) = windows.new_region(0x4000, "rom".into()).unwrap();
    window.map(0, &frames, 0, 0x4000, false).unwrap().wait();
    let before = client.process.last_sealed();
    let mut change = fixture.memory.transaction().unwrap();
    change
        .map_to_guest(&mut control, C_SEGMENT.start(), false)
        .unwrap();
    change
        .set_ram_visibility(C_SEGMENT, RamVisibility::Unmapped)
        .unwrap();
    change
        .set_ram_visibility(F_SEGMENT, RamVisibility::ReadOnly)
        .unwrap();
    change.commit_now().unwrap().wait();
    assert_eq!(client.process.last_sealed(), before + 1);
    assert_same(&fixture.view(), &client.view(), in_vtl0);
    assert_eq!(
        client.view().read_plain::<u32>(C_SEGMENT.start()).unwrap(),
        7
    );
    // What was to happen is abandoned: nobody hears of it.
    let mut change = fixture.memory.transaction().unwrap();
    change
        .set_ram_visibility(C_SEGMENT, RamVisibility::ReadWrite)
        .unwrap();
    drop(change);
    assert_eq!(client.process.last_sealed(), before + 1);
}

/// Each with its own copies of what is private to it, and its own handles of what is shared.
#[test]
fn many_clients_follow_together() {
    let fixture = Fixture::new();
    let clients: Vec<Client> = (0..4).map(|_| fixture.client(RemoteGrant::new())).collect();
    assert_eq!(fixture.server.processes().len(), 4);
    for visibility in [RamVisibility::Unmapped, RamVisibility::ReadWrite] {
        fixture.set(C_SEGMENT, visibility);
        for client in &clients {
            assert_same(&fixture.view(), &client.view(), in_vtl0);
        }
    }
    let names: Vec<_> = clients.iter().map(|one| one.process.name()).collect();
    assert_eq!(names, ["process 0", "process 1", "process 2", "process 3"]);
}

#[test]
fn a_lazy_client_fetches_what_it_touches() {
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    let options = RemoteClientOptions::new("lazy").lazy(true).deadline(AMPLE);
    let client = fixture.client_with(RemoteGrant::new().allow_lazy(), options);
    assert!(client.process.is_lazy() && client.remote.client().is_lazy());
    assert!(client.remote.client().mapper().mappings().is_empty());
    assert_same(&fixture.view(), &client.view(), in_vtl0);
    fixture.set(F_SEGMENT, RamVisibility::Unmapped);
    assert_same(&fixture.view(), &client.view(), in_vtl0);
    fixture.set(F_SEGMENT, RamVisibility::ReadOnly);
    assert_same(&fixture.view(), &client.view(), in_vtl0);
}

/// An unmapping that is waited for is over when everybody has let go: what is written by then is all
/// that is ever written.
#[test]
fn an_unmapping_that_was_waited_for_is_over() {
    let fixture = Fixture::new();
    let frames = numbered("frames", 1, 0);
    let windows = fixture.memory.device_memory_mapper();
    let (mut control, window) = windows.new_region(0x1000, "bar".into()).unwrap();
    window.map(0, &frames, 0, 0x1000, true).unwrap().wait();
    let client = fixture.client(RemoteGrant::new());
    for round in 0..50_u32 {
        control.map_to_guest(GAP.start(), true).unwrap().wait();
        let view = client.view();
        let writer = std::thread::spawn(move || {
            let mut count = 0_u32;
            while view.write_plain(GAP.start(), &count).is_ok() {
                count = count.wrapping_add(1);
            }
        });
        control.try_unmap_from_guest().unwrap().wait();
        let word = || {
            let mut bytes = [0; 4];
            let host = sparse_alloc::HostRange::new(frames.linear_view().clone(), 0, 4).unwrap();
            host.read(0, &mut bytes).unwrap();
            u32::from_le_bytes(bytes)
        };
        let last = word();
        writer.join().unwrap();
        assert_eq!(word(), last, "round {round}");
    }
}

/// A lease of the client's stays valid whatever the manager does to the view.
#[test]
fn leases_outlive_what_is_shown() {
    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let start = F_SEGMENT.start();
    let lease = client
        .view()
        .lock(start..start + 8, LeaseAccess::Write)
        .unwrap();
    fixture.set(F_SEGMENT, RamVisibility::Unmapped);
    lease.write(0, &[9; 8]).unwrap();
    fixture.set(F_SEGMENT, RamVisibility::ReadWrite);
    assert_eq!(fixture.view().read_plain::<[u8; 8]>(start).unwrap(), [9; 8]);
}

/// The same with tasks instead of threads, on one thread: awaiting a change lets the server's task
/// hear of its acknowledgement.
#[test]
fn a_task_serves_as_well_as_a_thread() {
    let memory = crate::fixture::build();
    let options = RemoteOptions::new().deadline(AMPLE);
    let server = memory.serve_remote(options).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let process = server.accept(ours, RemoteGrant::new()).unwrap();
    let other = std::thread::spawn(move || {
        let options = RemoteClientOptions::new("client").deadline(AMPLE);
        let remote = RemoteGuestMemory::connect(theirs, options).unwrap();
        let driver = remote.spawn().unwrap();
        (remote, driver)
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    runtime.block_on(async {
        let serving = async {
            let ended = server.serve().await;
            panic!("{ended:?}");
        };
        let changing = async {
            while !process.is_ready() {
                tokio::task::yield_now().await;
            }
            let (remote, _driver) = other.join().unwrap();
            let control = memory.ram_visibility_control();
            for visibility in [RamVisibility::ReadOnly, RamVisibility::Unmapped] {
                control
                    .set_ram_visibility(F_SEGMENT, visibility)
                    .await
                    .unwrap();
                let client = remote.guest_memory();
                assert_same(&memory.client().guest_memory_now(), &client, in_vtl0);
            }
        };
        tokio::select! {
            () = serving => {}
            () = changing => {}
        }
    });
}

/// Two managers side by side, and processes that belong to one of them only.
#[test]
fn nobody_hears_of_another_manager() {
    let (one, two) = (Fixture::new(), Fixture::new());
    let client = one.client(RemoteGrant::new());
    let before = client.process.last_sealed();
    two.set(F_SEGMENT, RamVisibility::Unmapped);
    assert_eq!(client.process.last_sealed(), before);
    assert_eq!(
        client.view().read_plain::<u8>(F_SEGMENT.start()).unwrap(),
        0
    );
}
