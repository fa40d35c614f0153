//! What the definition in a manifest says of the run's load and points, for statistics and figures of constant rates.

use std::{collections::BTreeMap, time::Duration};

use record::Manifest;
use toml::{Table, Value};

/// The key that gives a load its constant rate.
pub(crate) const RATE: &str = "load.rate";
/// The key that says how many invocations are due at the same moment.
pub(crate) const BURST: &str = "load.burst";
/// The key that says how long a sandbox is modelled to take to start, and the runtime that models it.
const DELAY: &str = "sandbox.delay";
const MODELS_DELAY: &str = "hollow";

/// Keys that differ between points without being what is compared: who is measured there, how many functions take turns
/// so that each is cold again, how long the window is, and how long is waited for an answer at most.
const NO_FACTORS: [&str; 6] =
    ["systems", "load.cooldown", "load.seconds", "load.timeout", "function.timeout", "function.queue.deadline"];

/// The part of a definition that decides what a report shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Design {
    /// Whether the load has a constant rate; else it is a trace.
    pub(crate) at_rate: bool,
    /// Whether every invocation is meant to be a cold start.
    pub(crate) cold: bool,
    /// Whether invocations come in bursts.
    pub(crate) in_bursts: bool,
    /// How often each point was to be measured; `None` where the definition does not say.
    repetitions: Option<u32>,
    /// How long a sandbox is modelled to take at points that say nothing else, as it is written.
    delay: Option<String>,
    /// The points in their order: name, and dotted keys with the values that make each different.
    points: Vec<(String, BTreeMap<String, String>)>,
}

impl Design {
    /// That of a run; of a definition that cannot be read nothing is known.
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let definition: Table = manifest.definition.parse().unwrap_or_default();
        let load = definition.get("load").and_then(Value::as_table);
        let kind = load.and_then(|load| load.get("kind")?.as_str());
        let listed =
            || definition.get("points").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
        // What any point says otherwise stands at every point, and no longer with what they share.
        let point_loads = || listed().filter_map(|point| point.get("load")?.as_table());
        let cold = load.into_iter().chain(point_loads()).any(|load| load.contains_key("cooldown"));
        let in_bursts = load.into_iter().chain(point_loads()).any(|load| load.contains_key("burst"));
        let sandbox = |key: &str| definition.get("sandbox")?.get(key)?.as_str();
        let is_modelled = sandbox("runtime") == Some(MODELS_DELAY);
        let points = listed().filter_map(|point| {
            let mut values = BTreeMap::new();
            leaves(point, "", &mut values);
            values.retain(|key, _| !NO_FACTORS.contains(&key.as_str()));
            Some((values.remove("name")?, values))
        });
        Self {
            at_rate: kind == Some("rate"),
            cold,
            in_bursts,
            repetitions: definition.get("repetitions").and_then(Value::as_integer).and_then(|n| u32::try_from(n).ok()),
            delay: is_modelled.then(|| sandbox("delay").unwrap_or("0s").to_owned()),
            points: points.collect(),
        }
    }

    /// How often each point was to be measured; `None` where the definition does not say.
    pub(crate) fn repetitions(&self) -> Option<u32> {
        self.repetitions
    }

    /// Whether sandboxes are hollow: their start is modelled.
    pub(crate) fn is_modelled(&self) -> bool {
        self.delay.is_some()
    }

    /// How long a sandbox is modelled to take to start at a point, in nanoseconds; `None` where it is not modelled.
    pub(crate) fn delay_ns(&self, point: &str) -> Option<u64> {
        let shared = self.delay.as_ref()?;
        let values = self.values(point);
        let delay: Duration = humantime::parse_duration(values.get(DELAY).unwrap_or(shared)).ok()?;
        u64::try_from(delay.as_nanos()).ok()
    }

    /// The point's place in the definition; one that is not in it comes last.
    pub(crate) fn place(&self, point: &str) -> usize {
        self.points.iter().position(|(name, _)| name == point).unwrap_or(self.points.len())
    }

    /// What makes a point different.
    pub(crate) fn values(&self, point: &str) -> BTreeMap<String, String> {
        self.points.iter().find(|(name, _)| name == point).map(|(_, values)| values.clone()).unwrap_or_default()
    }
}

fn leaves(table: &Table, prefix: &str, found: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => leaves(inner, &path, found),
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
        assert_eq!((design.place("b"), design.place("a"), design.place("c")), (0, 1, 2));
        assert_eq!(design.values("b")["sandbox.delay"], "40ms");
        assert_eq!(design.values("a")[RATE], "5.5");
        manifest.definition = "[load]\nminutes = 3\n".to_owned();
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
