//! Memory that does not fit where it is to be used.

use crate::support::{chain, range};
use crate::{AMPLE, GAP, VTL2, layout};
use guest_memory_manager::{BuildError, GuestMemoryBuilder, MemoryLayout, SharedMemoryBacking};
use std::os::unix::net::UnixStream;

/// The memory of a manager of this layout, sent through a socket.
fn sent(layout: &MemoryLayout) -> SharedMemoryBacking {
    let manager = GuestMemoryBuilder::new().build_now(layout).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    manager.shared_memory_backing().send(&here, AMPLE).unwrap();
    SharedMemoryBacking::receive(&there, AMPLE).unwrap()
}

#[track_caller]
fn refused(backing: SharedMemoryBacking, layout: &MemoryLayout) -> BuildError {
    let builder = GuestMemoryBuilder::new().existing_backing(Some(backing));
    builder.build_now(layout).map(drop).unwrap_err()
}

#[test]
fn other_lengths_are_told() {
    let others = [
        MemoryLayout::new(2 << 20, &[GAP], Some(VTL2)).unwrap(),
        MemoryLayout::new(3 << 20, &[GAP], None).unwrap(),
        MemoryLayout::new(3 << 20, &[GAP], Some(range(0x100_0000, 0x107_f000))).unwrap(),
    ];
    for other in others {
        let error = refused(sent(&other), &layout());
        let BuildError::BackingDoesNotFit { have, need } = error else {
            panic!("{error:?}");
        };
        assert_eq!(need, [3 << 20, 0x8_0000]);
        assert_eq!(have[0], other.ram_size());
        assert_eq!(have.get(1).copied(), other.vtl2_range().map(|r| r.len()));
        // And the other way round.
        let error = refused(sent(&layout()), &other);
        assert!(
            matches!(error, BuildError::BackingDoesNotFit { .. }),
            "{error:?}"
        );
    }
}

/// The lengths are right, and every byte would be at a wrong address.
#[test]
fn other_addresses_are_told() {
    let low = range(0x10_0000, 0x20_0000);
    let high = range(0x200_0000, 0x208_0000);
    let others = [
        (
            MemoryLayout::new(3 << 20, &[low], Some(VTL2)).unwrap(),
            (range(0, 0x10_0000), range(0, 0x20_0000)),
        ),
        (
            MemoryLayout::new(3 << 20, &[GAP], Some(high)).unwrap(),
            (high, VTL2),
        ),
    ];
    for (other, (theirs, ours)) in others {
        let error = refused(sent(&other), &layout());
        let BuildError::BackingLiesElsewhere { have, need } = error else {
            panic!("{error:?}");
        };
        assert_eq!((have, need), (theirs, ours));
        let error = refused(sent(&layout()), &other);
        let said = format!(
            "the backing does not fit the layout: its RAM at {ours} is at {theirs} in the layout"
        );
        assert_eq!(chain(&error), said);
    }
}

/// How RAM is divided, and what else lies between it, is the new manager's affair.
#[test]
fn what_does_not_move_ram_is_no_misfit() {
    let gaps = [GAP, range(0x200_0000, 0x300_0000)];
    let roomier = MemoryLayout::new(3 << 20, &gaps, Some(VTL2)).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let builder = builder.existing_backing(Some(sent(&layout())));
    drop(builder.build_now(&roomier).unwrap());
}
