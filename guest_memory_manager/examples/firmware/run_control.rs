//! What the threads of a run tell each other.

use crate::outcome::Outcome;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The outcome, as soon as there is one, and which CPUs are halted for good.
pub struct RunControl {
    outcome: Mutex<Option<Outcome>>,
    changed: Condvar,
    /// Counts the times that CPUs were asked whether they are halted.
    round: AtomicU64,
    /// For each CPU, the last round in which no interrupt could wake it.
    halted: Vec<AtomicU64>,
}

impl RunControl {
    /// For so many CPUs.
    pub fn new(cpus: u8) -> Self {
        Self {
            outcome: Mutex::default(),
            changed: Condvar::new(),
            round: AtomicU64::new(0),
            halted: (0..cpus).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Ends the run. The first outcome counts.
    pub fn end(&self, outcome: Outcome) {
        self.outcome().get_or_insert(outcome);
        self.changed.notify_all();
    }

    /// Whether the run has ended.
    pub fn ended(&self) -> bool {
        self.outcome().is_some()
    }

    /// Waits for the end, until `deadline` or for so long. Returns whether the run has ended.
    pub fn wait(&self, at_most: Duration, deadline: Option<Instant>) -> bool {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = left.map_or(at_most, |left| left.min(at_most));
        let guard = self.outcome();
        let waited = self
            .changed
            .wait_timeout_while(guard, wait, |outcome| outcome.is_none());
        let (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        guard.is_some()
    }

    /// The outcome, if there is one, for good.
    pub fn take(&self) -> Option<Outcome> {
        self.outcome().take()
    }

    /// Begins a round. Returns whether all CPUs were halted for good in the last one.
    pub fn next_round(&self) -> bool {
        let last = self.round.fetch_add(1, Ordering::SeqCst);
        last > 0
            && self
                .halted
                .iter()
                .all(|halted| halted.load(Ordering::SeqCst) == last)
    }

    /// Notes that a CPU is halted for good.
    pub fn halted(&self, cpu: usize) {
        if let Some(halted) = self.halted.get(cpu) {
            halted.store(self.round.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    fn outcome(&self) -> MutexGuard<'_, Option<Outcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
