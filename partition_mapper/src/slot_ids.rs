//! Which slot ids are free.

use std::ops::Range;

/// Hands out slot ids, last-in-first-out.
///
/// # Invariant
///
/// Every id below `fresh` is either in use or in `freed`, and in one of them only. An id that
/// was put back is the next to be handed out. So a sequence of changes, undone in the opposite
/// order, ends with every id where it was; and ids stay low, which hypervisors with a table
/// of slots like.
#[derive(Clone, Debug)]
pub(crate) struct SlotIds {
    ids: Range<u32>,
    /// The lowest id never handed out.
    fresh: u32,
    freed: Vec<u32>,
    in_use: u32,
    budget: u32,
}

impl SlotIds {
    /// Makes an allocator of `ids`, of which at most `budget` are in use at the same time.
    pub(crate) fn new(ids: Range<u32>, budget: u32) -> Self {
        let budget = budget.min(ids.end.saturating_sub(ids.start));
        Self {
            fresh: ids.start,
            ids,
            freed: Vec::new(),
            in_use: 0,
            budget,
        }
    }

    /// The number of ids that may be in use at the same time.
    pub(crate) const fn limit(&self) -> u32 {
        self.budget
    }

    /// The number of ids in use.
    pub(crate) const fn in_use(&self) -> u32 {
        self.in_use
    }

    /// The id that [`take`](Self::take) would hand out; `None` when the budget is used up.
    pub(crate) fn peek(&self) -> Option<u32> {
        if self.in_use >= self.budget {
            return None;
        }
        match self.freed.last() {
            Some(&id) => Some(id),
            None => (self.fresh < self.ids.end).then_some(self.fresh),
        }
    }

    /// Hands out an id; `None` when the budget is used up.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let id = self.peek()?;
        if self.freed.pop().is_none() {
            // Below `ids.end`, by `peek`, so the next number exists.
            self.fresh = id.saturating_add(1);
        }
        self.in_use = self.in_use.saturating_add(1);
        Some(id)
    }

    /// Takes an id back that is in use.
    pub(crate) fn put_back(&mut self, id: u32) {
        debug_assert!(self.ids.contains(&id) && id < self.fresh);
        self.freed.push(id);
        self.in_use = self.in_use.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn hands_out_the_lowest_first_and_the_last_put_back_next() {
        let mut ids = SlotIds::new(10..14, 4);
        assert_eq!(
            (ids.take(), ids.take(), ids.take()),
            (Some(10), Some(11), Some(12))
        );
        ids.put_back(11);
        ids.put_back(10);
        assert_eq!(ids.in_use(), 1);
        assert_eq!(
            (ids.take(), ids.take(), ids.take()),
            (Some(10), Some(11), Some(13))
        );
        assert_eq!((ids.peek(), ids.take(), ids.in_use()), (None, None, 4));
    }

    #[test]
    fn keeps_to_the_smaller_of_budget_and_ids() {
        assert_eq!(SlotIds::new(0..8, 3).limit(), 3);
        assert_eq!(SlotIds::new(5..8, 100).limit(), 3);
        let mut none = SlotIds::new(7..7, 100);
        assert_eq!((none.limit(), none.take()), (0, None));
        let mut top = SlotIds::new(u32::MAX - 1..u32::MAX, 9);
        assert_eq!((top.take(), top.take()), (Some(u32::MAX - 1), None));
    }

    /// One step: take an id, or put back the one in use at this place (modulo their number).
    #[derive(Clone, Debug)]
    enum Step {
        Take,
        PutBack(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(
            prop_oneof![Just(Step::Take), (0usize..64).prop_map(Step::PutBack)],
            0..60,
        )
    }

    /// Does the steps; returns what was really done, as (id, taken).
    fn run(ids: &mut SlotIds, used: &mut Vec<u32>, steps: &[Step]) -> Vec<(u32, bool)> {
        let mut done = Vec::new();
        for step in steps {
            match *step {
                Step::Take => {
                    if let Some(id) = ids.take() {
                        used.push(id);
                        done.push((id, true));
                    }
                }
                Step::PutBack(_) if used.is_empty() => {}
                Step::PutBack(nth) => {
                    let id = used.remove(nth % used.len());
                    ids.put_back(id);
                    done.push((id, false));
                }
            }
        }
        done
    }

    /// Every id that the allocator would hand out from here on.
    fn future(ids: &SlotIds) -> Vec<u32> {
        let mut ids = ids.clone();
        std::iter::from_fn(|| ids.take()).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_used_ids(steps in steps(), budget in 0u32..20) {
            let mut ids = SlotIds::new(3..15, budget);
            let mut used = BTreeSet::new();
            let mut order = Vec::new();
            for step in &steps {
                for (id, taken) in run(&mut ids, &mut order, std::slice::from_ref(step)) {
                    prop_assert!((3..15).contains(&id));
                    let fits = if taken { used.insert(id) } else { used.remove(&id) };
                    prop_assert!(fits, "id {} was handed out or put back twice", id);
                }
                prop_assert_eq!(ids.in_use() as usize, used.len());
                prop_assert_eq!(ids.peek().is_none(), used.len() as u32 == budget.min(12));
            }
        }

        #[test]
        fn undoing_in_the_opposite_order_restores_every_id(before in steps(), change in steps()) {
            let mut ids = SlotIds::new(0..16, 12);
            let mut used = Vec::new();
            run(&mut ids, &mut used, &before);
            let (next, in_use) = (future(&ids), ids.in_use());
            let done = run(&mut ids, &mut used, &change);
            for &(id, taken) in done.iter().rev() {
                if taken {
                    ids.put_back(id);
                } else {
                    prop_assert_eq!(ids.take(), Some(id));
                }
            }
            prop_assert_eq!(ids.in_use(), in_use);
            prop_assert_eq!(future(&ids), next);
        }
    }
}
