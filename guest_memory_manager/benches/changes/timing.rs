//! Rounds in which those who make the same change take turns.

use std::time::Instant;

/// How many times a change is made there and back in a turn.
const REPEATS: usize = 32;

/// Which of two changes, that undo each other.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    There,
    Back,
}

impl Way {
    const BOTH: [Self; 2] = [Self::There, Self::Back];
}

/// A change that can be made and taken back for ever.
pub(crate) trait Change {
    /// Makes what will be changed present in the page tables; not measured.
    fn prepare(&mut self, way: Way);

    /// Makes the change.
    fn make(&mut self, way: Way);
}

/// Microseconds of a change and of the one that takes it back.
#[derive(Copy, Clone)]
pub(crate) struct Times {
    there: f64,
    back: f64,
}

impl Times {
    pub(crate) fn of(self, way: Way) -> f64 {
        match way {
            Way::There => self.there,
            Way::Back => self.back,
        }
    }
}

/// One turn: each way's median, so that no interruption counts.
fn turn(change: &mut dyn Change) -> Times {
    let mut taken = [Vec::new(), Vec::new()];
    for _ in 0..REPEATS {
        for (way, taken) in Way::BOTH.into_iter().zip(&mut taken) {
            change.prepare(way);
            let start = Instant::now();
            change.make(way);
            taken.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let [there, back] = taken.map(|taken| median(taken.into_iter()));
    Times { there, back }
}

/// One round: the calls by hand first and last, everyone else between.
pub(crate) struct Round {
    hand: [Times; 2],
    others: Vec<Times>,
}

/// Has everyone make their change in every round, each round in the opposite order of the one
/// before.
pub(crate) fn take_turns(
    hand: &mut dyn Change,
    others: &mut [&mut dyn Change],
    rounds: usize,
) -> Rounds {
    // Once for nothing: what is allocated on first use is there then.
    turn(hand);
    for other in &mut *others {
        turn(*other);
    }
    let rounds = (0..rounds).map(|round| {
        let first = turn(hand);
        let mut times = Vec::new();
        if round.is_multiple_of(2) {
            times.extend(others.iter_mut().map(|other| turn(*other)));
        } else {
            times.extend(others.iter_mut().rev().map(|other| turn(*other)));
            times.reverse();
        }
        Round {
            hand: [first, turn(hand)],
            others: times,
        }
    });
    Rounds(rounds.collect())
}

/// What was measured. Everything told is a median over the rounds, in microseconds.
pub(crate) struct Rounds(Vec<Round>);

impl Rounds {
    /// The calls by hand.
    pub(crate) fn hand(&self, way: Way) -> f64 {
        median(self.0.iter().map(|round| round.by_hand(way)))
    }

    /// All of one's change.
    pub(crate) fn total(&self, nth: usize, way: Way) -> f64 {
        median(self.0.iter().map(|round| round.others[nth].of(way)))
    }

    /// What one takes longer than the calls by hand in the same round.
    pub(crate) fn own(&self, nth: usize, way: Way) -> f64 {
        let differences = self.0.iter().map(|round| round.own(nth, way));
        median(differences)
    }

    /// How far from that half of the rounds are, at most.
    pub(crate) fn spread(&self, nth: usize, way: Way) -> f64 {
        let own = self.own(nth, way);
        let differences = self.0.iter().map(|round| round.own(nth, way));
        median(differences.map(|difference| (difference - own).abs()))
    }

    /// The calls by hand less themselves: how exact the differences are.
    pub(crate) fn a_a(&self, way: Way) -> f64 {
        let differences = self.0.iter().map(|round| {
            let [first, last] = round.hand.map(|times| times.of(way));
            last - first
        });
        median(differences)
    }
}

impl Round {
    fn by_hand(&self, way: Way) -> f64 {
        let [first, last] = self.hand.map(|times| times.of(way));
        (first + last) / 2.0
    }

    fn own(&self, nth: usize, way: Way) -> f64 {
        self.others[nth].of(way) - self.by_hand(way)
    }
}

/// The middle of the values; not a number where there are none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values = values.collect::<Vec<_>>();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2);
    let lower = values.get(values.len().saturating_sub(1) / 2);
    match (lower, upper) {
        (Some(lower), Some(upper)) => (lower + upper) / 2.0,
        _ => f64::NAN,
    }
}
