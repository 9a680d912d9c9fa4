//! Random edits. Apart from the other support, which the fuzz target shares: it has no proptest.

use crate::support::ops::{Op, Spec};
use memory_range::Access;
use proptest::prelude::*;
use region_manager::{Execute, MemoryKind};

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)]
}

fn spec() -> impl Strategy<Value = Spec> {
    let kind = prop_oneof![Just(MemoryKind::Ram), Just(MemoryKind::Device)];
    let place = proptest::option::of(0u64..40);
    let one_slot = proptest::bool::weighted(0.3);
    (1u64..14, 0u8..4, place, kind, one_slot).prop_map(|(len, priority, place, kind, one_slot)| {
        Spec {
            len,
            priority,
            place,
            kind,
            one_slot,
        }
    })
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let which = 0usize..8;
    let execute = prop_oneof![4 => Just(Execute::Allowed), 1 => Just(Execute::Denied)];
    let prefetch = proptest::bool::weighted(0.2);
    prop_oneof![
        2 => spec().prop_map(Op::Create),
        2 => (spec(), 1u64..6, which.clone(), 0u64..8).prop_map(|(mut spec, len, which, offset)| {
            // Short, so that many of them fit.
            spec.len = len;
            Op::CreateAlias { spec, which, offset }
        }),
        1 => which.clone().prop_map(|which| Op::Remove { which }),
        5 => (which.clone(), proptest::option::of(0u64..40), access(), execute, prefetch).prop_map(
            |(which, at, access, execute, prefetch)| {
                Op::Map { which, at, access, execute, prefetch }
            }
        ),
        2 => which.clone().prop_map(|which| Op::Unmap { which }),
        5 => (which.clone(), 0u64..9, 1u64..7, 0u32..3, 0u64..3, access()).prop_map(
            |(which, start, len, backing, offset, access)| {
                // Offsets that often continue what is mapped beside.
                Op::AddMapping { which, start, len, backing, offset: offset + start, access }
            }
        ),
        2 => (which, 0u64..9, 1u64..5)
            .prop_map(|(which, start, len)| Op::RemoveMappings { which, start, len }),
    ]
}

/// A region that is filled and mapped, the `which`-th that is created.
fn visible(which: usize) -> impl Strategy<Value = Vec<Op>> {
    (spec(), 0u64..40, access(), 0u32..3).prop_map(move |(spec, at, access, backing)| {
        let len = spec.len;
        vec![
            Op::Create(spec),
            Op::AddMapping {
                which,
                start: 0,
                len,
                backing,
                offset: 0,
                access: Access::ReadWrite,
            },
            Op::Map {
                which,
                at: Some(at),
                access,
                execute: Execute::Allowed,
                prefetch: false,
            },
        ]
    })
}

/// Transactions of one to four edits each, after one that makes a few regions visible.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Vec<Op>>> {
    let first = (visible(0), visible(1), visible(2));
    let rest = proptest::collection::vec(proptest::collection::vec(op(), 1..5), 1..24);
    (first, rest).prop_map(|((a, b, c), mut changes)| {
        changes.insert(0, [a, b, c].concat());
        changes
    })
}
