//! Two pictures in one: what was added, removed and changed.

use crate::picture::{Block, Column, Ground, Picture, Status};
use crate::range::ByteRange;
use std::collections::{BTreeMap, BTreeSet};

/// Combines two states. Blocks are cut where one of the states has a border, and what is alike on
/// both sides of a cut is one block again.
pub(crate) fn combine(before: &Picture, after: &Picture) -> Picture {
    let mut backings = after.backings.clone();
    let gone = before
        .backings
        .iter()
        .filter(|name| !after.backings.contains(name));
    backings.extend(gone.cloned());
    // A backing keeps its hue, which is its index, in the order of the state after; only those that
    // went get others.
    let hue = |index: usize| {
        let name = before.backings.get(index);
        let place = name.and_then(|name| backings.iter().position(|one| one == name));
        place.unwrap_or(index)
    };
    let mut columns = Vec::new();
    for column in &after.columns {
        let old = before.columns.iter().find(|old| old.key == column.key);
        columns.push(merge(old, Some(column), column, hue));
    }
    for (index, old) in before.columns.iter().enumerate() {
        if after.columns.iter().all(|column| column.key != old.key) {
            columns.insert(index.min(columns.len()), merge(Some(old), None, old, hue));
        }
    }
    let start = before.space.start().min(after.space.start());
    let end = before.space.end().max(after.space.end());
    Picture {
        space: ByteRange::try_new(start, end).unwrap_or(after.space),
        columns,
        backings,
    }
}

fn merge(
    before: Option<&Column>,
    after: Option<&Column>,
    frame: &Column,
    hue: impl Fn(usize) -> usize,
) -> Column {
    let old: Vec<Block> = before.map_or_else(Vec::new, |column| {
        let blocks = column.blocks.iter().cloned();
        let hued = blocks.map(|mut block| {
            if let super::Fill::Hue(index) = &mut block.look.fill {
                *index = hue(*index);
            }
            block
        });
        hued.collect()
    });
    let new: &[Block] = after.map_or(&[], |column| &column.blocks);
    let keys: BTreeSet<u64> = old.iter().chain(new).map(|block| block.key).collect();
    let (old, new) = (by_key(&old), by_key(new));
    let mut blocks = Vec::new();
    for key in keys {
        let none = Vec::new();
        let old = old.get(&key).unwrap_or(&none);
        let new = new.get(&key).unwrap_or(&none);
        sweep(old, new, &mut blocks);
    }
    blocks.sort_by_key(|block| (block.range.start(), block.key));
    let ground = frame.ground.iter().flat_map(|ground| {
        let covering = blocks
            .iter()
            .filter(|block| block.range.overlaps(ground.range));
        let covering: Vec<ByteRange> = covering.map(|block| block.range).collect();
        let free = without(ground.range, &covering).into_iter();
        free.map(|range| Ground {
            range,
            ..ground.clone()
        })
        .collect::<Vec<_>>()
    });
    Column {
        ground: ground.collect(),
        blocks,
        ..frame.clone()
    }
}

fn by_key(blocks: &[Block]) -> BTreeMap<u64, Vec<&Block>> {
    let mut sorted: BTreeMap<u64, Vec<&Block>> = BTreeMap::new();
    for block in blocks {
        sorted.entry(block.key).or_default().push(block);
    }
    for blocks in sorted.values_mut() {
        blocks.sort_by_key(|block| block.range);
    }
    sorted
}

/// Compares two lists of disjoint blocks, piece by piece.
fn sweep(old: &[&Block], new: &[&Block], combined: &mut Vec<Block>) {
    let borders = old.iter().chain(new);
    let borders: BTreeSet<u64> = borders
        .flat_map(|block| [block.range.start(), block.range.end()])
        .collect();
    let mut last: Option<(usize, usize, Block)> = None;
    let none = usize::MAX;
    for (from, to) in borders.iter().zip(borders.iter().skip(1)) {
        let Some(range) = ByteRange::try_new(*from, *to) else {
            continue;
        };
        let (was, was_index) = covering(old, range).unzip();
        let (is, is_index) = covering(new, range).unzip();
        let indices = (was_index.unwrap_or(none), is_index.unwrap_or(none));
        let piece = match (was, is) {
            (None, None) => None,
            (Some(was), None) => Some((was, Status::Removed)),
            (None, Some(is)) => Some((is, Status::Added)),
            (Some(was), Some(is)) if was.continues(is) => Some((is, Status::Same)),
            (Some(was), Some(is)) => {
                let was = Block {
                    range,
                    ..was.clone()
                };
                let is_now = Block {
                    range,
                    ..is.clone()
                };
                let status = Status::Changed {
                    before: was.text(),
                    gone: is_now.lacks(&was),
                };
                Some((is, status))
            }
        };
        let piece = piece.map(|(block, status)| Block {
            range,
            status,
            ..block.clone()
        });
        match (&mut last, piece) {
            // Cut only because the other state had a border there.
            (Some((was, is, last)), Some(piece))
                if (last.range.end() == range.start())
                    && joins(last, &piece, (*was, *is), indices) =>
            {
                last.range =
                    ByteRange::try_new(last.range.start(), range.end()).unwrap_or(last.range);
                (*was, *is) = indices;
            }
            (last, piece) => {
                let done =
                    std::mem::replace(last, piece.map(|piece| (indices.0, indices.1, piece)));
                combined.extend(done.map(|(.., block)| block));
            }
        }
    }
    combined.extend(last.map(|(.., block)| block));
}

/// Tells whether a piece goes on where the last one ends. Two blocks of the newer state stay two,
/// and so do two of the older one that are gone.
fn joins(last: &Block, piece: &Block, left: (usize, usize), right: (usize, usize)) -> bool {
    match (&last.status, &piece.status) {
        (Status::Same, Status::Same) | (Status::Added, Status::Added) => left.1 == right.1,
        (Status::Removed, Status::Removed) => left.0 == right.0,
        (Status::Changed { .. }, Status::Changed { .. }) => left == right,
        _ => false,
    }
}

fn covering<'a>(blocks: &[&'a Block], range: ByteRange) -> Option<(&'a Block, usize)> {
    let index = blocks.partition_point(|block| block.range.end() <= range.start());
    let block = blocks.get(index)?;
    block.range.contains(range).then_some((*block, index))
}

/// What of `range` is in none of `others`.
fn without(range: ByteRange, others: &[ByteRange]) -> Vec<ByteRange> {
    let mut others = others.to_vec();
    others.sort_unstable();
    let mut free = Vec::new();
    let mut at = range.start();
    for other in others {
        free.extend(ByteRange::try_new(at, other.start().min(range.end())));
        at = at.max(other.end());
    }
    free.extend(ByteRange::try_new(at, range.end()));
    free
}
