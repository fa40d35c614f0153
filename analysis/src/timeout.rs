//! The time-out that a penalised failure counts with, and its origin.

use std::time::Duration;

use record::Manifest;
use toml::{Table, Value};

/// A time-out with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timeout {
    /// Duration in nanoseconds.
    pub(crate) ns: u64,
    /// Origin in words.
    pub(crate) from: String,
}

/// A function's time-out when it states none.
const DEFAULT: Duration = Duration::from_secs(300);

/// Keys of a definition that may hold the time-out of invocations; the first one present counts.
const KEYS: [&[&str]; 5] =
    [&["load", "timeout"], &["loadgen", "timeout"], &["function", "timeout"], &["functions", "timeout"], &["timeout"]];

/// The time-outs of a run's points: a point may have its own.
#[derive(Clone, Debug)]
pub struct Timeouts {
    given: Option<Duration>,
    definition: Table,
}

impl Timeouts {
    /// `given` at every point if there is one, else what the definition says, else the default of a function (300 s).
    #[must_use]
    pub fn of(given: Option<Duration>, manifest: &Manifest) -> Self {
        Self { given, definition: manifest.definition.parse().unwrap_or_default() }
    }

    /// The time-out at a point.
    pub(crate) fn at(&self, point: &str) -> Timeout {
        if let Some(given) = self.given {
            return Timeout::new(given, "given on the command line");
        }
        match self.in_definition(point) {
            Some((key, found)) => Timeout::new(found, &format!("`{key}` of the experiment's definition")),
            None => Timeout::new(DEFAULT, "default time-out of a function; the definition states none"),
        }
    }

    /// The first key that the point or, before the next key, what all points share has.
    fn in_definition(&self, point: &str) -> Option<(String, Duration)> {
        let points = self.definition.get("points").and_then(Value::as_array);
        let named = |table: &&Table| table.get("name").and_then(Value::as_str) == Some(point);
        let own = points.into_iter().flatten().filter_map(Value::as_table).find(named);
        let places = || own.into_iter().chain([&self.definition]);
        KEYS.iter().find_map(|path| Some((path.join("."), places().find_map(|table| duration(table, path))?)))
    }
}

impl Timeout {
    fn new(duration: Duration, from: &str) -> Self {
        Self { ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), from: from.to_owned() }
    }
}

fn duration(table: &Table, path: &[&str]) -> Option<Duration> {
    let (last, tables) = path.split_last()?;
    let table = tables.iter().try_fold(table, |table, name| table.get(*name)?.as_table())?;
    humantime::parse_duration(table.get(*last)?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_definition(text: &str, point: &str) -> Option<(String, Duration)> {
        Timeouts { given: None, definition: text.parse().unwrap_or_default() }.in_definition(point)
    }

    #[test]
    fn the_definition_is_asked_in_order() {
        let found = in_definition("timeout = \"1m\"\n[load]\ntimeout = \"30s\"\n", "replay").unwrap();
        assert_eq!(found, ("load.timeout".to_owned(), Duration::from_secs(30)));
        assert_eq!(in_definition("timeout = \"1m\"", "replay").unwrap().1, Duration::from_secs(60));
        assert_eq!(in_definition("timeout = 5", "replay"), None);
        assert_eq!(in_definition("not toml [", "replay"), None);
    }

    #[test]
    fn a_points_own_goes_before_what_all_share() {
        let text = "[load]\ntimeout = \"2s\"\n[[points]]\nname = \"slow\"\nload.timeout = \"60s\"\n\
                    [[points]]\nname = \"other\"\nfunction.timeout = \"90s\"\n";
        for (point, seconds) in [("slow", 60), ("other", 2), ("unknown", 2)] {
            assert_eq!(in_definition(text, point).unwrap(), ("load.timeout".to_owned(), Duration::from_secs(seconds)));
        }
    }
}
