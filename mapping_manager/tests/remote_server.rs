//! The manager's side of remote mappers as its users see it: what a fuzzer begins with, a real client,
//! and inspection.

#![cfg(feature = "remote")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

#[path = "remote_server/play.rs"]
mod play;

use expect_test::expect;
use mapping_manager::remote::{
    ClientOptions, PeerOptions, RemoteClient, RemoteEvent, RemoteService,
};
use memory_range::{Access, MemoryRange};
use play::play;
use sparse_alloc::{Backing, SharedMemory};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

const SPACE: u64 = 0x100_0000;
const LONG: Duration = Duration::from_secs(60);

/// The corpus of the fuzz target.
#[test]
fn what_fuzzing_begins_with() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/remote");
    let mut played = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        play(&std::fs::read(file.unwrap().path()).unwrap());
        played += 1;
    }
    assert!(played >= 8, "{played}");
}

#[test]
fn a_client_follows() {
    let (sender, events) = channel();
    let service = RemoteService::new(move |event| drop(sender.send(event))).unwrap();
    let _thread = service.spawn().unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let peer = service
        .add(here, PeerOptions::new("manager"), SPACE)
        .unwrap();
    let connecting = thread::spawn(|| RemoteClient::connect(there, ClientOptions::new("client")));
    match events.recv_timeout(LONG).unwrap() {
        RemoteEvent::Ready { lazy: false, .. } => {}
        other => panic!("{other:?}"),
    }
    let ram = SharedMemory::new("ram", 0x10_0000).unwrap();
    let backing = Backing::from(ram.mappable().clone());
    peer.show(
        MemoryRange::new(0..0x10_0000),
        &backing,
        0,
        Access::ReadWrite,
    );
    peer.seal();
    let client = connecting.join().unwrap().unwrap();
    let following = client.spawn().unwrap();
    let memory = client.guest_memory();
    memory.write_plain(0x8000, &0x1234_u32).unwrap();

    // What is waited for is so in the other process.
    let page = MemoryRange::new(0x8000..0x9000);
    for n in 0..100_u64 {
        peer.show(page, &backing, n % 2 * 0x8000, Access::ReadWrite);
        if let Some(sequence) = peer.seal() {
            assert!(peer.wait(sequence, Some(Instant::now() + LONG)));
        }
        let expected = if n % 2 == 1 { 0x1234 } else { 0 };
        assert_eq!(memory.read_plain::<u32>(0x8000).unwrap(), expected);
    }
    peer.hide(page);
    let sequence = peer.seal().unwrap();
    assert!(peer.wait(sequence, Some(Instant::now() + LONG)));
    assert!(memory.read_plain::<u32>(0x8000).is_err());

    expect![[r#"
        peers:
          0:
            acknowledged: 102
            client: client
            files: 1
            lag: 0
            partitions: {}
            queued_bytes: 0
            ranges: 2
            sealed: 102
            slots: 0
            state: live"#]]
    .assert_eq(&inspect::inspect(&*service).to_string());
    drop(following);
    drop(client);
    match events.recv_timeout(LONG).unwrap() {
        RemoteEvent::Left { .. } => {}
        other => panic!("{other:?}"),
    }
    expect![[r#"
        acknowledged: 102
        client: client
        files: 0
        lag: 0
        partitions: {}
        queued_bytes: 0
        ranges: 0
        reason: the client closed the connection, 0 bytes into a message
        sealed: 102
        slots: 0
        state: gone"#]]
    .assert_eq(&inspect::inspect(&*peer).to_string());
}
