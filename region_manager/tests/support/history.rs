//! A history of changes, played to a manager with every sort of listener, every plan replayed.

use super::dma::DeviceMemory;
use super::ops::{Op, Spec};
use super::paint::{Regions, as_va, view_pages};
use super::replay::{Change, Replay};
use super::{SPACE, World};
use memory_range::Access;
use region_manager::{CommitError, Execute, MemoryKind, RegionManager};

/// Plays a history, and panics where a plan is wrong or the manager disagrees with the model.
///
/// `fails` names, for each change, the call that fails first, if any: then the change must leave
/// everything as it was, and succeed when it is made again.
pub fn play(changes: &[Vec<Op>], with_dma: bool, fails: impl Fn(usize) -> Option<usize>) {
    let world = World::new();
    let manager = RegionManager::new(SPACE, world.sink()).unwrap();
    manager.add_listener(world.listener("kvm")).unwrap();
    if with_dma {
        let iommu = world.dma("iommu", DeviceMemory::OddRefused);
        manager.add_dma_listener(iommu).unwrap();
    }
    let mut regions = Regions::default();
    let mut replay = Replay::new(with_dma);
    for (index, ops) in changes.iter().enumerate() {
        let before = regions.painted();
        if let Some(after) = fails(index) {
            let outside = world.outside();
            world.fail(after, 1);
            let mut attempt = regions.clone();
            let mut change = manager.transaction().unwrap();
            ops.iter().for_each(|op| attempt.edit(&mut change, op));
            let result = change.commit();
            world.fail_never();
            match result {
                // There were fewer calls than that.
                Ok(plan) => {
                    regions = attempt;
                    check(&mut replay, &plan, &before, &regions);
                    continue;
                }
                Err(CommitError::Step(failure)) => assert!(failure.undo.is_empty()),
                Err(other) => panic!("{other}"),
            }
            assert_eq!(world.outside(), outside, "a failed change is no change");
        }
        let mut change = manager.transaction().unwrap();
        ops.iter().for_each(|op| regions.edit(&mut change, op));
        let plan = change.commit().unwrap();
        check(&mut replay, &plan, &before, &regions);
        assert_eq!(view_pages(&manager.flat_view().unwrap()), regions.painted());
        assert_eq!(world.outside().va, as_va(&regions.painted()));
    }
}

fn check(
    replay: &mut Replay,
    plan: &region_manager::Plan<super::Backing>,
    before: &[super::paint::Painted],
    regions: &Regions,
) {
    let change = Change {
        before,
        after: &regions.painted(),
        borders: &regions.borders(),
    };
    replay.check(plan, &change);
}

/// Plays the history that some bytes stand for. Any bytes stand for one.
pub fn play_bytes(bytes: &[u8]) {
    let mut bytes = Bytes(bytes.iter());
    let with_dma = bytes.bool();
    let mut changes: Vec<Vec<Op>> = Vec::new();
    let mut fails = Vec::new();
    // Enough for every state that a few regions can have, and few enough to be quick.
    while changes.len() < 64 && bytes.any_left() {
        let head = bytes.next();
        fails.push((head & 1 == 1).then_some(usize::from(head >> 3)));
        let edits = (head >> 1 & 3) + 1;
        changes.push((0..edits).map(|_| bytes.op()).collect());
    }
    play(&changes, with_dma, |index| fails[index]);
}

/// Numbers from bytes; zeros when they are used up.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn any_left(&self) -> bool {
        !self.0.as_slice().is_empty()
    }

    fn next(&mut self) -> u8 {
        self.0.next().copied().unwrap_or_default()
    }

    fn below(&mut self, limit: u64) -> u64 {
        u64::from(self.next()) % limit
    }

    fn bool(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn access(&mut self) -> Access {
        Access::from_writable(self.bool())
    }

    fn which(&mut self) -> usize {
        usize::from(self.next())
    }

    fn spec(&mut self) -> Spec {
        let flags = self.next();
        let kind = match flags & 1 {
            0 => MemoryKind::Ram,
            _ => MemoryKind::Device,
        };
        Spec {
            len: self.below(13) + 1,
            priority: flags >> 6,
            place: (flags & 2 != 0).then(|| self.below(40)),
            kind,
            one_slot: flags & 4 != 0,
        }
    }

    fn op(&mut self) -> Op {
        match self.next() % 16 {
            0 | 1 => Op::Create(self.spec()),
            2 | 3 => Op::CreateAlias {
                spec: self.spec(),
                which: self.which(),
                offset: self.below(8),
            },
            4 => Op::Remove {
                which: self.which(),
            },
            5..=8 => {
                let flags = self.next();
                Op::Map {
                    which: usize::from(flags >> 3),
                    access: Access::from_writable(flags & 1 == 1),
                    execute: match flags & 2 {
                        0 => Execute::Allowed,
                        _ => Execute::Denied,
                    },
                    prefetch: flags & 4 != 0,
                    at: Some(self.below(60)).filter(|at| *at < 40),
                }
            }
            9 => Op::Unmap {
                which: self.which(),
            },
            10..=13 => {
                let start = self.below(12);
                Op::AddMapping {
                    which: self.which(),
                    start,
                    len: self.below(13) + 1,
                    backing: self.below(3) as u32,
                    // Offsets that often continue what is mapped beside.
                    offset: self.below(4) + start,
                    access: self.access(),
                }
            }
            _ => Op::RemoveMappings {
                which: self.which(),
                start: self.below(12),
                len: self.below(7) + 1,
            },
        }
    }
}
