//! The time-out that a penalised failure counts with, and where it comes from.

use std::time::Duration;

use record::Manifest;

/// A time-out with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// How long, in nanoseconds.
    pub ns: u64,
    /// Where it comes from, in words.
    pub from: String,
}

/// A function's time-out when it states none.
const DEFAULT: Duration = Duration::from_secs(300);

/// Places in a definition where the time-out of invocations may stand, the first present one counting.
const KEYS: [&[&str]; 5] =
    [&["load", "timeout"], &["loadgen", "timeout"], &["function", "timeout"], &["functions", "timeout"], &["timeout"]];

impl Timeout {
    /// `given` if there is one, else the definition's, else the default of a function (300 s).
    #[must_use]
    pub fn choose(given: Option<Duration>, manifest: &Manifest) -> Self {
        if let Some(given) = given {
            return Self::new(given, "given on the command line");
        }
        match in_definition(&manifest.definition) {
            Some((key, found)) => Self::new(found, &format!("`{key}` of the experiment's definition")),
            None => Self::new(DEFAULT, "default time-out of a function; the definition states none"),
        }
    }

    fn new(duration: Duration, from: &str) -> Self {
        Self { ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), from: from.to_owned() }
    }
}

fn in_definition(text: &str) -> Option<(String, Duration)> {
    let definition: toml::Table = text.parse().ok()?;
    KEYS.iter().find_map(|path| {
        let (last, tables) = path.split_last()?;
        let table = tables.iter().try_fold(&definition, |table, name| table.get(*name)?.as_table())?;
        let duration = humantime::parse_duration(table.get(*last)?.as_str()?).ok()?;
        Some((path.join("."), duration))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_asked_in_order() {
        let found = in_definition("timeout = \"1m\"\n[load]\ntimeout = \"30s\"\n").unwrap();
        assert_eq!(found, ("load.timeout".to_owned(), Duration::from_secs(30)));
        assert_eq!(in_definition("timeout = \"1m\"").unwrap().1, Duration::from_secs(60));
        assert_eq!(in_definition("timeout = 5"), None);
        assert_eq!(in_definition("not toml ["), None);
    }
}
