//! The load and points of a run, read from the definition in its manifest.

use std::{collections::BTreeMap, time::Duration};

use record::Manifest;
use toml::{Table, Value};

/// The key that gives a load its constant rate.
pub(crate) const RATE: &str = "load.rate";
/// The key that says how many invocations are due at the same moment.
pub(crate) const BURST: &str = "load.burst";
/// The key that names the runtime of sandboxes, and how long they are modelled to take to start.
pub(crate) const RUNTIME: &str = "sandbox.runtime";
const DELAY: &str = "sandbox.delay";
/// The runtime that models it.
pub(crate) const HOLLOW: &str = "hollow";

/// Keys that differ between points without being what is compared: who is measured there, how many functions take turns
/// so that each is cold again, how long the window is, and how long is waited for an answer at most.
const NO_FACTORS: [&str; 6] =
    ["systems", "load.cooldown", "load.seconds", "load.timeout", "function.timeout", "function.queue.deadline"];

/// The part of a definition that decides the content of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Design {
    /// True for a load of a constant rate, false for a trace.
    pub(crate) at_rate: bool,
    /// True if every invocation is meant to be a cold start.
    pub(crate) cold: bool,
    /// True if invocations come in bursts.
    pub(crate) in_bursts: bool,
    /// Planned repetitions of each point; `None` if the definition does not state them.
    repetitions: Option<u32>,
    /// Values at every point that does not override them, by dotted keys.
    shared: BTreeMap<String, String>,
    /// The points in their order: name, and dotted keys with the values that make each different.
    points: Vec<(String, BTreeMap<String, String>)>,
    /// The systems planned for each point, in the definition's order; empty if it does not list them.
    planned: Vec<(String, String)>,
}

/// Name of the one point of a definition that lists none.
const ONLY_POINT: &str = "replay";

impl Design {
    /// Reads the definition of a run. A definition that cannot be parsed gives an empty design.
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let mut definition: Table = manifest.definition.parse().unwrap_or_default();
        let listed = definition.remove("points");
        let listed: Vec<&Table> =
            listed.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table).collect();
        let planned = planned(&definition, &listed);
        let points = listed.into_iter().filter_map(|point| {
            let mut values = leaves(point);
            Some((values.remove("name")?, values))
        });
        let (shared, points) = (leaves(&definition), points.collect::<Vec<_>>());
        // A value that any point overrides is a value of the points, and no longer shared.
        let is_said = |key: &str| shared.contains_key(key) || points.iter().any(|(_, values)| values.contains_key(key));
        Self {
            at_rate: shared.get("load.kind").is_some_and(|kind| kind == "rate"),
            cold: is_said("load.cooldown"),
            in_bursts: is_said(BURST),
            repetitions: shared.get("repetitions").and_then(|count| count.parse().ok()),
            shared,
            points,
            planned,
        }
    }

    /// The points at which a system was to be measured, in the definition's order; none if it does not state them.
    pub(crate) fn planned<'a>(&'a self, system: &'a str) -> impl Iterator<Item = &'a str> {
        self.planned.iter().filter(move |(planned, _)| planned == system).map(|(_, point)| point.as_str())
    }

    /// Planned repetitions of each point; `None` if the definition does not state them.
    pub(crate) fn repetitions(&self) -> Option<u32> {
        self.repetitions
    }

    /// Each value that a key has in the run, in the order of the points, with the points where it has it: none where all
    /// of them share it. Empty where the definition does not say.
    pub(crate) fn each(&self, key: &str) -> Vec<(&str, Vec<&str>)> {
        let shared = self.shared.get(key);
        let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, values) in &self.points {
            let Some(value) = values.get(key).or(shared) else { continue };
            match found.iter_mut().find(|(known, _)| known == value) {
                Some((_, points)) => points.push(name),
                None => found.push((value, vec![name])),
            }
        }
        match found.as_mut_slice() {
            [] => found.extend(shared.map(|value| (value.as_str(), Vec::new()))),
            [(_, points)] if points.len() == self.points.len() => points.clear(),
            _ => {}
        }
        found
    }

    /// The value that all points share under a key.
    pub(crate) fn shared(&self, key: &str) -> Option<&str> {
        self.shared.get(key).map(String::as_str)
    }

    /// Modelled start time of a sandbox at a point, in nanoseconds; `None` if it is not modelled.
    pub(crate) fn delay_ns(&self, point: &str) -> Option<u64> {
        let own = self.points.iter().find(|(name, _)| name == point).map(|(_, values)| values);
        let at = |key: &str| own.and_then(|values| values.get(key)).or_else(|| self.shared.get(key));
        at(RUNTIME).filter(|runtime| *runtime == HOLLOW)?;
        let delay: Duration = humantime::parse_duration(at(DELAY).map_or("0s", String::as_str)).ok()?;
        u64::try_from(delay.as_nanos()).ok()
    }

    /// The point's place in the definition; one that is not in it comes last.
    pub(crate) fn position(&self, point: &str) -> usize {
        self.points.iter().position(|(name, _)| name == point).unwrap_or(self.points.len())
    }

    /// The values that distinguish a point, by dotted keys.
    pub(crate) fn values(&self, point: &str) -> BTreeMap<String, String> {
        let of = self.points.iter().find(|(name, _)| name == point).map(|(_, values)| values.clone());
        let mut values = of.unwrap_or_default();
        values.retain(|key, _| !NO_FACTORS.contains(&key.as_str()));
        values
    }
}

/// Pairs of a listed point and a system to measure there.
fn planned(definition: &Table, listed: &[&Table]) -> Vec<(String, String)> {
    let systems = |table: &Table| -> Option<Vec<String>> {
        let list = table.get("systems")?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    let shared = systems(definition).unwrap_or_default();
    let at = |(name, systems): (&str, Vec<String>)| {
        let name = name.to_owned();
        systems.into_iter().map(move |system| (system, name.clone()))
    };
    if listed.is_empty() {
        return at((ONLY_POINT, shared)).collect();
    }
    let named = listed.iter().filter_map(|point| {
        let name = point.get("name")?.as_str()?;
        Some((name, systems(point).unwrap_or_else(|| shared.clone())))
    });
    named.flat_map(at).collect()
}

/// The values of a table by their dotted keys; lists are one value each.
fn leaves(table: &Table) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(table, "", &mut found);
    found
}

fn collect(table: &Table, prefix: &str, found: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => collect(inner, &path, found),
            Value::String(text) => drop(found.insert(path, text.clone())),
            other => drop(found.insert(path, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_keep_their_order_and_values() {
        let text = "[load]\nkind = \"rate\"\ncooldown = \"5s\"\n[[points]]\nname = \"b\"\nload.rate = 500.0\n\
                    sandbox.delay = \"40ms\"\n[[points]]\nname = \"a\"\nload.rate = 5.5\n";
        let mut manifest = Manifest { definition: text.to_owned(), ..empty() };
        let design = Design::of(&manifest);
        assert!(design.at_rate && design.cold);
        assert_eq!((design.position("b"), design.position("a"), design.position("c")), (0, 1, 2));
        assert_eq!(design.values("b")["sandbox.delay"], "40ms");
        assert_eq!(design.values("a")[RATE], "5.5");
        manifest.definition = "[load]\nminutes = 3\n".to_owned();
        let design = Design::of(&manifest);
        assert!(!design.at_rate && !design.cold && !design.in_bursts);
        assert_eq!(
            (design.repetitions(), design.each(RATE), design.each("load.minutes")),
            (None, vec![], vec![("3", vec![])])
        );
        manifest.definition = "no = definition = at all".to_owned();
        assert_eq!(Design::of(&manifest), Design::default());
    }

    #[test]
    fn bursts_and_modelled_delays_are_known() {
        let text = "[load]\nkind = \"rate\"\nevery = \"60s\"\n[sandbox]\nruntime = \"hollow\"\ndelay = \"40ms\"\n\
                    [[points]]\nname = \"a\"\nload.burst = 10\n[[points]]\nname = \"b\"\nload.burst = 10\n\
                    sandbox.delay = \"1s 5ms\"\n";
        let mut manifest = Manifest { definition: text.to_owned(), ..empty() };
        let design = Design::of(&manifest);
        assert!(design.in_bursts);
        assert_eq!((design.delay_ns("a"), design.delay_ns("b")), (Some(40_000_000), Some(1_005_000_000)));
        manifest.definition = text.replace("hollow", "process");
        assert_eq!(Design::of(&manifest).delay_ns("a"), None, "only hollow sandboxes take a modelled time");
    }

    #[test]
    fn a_value_is_known_with_the_points_that_have_it() {
        let text = "[sandbox]\nruntime = \"hollow\"\n[[points]]\nname = \"a\"\nload.rate = 1\n[[points]]\nname = \"b\"\n\
                    load.rate = 2\n[[points]]\nname = \"c\"\nload.rate = 1\n";
        let design = Design::of(&Manifest { definition: text.to_owned(), ..empty() });
        assert_eq!(design.each(RUNTIME), [("hollow", vec![])]);
        assert_eq!(design.each(RATE), [("1", vec!["a", "c"]), ("2", vec!["b"])]);
        let by_point = text.replace("[sandbox]\nruntime = \"hollow\"\n", "");
        let by_point = by_point.replace("load.rate = 1\n", "sandbox = { runtime = \"hollow\", delay = \"1s\" }\n");
        let by_point = by_point.replace("load.rate = 2\n", "sandbox = { runtime = \"process\", delay = \"1s\" }\n");
        let design = Design::of(&Manifest { definition: by_point, ..empty() });
        assert_eq!(design.each(RUNTIME), [("hollow", vec!["a", "c"]), ("process", vec!["b"])]);
        assert_eq!(design.each(DELAY), [("1s", vec![])], "all of them have it");
        assert_eq!((design.delay_ns("a"), design.delay_ns("b")), (Some(1_000_000_000), None));
    }

    #[test]
    fn who_was_to_be_measured_where_is_known() {
        let planned = |text: &str, system: &str| -> Vec<String> {
            let design = Design::of(&Manifest { definition: text.to_owned(), ..empty() });
            design.planned(system).map(str::to_owned).collect()
        };
        let points =
            "systems = [\"x\", \"y\"]\n[[points]]\nname = \"b\"\nsystems = [\"y\"]\n[[points]]\nname = \"a\"\n";
        assert_eq!(planned(points, "y"), ["b", "a"]);
        assert_eq!(planned(points, "x"), ["a"]);
        assert_eq!(planned("systems = [\"x\"]\n", "x"), ["replay"], "the only point");
        assert!(planned("repetitions = 5\n", "x").is_empty() && planned(points, "z").is_empty());
    }

    #[test]
    fn who_is_measured_and_how_long_is_waited_make_no_point_different_but_a_cool_down_makes_all_cold() {
        let text = "[load]\nkind = \"rate\"\n[[points]]\nname = \"a\"\nsystems = [\"x\"]\n\
                    load = { rate = 1.0, cooldown = \"70s\", timeout = \"60s\" }\nfunction.timeout = \"60s\"\n";
        let design = Design::of(&Manifest { definition: text.to_owned(), ..empty() });
        assert!(design.at_rate && design.cold);
        assert_eq!(design.values("a").into_keys().collect::<Vec<_>>(), [RATE]);
    }

    fn empty() -> Manifest {
        serde_json::from_str(
            r#"{"schema_version":1,"experiment":"e","scale":"laptop","started":"","ended":null,"git_revision":"",
            "command":[],"definition":"","host":{"cpu":"","cores":1,"memory_mib":1,"kernel":"","mitigations":{},"clock":""},
            "systems":{},"seeds":{},"checksums":{},"exit":"done","notes":[]}"#,
        )
        .unwrap()
    }
}
