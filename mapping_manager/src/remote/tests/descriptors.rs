//! Descriptors: which are sent, and that none stays behind.

use super::player::Player;
use super::{LONG, SPACE, World, options, ram};
use crate::remote::message::{Hello, ToClient, ToServer};
use crate::remote::{PeerOptions, RemoteEvent};
use memory_range::{Access, MemoryRange};
use rustix::fs::{OFlags, fcntl_getfl};
use sparse_alloc::{Backing, Mappable};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

const A: MemoryRange = MemoryRange::new(0x1000..0x3000);

#[test]
fn who_may_only_read_gets_descriptors_for_reading() {
    let world = World::new();
    let options = PeerOptions {
        read_only: true,
        ..options()
    };
    let (peer, mut player) = world.greeted(options, false);
    peer.show(A, &ram("ram"), 0, Access::ReadWrite);
    // A device may become another one when it is opened anew.
    let zero = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/zero");
    let device = Backing::from(Mappable::from_file("zero", zero.unwrap()).unwrap());
    peer.show(
        MemoryRange::new(0x8000..0x9000),
        &device,
        0,
        Access::ReadWrite,
    );
    peer.show(
        MemoryRange::new(0x9000..0xa000),
        &Backing::Zeros,
        0,
        Access::ReadWrite,
    );
    peer.seal();
    player.follow(1);
    assert_eq!(
        player.pages.keys().collect::<Vec<_>>(),
        [&0x1000, &0x2000, &0x9000]
    );
    assert!(player.pages.values().all(|(_, _, writable)| !writable));
    let mode = fcntl_getfl(&player.files[&0]).unwrap() & OFlags::RWMODE;
    assert_eq!(mode, OFlags::RDONLY);
    // The same file, and not a copy of it.
    assert_eq!(
        player.pages[&0x1000].0,
        super::player::inode(&player.files[&0])
    );
}

#[test]
fn a_device_has_no_length() {
    let world = World::new();
    let (peer, mut player) = world.eager();
    let zero = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/zero");
    let device = Backing::from(Mappable::from_file("zero", zero.unwrap()).unwrap());
    peer.show(A, &device, 0, Access::ReadWrite);
    peer.seal();
    match player.hear() {
        Some(ToClient::Files(files)) => assert_eq!((files.len(), files[0].len), (1, None)),
        other => panic!("{other:?}"),
    }
}

/// Tells the child what it is.
const CHILD: &str = "REMOTE_RUNS_ALONE";

/// In a process of its own: the other tests open and close files at the same time.
#[test]
fn none_stays_behind() {
    in_a_child("none_stays_behind", in_the_child);
}

/// In a process of its own, without privileges and with few descriptors: the kernel lets no more than
/// that many be on their way, and doesn't say when they have arrived.
#[test]
fn more_than_may_be_on_their_way() {
    in_a_child("more_than_may_be_on_their_way", || {
        let limit = libc::rlimit {
            rlim_cur: 64,
            rlim_max: 64,
        };
        // SAFETY: the limit is a valid one, and only this process has it.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        // SAFETY: it concerns only this process, which does nothing afterwards that takes privileges.
        let _ = unsafe { libc::setuid(65534) };
        let world = World::without_thread();
        let (peer, mut player) = world.connect(options());
        player.say_hello(false);
        world.service.turn(Some(LONG)).unwrap();
        player.hear_welcome();
        // As many as may be are on their way to somebody else.
        let ram = ram("ram");
        let (here, there) = UnixStream::pair().unwrap();
        let fds = [ram.as_mappable().unwrap().as_fd()];
        while crate::descriptors::send_now(here.as_fd(), b"x", &fds).is_ok() {}
        peer.show(A, &ram, 0, Access::ReadWrite);
        peer.seal();
        while world.service.turn(Some(Duration::ZERO)).unwrap() > 0 {}
        assert!(peer.is_gone().is_none());
        // They arrive, and no socket that is watched changes by that.
        drop((here, there));
        while player.is_idle() {
            assert!(world.service.turn(Some(LONG)).unwrap() > 0);
        }
        player.follow(1);
        assert!(peer.wait(1, Some(Instant::now() + LONG)));
        assert_eq!(player.pages.len(), 2);
    });
}

/// Has a test of this file run by a process that runs no other.
fn in_a_child(test: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("remote::tests::descriptors::{test}")])
        .args(["--test-threads", "1", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

fn count() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn in_the_child() {
    let (before, files) = (count(), [ram("one"), ram("other")]);
    let with_files = count();
    assert_eq!(with_files, before + 2);
    {
        let world = World::new();
        for round in 0..50_usize {
            let read_only = round % 2 == 0;
            let options = PeerOptions {
                read_only,
                ..options()
            };
            let (peer, mut player) = world.connect(options);
            let lazy = round % 3 == 0;
            player.say(&ToServer::Hello(Hello {
                name: "brief".to_owned(),
                lazy,
            }));
            peer.show(A, &files[0], 0, Access::ReadWrite);
            peer.show(
                MemoryRange::new(0x8000..0x9000),
                &files[1],
                0,
                Access::ReadOnly,
            );
            peer.seal();
            match round % 5 {
                0 => drop(player),
                1 => player.stream.write_all(b"garbage and more of it").unwrap(),
                2 => player.stream.write_all(b"GMRM").unwrap(),
                3 => {
                    let fds = [files[0].as_mappable().unwrap().as_fd(); 5];
                    crate::descriptors::send_now(player.stream.as_fd(), b"GMRM", &fds).unwrap();
                }
                _ => {}
            }
            peer.evict("enough");
            loop {
                match world.event() {
                    RemoteEvent::Left { .. } => break,
                    RemoteEvent::Ready { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(count(), with_files);
    // The client's side holds what it was sent, and the manager nothing.
    let world = World::new();
    let (peer, mut player) = world.eager();
    let idle = count();
    peer.show(A, &files[0], 0, Access::ReadWrite);
    peer.seal();
    player.follow(1);
    assert!(peer.wait(1, Some(Instant::now() + LONG)));
    assert_eq!(count(), idle + 1);
    peer.hide(MemoryRange::new(0..SPACE));
    peer.seal();
    player.follow(2);
    assert_eq!(count(), idle);
    drop::<Player>(player);
    assert!(peer.wait(u64::MAX, Some(Instant::now() + LONG)));
}
