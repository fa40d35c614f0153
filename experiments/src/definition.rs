//! Definitions of experiments: a question, and the settings that answer it.
//!
//! Tables `[scales.NAME]`, `[quick]` and `[runtimes.NAME]` contain the changes at a scale, in the version of a few minutes and
//! with a runtime. They override the rest in that order. Then `[vary]` and `[[points]]` produce points, the command line
//! selects among them, and its overrides are applied last.

pub mod lens;
pub mod load;
pub mod overrides;
pub mod points;
pub mod settings;
pub mod template;
mod written_load;

use std::path::{Path, PathBuf};

use terminal::{Document, DocumentError, overlay, take_table};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    definition::{overrides::Overrides, points::Point},
    exit::UsageError,
};

/// One definition, read but not yet resolved for a scale.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its id, which is also its file's name.
    pub id: String,
    /// The question of the experiment, in a sentence.
    pub question: String,
    /// Its scales.
    pub scales: Vec<String>,
    /// Systems that it measures by default.
    systems: Vec<String>,
    document: Document,
}

impl Definition {
    /// Reads a definition and checks every combination of its overlays.
    ///
    /// # Errors
    /// If it cannot be read or a value in it is wrong, with file, line and key.
    pub fn read(path: &Path) -> Result<Self, DocumentError> {
        Self::from_document(Document::read(path)?, path)
    }

    fn from_document(document: Document, path: &Path) -> Result<Self, DocumentError> {
        let mut table = document.parse()?;
        let id = take_text(&document, &mut table, "id")?;
        let question = take_text(&document, &mut table, "question")?;
        if path.file_stem().is_some_and(|stem| stem != id.as_str()) {
            return Err(document.wrong("id", "must be the file's name without .toml"));
        }
        let scales = names(take_table(&document, &mut table, "scales")?.as_ref());
        let runtimes = names(take_table(&document, &mut table, "runtimes")?.as_ref());
        if scales.is_empty() {
            return Err(document.wrong("scales", "must have at least one scale, for example [scales.laptop]"));
        }
        let listed = table.get("systems").and_then(|systems| systems.get_ref().as_array()).into_iter().flatten();
        let systems = listed.filter_map(|system| system.get_ref().as_str().map(str::to_owned)).collect();
        let definition = Self { id, question, scales, systems, document };
        for scale in &definition.scales {
            for quick in [false, true] {
                for runtime in runtimes.iter().cloned().map(Some).chain([None]) {
                    definition.decode(scale, &Overrides { quick, runtime, ..Overrides::default() })?;
                }
            }
        }
        Ok(definition)
    }

    /// The points at a scale with their effective settings; at least one.
    ///
    /// # Errors
    /// If the scale or a chosen point is unknown, or a value is out of bounds.
    pub fn resolve(&self, scale: &str, overrides: &Overrides) -> anyhow::Result<Vec<Point>> {
        if !self.scales.iter().any(|known| known == scale) {
            let known = self.scales.join(", ");
            return Err(UsageError(format!("{} has no scale {scale:?}; it has: {known}", self.id)).into());
        }
        let mut points = self.decode(scale, overrides)?;
        overrides.select(&mut points, &self.systems)?;
        for point in &mut points {
            point.settings = lens::apply(&point.settings, &overrides.of_settings(point), self.document.path())?;
        }
        Ok(points)
    }

    fn decode(&self, scale: &str, overrides: &Overrides) -> Result<Vec<Point>, DocumentError> {
        let document = &self.document;
        let typed = overrides.axes();
        let mut table = document.parse()?;
        let mut scales = take_table(document, &mut table, "scales")?.unwrap_or_default();
        let quick = take_table(document, &mut table, "quick")?;
        let mut runtimes = take_table(document, &mut table, "runtimes")?.unwrap_or_default();
        table.remove("id");
        table.remove("question");
        if let Some(over) = take_table(document, &mut scales, scale)? {
            overlay(&mut table, over);
        }
        let quick = quick.filter(|_| overrides.quick);
        if let Some(over) = &quick {
            overlay(&mut table, over.clone());
        }
        let runtime = overrides.runtime.clone().or_else(|| text_at(&table, "sandbox", "runtime"));
        if let Some(over) = runtime.and_then(|name| runtimes.remove(name.as_str())) {
            match over.into_inner() {
                DeValue::Table(over) => overlay(&mut table, over),
                _ => return Err(document.wrong("runtimes", "expected a table for each runtime")),
            }
        }
        if let Some(typed) = &typed {
            if text_at(&table, "load", "kind").as_deref() != Some("rate") {
                return Err(document.wrong("load", "has no constant rate, so --rates means nothing here"));
            }
            overlay(&mut table, typed.parse()?);
        }
        points::decode(document, table, quick.as_ref())
    }
}

/// A text at two levels of a table of settings.
fn text_at(table: &DeTable<'_>, inner: &str, key: &str) -> Option<String> {
    table.get(inner)?.get_ref().get(key)?.get_ref().as_str().map(str::to_owned)
}

fn names(table: Option<&DeTable<'_>>) -> Vec<String> {
    table.map(|table| table.keys().map(|key| key.get_ref().to_string()).collect()).unwrap_or_default()
}

fn take_text(document: &Document, table: &mut DeTable<'_>, key: &str) -> Result<String, DocumentError> {
    match table.remove(key).map(Spanned::into_inner) {
        Some(DeValue::String(text)) => Ok(text.into_owned()),
        Some(_) => Err(document.wrong(key, "expected a text")),
        None => Err(document.wrong(key, "is missing")),
    }
}

/// The files of all definitions in a folder, by name.
///
/// # Errors
/// If the folder cannot be listed.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    let failed = |source| DocumentError::File { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Finds the definition called `id`.
///
/// # Errors
/// If there is none (those that exist are named), or it is wrong.
pub fn find(folder: &Path, id: &str) -> anyhow::Result<Definition> {
    let path = folder.join(format!("{id}.toml"));
    if !path.is_file() {
        let known: Vec<String> =
            files(folder)?.iter().filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
        return Err(UsageError(format!("no experiment is called {id:?}; there are: {}", known.join(", "))).into());
    }
    Ok(Definition::read(&path)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use record::ExecutionMode;

    use super::*;
    use crate::definition::settings::{Expectations, Settings};

    const TEXT: &str = r#"
id = "e"
question = "Why?"
systems = ["a"]
[load]
minutes = 30
timeout = "60s"
[sandbox]
runtime = "hollow"
mode = "sleep"
workers = 2
cpu = "64"
memory = "256GiB"
delay = "100ms"
[scales.laptop]
[scales.cluster-17]
sandbox.workers = 17
[quick]
load.minutes = 3
sandbox.runtime = "process"
[runtimes.process]
sandbox = { mode = "spin", delay = "0s" }
"#;

    fn definition(text: &str) -> Result<Definition, DocumentError> {
        let path = Path::new("e.toml");
        Definition::from_document(Document::new(path, text.to_owned()), path)
    }

    fn resolve(scale: &str, overrides: &Overrides) -> Settings {
        let mut points = definition(TEXT).unwrap().resolve(scale, overrides).unwrap();
        assert_eq!((points.len(), points[0].name.as_str()), (1, points::ONLY_POINT));
        points.remove(0).settings
    }

    fn minutes(settings: &Settings) -> u32 {
        settings.load.trace().unwrap().minutes
    }

    #[test]
    fn overlays_are_laid_in_order_and_the_command_line_comes_last() {
        let plain = resolve("laptop", &Overrides::default());
        assert_eq!((minutes(&plain), plain.sandbox.mode), (30, ExecutionMode::Sleep));
        assert_eq!(plain.load.warmup(), Duration::from_secs(600));
        assert_eq!(resolve("cluster-17", &Overrides::default()).sandbox.workers, 17);
        let quick = resolve("laptop", &Overrides { quick: true, ..Overrides::default() });
        assert_eq!(
            (minutes(&quick), quick.sandbox.mode),
            (3, ExecutionMode::Spin),
            "quick chooses process, process spins"
        );
        assert_eq!(quick.load.warmup(), Duration::from_secs(60));
        let typed = Overrides {
            quick: true,
            minutes: Some(5),
            runtime: Some("hollow".to_owned()),
            systems: vec!["b".to_owned()],
            ..Overrides::default()
        };
        let typed = resolve("laptop", &typed);
        assert_eq!((minutes(&typed), typed.sandbox.runtime.as_str()), (5, "hollow"));
        assert_eq!((typed.sandbox.mode, typed.systems), (ExecutionMode::Sleep, vec!["b".to_owned()]));
    }

    #[test]
    fn mistakes_in_any_overlay_are_found_when_the_file_is_read() {
        let refused = |text: &str| definition(text).unwrap_err().to_string();
        let unknown = refused(&TEXT.replace("sandbox.workers = 17", "sandbox.wrokers = 17"));
        assert!(unknown.starts_with("e.toml:17:9: scales.cluster-17.sandbox.wrokers: unknown field"), "{unknown}");
        let bounds = refused(&TEXT.replace("minutes = 30", "minutes = 0"));
        assert_eq!(bounds, "e.toml:6:1: load.minutes: must be at least 1");
        let duration = refused(&TEXT.replace("\"60s\"", "\"soon\""));
        assert!(duration.starts_with("e.toml:7:11: load.timeout: "), "{duration}");
        let renamed = refused(&TEXT.replace("id = \"e\"", "id = \"f\""));
        assert_eq!(renamed, "e.toml:2:1: id: must be the file's name without .toml");
        let missing = refused(&TEXT.replace("runtime = \"hollow\"\n", ""));
        assert!(missing.contains("sandbox: missing field `runtime`"), "{missing}");
    }

    #[test]
    fn an_unknown_scale_and_a_bad_option_are_usage_errors() {
        let definition = definition(TEXT).unwrap();
        let scale = definition.resolve("moon", &Overrides::default()).unwrap_err();
        assert_eq!(scale.to_string(), "e has no scale \"moon\"; it has: cluster-17, laptop");
        let cores = Overrides { functions: Some(5), max_cores: Some(-1.0), ..Overrides::default() };
        let cores = definition.resolve("laptop", &cores).unwrap_err();
        assert_eq!(
            (cores.to_string().as_str(), crate::exit::of(&cores)),
            ("--max-cores: e.toml: load.max_cores: must be above 0", crate::exit::Exit::Usage)
        );
    }

    #[test]
    fn rates_and_points_are_chosen_on_the_command_line() {
        let load = "kind = \"rate\"\nseconds = 60\nfunctions = 4";
        let text = TEXT.replace("minutes = 30", load).replace("load.minutes = 3", "vary.load.rate = [1]")
            + "[vary]\nsandbox.workers = [1, 2]\nload.rate = [10, 20]\n[[points]]\nname = \"slow\"\nload.rate = 5\n";
        let names = |overrides: &Overrides| -> Result<Vec<String>, String> {
            let points = definition(&text).unwrap().resolve("laptop", overrides).map_err(|error| error.to_string())?;
            assert!(
                points
                    .iter()
                    .all(|point| point.settings.load.rate().unwrap().seconds == overrides.seconds.unwrap_or(60))
            );
            Ok(points.into_iter().map(|point| point.name).collect())
        };
        let plain = names(&Overrides::default()).unwrap();
        assert_eq!(plain, ["workers-1-rate-10", "workers-1-rate-20", "workers-2-rate-10", "workers-2-rate-20", "slow"]);
        let quick = names(&Overrides { quick: true, ..Overrides::default() }).unwrap();
        assert_eq!(quick, ["workers-1-rate-1", "workers-2-rate-1", "slow"], "an overlay replaces a list of values");
        let rates = Overrides { rates: vec![1000.0, 2.5], seconds: Some(7), ..Overrides::default() };
        assert_eq!(
            names(&rates).unwrap(),
            ["workers-1-rate-1000", "workers-1-rate-2.5", "workers-2-rate-1000", "workers-2-rate-2.5"],
            "a point with another rate of its own is left out"
        );
        let own = names(&Overrides { rates: vec![5.0], points: vec!["slow".to_owned()], ..Overrides::default() });
        assert_eq!(own.unwrap(), ["slow"]);
        let chosen = |points: &[&str]| {
            names(&Overrides { points: points.iter().map(|name| (*name).to_owned()).collect(), ..Overrides::default() })
        };
        assert_eq!(chosen(&["slow", "workers-1-rate-20"]).unwrap(), ["workers-1-rate-20", "slow"]);
        let unknown = chosen(&["fast"]).unwrap_err();
        assert!(
            unknown.starts_with("--points: no point is called \"fast\"; there are: workers-1-rate-10, "),
            "{unknown}"
        );
        let typed = Overrides { functions: Some(9), ..Overrides::default() };
        let text = text.clone() + "load.functions = 1\n";
        let functions = definition(&text).unwrap().resolve("laptop", &typed).unwrap().into_iter().map(|point| {
            match point.settings.load.rate().unwrap().calls {
                load::Calls::Warm { functions } => functions,
                load::Calls::Cold { .. } => 0,
            }
        });
        assert_eq!(
            functions.collect::<Vec<_>>(),
            [9, 9, 9, 9, 1],
            "a point that is about its number of functions keeps it"
        );
        let minutes = names(&Overrides { minutes: Some(3), ..Overrides::default() }).unwrap_err();
        assert_eq!(
            minutes,
            "--minutes: e.toml: load.minutes: `minutes` belongs to a load of kind trace, and this one is of kind rate"
        );
    }

    #[test]
    fn rates_are_refused_where_a_trace_is_replayed() {
        let refused = |overrides: Overrides| definition(TEXT).unwrap().resolve("laptop", &overrides).unwrap_err();
        let rates = refused(Overrides { rates: vec![1.0], ..Overrides::default() });
        assert_eq!(rates.to_string(), "e.toml:5:1: load: has no constant rate, so --rates means nothing here");
        assert_eq!(crate::exit::of(&rates), crate::exit::Exit::Usage);
        let seconds = refused(Overrides { seconds: Some(1), ..Overrides::default() });
        assert_eq!(
            seconds.to_string(),
            "--seconds: e.toml: load.seconds: `seconds` belongs to a load of kind rate, and this one is of kind trace"
        );
    }

    #[test]
    fn settings_survive_their_own_toml() {
        let settings = resolve("laptop", &Overrides::default());
        assert_eq!(toml::from_str::<Settings>(&settings.to_toml()).unwrap(), settings);
    }

    #[test]
    fn expectations_of_stored_runs_are_read_by_their_earlier_names() {
        let earlier = "answered_per_s_min = 5.0\nsilent_share_max = 0.25";
        let read: Expectations = toml::from_str(earlier).unwrap();
        assert_eq!((read.succeeded_per_s_min, read.unresponded_share_max), (Some(5.0), Some(0.25)));
    }
}
