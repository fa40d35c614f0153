//! The planned points of a run, by its manifest: what was to be measured where, under which load and with which sandboxes.

use std::{collections::BTreeMap, time::Duration};

use record::{Manifest, Point};

/// The key of a point's values that has its constant rate.
pub(crate) const RATE: &str = "load.rate";
/// The key of a point's values that has the number of invocations due at the same moment.
pub(crate) const BURST: &str = "load.burst";

/// Keys that differ between points without being what is compared: how many functions take turns so that each is cold
/// again, the length of the window, and the bounds on waiting.
const NO_FACTORS: [&str; 5] =
    ["load.cooldown", "load.seconds", "load.timeout", "function.timeout", "function.queue.deadline"];

/// Time-out of a function whose specification has none.
const DEFAULT_FUNCTION_TIMEOUT: Duration = Duration::from_secs(300);

/// The planned points of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    points: &'a [Point],
}

/// The time-out that a penalised failure counts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timeout {
    /// Duration in nanoseconds.
    pub(crate) ns: u64,
    /// Origin in words.
    pub(crate) from: String,
}

impl<'a> Plan<'a> {
    pub(crate) fn of(manifest: &'a Manifest) -> Self {
        Self { points: &manifest.points }
    }

    /// Returns true for a load of a constant rate, false for a trace.
    pub(crate) fn is_at_rate(self) -> bool {
        // Reports of the two kinds differ as a whole, so that a mixture is shown as a trace.
        !self.points.is_empty() && self.points.iter().all(|point| point.rate().is_some())
    }

    /// Returns true if every invocation is meant to be a cold start.
    pub(crate) fn is_cold(self) -> bool {
        self.points.iter().filter_map(Point::rate).any(|rate| rate.cooldown.is_some())
    }

    /// Returns true if invocations come in bursts.
    pub(crate) fn is_in_bursts(self) -> bool {
        self.points.iter().filter_map(Point::rate).any(|rate| rate.burst.is_some())
    }

    /// Planned repetitions of each point; `None` if they are not on record.
    pub(crate) fn repetitions(self) -> Option<u32> {
        self.shared(|point| point.repetitions)
    }

    /// The points at which a system was to be measured, in the definition's order.
    pub(crate) fn of_system(self, system: &str) -> impl Iterator<Item = &'a str> {
        let is_planned = move |point: &&Point| point.systems.iter().any(|planned| planned == system);
        self.points.iter().filter(is_planned).map(|point| point.name.as_str())
    }

    /// All points, in the definition's order.
    pub(crate) fn points(self) -> &'a [Point] {
        self.points
    }

    /// Each value that a setting has in the run, in the order of the points, with the points where it has it: none where all
    /// of them share it. Empty where it is not on record.
    pub(crate) fn each<T: PartialEq>(self, setting: impl Fn(&'a Point) -> Option<T>) -> Vec<(T, Vec<&'a str>)> {
        let mut found: Vec<(T, Vec<&str>)> = Vec::new();
        for point in self.points {
            let Some(value) = setting(point) else { continue };
            match found.iter_mut().find(|(known, _)| *known == value) {
                Some((_, points)) => points.push(&point.name),
                None => found.push((value, vec![&point.name])),
            }
        }
        if let [(_, points)] = found.as_mut_slice()
            && points.len() == self.points.len()
        {
            points.clear();
        }
        found
    }

    /// The value that a setting has at all points; `None` if it differs between them.
    pub(crate) fn shared<T: PartialEq>(self, setting: impl Fn(&'a Point) -> Option<T>) -> Option<T> {
        let mut each = self.each(setting);
        let is_shared = each.first().is_some_and(|(_, points)| points.is_empty());
        is_shared.then(|| each.swap_remove(0).0)
    }

    /// The value that a setting has at a point. One that was not planned has what all points share.
    fn at<T: PartialEq>(self, point: &str, setting: impl Fn(&'a Point) -> Option<T>) -> Option<T> {
        match self.points.iter().find(|planned| planned.name == point) {
            Some(planned) => setting(planned),
            None => self.shared(setting),
        }
    }

    /// Modelled start time of a sandbox at a point, in nanoseconds; `None` if it is not modelled.
    pub(crate) fn delay_ns(self, point: &str) -> Option<u64> {
        u64::try_from(self.at(point, |point| point.sandbox.modelled_delay())?.as_nanos()).ok()
    }

    /// The constant rate at a point, per second; `None` for bursts, traces and points that were not planned.
    pub(crate) fn rate_per_s(self, point: &str) -> Option<f64> {
        self.points.iter().find(|planned| planned.name == point)?.rate()?.rate_per_s
    }

    /// The point's place in the definition; one that is not in it comes last.
    pub(crate) fn position(self, point: &str) -> usize {
        self.points.iter().position(|planned| planned.name == point).unwrap_or(self.points.len())
    }

    /// The values that distinguish a point from those that it is compared with, by dotted keys.
    pub(crate) fn values(self, point: &str) -> BTreeMap<String, String> {
        let planned = self.points.iter().find(|planned| planned.name == point);
        let mut values = planned.map(|point| point.values.clone()).unwrap_or_default();
        values.retain(|key, _| !NO_FACTORS.contains(&key.as_str()));
        values
    }

    /// The time-out that a penalised failure counts with at a point: `given` if there is one, else that of the load, else
    /// that of the function, else the default of functions.
    pub(crate) fn timeout(self, point: &str, given: Option<Duration>) -> Timeout {
        let by_definition = |key: &str| format!("`{key}` of the experiment's definition");
        if let Some(given) = given {
            Timeout::new(given, "given on the command line".to_owned())
        } else if let Some(of_load) = self.at(point, |point| point.load_timeout) {
            Timeout::new(of_load, by_definition("load.timeout"))
        } else if let Some(of_function) = self.at(point, |point| point.function_timeout) {
            Timeout::new(of_function, by_definition("function.timeout"))
        } else {
            let from = "default time-out of a function; the definition states none".to_owned();
            Timeout::new(DEFAULT_FUNCTION_TIMEOUT, from)
        }
    }
}

impl Timeout {
    fn new(duration: Duration, from: String) -> Self {
        Self { ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), from }
    }
}

#[cfg(test)]
mod tests {
    use record::{Load, RateLoad, Runtime, Sandbox};

    use super::*;

    fn at_rate(name: &str, rate_per_s: f64) -> Point {
        let rate = RateLoad { rate_per_s: Some(rate_per_s), ..RateLoad::default() };
        let values = [(RATE.to_owned(), rate_per_s.to_string()), ("load.timeout".to_owned(), "60s".to_owned())];
        Point { name: name.to_owned(), values: values.into(), load: Load::Rate(rate), ..Point::default() }
    }

    fn hollow(point: Point, delay_ms: u64) -> Point {
        let (runtime, delay) = (Some(Runtime::Hollow), Some(Duration::from_millis(delay_ms)));
        Point { sandbox: Sandbox { runtime, delay, mode: None }, ..point }
    }

    fn rate_of(point: &Point) -> Option<f64> {
        point.rate()?.rate_per_s
    }

    #[test]
    fn points_keep_their_order_and_are_told_apart_by_what_is_compared() {
        let points = [at_rate("b", 500.0), at_rate("a", 5.5)];
        let plan = Plan { points: &points };
        assert_eq!((plan.position("b"), plan.position("a"), plan.position("c")), (0, 1, 2));
        assert_eq!((plan.rate_per_s("a"), plan.rate_per_s("c")), (Some(5.5), None));
        assert_eq!(plan.values("a"), [(RATE.to_owned(), "5.5".to_owned())].into(), "a time-out is not compared");
        assert!(plan.values("c").is_empty());
    }

    #[test]
    fn the_kind_of_load_is_that_of_all_points() {
        let kinds = |points: &[Point]| {
            let plan = Plan { points };
            (plan.is_at_rate(), plan.is_cold(), plan.is_in_bursts())
        };
        let with = |rate| Point { load: Load::Rate(rate), ..Point::default() };
        let cold = with(RateLoad { cooldown: Some(Duration::from_secs(5)), ..RateLoad::default() });
        let burst = with(RateLoad { burst: Some(10), ..RateLoad::default() });
        assert_eq!(kinds(&[at_rate("a", 1.0)]), (true, false, false));
        assert_eq!(kinds(&[cold, at_rate("a", 1.0)]), (true, true, false));
        assert_eq!(kinds(&[burst]), (true, false, true));
        assert_eq!(kinds(&[Point::default(), at_rate("a", 1.0)]), (false, false, false));
        assert_eq!(kinds(&[]), (false, false, false), "nothing is on record");
    }

    #[test]
    fn a_value_is_known_with_the_points_that_have_it() {
        let points = [at_rate("a", 1.0), at_rate("b", 2.0), at_rate("c", 1.0)].map(|point| hollow(point, 40));
        let plan = Plan { points: &points };
        assert_eq!(plan.each(|point| point.sandbox.runtime.as_ref()), [(&Runtime::Hollow, vec![])]);
        assert_eq!(plan.each(rate_of), [(1.0, vec!["a", "c"]), (2.0, vec!["b"])]);
        assert_eq!(
            (plan.shared(rate_of), plan.shared(|point| point.sandbox.delay.map(|delay| delay.as_millis()))),
            (None, Some(40))
        );
        let mut only_some = points.clone();
        only_some[1].sandbox = Sandbox::default();
        let plan = Plan { points: &only_some };
        assert_eq!(plan.each(|point| point.sandbox.runtime.as_ref()), [(&Runtime::Hollow, vec!["a", "c"])]);
        assert_eq!(plan.each(|point| point.repetitions), []);
    }

    #[test]
    fn a_point_that_was_not_planned_has_what_all_share() {
        let points = [hollow(at_rate("a", 1.0), 40), hollow(at_rate("b", 2.0), 1_005)];
        let delays = |points: &[Point]| ["a", "b", "c"].map(|name| Plan { points }.delay_ns(name));
        assert_eq!(delays(&points), [Some(40_000_000), Some(1_005_000_000), None]);
        assert_eq!(delays(&points[..1])[2], Some(40_000_000));
        assert_eq!(delays(&[at_rate("a", 1.0)]), [None; 3], "nothing is modelled");
    }

    #[test]
    fn systems_are_planned_where_their_points_name_them() {
        let with = |name: &str, systems: &[&str]| Point {
            systems: systems.iter().map(|&system| system.to_owned()).collect(),
            ..at_rate(name, 1.0)
        };
        let points = [with("b", &["y"]), with("a", &["x", "y"])];
        let of = |system: &str| Plan { points: &points }.of_system(system).collect::<Vec<_>>();
        assert_eq!((of("y"), of("x"), of("z")), (vec!["b", "a"], vec!["a"], vec![]));
    }

    #[test]
    fn a_timeout_is_that_of_the_load_before_that_of_the_function() {
        let seconds = |load: Option<u64>, function: Option<u64>| Point {
            load_timeout: load.map(Duration::from_secs),
            function_timeout: function.map(Duration::from_secs),
            ..at_rate("a", 1.0)
        };
        let of = |point: Point, given: Option<u64>| {
            let found = Plan { points: &[point] }.timeout("a", given.map(Duration::from_secs));
            (found.ns / 1_000_000_000, found.from)
        };
        assert_eq!(
            of(seconds(Some(2), Some(60)), None),
            (2, "`load.timeout` of the experiment's definition".to_owned())
        );
        assert_eq!(of(seconds(None, Some(60)), None).0, 60);
        assert_eq!(of(seconds(None, None), None).0, 300);
        assert_eq!(of(seconds(Some(2), None), Some(9)), (9, "given on the command line".to_owned()));
    }

    #[test]
    fn each_point_has_a_timeout_of_its_own() {
        let with =
            |name: &str, seconds| Point { load_timeout: Some(Duration::from_secs(seconds)), ..at_rate(name, 1.0) };
        let points = [with("slow", 60), with("other", 2)];
        let of = |name| Plan { points: &points }.timeout(name, None).ns / 1_000_000_000;
        assert_eq!((of("slow"), of("other"), of("unknown")), (60, 2, 300));
    }
}
