//! Chooses functions one after another, each so that those chosen so far look like the whole: the first of a longer
//! choice are the shorter one, so samples of one seed are nested.

use super::Candidate;
use crate::{quantity::real_len, stream::Stream};

/// Values at which a distribution is compared; with no more distinct ones the comparison is exact.
const MAX_POINTS: usize = 256;
/// Functions compared for one position of the sample: with ten times as many the distances hardly fall.
const MAX_COMPARED: usize = 128;
/// So many functions may use half of the cores: it leaves room for dear ones among the later ones too, without knowing
/// how many functions are wanted.
const HALF_SPENT: f64 = 10.0;

/// A choice that grows.
pub(super) struct Search<'a> {
    candidates: &'a [Candidate],
    max_cores: f64,
    /// The whole needs no more than that, so nothing has to be spared.
    ample: bool,
    stream: Stream,
    /// Places of those chosen, in their order.
    pub(super) chosen: Vec<usize>,
    chosen_flags: Vec<bool>,
    cores: f64,
    sides: Vec<Side>,
}

impl<'a> Search<'a> {
    pub(super) fn new(candidates: &'a [Candidate], seed: u64, max_cores: f64) -> Self {
        let sides = (0..Candidate::SIDES).map(|side| {
            let mut values: Vec<f64> = candidates.iter().map(|candidate| candidate.sides[side]).collect();
            values.sort_by(f64::total_cmp);
            Side::of(&values)
        });
        Self {
            candidates,
            max_cores,
            ample: cores(candidates, 0..candidates.len()) <= max_cores,
            stream: Stream::new(seed, "sample", &[]),
            chosen: Vec::new(),
            chosen_flags: vec![false; candidates.len()],
            cores: 0.0,
            sides: sides.collect(),
        }
    }

    /// Chooses until there are `wanted`. False when the cores left no room for that many, and dear functions had to make
    /// way for cheap ones: then the choice is not nested in longer ones, nor shorter ones in it.
    pub(super) fn choose(&mut self, wanted: usize) -> bool {
        while self.chosen.len() < wanted {
            match self.next() {
                Some(position) => self.take(position),
                None => {
                    self.make_room(wanted);
                    return false;
                }
            }
        }
        true
    }

    /// The function with which the choice is nearest to the whole, among some that still fit.
    fn next(&mut self) -> Option<usize> {
        let count = real_len(self.chosen.len() + 1);
        let paced = if self.ample { self.max_cores } else { self.max_cores * count / (count + HALF_SPENT) };
        let mut fitting = self.fitting(paced);
        if fitting.is_empty() {
            fitting = self.fitting(self.max_cores);
        }
        // Not all, also where there are few: the seed decides.
        for position in 0..fitting.len().div_ceil(2).min(MAX_COMPARED) {
            let other = position + self.stream.index(fitting.len() - position);
            fitting.swap(position, other);
        }
        fitting.truncate(fitting.len().div_ceil(2).min(MAX_COMPARED));
        let distances = fitting.iter().map(|&position| (self.distance_with(&self.candidates[position]), position));
        distances.min_by(|left, right| left.0.total_cmp(&right.0)).map(|(_, position)| position)
    }

    fn fitting(&self, cores: f64) -> Vec<usize> {
        let fits =
            |position: &usize| !self.chosen_flags[*position] && self.cores + self.candidates[*position].cores <= cores;
        (0..self.candidates.len()).filter(fits).collect()
    }

    fn take(&mut self, position: usize) {
        self.chosen.push(position);
        self.chosen_flags[position] = true;
        // Summed afresh, so that rounding does not add up.
        self.cores = cores(self.candidates, self.chosen.iter().copied());
        for (side, value) in self.sides.iter_mut().zip(self.candidates[position].sides) {
            side.add(value);
        }
    }

    /// Exchanges the dearest of the chosen for the cheapest of the others until `wanted` fit, which they do.
    fn make_room(&mut self, wanted: usize) {
        let candidates = self.candidates;
        let cheaper = |left: &usize, right: &usize| candidates[*left].cores.total_cmp(&candidates[*right].cores);
        let mut others: Vec<usize> = (0..candidates.len()).filter(|&position| !self.chosen_flags[position]).collect();
        others.sort_by(cheaper);
        let mut others = others.into_iter();
        self.chosen.extend(others.by_ref().take(wanted - self.chosen.len()));
        self.chosen.sort_by(cheaper);
        for position in others {
            if cores(candidates, self.chosen.iter().copied()) <= self.max_cores {
                break;
            }
            self.chosen.pop();
            self.chosen.push(position);
            self.chosen.sort_by(cheaper);
        }
        self.chosen_flags = vec![false; candidates.len()];
        self.chosen.iter().for_each(|&position| self.chosen_flags[position] = true);
    }

    fn distance_with(&self, candidate: &Candidate) -> f64 {
        let sides = self.sides.iter().zip(candidate.sides).zip(Candidate::WEIGHTS);
        sides.map(|((side, value), weight)| weight * side.distance_with(value)).sum()
    }
}

fn cores(candidates: &[Candidate], positions: impl Iterator<Item = usize>) -> f64 {
    positions.map(|position| candidates[position].cores).sum()
}

/// One quantity's distribution over the whole, and over the choice so far.
struct Side {
    /// Values, rising, with the share of the whole that is at most that.
    points: Vec<(f64, f64)>,
    /// For each point, the number of chosen values that are at most as large.
    below: Vec<usize>,
    count: usize,
}

impl Side {
    /// Of sorted values.
    fn of(values: &[f64]) -> Self {
        let mut points: Vec<(f64, f64)> = Vec::new();
        let step = values.len().div_ceil(MAX_POINTS).max(1);
        for (position, &value) in values.iter().enumerate() {
            let share = real_len(position + 1) / real_len(values.len());
            match points.last_mut() {
                Some(last) if last.0.total_cmp(&value).is_eq() => last.1 = share,
                // Every value that is not compared on its own counts at the next one that is.
                _ if (position + 1) % step == 0 || position + 1 == values.len() || position == 0 => {
                    points.push((value, share))
                }
                _ => {}
            }
        }
        let below = vec![0; points.len()];
        Self { points, below, count: 0 }
    }

    fn add(&mut self, value: f64) {
        self.count += 1;
        for (below, point) in self.below.iter_mut().zip(&self.points) {
            *below += usize::from(value <= point.0);
        }
    }

    /// Wasserstein-1 distance of the choice with `value` from the whole: the area between their distribution functions.
    fn distance_with(&self, value: f64) -> f64 {
        let count = real_len(self.count + 1);
        let between = self.points.windows(2).zip(&self.below);
        let area = between.map(|(pair, &below)| {
            let below = real_len(below + usize::from(value <= pair[0].0));
            (below / count - pair[0].1).abs() * (pair[1].0 - pair[0].0)
        });
        area.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_on_points_is_the_area_between_the_distribution_functions() {
        let mut side = Side::of(&[0.0, 0.0, 1.0, 3.0]);
        // One value of 0: 0 to 1 differ by 1/2, 1 to 3 by 1/4.
        assert!((side.distance_with(0.0) - 1.0).abs() < 1e-12, "{}", side.distance_with(0.0));
        side.add(0.0);
        // 0 and 3: from 1 on a quarter of the whole is above, half of the choice.
        assert!((side.distance_with(3.0) - 0.5).abs() < 1e-12, "{}", side.distance_with(3.0));
        let many: Vec<f64> = (0..10_000).map(f64::from).collect();
        let side = Side::of(&many);
        assert!(side.points.len() <= MAX_POINTS + 2, "{}", side.points.len());
        assert!((side.distance_with(0.0) / 5_000.0 - 1.0).abs() < 0.02, "{}", side.distance_with(0.0));
    }
}
