//! Overrides of single settings by the command line: an option, the dotted path it sets, and the value.
//!
//! Settings are serialised to a tree, every value is set at its path, and the tree is deserialised again. So the rules of
//! definitions hold for options too, and the order of overrides does not matter.

use std::path::Path;

use serde::Serialize;
use toml::Value;

use crate::{
    definition::{points::insert, settings::Settings},
    exit::UsageError,
};

/// One value that an option sets.
#[derive(Clone, Debug)]
pub struct Override {
    option: &'static str,
    path: String,
    /// The reason if TOML has no such value, for example an integer above 2^63 − 1.
    value: Result<Value, String>,
}

impl Override {
    /// An override of the setting at `path` by `option`, as it is typed (`--minutes`).
    pub fn new(option: &'static str, path: impl Into<String>, value: impl Serialize) -> Self {
        Self { option, path: path.into(), value: Value::try_from(value).map_err(|error| error.to_string()) }
    }

    fn refused(&self, file: &Path, problem: &str) -> UsageError {
        UsageError(format!("{}: {}: {}: {problem}", self.option, file.display(), self.path))
    }
}

/// The settings of the definition in `file` with all overrides; their paths must be disjoint.
///
/// # Errors
/// If a value is of the wrong type, does not belong to the definition's kind of load, or is out of bounds. The error names the
/// option, the file, the path and the rule.
pub fn apply(settings: &Settings, overrides: &[Override], file: &Path) -> Result<Settings, UsageError> {
    let paths = || overrides.iter().map(|one| one.path.as_str());
    debug_assert!(paths().all(|path| paths().filter(|other| overlap(path, other)).count() == 1), "paths are disjoint");
    let base = Value::try_from(settings).expect("settings are tables of plain values");
    let with = |overrides: &[Override]| -> Result<Settings, String> {
        let mut tree = base.clone();
        for one in overrides {
            insert(&mut tree, &one.path, one.value.clone()?);
        }
        tree.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
    };
    let names = |overrides: &[Override]| overrides.iter().map(|one| one.option).collect::<Vec<_>>().join(", ");
    let changed = with(overrides).map_err(|problem| {
        // An error in a table does not name the wrong value, so the options that cause it are searched for.
        match &responsible(overrides, |some| with(some).is_err())[..] {
            [one] => one.refused(file, &with(std::slice::from_ref(one)).err().unwrap_or(problem)),
            several => UsageError(format!("{}: {}: {problem}", names(several), file.display())),
        }
    })?;
    match changed.check() {
        Ok(()) => Ok(changed),
        Err((key, problem)) => Err(match overrides.iter().find(|one| one.path == key) {
            Some(one) => one.refused(file, &problem),
            // The rule is about another value that depends on an overridden one, such as the warm-up on the length.
            None => {
                let broken = |settings: Settings| settings.check().is_err_and(|(broken, _)| broken == key);
                let options = names(&responsible(overrides, |some| with(some).is_ok_and(broken)));
                UsageError(format!("{}: {key}: {problem} (with {options})", file.display()))
            }
        }),
    }
}

/// The smallest set of overrides that fail together: to name others would suggest options whose change has no effect.
fn responsible(overrides: &[Override], fail: impl Fn(&[Override]) -> bool) -> Vec<Override> {
    let mut needed = overrides.to_vec();
    for index in (0..needed.len()).rev() {
        let mut fewer = needed.clone();
        fewer.remove(index);
        if fail(&fewer) {
            needed = fewer;
        }
    }
    needed
}

/// Returns true if the paths are equal, or one is a prefix of the other.
fn overlap(path: &str, other: &str) -> bool {
    let holds = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    path == other || holds(path, other) || holds(other, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::points;

    const SANDBOX: &str =
        "[sandbox]\nruntime = \"hollow\"\nmode = \"sleep\"\nworkers = 1\ncpu = \"1\"\nmemory = \"1GiB\"\n";

    fn settings(load: &str) -> Settings {
        let text = format!("systems = [\"a\"]\n[load]\ntimeout = \"5s\"\n{load}\n{SANDBOX}");
        points::read(&text).unwrap().remove(0).settings
    }

    fn refused(load: &str, overrides: &[Override]) -> String {
        apply(&settings(load), overrides, Path::new("e.toml")).unwrap_err().to_string()
    }

    const TRACE: &str = "minutes = 30\nwarmup = \"2m\"";
    const COLD: &str = "kind = \"rate\"\nrate = 5\nseconds = 60\ncooldown = \"4s\"";

    #[test]
    fn overrides_give_the_same_settings_in_any_order() {
        let mut overrides = vec![
            Override::new("--max-cores", "load.max_cores", 0.5),
            Override::new("--functions", "load.functions", 20),
            Override::new("--minutes", "load.minutes", 3),
            Override::new("--runtime", "sandbox.runtime", "process"),
            Override::new("--seed", "seed", 7_u64),
        ];
        let base = settings(TRACE);
        let expected = apply(&base, &overrides, Path::new("e.toml")).unwrap();
        let trace = expected.load.trace().unwrap();
        assert_eq!((trace.minutes, trace.functions, trace.max_cores), (3, Some(20), Some(0.5)));
        assert_eq!((expected.sandbox.runtime.as_str(), expected.seed), ("process", 7));
        for _ in 0..overrides.len() {
            overrides.rotate_left(1);
            assert_eq!(apply(&base, &overrides, Path::new("e.toml")).unwrap(), expected);
            let reversed: Vec<Override> = overrides.iter().rev().cloned().collect();
            assert_eq!(apply(&base, &reversed, Path::new("e.toml")).unwrap(), expected);
        }
        assert_eq!(apply(&base, &[], Path::new("e.toml")).unwrap(), base);
    }

    #[test]
    fn an_override_touches_nothing_else() {
        let base = settings(COLD);
        let changed = apply(&base, &[Override::new("--repetitions", "repetitions", 5)], Path::new("e.toml")).unwrap();
        assert_eq!(changed, Settings { repetitions: 5, ..base });
    }

    #[test]
    fn errors_name_option_file_path_and_rule() {
        let minutes = Override::new("--minutes", "load.minutes", 3);
        let other_kind = "`minutes` belongs to a load of kind trace, and this one is of kind rate";
        assert_eq!(
            refused(COLD, std::slice::from_ref(&minutes)),
            format!("--minutes: e.toml: load.minutes: {other_kind}")
        );
        let seconds = Override::new("--seconds", "load.seconds", 7);
        let both = refused(COLD, &[seconds, minutes]);
        assert!(both.starts_with("--minutes: "), "the option at fault is named: {both}");
        let functions = refused(COLD, &[Override::new("--functions", "load.functions", 7)]);
        assert_eq!(
            functions,
            "--functions: e.toml: load.functions: `functions` and `cooldown` exclude each other: how many functions cold \
             calls need follows from the rate"
        );
        let wrong_type = refused(TRACE, &[Override::new("--minutes", "load.minutes", "x")]);
        assert!(wrong_type.starts_with("--minutes: e.toml: load.minutes: invalid type: string \"x\""), "{wrong_type}");
        let repetitions = refused(TRACE, &[Override::new("--repetitions", "repetitions", 0)]);
        assert_eq!(repetitions, "--repetitions: e.toml: repetitions: must be 1 to 1000");
        let seed = refused(TRACE, &[Override::new("--seed", "seed", u64::MAX)]);
        assert!(seed.starts_with("--seed: e.toml: seed: "), "{seed}");
    }

    #[test]
    fn a_rule_about_another_value_names_the_options_that_broke_it() {
        let warmup = refused(TRACE, &[Override::new("--minutes", "load.minutes", 2)]);
        assert_eq!(warmup, "e.toml: load.warmup: must be shorter than the load (with --minutes)");
    }

    #[test]
    fn options_that_have_no_part_in_a_broken_rule_are_not_named() {
        let minutes = Override::new("--minutes", "load.minutes", 2);
        let functions = Override::new("--functions", "load.functions", 20);
        let repetitions = Override::new("--repetitions", "repetitions", 2);
        let expected = "e.toml: load.warmup: must be shorter than the load (with --minutes)";
        assert_eq!(refused(TRACE, &[functions.clone(), minutes.clone(), repetitions.clone()]), expected);
        assert_eq!(refused(TRACE, &[minutes, repetitions, functions]), expected);
    }
}
