//! What listeners hold, and how little of it a change has to touch.

use crate::borders::Borders;
use crate::diff::Difference;
use memory_range::sorted::{Piece, walk};
use memory_range::{MemoryRange, RangeMap};
use std::cell::Cell;

/// Something that listeners hold for a range: a slot, or a sub-mapping.
///
/// It depends on some of what is visible, and on nothing else. As long as that is alike in every
/// page of its range, it stays.
pub(crate) trait Held<B>: Clone {
    /// The guest physical addresses; never empty.
    fn range(&self) -> MemoryRange;

    /// Whether a difference is about anything that this depends on.
    fn differs(difference: &Difference<B>) -> bool;

    /// The same for a part of its range.
    fn part(&self, range: MemoryRange) -> Self;

    /// What is to be held in `range`, a part of the difference's; `before` is what was held around
    /// it.
    fn after(difference: &Difference<B>, range: MemoryRange, before: Option<&Self>)
    -> Option<Self>;

    /// Takes in the next one, which begins where this one ends, if one can stand for both.
    fn absorb(&mut self, next: &Self) -> bool;
}

/// What every listener of one sort holds now.
///
/// # Invariant
///
/// Everything that an entry depends on is alike throughout its range; entries don't overlap; and
/// every visible page lies in one.
#[derive(Clone, Debug)]
pub(crate) struct Ledger<T> {
    held: RangeMap<Entry<T>>,
}

/// What is held, and what is known of its range.
#[derive(Clone, Debug)]
struct Entry<T> {
    held: T,
    /// The version of the borders in which its start was found to be one, and none to lie strictly
    /// inside it: then whatever comes in its place is neither cut nor joined with what lies before,
    /// and borders need not be searched again. Most changes go to and fro in the same places.
    alone_in: Cell<Option<u64>>,
}

impl<T> Entry<T> {
    fn new(held: T) -> Self {
        Self {
            held,
            alone_in: Cell::new(None),
        }
    }

    fn is_alone<B>(&self, borders: &Borders) -> bool
    where
        T: Held<B>,
    {
        let version = Some(borders.version());
        if self.alone_in.get() == version {
            return true;
        }
        let range = self.held.range();
        let alone = borders.contains(range.start())
            && borders.between(range.start(), range.end()).next().is_none();
        if alone {
            self.alone_in.set(version);
        }
        alone
    }
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self {
            held: RangeMap::new(),
        }
    }
}

impl<T> Ledger<T> {
    /// Every entry, by address.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        self.held.iter().map(|(_, entry)| &entry.held)
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Computes the fewest entries to remove and to add for a list of differences, by address;
    /// writes them into two lists.
    ///
    /// An entry goes only if something that it depends on changes in some of its range. What that
    /// leaves uncovered, and what is newly visible, gets new entries, cut at the borders of every
    /// region placed there, mapped or not: so the next change of any of these regions finds an
    /// entry that ends where it does.
    pub(crate) fn plan<B>(
        &self,
        differences: &[Difference<B>],
        borders: &Borders,
        removed: &mut Vec<T>,
        added: &mut Vec<T>,
    ) where
        T: Held<B>,
    {
        if self.plan_one_for_one(differences, borders, removed, added) {
            return;
        }
        removed.clear();
        added.clear();
        // Sorted and disjoint, since the differences are.
        let affected = differences
            .iter()
            .filter(|difference| T::differs(difference));
        for difference in affected.clone() {
            for (range, entry) in self.held.overlapping(difference.range) {
                // One entry may reach into several differences.
                if removed.last().is_none_or(|last| last.range() != range) {
                    removed.push(entry.held.clone());
                }
            }
        }
        // What a removed entry leaves is as it was where no difference says otherwise.
        let pieces = walk(
            removed.iter().map(|held| (held.range(), held)),
            affected.map(|difference| (difference.range, difference)),
        );
        for piece in pieces {
            let uncovered = match piece {
                Piece::Left(range, held) => Some(held.part(range)),
                Piece::Right(range, difference) => T::after(difference, range, None),
                Piece::Both(range, held, difference) => T::after(difference, range, Some(held)),
            };
            if let Some(uncovered) = uncovered {
                cut_or_join(uncovered, borders, added);
            }
        }
    }

    /// Plans what most changes are: each difference is about just the range of one entry, or is where
    /// nothing was visible. Tells whether it was so.
    fn plan_one_for_one<B>(
        &self,
        differences: &[Difference<B>],
        borders: &Borders,
        removed: &mut Vec<T>,
        added: &mut Vec<T>,
    ) -> bool
    where
        T: Held<B>,
    {
        // Often the next difference is about the next entry: then there is nothing to search.
        let end = differences.last().map_or(0, |last| last.range.end());
        let mut entries = None;
        for difference in differences.iter().filter(|one| T::differs(one)) {
            let range = difference.range;
            if difference.old.is_none() {
                // Entries lie where something is visible, and nowhere else.
                if let Some(after) = T::after(difference, range, None) {
                    cut_or_join(after, borders, added);
                }
                continue;
            }
            let entry = match entries.as_mut().and_then(Iterator::next) {
                Some((at, entry)) if at == range => entry,
                _ => match self.held.get_exact(range) {
                    None => return false,
                    Some(entry) => {
                        let rest = MemoryRange::try_new(range.end()..end);
                        let rest = rest.ok().filter(|rest| !rest.is_empty());
                        entries = rest.map(|rest| self.held.overlapping(rest));
                        entry
                    }
                },
            };
            removed.push(entry.held.clone());
            match T::after(difference, range, Some(&entry.held)) {
                Some(after) if entry.is_alone(borders) => added.push(after),
                Some(after) => cut_or_join(after, borders, added),
                None => {}
            }
        }
        true
    }

    /// Records what a plan did.
    pub(crate) fn update<B>(&mut self, removed: &[T], added: &[T])
    where
        T: Held<B>,
    {
        if removed.len() == added.len()
            && removed
                .iter()
                .zip(added)
                .all(|(old, new)| old.range() == new.range())
        {
            for new in added {
                if let Some((_, entry)) = self.held.get_mut(new.range().start()) {
                    entry.held = new.clone();
                }
            }
            return;
        }
        for old in removed {
            // What is only replaced needs no other place.
            let range = old.range();
            let at = added.binary_search_by_key(&range.start(), |new| new.range().start());
            let replaced = at.is_ok_and(|at| added.get(at).is_some_and(|new| new.range() == range));
            if !replaced {
                self.held.remove_exact(range);
            }
        }
        for new in added {
            let range = new.range();
            match self.held.get_mut(range.start()) {
                Some((at, entry)) if at == range => entry.held = new.clone(),
                _ => {
                    let free = self.held.insert(range, Entry::new(new.clone()));
                    debug_assert!(free.is_ok(), "entries don't overlap");
                }
            }
        }
    }
}

/// Cuts a new entry at each border of a region; joins it with the last one where it continues that
/// and no border is in between.
fn cut_or_join<B, T: Held<B>>(uncovered: T, borders: &Borders, added: &mut Vec<T>) {
    let range = uncovered.range();
    let mut start = range.start();
    for end in borders.between(range.start(), range.end()) {
        if let Ok(piece) = MemoryRange::try_new(start..end) {
            push(uncovered.part(piece), borders, added);
        }
        start = end;
    }
    if start == range.start() {
        push(uncovered, borders, added);
    } else if let Ok(piece) = MemoryRange::try_new(start..range.end()) {
        push(uncovered.part(piece), borders, added);
    }
}

fn push<B, T: Held<B>>(piece: T, borders: &Borders, added: &mut Vec<T>) {
    if let Some(last) = added.last_mut()
        && last.range().end() == piece.range().start()
        && !borders.contains(piece.range().start())
        && last.absorb(&piece)
    {
        return;
    }
    added.push(piece);
}
