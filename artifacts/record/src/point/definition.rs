//! The points of a resolved definition that a manifest holds as text: the only place that interprets it for readers.
//!
//! Manifests of versions before [`Manifest::points`](crate::Manifest::points) have nothing else, and their runs can
//! still be reported.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use toml::{Table, Value};

use super::{ExecutionMode, Load, Point, RateLoad, Runtime, Sandbox, TraceLoad};
use crate::RecordError;

/// The settings of a point as a definition writes them. Keys that no reader needs are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    systems: Vec<String>,
    repetitions: Option<u32>,
    load: WrittenLoad,
    function: WrittenFunction,
    sandbox: WrittenSandbox,
}

/// `[load]`: the keys of both kinds of load.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenLoad {
    kind: Kind,
    trace: Option<String>,
    synthetic: Option<String>,
    minutes: Option<u32>,
    #[serde(with = "humantime_serde::option")]
    minute: Option<Duration>,
    start_minute: Option<u32>,
    functions: Option<u32>,
    max_cores: Option<f64>,
    #[serde(with = "humantime_serde::option")]
    max_run: Option<Duration>,
    rate: Option<f64>,
    burst: Option<u32>,
    #[serde(with = "humantime_serde::option")]
    cooldown: Option<Duration>,
    #[serde(with = "humantime_serde::option")]
    timeout: Option<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Trace,
    Rate,
}

/// `[function]`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenFunction {
    #[serde(with = "humantime_serde::option")]
    timeout: Option<Duration>,
}

/// `[sandbox]`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenSandbox {
    runtime: Option<Runtime>,
    mode: Option<ExecutionMode>,
    #[serde(with = "humantime_serde::option")]
    delay: Option<Duration>,
}

/// The key of the listed points.
const POINTS: &str = "points";
/// Keys of a listed point that are no values of it: they have fields of their own.
const NAME: &str = "name";
const SYSTEMS: &str = "systems";

/// The points of a resolved definition: those that it lists, each over what all share, or the only one.
///
/// # Errors
/// If it is no TOML, or a value is of another type than definitions have; the error names line and key.
pub fn points_of_definition(text: &str) -> Result<Vec<Point>, RecordError> {
    points(text).map_err(|source| RecordError::Definition { source: Box::new(source) })
}

fn points(text: &str) -> Result<Vec<Point>, toml::de::Error> {
    let mut shared: Table = text.parse()?;
    let Some(listed) = shared.remove(POINTS) else {
        let settings: Settings = toml::from_str(text)?;
        return Ok(vec![settings.into_point(Point::ONLY.to_owned(), BTreeMap::new())]);
    };
    let listed: Vec<Table> = listed.try_into()?;
    let each = listed.into_iter().map(|mut own| {
        let name = match own.remove(NAME) {
            Some(Value::String(name)) => name,
            _ => return Err(serde::de::Error::custom("a point has no name")),
        };
        let mut values = BTreeMap::new();
        collect_leaves(&own, "", &mut values);
        values.remove(SYSTEMS);
        let mut whole = shared.clone();
        overlay(&mut whole, own);
        let settings: Settings = whole.try_into()?;
        Ok(settings.into_point(name, values))
    });
    each.collect()
}

impl Settings {
    fn into_point(self, name: String, values: BTreeMap<String, String>) -> Point {
        let Self { systems, repetitions, load, function, sandbox } = self;
        Point {
            name,
            systems,
            repetitions,
            values,
            load_timeout: load.timeout,
            load: load.into_load(),
            function_timeout: function.timeout,
            sandbox: Sandbox { runtime: sandbox.runtime, mode: sandbox.mode, delay: sandbox.delay },
        }
    }
}

impl WrittenLoad {
    fn into_load(self) -> Load {
        match self.kind {
            Kind::Trace => Load::Trace(TraceLoad {
                trace: self.trace,
                synthetic: self.synthetic,
                minutes: self.minutes,
                minute: self.minute,
                start_minute: self.start_minute,
                functions: self.functions,
                max_cores: self.max_cores,
                max_run: self.max_run,
            }),
            Kind::Rate => Load::Rate(RateLoad { rate_per_s: self.rate, burst: self.burst, cooldown: self.cooldown }),
        }
    }
}

/// Lays a point's own values over those that all points share.
fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

/// Collects the values of a table by their dotted keys; a list is one value.
fn collect_leaves(table: &Table, prefix: &str, found: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => collect_leaves(inner, &path, found),
            Value::String(text) => drop(found.insert(path, text.clone())),
            other => drop(found.insert(path, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Point> {
        points_of_definition(text).unwrap()
    }

    #[test]
    fn a_definition_without_points_has_one() {
        let text = "systems = [\"x\"]\nrepetitions = 5\nquestion = \"Why?\"\n[load]\nminutes = 30\nminute = \"1m\"\n\
                    max_cores = 51.0\ntimeout = \"60s\"\n[sandbox]\nruntime = \"process\"\nmode = \"spin\"\n";
        let [point] = read(text).try_into().unwrap();
        assert_eq!(
            (point.name.as_str(), point.repetitions, point.systems.as_slice()),
            ("replay", Some(5), &["x".to_owned()][..])
        );
        let trace = TraceLoad {
            minutes: Some(30),
            minute: Some(Duration::from_secs(60)),
            max_cores: Some(51.0),
            ..TraceLoad::default()
        };
        assert_eq!((point.load, point.load_timeout), (Load::Trace(trace), Some(Duration::from_secs(60))));
        assert_eq!((point.sandbox.runtime, point.sandbox.mode), (Some(Runtime::Process), Some(ExecutionMode::Spin)));
    }

    #[test]
    fn points_keep_their_order_and_their_own_values_over_the_shared_ones() {
        let text = "systems = [\"x\", \"y\"]\n[load]\nkind = \"rate\"\ncooldown = \"5s\"\ntimeout = \"2s\"\n\
                    [sandbox]\nruntime = \"hollow\"\ndelay = \"40ms\"\n\
                    [[points]]\nname = \"b\"\nload.rate = 500.0\nload.timeout = \"60s\"\nsandbox.delay = \"1s 5ms\"\n\
                    [[points]]\nname = \"a\"\nsystems = [\"y\"]\nload.rate = 5.5\n";
        let [b, a] = read(text).try_into().unwrap();
        assert_eq!((b.name.as_str(), a.name.as_str()), ("b", "a"));
        assert_eq!((b.systems.len(), a.systems.as_slice()), (2, &["y".to_owned()][..]));
        assert_eq!(b.rate().unwrap().cooldown, a.rate().unwrap().cooldown);
        assert_eq!((b.rate().unwrap().rate_per_s, a.rate().unwrap().rate_per_s), (Some(500.0), Some(5.5)));
        assert_eq!((b.load_timeout, a.load_timeout), (Some(Duration::from_secs(60)), Some(Duration::from_secs(2))));
        assert_eq!(b.sandbox.modelled_delay(), Some(Duration::from_millis(1_005)));
        assert_eq!(a.sandbox.modelled_delay(), Some(Duration::from_millis(40)));
        let of_b = [("load.rate", "500.0"), ("load.timeout", "60s"), ("sandbox.delay", "1s 5ms")];
        assert_eq!(b.values, of_b.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(a.values.keys().collect::<Vec<_>>(), ["load.rate"], "systems have a field of their own");
    }

    #[test]
    fn bursts_have_a_size_and_no_rate() {
        let [point] = read("[load]\nkind = \"rate\"\nburst = 10\nevery = \"60s\"\n").try_into().unwrap();
        let rate = point.rate().unwrap();
        assert_eq!((rate.burst, rate.rate_per_s, rate.cooldown, point.trace()), (Some(10), None, None, None));
    }

    #[test]
    fn nothing_on_record_is_nothing_known() {
        assert_eq!(read(""), [Point { name: Point::ONLY.to_owned(), ..Point::default() }]);
    }

    #[test]
    fn what_is_no_definition_is_refused_with_its_place() {
        let refused = |text: &str| {
            let error = points_of_definition(text).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            (error.to_string(), source)
        };
        let (error, source) = refused("a = 1\nno = definition = at all");
        assert_eq!(error, "the definition in the manifest cannot be read");
        assert!(source.contains("line 2"), "{source}");
        assert!(refused("[load]\nminutes = \"many\"\n").1.contains("minutes"), "the key is named");
        assert!(refused("[load]\nkind = \"wave\"\n").1.contains("unknown variant `wave`"));
        assert!(refused("[[points]]\nload.rate = 1\n").1.contains("a point has no name"));
        assert!(refused("points = 3\n").1.contains("expected a sequence"));
    }
}
