//! Paths of the files of a run.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Invariants, Manifest, RecordError, SCHEMA_VERSION, points_of_definition};

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunDir(pub PathBuf);

/// The directory of one repetition of one point of one system within a run.
#[derive(Clone, Debug)]
pub struct PointDir {
    /// The directory itself.
    pub path: PathBuf,
    /// Name of the system.
    pub system: String,
    /// Name of the point.
    pub point: String,
    /// Number of the repetition, from 1.
    pub repetition: u32,
}

impl RunDir {
    /// `manifest.json`.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }

    /// `plan.json`.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// `summary.json`.
    #[must_use]
    pub fn summary(&self) -> PathBuf {
        self.0.join("summary.json")
    }

    /// `claims.json`.
    #[must_use]
    pub fn claims(&self) -> PathBuf {
        self.0.join("claims.json")
    }

    /// `invariants.json`.
    #[must_use]
    pub fn invariants(&self) -> PathBuf {
        self.0.join("invariants.json")
    }

    /// `report/`.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.0.join("report")
    }

    /// Directory in which a report is made before it replaces the existing one: `report.partial/`.
    #[must_use]
    pub fn unfinished_report(&self) -> PathBuf {
        self.0.join("report.partial")
    }

    /// Directory of the previous results of verification and analysis while they are made again: `judged.before/`.
    #[must_use]
    pub fn judged_before(&self) -> PathBuf {
        self.0.join("judged.before")
    }

    /// The directory of one repetition.
    #[must_use]
    pub fn point(&self, system: &str, point: &str, repetition: u32) -> PointDir {
        PointDir {
            path: self.0.join(system).join(point).join(repetition.to_string()),
            system: system.to_owned(),
            point: point.to_owned(),
            repetition,
        }
    }

    /// Directory of the logs and data of a failed repetition, for diagnosis only: it has no rows that count.
    #[must_use]
    pub fn failed(&self, system: &str, point: &str, repetition: u32) -> PathBuf {
        self.0.join(system).join(point).join(format!("{repetition}.failed"))
    }

    /// Directory of the rows of a finished repetition while it is measured again. They count only if that fails.
    #[must_use]
    pub fn replaced(&self, system: &str, point: &str, repetition: u32) -> PathBuf {
        self.0.join(system).join(point).join(format!("{repetition}.replaced"))
    }

    /// Every repetition that has rows, ordered by system, point and repetition.
    ///
    /// # Errors
    /// If a directory cannot be listed.
    pub fn points(&self) -> Result<Vec<PointDir>, RecordError> {
        let mut found = Vec::new();
        for system in subdirectories(&self.0)? {
            for point in subdirectories(&self.0.join(&system))? {
                let mut repetitions: Vec<u32> = subdirectories(&self.0.join(&system).join(&point))?
                    .iter()
                    // `1.failed` and `1.replaced` are no numbers, and no repetitions.
                    .filter_map(|name| name.parse().ok())
                    .collect();
                repetitions.sort_unstable();
                found.extend(repetitions.into_iter().map(|n| self.point(&system, &point, n)));
            }
        }
        // A repetition that was begun and not measured has a folder without rows.
        found.retain(|point| point.invocations().exists());
        Ok(found)
    }

    /// Reads the manifest. Its points are those of its definition if the run is of a version that did not record them, and none
    /// if that definition cannot be read either.
    ///
    /// # Errors
    /// If it is missing, malformed, or of a newer version.
    pub fn read_manifest(&self) -> Result<Manifest, RecordError> {
        let path = self.manifest();
        if !path.exists() {
            return Err(RecordError::NoRun { directory: self.0.clone() });
        }
        let mut manifest: Manifest = read_json(&path)?;
        known(path, manifest.schema_version)?;
        if manifest.points.is_empty() {
            // Rows can be summarised without it, so that an unreadable definition must not hide them.
            manifest.points = points_of_definition(&manifest.definition).unwrap_or_default();
        }
        Ok(manifest)
    }

    /// Reads the results of checking the invariants; `None` if the run was not checked.
    ///
    /// # Errors
    /// If they are malformed, or of a newer version.
    pub fn read_invariants(&self) -> Result<Option<Invariants>, RecordError> {
        let path = self.invariants();
        if !path.exists() {
            return Ok(None);
        }
        let invariants: Invariants = read_json(&path)?;
        known(path, invariants.schema_version)?;
        Ok(Some(invariants))
    }
}

/// Refuses a version that this program does not know.
fn known(path: PathBuf, version: u32) -> Result<(), RecordError> {
    // Older ones are read: fields that they lack have defaults.
    if version > SCHEMA_VERSION {
        return Err(RecordError::Version { path, found: version, known: SCHEMA_VERSION });
    }
    Ok(())
}

impl PointDir {
    /// Name of the file in which a repetition keeps the facts that its system's own build left.
    pub const BUILT: &str = "built.json";

    /// `invocations.csv.zst`.
    #[must_use]
    pub fn invocations(&self) -> PathBuf {
        self.path.join("invocations.csv.zst")
    }

    /// `actions.csv`.
    #[must_use]
    pub fn actions(&self) -> PathBuf {
        self.path.join("actions.csv")
    }

    /// `coldstarts.csv`.
    #[must_use]
    pub fn coldstarts(&self) -> PathBuf {
        self.path.join("coldstarts.csv")
    }

    /// `processes.csv`.
    #[must_use]
    pub fn processes(&self) -> PathBuf {
        self.path.join("processes.csv")
    }

    /// `nodes.csv`.
    #[must_use]
    pub fn nodes(&self) -> PathBuf {
        self.path.join("nodes.csv")
    }

    /// `loadgen.json`.
    #[must_use]
    pub fn loadgen(&self) -> PathBuf {
        self.path.join("loadgen.json")
    }

    /// `settings.json`.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.path.join("settings.json")
    }

    /// `built.json`: the facts that a system's own build left, if it leaves any.
    #[must_use]
    pub fn built(&self) -> PathBuf {
        self.path.join(Self::BUILT)
    }

    /// `config.toml`: the settings, and every file that the system was given.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `repetition.json`.
    #[must_use]
    pub fn facts(&self) -> PathBuf {
        self.path.join("repetition.json")
    }

    /// `histogram.hgrm`.
    #[must_use]
    pub fn histogram(&self) -> PathBuf {
        self.path.join("histogram.hgrm")
    }

    /// `logs/`.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

/// Reads a JSON document.
///
/// # Errors
/// If it is missing or malformed.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let text = fs::read(path).map_err(|source| RecordError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| RecordError::Document { path: path.to_owned(), source })
}

/// Writes a JSON document so that a reader sees the old one or the new one, never half of it.
///
/// # Errors
/// If it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RecordError> {
    let failed = |source| RecordError::File { path: path.to_owned(), source };
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| failed(io::Error::other(error)))?;
    text.push(b'\n');
    // In the same folder, because a rename between file systems is not atomic.
    let partial = path.with_extension("partial");
    fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).map_err(failed)
}

fn subdirectories(path: &Path) -> Result<Vec<String>, RecordError> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    };
    list().map_err(|source| RecordError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Point, manifest::tests::manifest};

    fn run() -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir(folder.path().to_owned());
        (folder, run)
    }

    fn with_source(error: &RecordError) -> String {
        let source = std::error::Error::source(error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    }

    #[test]
    fn repetitions_with_rows_are_listed_by_system_point_and_number() {
        let (_folder, run) = run();
        for (system, point, repetition) in [("b", "p", 10), ("b", "p", 9), ("a", "q", 1), ("a", "p", 2), ("a", "p", 3)]
        {
            let point = run.point(system, point, repetition);
            fs::create_dir_all(&point.path).unwrap();
            if repetition != 3 {
                fs::write(point.invocations(), "").unwrap();
            }
        }
        // Neither failed and replaced repetitions nor other folders of a run count.
        for other in [run.failed("a", "p", 4), run.replaced("a", "p", 5), run.report(), run.0.join("schedules/p/1")] {
            fs::create_dir_all(&other).unwrap();
            fs::write(other.join("invocations.csv"), "").unwrap();
        }
        fs::write(run.failed("a", "p", 4).join("invocations.csv.zst"), "").unwrap();
        fs::write(run.replaced("a", "p", 5).join("invocations.csv.zst"), "").unwrap();
        let found = run.points().unwrap();
        let places: Vec<_> = found.iter().map(|one| (&*one.system, &*one.point, one.repetition)).collect();
        assert_eq!(places, [("a", "p", 2), ("a", "q", 1), ("b", "p", 9), ("b", "p", 10)]);
        assert!(found[0].invocations().ends_with("a/p/2/invocations.csv.zst"));
    }

    #[test]
    fn a_folder_that_is_none_cannot_be_listed() {
        let (_folder, run) = run();
        let error = RunDir(run.0.join("absent")).points().unwrap_err();
        assert!(with_source(&error).ends_with("absent: No such file or directory (os error 2)"), "{error}");
    }

    #[test]
    fn a_folder_without_a_manifest_is_no_run() {
        let (_folder, run) = run();
        let error = run.read_manifest().unwrap_err().to_string();
        assert_eq!(error, format!("{} holds no run: there is no manifest.json in it", run.0.display()));
        assert_eq!(run.read_invariants().unwrap(), None, "it was not checked");
    }

    #[test]
    fn documents_of_a_newer_version_are_refused() {
        let (_folder, run) = run();
        write_json(&run.manifest(), &Manifest { schema_version: SCHEMA_VERSION + 1, ..manifest() }).unwrap();
        let newer = Invariants { schema_version: SCHEMA_VERSION + 1, checked: Vec::new(), invariants: Vec::new() };
        write_json(&run.invariants(), &newer).unwrap();
        for (error, file) in [
            (run.read_manifest().unwrap_err().to_string(), run.manifest()),
            (run.read_invariants().unwrap_err().to_string(), run.invariants()),
        ] {
            let expected =
                format!("{} has schema version 2, this program reads up to 1: use a newer one", file.display());
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_malformed_document_is_named_with_line_and_field() {
        let (_folder, run) = run();
        fs::write(run.manifest(), "{\n\"schema_version\": \"one\"}").unwrap();
        let error = with_source(&run.read_manifest().unwrap_err());
        let expected = format!("{}: invalid type: string \"one\", expected u32 at line 2", run.manifest().display());
        assert!(error.starts_with(&expected), "{error}");
        fs::write(run.manifest(), "{\"schema_version\":1}").unwrap();
        let error = with_source(&run.read_manifest().unwrap_err());
        assert!(error.contains("missing field `experiment`"), "{error}");
    }

    #[test]
    fn points_are_those_of_the_manifest_before_those_of_its_definition() {
        let (_folder, run) = run();
        let names = |points: Vec<Point>, definition: &str| {
            let definition = definition.to_owned();
            write_json(&run.manifest(), &Manifest { points, definition, ..manifest() }).unwrap();
            let read = run.read_manifest().unwrap();
            read.points.into_iter().map(|point| point.name).collect::<Vec<_>>()
        };
        let definition = "[[points]]\nname = \"by-text\"\n";
        let point = Point { name: "recorded".to_owned(), ..Point::default() };
        assert_eq!(names(vec![point], definition), ["recorded"]);
        assert_eq!(names(Vec::new(), definition), ["by-text"]);
        assert!(names(Vec::new(), "not toml [").is_empty(), "its rows can still be read");
    }

    #[test]
    fn a_document_replaces_the_one_before_and_leaves_nothing_else() {
        let (_folder, run) = run();
        for number in [1, 22] {
            write_json(&run.plan(), &number).unwrap();
            assert_eq!(read_json::<u32>(&run.plan()).unwrap(), number);
        }
        assert_eq!(fs::read_to_string(run.plan()).unwrap(), "22\n");
        assert_eq!(fs::read_dir(&run.0).unwrap().count(), 1);
    }

    #[test]
    fn a_document_that_cannot_be_written_leaves_the_one_before() {
        let (_folder, run) = run();
        write_json(&run.plan(), &1).unwrap();
        // A folder in the place of the partial file: also root cannot write it.
        fs::create_dir(run.plan().with_extension("partial")).unwrap();
        let error = write_json(&run.plan(), &2).unwrap_err().to_string();
        assert_eq!((error, read_json::<u32>(&run.plan()).unwrap()), (run.plan().display().to_string(), 1));
    }
}
