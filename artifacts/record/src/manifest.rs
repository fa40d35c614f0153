//! `manifest.json`: the experiment, the machine, the systems and inputs of a run, and its state.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::Point;

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitState {
    /// Not ended, or its runner was killed.
    Running,
    /// Every step done.
    Done,
    /// Stopped by the user.
    Interrupted,
    /// A step failed.
    Failed,
    /// Done, but a validity rule does not hold.
    Invalid,
}

/// Facts about the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// CPU model.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Kernel name and version.
    pub kernel: String,
    /// CPU vulnerability mitigations, by name.
    pub mitigations: BTreeMap<String, String>,
    /// Clock source.
    pub clock: String,
}

/// A system as it was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemFacts {
    /// Output of the system's version command.
    pub version: String,
    /// Its entry in systems.toml, as text.
    pub definition: String,
    /// SHA-256 of each binary it runs, by path.
    pub binaries: BTreeMap<String, String>,
}

/// A repetition that could not be measured: it has no rows. For the subject of a claim, a repetition in which it was
/// started counts as nothing sustained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRepetition {
    /// The system.
    pub system: String,
    /// The point.
    pub point: String,
    /// The repetition, from 1.
    pub repetition: u32,
    /// The reason in words.
    pub reason: String,
    /// True if the failure says nothing about the system: it was not started, because it was not built or cannot run on
    /// this machine, or the measurement itself failed, for example the load generator.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untried: bool,
}

/// A try at a repetition that does not count: another try replaced it, or rows from before it count again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardedTry {
    /// The system.
    pub system: String,
    /// The point.
    pub point: String,
    /// The repetition, from 1.
    pub repetition: u32,
    /// Instant of the discard, RFC 3339, UTC.
    pub at: String,
    /// The reason for the discard.
    pub reason: String,
}

/// The run's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this document and of every file in the run.
    pub schema_version: u32,
    /// Experiment's id, for example `azure-500`.
    pub experiment: String,
    /// Scale: `laptop`, `cluster-17`, `cluster-100`.
    pub scale: String,
    /// Instant of the begin, RFC 3339, UTC.
    pub started: String,
    /// Instant of the end; empty while the run is in progress.
    pub ended: Option<String>,
    /// Git revision of this project when it began, `-dirty` appended when files differ from it.
    pub git_revision: String,
    /// The command line that began it.
    pub command: Vec<String>,
    /// Folder of the built programs, where one was named; absent: they were built from the checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<PathBuf>,
    /// The resolved definition as text, for people and for the runner, which resumes by it. Other readers use the points.
    pub definition: String,
    /// Its points, in the order in which each repetition visits them.
    /// [`RunDir::read_manifest`](crate::RunDir::read_manifest) takes them from the definition where the run is of a
    /// version that did not record them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
    /// The machine.
    pub host: HostFacts,
    /// Systems by name.
    pub systems: BTreeMap<String, SystemFacts>,
    /// Seeds by use: `schedule` is the definition's; `repetition-N` is that of a repetition, for all systems alike, and
    /// `POINT/repetition-N` that of a point which has its own.
    pub seeds: BTreeMap<String, u64>,
    /// SHA-256 of inputs (trace files, schedules) by name.
    pub checksums: BTreeMap<String, String>,
    /// State of the run.
    pub exit: ExitState,
    /// Repetitions that failed and were not measured since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedRepetition>,
    /// Tries at repetitions that do not count, in the order in which they were discarded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discarded: Vec<DiscardedTry>,
    /// True for the few-minute version, which is no evidence for any claim.
    #[serde(default)]
    pub quick: bool,
    /// Caveats.
    pub notes: Vec<String>,
}

impl Manifest {
    /// The note of quick runs that were written before [`Manifest::quick`] existed.
    pub const QUICK_NOTE: &str = "the few-minute version (--quick): too short for claims";

    /// Beginning of the note that each session leaves after the first one.
    pub const RESUMED_NOTE: &str = "resumed ";

    /// Returns true if the run was measured in several sessions, between which anything on the machine may have
    /// changed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.notes.iter().any(|note| note.starts_with(Self::RESUMED_NOTE))
    }

    /// Returns true for the few-minute version, which is no evidence for any claim.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.quick || self.notes.iter().any(|note| note == Self::QUICK_NOTE)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A manifest with every field that the first version had, and no other.
    pub(crate) fn manifest() -> Manifest {
        serde_json::from_str(
            r#"{"schema_version":1,"experiment":"e","scale":"laptop","started":"2026-01-02T03:04:05Z","ended":null,
            "git_revision":"0123","command":["repro","run"],"definition":"","systems":{},"seeds":{"schedule":7},
            "host":{"cpu":"c","cores":2,"memory_mib":1,"kernel":"k","mitigations":{},"clock":"tsc"},
            "checksums":{},"exit":"done","notes":[]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_manifest_of_the_first_version_is_read_and_written_without_what_it_lacks() {
        let first = manifest();
        assert!(!first.is_quick() && !first.is_resumed() && first.failures.is_empty() && first.points.is_empty());
        let text = serde_json::to_string(&first).unwrap();
        for absent in ["programs", "points", "failures", "discarded"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), first);
    }

    #[test]
    fn a_run_is_quick_by_its_field_or_by_the_note_of_earlier_versions() {
        let noted = |note: &str| Manifest { notes: vec![note.to_owned()], ..manifest() };
        assert!(noted(Manifest::QUICK_NOTE).is_quick());
        assert!(Manifest { quick: true, ..manifest() }.is_quick());
        assert!(!noted("quick").is_quick());
    }

    #[test]
    fn a_run_is_resumed_if_a_note_begins_like_that_of_a_later_session() {
        let noted = |note: &str| Manifest { notes: vec!["another".to_owned(), note.to_owned()], ..manifest() };
        assert!(noted(&format!("{}2026-01-03T00:00:00Z: repro run", Manifest::RESUMED_NOTE)).is_resumed());
        assert!(!noted("it was resumed once").is_resumed());
    }

    #[test]
    fn a_failure_says_only_if_it_is_none_of_the_system() {
        let failure = FailedRepetition { reason: "no rows".to_owned(), repetition: 1, ..FailedRepetition::default() };
        let text = serde_json::to_string(&failure).unwrap();
        assert_eq!(text, r#"{"system":"","point":"","repetition":1,"reason":"no rows"}"#);
        let untried = FailedRepetition { untried: true, ..failure };
        let text = serde_json::to_string(&untried).unwrap();
        assert!(text.ends_with(r#""untried":true}"#), "{text}");
        assert_eq!(serde_json::from_str::<FailedRepetition>(&text).unwrap(), untried);
    }

    #[test]
    fn an_unknown_state_is_refused() {
        let text = serde_json::to_string(&manifest()).unwrap().replace("\"done\"", "\"finished\"");
        let error = serde_json::from_str::<Manifest>(&text).unwrap_err().to_string();
        assert!(error.contains("unknown variant `finished`, expected one of `running`, `done`"), "{error}");
    }
}
