//! Failures while RAM is shown and hidden.

use super::world::{OVER_NOTHING, OVER_ROM};
use super::{walk, walk_without_undo};
use crate::RamVisibility::{self, ReadOnly, ReadWrite, Unmapped};
use memory_range::MemoryRange;

const STATES: [RamVisibility; 3] = [Unmapped, ReadOnly, ReadWrite];

fn every_transition_of(segment: MemoryRange) {
    for from in STATES {
        for to in STATES {
            let calls = walk(
                |world| world.show(segment, from).unwrap(),
                |world| world.show(segment, to),
            );
            let all = [calls.sink, calls.vtl0, calls.vtl2];
            assert_eq!(from == to, all == [0; 3], "{from:?} to {to:?}: {all:?}");
            assert!(calls.vtl2 >= calls.vtl0, "VTL2 has the alias besides");
        }
    }
}

#[test]
fn every_transition_of_a_segment_over_a_rom() {
    every_transition_of(OVER_ROM);
}

#[test]
fn every_transition_of_a_segment_over_nothing() {
    every_transition_of(OVER_NOTHING);
}

#[test]
fn a_transition_whose_undoing_fails_is_mended_by_the_retry() {
    for segment in [OVER_ROM, OVER_NOTHING] {
        for from in STATES {
            for to in STATES.into_iter().filter(|to| *to != from) {
                walk_without_undo(
                    |world| world.show(segment, from).unwrap(),
                    |world| world.show(segment, to),
                );
            }
        }
    }
}
