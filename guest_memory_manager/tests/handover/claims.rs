//! Who claims memory has it alone.

use crate::processes::{Process, child, hear};
use crate::{AMPLE, layout};
use guest_memory_manager::{BuildError, ClaimError, GuestMemoryBuilder, SharedMemoryBacking};
use std::io::Write;
use std::os::unix::net::UnixStream;

fn claimed(backing: &SharedMemoryBacking) -> bool {
    match backing.claim() {
        Ok(claim) => {
            drop(claim);
            false
        }
        Err(ClaimError::Claimed { index: 0 }) => true,
        Err(error) => panic!("{error:?}"),
    }
}

/// A copy of the backing that went through a socket: the same open files, other descriptors.
fn resent(backing: &SharedMemoryBacking) -> SharedMemoryBacking {
    let (here, there) = UnixStream::pair().unwrap();
    backing.send(&here, AMPLE).unwrap();
    SharedMemoryBacking::receive(&there, AMPLE).unwrap()
}

#[test]
fn the_second_manager_is_told() {
    let builder = |backing| {
        GuestMemoryBuilder::new()
            .existing_backing(backing)
            .claim_backing(true)
    };
    let first = builder(None).build_now(&layout()).unwrap();
    let backing = first.shared_memory_backing();
    for backing in [backing.clone(), resent(&backing)] {
        let error = builder(Some(backing.clone())).build_now(&layout());
        let error = error.map(drop).unwrap_err();
        assert!(
            matches!(error, BuildError::Claim(ClaimError::Claimed { index: 0 })),
            "{error:?}"
        );
        // Who does not ask is not kept away.
        let unasked = GuestMemoryBuilder::new().existing_backing(Some(backing));
        drop(unasked.build_now(&layout()).unwrap());
    }

    // Given up on purpose, and taken back.
    let claim = first.take_claim();
    assert!(claimed(&backing));
    drop(claim);
    assert!(first.take_claim().is_none());
    let second = builder(Some(resent(&backing)))
        .build_now(&layout())
        .unwrap();
    assert!(claimed(&backing));
    drop(first);
    assert!(claimed(&backing), "it is the second manager's");
    drop(second);
    assert!(!claimed(&backing));
    let _claim = backing.claim().unwrap();
    assert!(claimed(&resent(&backing)));
}

/// A build that fails leaves no claim behind, and one that is refused for its claim none either.
#[test]
fn a_manager_that_was_not_built_claims_nothing() {
    let first = GuestMemoryBuilder::new().build_now(&layout()).unwrap();
    let backing = first.shared_memory_backing();
    let builder = GuestMemoryBuilder::new()
        .existing_backing(Some(backing.clone()))
        .claim_backing(true);
    let other = guest_memory_manager::MemoryLayout::new(1 << 20, &[], None).unwrap();
    builder.clone().build_now(&other).map(drop).unwrap_err();
    assert!(!claimed(&backing));
    drop(builder.build_now(&layout()).unwrap());
    assert!(!claimed(&backing));
}

/// In both directions, and the lock of who is killed is gone.
#[test]
fn a_claim_holds_between_processes() {
    if let Some((_, mut socket)) = child() {
        let backing = SharedMemoryBacking::receive(&socket, AMPLE).unwrap();
        // The parent has it.
        assert!(claimed(&backing));
        socket.write_all(b"t").unwrap();
        assert_eq!(hear(&mut socket), b'f');
        let _claim = backing.claim().unwrap();
        socket.write_all(b"c").unwrap();
        // Until it is killed.
        hear(&mut socket);
        panic!("the parent must not answer");
    }
    let manager = GuestMemoryBuilder::new().build_now(&layout()).unwrap();
    let backing = manager.shared_memory_backing();
    let claim = backing.claim().unwrap();
    let mut other = Process::start("claims::a_claim_holds_between_processes", "claim");
    backing.send(&other.socket, AMPLE).unwrap();
    assert_eq!(other.hear(), b't');
    drop(claim);
    other.say(b'f');
    assert_eq!(other.hear(), b'c');
    assert!(claimed(&backing));
    other.kill();
    assert!(!claimed(&backing));
}
