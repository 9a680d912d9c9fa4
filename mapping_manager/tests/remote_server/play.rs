//! Any bytes, with descriptors, from a client to a manager or from a manager to a client.

use mapping_manager::descriptors::send_now;
use mapping_manager::remote::{
    ClientOptions, PeerOptions, RemoteClient, RemoteEvent, RemoteService,
};
use memory_range::{Access, MemoryRange};
use sparse_alloc::{Backing, SharedMemory};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const SPACE: u64 = 0x100_0000;

fn ram() -> &'static SharedMemory {
    static RAM: OnceLock<SharedMemory> = OnceLock::new();
    RAM.get_or_init(|| SharedMemory::new("ram", 0x10_0000).unwrap())
}

/// The first byte chooses who speaks, and whether the rest is sent as it is. If not, it is a list of
/// messages: kind, how many descriptors, length of the body, body. They get proper headers, so that a
/// fuzzer needn't find out what those look like.
pub(crate) fn play(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let as_client = choice & 1 == 0;
    let is_framed = choice & 2 != 0;
    let (here, there) = UnixStream::pair().unwrap();
    let speak = |first_kind: u16| {
        if !is_framed {
            send(&here, bytes, 0);
            return;
        }
        let mut rest = bytes;
        while let [kind, fds, len, tail @ ..] = rest {
            let (body, tail) = tail.split_at(usize::from(*len).min(tail.len()));
            let kind = first_kind + u16::from(*kind);
            let mut frame = b"GMRM\x01\0".to_vec();
            frame.extend(kind.to_le_bytes());
            frame.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
            frame.extend([*fds, 0, 0, 0]);
            frame.extend(body);
            send(&here, &frame, usize::from(*fds));
            rest = tail;
        }
    };
    if as_client {
        speak(100);
        to_manager(there, &here);
    } else {
        speak(0);
        to_client(there, &here);
    }
}

/// What the socket doesn't take at once is not sent: the messages are cut off there.
fn send(socket: &UnixStream, bytes: &[u8], fds: usize) {
    let fds: Vec<BorrowedFd<'_>> = vec![ram().mappable().as_fd(); fds.min(64)];
    if !bytes.is_empty() {
        let _ = send_now(socket.as_fd(), bytes, &fds);
    }
}

/// A manager that hears this goes on, and reports once that the client is gone.
fn to_manager(socket: UnixStream, client: &UnixStream) {
    let left = Arc::new(AtomicUsize::new(0));
    let service = RemoteService::new({
        let left = Arc::clone(&left);
        move |event| {
            if matches!(event, RemoteEvent::Left { .. }) {
                left.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .unwrap();
    let options = PeerOptions::new("manager");
    let peer = service.add(socket, options, SPACE).unwrap();
    let backing = Backing::from(ram().mappable().clone());
    peer.show(
        MemoryRange::new(0..0x10_0000),
        &backing,
        0,
        Access::ReadWrite,
    );
    peer.seal();
    let serve = || while service.turn(Some(Duration::ZERO)).unwrap() > 0 {};
    serve();
    peer.hide(MemoryRange::new(0x4000..0x5000));
    peer.seal();
    serve();
    client.shutdown(Shutdown::Both).unwrap();
    serve();
    assert_eq!(left.load(Ordering::SeqCst), 1);
    assert_eq!(peer.acknowledged(), u64::MAX);
}

/// A client that hears this connects or doesn't, and what it has mapped can be read or is an error.
fn to_client(socket: UnixStream, manager: &UnixStream) {
    manager.shutdown(Shutdown::Write).unwrap();
    let options = ClientOptions::new("client").deadline(Duration::from_secs(5));
    let Ok(client) = RemoteClient::connect(socket, options) else {
        return;
    };
    while client.turn(Some(Duration::ZERO)).is_ok() {}
    let memory = client.guest_memory();
    for gpa in [0, 0x1000, 0x4000, 0xf_f000] {
        let _ = memory.read_plain::<u64>(gpa);
    }
}
