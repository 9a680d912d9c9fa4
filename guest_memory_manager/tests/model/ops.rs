//! The steps, and how they are chosen.

use guest_memory_manager::{Fill, RamVisibility};
use proptest::prelude::*;

/// One step. Windows are named by a number that is taken modulo how many there are.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A change by itself.
    Edit(Edit),
    /// Several as one; or nothing, if they are abandoned.
    Transaction {
        edits: Vec<Edit>,
        commit: bool,
    },
    NewWindow {
        len: u64,
        fill: Option<Fill>,
    },
    /// A second place for a part of a window.
    NewAlias {
        window: usize,
        offset: u64,
        len: u64,
    },
    /// A second place for RAM.
    NewRamAlias {
        start: u64,
        len: u64,
    },
    DropControl(usize),
    DropWindow(usize),
    /// The second partition comes, or goes if it is there.
    Attach,
    /// A DMA target comes, or goes if it is there.
    AttachDma,
}

/// What can be a part of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    SetRam(usize, RamVisibility),
    Show(usize, u64, bool),
    Hide(usize),
    Map {
        window: usize,
        offset: u64,
        file: usize,
        file_offset: u64,
        len: u64,
        writable: bool,
    },
    Unmap(usize, u64, u64),
}

const WINDOWS: std::ops::Range<usize> = 0..8;

fn edit() -> impl Strategy<Value = Edit> {
    let visibility = prop_oneof![
        Just(RamVisibility::Unmapped),
        Just(RamVisibility::ReadOnly),
        Just(RamVisibility::ReadWrite),
    ];
    prop_oneof![
        3 => (0usize..5, visibility).prop_map(|(nth, visibility)| Edit::SetRam(nth, visibility)),
        6 => (WINDOWS, 0u64..33, any::<bool>())
            .prop_map(|(window, gpa, writable)| Edit::Show(window, gpa, writable)),
        2 => WINDOWS.prop_map(Edit::Hide),
        6 => (WINDOWS, 0u64..8, 0usize..3, 0u64..6, 0u64..7, any::<bool>()).prop_map(
            |(window, offset, file, file_offset, len, writable)| Edit::Map {
                window,
                offset,
                file,
                file_offset,
                len,
                writable,
            }
        ),
        3 => (WINDOWS, 0u64..8, 0u64..7).prop_map(|(window, at, len)| Edit::Unmap(window, at, len)),
    ]
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let fill = prop_oneof![
        2 => Just(None),
        1 => Just(Some(Fill::Zeros)),
        1 => Just(Some(Fill::Ones)),
    ];
    prop_oneof![
        16 => edit().prop_map(Op::Edit),
        6 => (prop::collection::vec(edit(), 0..6), prop::bool::weighted(0.8))
            .prop_map(|(edits, commit)| Op::Transaction { edits, commit }),
        2 => (0u64..9, fill).prop_map(|(len, fill)| Op::NewWindow { len, fill }),
        2 => (WINDOWS, 0u64..8, 0u64..7)
            .prop_map(|(window, offset, len)| Op::NewAlias { window, offset, len }),
        1 => (0u64..30, 0u64..5).prop_map(|(start, len)| Op::NewRamAlias { start, len }),
        1 => WINDOWS.prop_map(Op::DropControl),
        1 => WINDOWS.prop_map(Op::DropWindow),
        1 => Just(Op::Attach),
        1 => Just(Op::AttachDma),
    ]
}
