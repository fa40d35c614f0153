//! The order in which repetitions were measured, by the instants at which their loads began: what the page says of it must be
//! what happened, also where one was measured again after the others.

/// Repetitions whose instants are known, as they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct MeasurementOrder {
    all: Vec<Measured>,
    /// Repetitions with rows whose start instant was not checked: nothing can be concluded about their order.
    unknown: usize,
}

/// A repetition that was measured. Ordered by when it began, in nanoseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Measured {
    pub(crate) began_unix_ns: i64,
    pub(crate) number: u32,
    pub(crate) point: String,
    pub(crate) system: String,
}

impl MeasurementOrder {
    /// The order of these repetitions, with the number of those of unknown start.
    pub(crate) fn of(mut all: Vec<Measured>, unknown: usize) -> Self {
        all.sort();
        Self { all, unknown }
    }

    /// Returns true if each repetition went through all its points before the next one began; false for a single
    /// repetition.
    pub(crate) fn repetitions_followed_each_other(&self) -> bool {
        let is_repeated =
            self.all.first().zip(self.all.last()).is_some_and(|(first, last)| first.number != last.number);
        // The page states this as a fact, so that one unknown instant is enough not to.
        self.unknown == 0 && is_repeated && self.all.is_sorted_by_key(|one| one.number)
    }

    /// Returns true if several systems were measured at a point, and nothing else was measured between them within a
    /// repetition.
    pub(crate) fn systems_were_interleaved(&self) -> bool {
        let place = |one: &Measured| (one.number, one.point.clone());
        let groups: Vec<_> = self.all.chunk_by(|a, b| place(a) == place(b)).collect();
        let mut places: Vec<_> = groups.iter().map(|group| place(&group[0])).collect();
        places.sort();
        let is_torn = places.windows(2).any(|pair| pair[0] == pair[1]);
        self.unknown == 0 && !is_torn && groups.iter().any(|group| group.len() > 1)
    }

    /// Returns true if each repetition began with another system than the one before it.
    pub(crate) fn another_was_first(&self) -> bool {
        let mut numbers: Vec<u32> = self.all.iter().map(|one| one.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let first = |number: &u32| self.all.iter().find(|one| one.number == *number).map(|one| one.system.as_str());
        let first: Vec<_> = numbers.iter().map(first).collect();
        self.unknown == 0 && first.len() > 1 && first.windows(2).all(|pair| pair[0] != pair[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(all: &[(&str, &str, u32)], unknown: usize) -> [bool; 3] {
        let measured = |(place, (system, point, number)): (usize, &(&str, &str, u32))| Measured {
            began_unix_ns: i64::try_from(place).unwrap(),
            number: *number,
            point: (*point).to_owned(),
            system: (*system).to_owned(),
        };
        // Whichever way they are listed.
        let found = MeasurementOrder::of(all.iter().enumerate().rev().map(measured).collect(), unknown);
        [found.repetitions_followed_each_other(), found.systems_were_interleaved(), found.another_was_first()]
    }

    #[test]
    fn what_is_said_of_the_order_is_what_happened() {
        let turns = [("a", "p", 1), ("b", "p", 1), ("a", "q", 1), ("b", "p", 2), ("a", "p", 2), ("a", "q", 2)];
        assert_eq!(order(&turns, 0), [true, true, true]);
        assert_eq!(order(&turns, 1), [false; 3], "one of which nothing is known may have come at any time");
        assert_eq!(order(&turns[..3], 0), [false, true, false], "one repetition");
        let again = [&turns[1..], &turns[..1]].concat();
        assert_eq!(order(&again, 0)[..2], [false, false], "one was measured again at the end");
        let apart = [("a", "p", 1), ("b", "q", 1), ("a", "p", 2), ("b", "q", 2)];
        assert_eq!(order(&apart, 0), [true, false, false], "each system has its own points");
        assert_eq!(order(&[], 0), [false; 3]);
    }
}
