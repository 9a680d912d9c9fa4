//! How many slots a partition has left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// How many slots a partition may have and has, and who is about to need some.
///
/// What a backend's [`slot_budget`](crate::PartitionMemoryMap::slot_budget) returns.
#[derive(Debug)]
pub struct SlotBudget<'a> {
    limit: u64,
    used: u64,
    claims: &'a SlotClaims,
}

impl<'a> SlotBudget<'a> {
    /// Says that `used` slots exist, of at most `limit`. `claims` is the partition's only one.
    pub const fn new(limit: u64, used: u64, claims: &'a SlotClaims) -> Self {
        Self {
            limit,
            used,
            claims,
        }
    }

    /// The number of slots that may exist at the same time.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// The number of slots that exist.
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// The number of slots that could still be made.
    pub const fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(crate) const fn claims(&self) -> &'a SlotClaims {
        self.claims
    }

    /// Checks that a mapper's part of a change fits, beside what the mappers of the same view that
    /// were asked before it will do in the same change.
    pub(crate) fn claim(&self, who: Claimant, need: SlotNeed) -> Result<(), TooManySlots> {
        let others = match self.claims.mappers.load(Ordering::Relaxed) > 1 {
            false => SlotNeed::default(),
            true => self.claims.add(who, need),
        };
        let freed = need.freed.saturating_add(others.freed);
        let needed = need.needed.saturating_add(others.needed);
        // Whatever a change takes away, it takes away before it gives.
        if self.used.saturating_sub(freed).saturating_add(needed) <= self.limit {
            return Ok(());
        }
        Err(TooManySlots {
            limit: self.limit,
            used: self.used,
            freed,
            needed,
        })
    }
}

/// A change needs more slots than there are.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("{needed} slots are needed and {freed} become free, but {used} of {limit} are in use")]
pub struct TooManySlots {
    /// The number of slots that may exist at the same time.
    pub limit: u64,
    /// The number of slots that exist before the change.
    pub used: u64,
    /// How many of those the change takes away.
    pub freed: u64,
    /// How many slots the change makes.
    pub needed: u64,
}

/// How many slots a mapper's part of a change takes away and makes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotNeed {
    pub(crate) freed: u64,
    pub(crate) needed: u64,
}

/// Who claims: a mapper, and the view that it follows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimant {
    /// The address of the view's reservation.
    pub(crate) view: usize,
    pub(crate) mapper: MapperNumber,
}

/// Tells the mappers of one partition apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapperNumber(u64);

/// What the mappers of one partition are about to need, so that two of them don't count on the
/// same slot in one change. A backend holds one for each partition.
#[derive(Debug, Default)]
pub struct SlotClaims {
    mappers: AtomicUsize,
    state: Mutex<Claims>,
}

#[derive(Debug, Default)]
struct Claims {
    next_mapper: u64,
    /// The claims made in the change that each view was asked for last.
    list: Vec<(Claimant, SlotNeed)>,
}

impl SlotClaims {
    /// Makes an account in which nobody claims anything.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn enter_mapper(&self) -> MapperNumber {
        self.mappers.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let number = state.next_mapper;
        state.next_mapper = number.saturating_add(1);
        MapperNumber(number)
    }

    pub(crate) fn leave_mapper(&self, mapper: MapperNumber) {
        self.mappers.fetch_sub(1, Ordering::Relaxed);
        self.state().list.retain(|(who, _)| who.mapper != mapper);
    }

    /// Adds a claim; returns the sum of the others that belong to the same change.
    ///
    /// A view asks each of its mappers once for a change, in the same order, under its lock. So
    /// when one is asked that has a claim already, it is another change, and the claims of
    /// that view are history. Different views don't wait for each other, and their claims aren't
    /// added up: there it is the making of a slot that fails.
    fn add(&self, who: Claimant, need: SlotNeed) -> SlotNeed {
        let mut state = self.state();
        let list = &mut state.list;
        if list.iter().any(|(other, _)| *other == who) {
            list.retain(|(other, _)| other.view != who.view);
        }
        let mut sum = SlotNeed::default();
        for (_, other) in list.iter().filter(|(other, _)| other.view == who.view) {
            sum.freed = sum.freed.saturating_add(other.freed);
            sum.needed = sum.needed.saturating_add(other.needed);
        }
        list.push((who, need));
        sum
    }

    fn state(&self) -> MutexGuard<'_, Claims> {
        // Nothing that can panic runs between two steps of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(freed: u64, needed: u64) -> SlotNeed {
        SlotNeed { freed, needed }
    }

    #[test]
    fn one_mapper_alone_has_what_is_free() {
        let claims = SlotClaims::new();
        let who = Claimant {
            view: 1,
            mapper: claims.enter_mapper(),
        };
        let budget = SlotBudget::new(8, 6, &claims);
        assert_eq!(budget.free(), 2);
        for _ in 0..3 {
            budget.claim(who, need(0, 2)).unwrap();
            budget.claim(who, need(3, 5)).unwrap();
        }
        let error = budget.claim(who, need(3, 6)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "6 slots are needed and 3 become free, but 6 of 8 are in use"
        );
    }

    #[test]
    fn mappers_of_one_view_share_what_is_free() {
        let claims = SlotClaims::new();
        let [first, second, third] = [0; 3].map(|_| Claimant {
            view: 1,
            mapper: claims.enter_mapper(),
        });
        let elsewhere = Claimant {
            view: 2,
            mapper: claims.enter_mapper(),
        };
        let budget = SlotBudget::new(8, 6, &claims);
        for _ in 0..2 {
            budget.claim(first, need(0, 1)).unwrap();
            budget.claim(second, need(0, 1)).unwrap();
            let error = budget.claim(third, need(0, 1)).unwrap_err();
            assert_eq!((error.freed, error.needed), (0, 3));
        }
        // Another change, in which the second frees what the third needs.
        budget.claim(first, need(0, 2)).unwrap();
        budget.claim(second, need(4, 0)).unwrap();
        budget.claim(third, need(0, 4)).unwrap();
        budget.claim(elsewhere, need(0, 2)).unwrap();
        // One that goes takes its claim along.
        budget.claim(first, need(0, 2)).unwrap();
        claims.leave_mapper(first.mapper);
        budget.claim(second, need(0, 2)).unwrap();
    }

    #[test]
    fn more_slots_in_use_than_allowed_is_no_overflow() {
        let claims = SlotClaims::new();
        let who = Claimant {
            view: 1,
            mapper: claims.enter_mapper(),
        };
        let budget = SlotBudget::new(2, u64::MAX, &claims);
        assert_eq!(budget.free(), 0);
        budget.claim(who, need(0, u64::MAX)).unwrap_err();
        budget.claim(who, need(u64::MAX, 2)).unwrap();
    }
}
