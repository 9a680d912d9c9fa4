//! How many requests there may be.

use std::time::{Duration, Instant};

/// Allows a number of things at once, and from then on one in each interval.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    burst: u32,
    interval: Duration,
    left: u32,
    /// Up to when what time has given back is counted in `left`.
    counted: Instant,
}

impl Budget {
    pub(super) fn new(burst: u32, interval: Duration, now: Instant) -> Self {
        Self {
            burst,
            interval,
            left: burst,
            counted: now,
        }
    }

    /// Takes one; tells whether there was one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted);
        let back = match self.interval.as_nanos() {
            0 => u128::from(self.burst),
            interval => passed.as_nanos() / interval,
        };
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        if back >= self.burst.saturating_sub(self.left) {
            self.left = self.burst;
            self.counted = now;
        } else if back > 0 {
            self.left = self.left.saturating_add(back);
            // What of the time has given nothing yet still counts.
            let spent = self.interval.checked_mul(back);
            self.counted = spent
                .and_then(|spent| self.counted.checked_add(spent))
                .unwrap_or(now);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_an_interval() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut budget = Budget::new(2, Duration::from_millis(10), start);
        let took: Vec<bool> = [0, 0, 0, 9, 10, 19, 25, 30, 31, 1000, 1000, 1000]
            .map(|millis| budget.take(at(millis)))
            .into();
        assert_eq!(
            took,
            [
                true, true, false, false, true, false, true, true, false, true, true, false
            ]
        );
    }

    #[test]
    fn extremes() {
        let now = Instant::now();
        let mut none = Budget::new(0, Duration::ZERO, now);
        assert!(!none.take(now));
        let mut once = Budget::new(1, Duration::MAX, now);
        assert!(once.take(now));
        assert!(!once.take(now + Duration::from_secs(1_000_000)));
        let mut free = Budget::new(1, Duration::ZERO, now);
        assert!((0..100).all(|_| free.take(now)));
    }
}
