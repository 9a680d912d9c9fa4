//! What it costs to hand 1 TiB of sparse memory over, beside the calls that it cannot do without.
//!
//! Both ends are in this process, so that no start of a process is measured.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench stops at the first surprise, and criterion's macros write no documentation"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, SharedMemoryBacking};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::hint::black_box;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const RAM: u64 = 1 << 40;
const AMPLE: Duration = Duration::from_secs(5);

/// Sends a descriptor with one byte, and receives it.
fn pass(here: &UnixStream, there: &UnixStream, fd: BorrowedFd<'_>) -> OwnedFd {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(
        here,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    recvmsg(there, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut received = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    received.next().unwrap()
}

/// Maps all of a descriptor's memory and unmaps it.
fn map(fd: &OwnedFd) {
    let len = usize::try_from(RAM).unwrap();
    // SAFETY: at an address of the kernel's choice, so nothing is mapped over.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_NORESERVE,
            fd.as_raw_fd(),
            0,
        )
    };
    assert_ne!(at, libc::MAP_FAILED);
    // SAFETY: this is what was just mapped, and nobody knows of it.
    let result = unsafe { libc::munmap(black_box(at), len) };
    assert_eq!(result, 0);
}

fn hand_over(criterion: &mut Criterion) {
    let layout = MemoryLayout::new(RAM, &[], None).unwrap();
    let manager = GuestMemoryBuilder::new().build_now(&layout).unwrap();
    let backing = manager.shared_memory_backing();
    let fd = backing.memories()[0].mappable().as_fd();
    let (here, there) = UnixStream::pair().unwrap();
    let receive = || {
        backing.send(&here, AMPLE).unwrap();
        SharedMemoryBacking::receive(&there, AMPLE).unwrap()
    };
    let mut group = criterion.benchmark_group("hand over 1 TiB");
    group.bench_function("by hand: sendmsg, recvmsg, mmap, munmap", |bencher| {
        bencher.iter(|| map(&pass(&here, &there, fd)));
    });
    group.bench_function("send and receive", |bencher| bencher.iter(receive));
    group.bench_function("send, receive, claim and build", |bencher| {
        bencher.iter(|| {
            let builder = GuestMemoryBuilder::new().existing_backing(Some(receive()));
            builder.claim_backing(true).build_now(&layout).unwrap()
        });
    });
    group.bench_function("claim", |bencher| {
        bencher.iter(|| backing.claim().unwrap());
    });
    group.finish();
}

criterion_group!(benches, hand_over);
criterion_main!(benches);
