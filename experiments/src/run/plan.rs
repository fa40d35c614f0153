//! The steps of a run, with their estimated durations and their states: `plan.json`.
//!
//! A step that is done is skipped when the run is resumed, unless what it depended on has changed: definition, systems,
//! programs and trace are all in its fingerprint.

use std::fmt::Write;

use record::{FailedRepetition, RunDir, read_json};
use serde::{Deserialize, Serialize};

use crate::{
    definition::{overrides::Overrides, points::Point},
    exit::UsageError,
    run::{outcome::Failed, outline},
};

/// Seconds to find that programs are up to date. A first build takes minutes, which the plan's text says.
const BUILD_S: u64 = 5;
/// Seconds to make a trace's schedule, and one at a constant rate.
const TRACE_SCHEDULE_S: u64 = 10;
const RATE_SCHEDULE_S: u64 = 1;
/// Seconds to check and analyse one repetition's rows, per minute of load.
const ANALYSE_PER_MINUTE_S: f64 = 0.5;

/// Version of `plan.json`. In the first one all repetitions shared a schedule.
pub const PLAN_VERSION: u32 = 2;

/// The plan of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this document.
    pub schema_version: u32,
    /// The experiment.
    pub experiment: String,
    /// Its scale.
    pub scale: String,
    /// The command line's changes.
    pub overrides: Overrides,
    /// The steps in order.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The work to do.
    pub action: Action,
    /// The seed of a repetition; empty for what is done once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Estimated duration, in seconds.
    pub estimate_s: u64,
    /// Progress.
    pub state: StepState,
    /// SHA-256 of everything that its result depends on; absent until it is begun.
    pub fingerprint: Option<String>,
    /// Actual duration, in seconds.
    pub took_s: Option<f64>,
    /// The reason for a failure, or a caveat.
    pub note: Option<String>,
    /// The system's failures, if on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

/// The work of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Action {
    /// Build every program.
    Build,
    /// Make the schedule of each repetition, which all systems are given.
    Schedule,
    /// Measure one repetition of one point of one system.
    Measure {
        /// The system.
        system: String,
        /// The point.
        point: String,
        /// The repetition, from 1.
        repetition: u32,
    },
    /// Compute statistics and draw the report.
    Report,
}

/// Progress of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Not begun.
    Planned,
    /// In progress, or the runner was killed during it.
    Running,
    /// Finished.
    Done,
    /// It failed.
    Failed,
    /// The user stopped it.
    Interrupted,
}

impl Plan {
    /// The steps of an experiment. Systems alternate within a point, and a repetition covers all points before the next one
    /// begins, so that a drift of the machine affects all systems alike. In each repetition another system is first, at a
    /// point and overall, so that none always runs on a machine that the same other one has just used.
    ///
    /// `takes` returns the seconds of a system's setup in each repetition, and of its preparation at each point.
    #[must_use]
    pub fn new(
        (experiment, scale): (&str, &str),
        overrides: &Overrides,
        points: &[Point],
        takes: impl Fn(&str) -> (u64, u64),
    ) -> Self {
        let repetitions = points.first().map_or(0, |point| point.settings.repetitions);
        let schedule_s = |point: &Point| point.settings.load.trace().map_or(RATE_SCHEDULE_S, |_| TRACE_SCHEDULE_S);
        let schedules_s = points.iter().map(schedule_s).sum::<u64>() * u64::from(repetitions);
        let mut steps = vec![Step::new(Action::Build, BUILD_S), Step::new(Action::Schedule, schedules_s)];
        let mut load_s = 0;
        for repetition in 1..=repetitions {
            for (point, systems) in interleaved(points, repetition) {
                // Another seed samples other functions from a trace, so the prepared state cannot be shared.
                let mut is_prepared = repetition > 1 && point.settings.load.trace().is_none();
                for system in systems {
                    let (around_s, prepare_s) = takes(system);
                    let once_s = if is_prepared { 0 } else { prepare_s };
                    is_prepared |= prepare_s > 0;
                    let action = Action::Measure { system: system.clone(), point: point.name.clone(), repetition };
                    let length_s = point.settings.load.length().as_secs();
                    let seed = Some(point.settings.seed_of(repetition));
                    steps.push(Step { seed, ..Step::new(action, length_s + around_s + once_s) });
                    load_s += length_s;
                }
            }
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "minutes are few and positive")]
        let report_s = (load_s as f64 / 60.0 * ANALYSE_PER_MINUTE_S).ceil() as u64;
        steps.push(Step::new(Action::Report, report_s));
        Self {
            schema_version: PLAN_VERSION,
            experiment: experiment.to_owned(),
            scale: scale.to_owned(),
            overrides: overrides.clone(),
            steps,
        }
    }

    /// Reads the plan of a run to be resumed.
    ///
    /// # Errors
    /// If there is no run, or it is of a version whose steps are not those of this one.
    pub fn read(dir: &RunDir) -> anyhow::Result<Self> {
        let place = dir.0.display();
        if !dir.plan().is_file() {
            return Err(UsageError(format!("{place} holds no run: there is no plan.json in it")).into());
        }
        let plan: Self = read_json(&dir.plan())?;
        let why = match plan.schema_version {
            PLAN_VERSION => return Ok(plan),
            newer if newer > PLAN_VERSION => format!("its plan has version {newer}, this program knows {PLAN_VERSION}"),
            _ => {
                "it is of a version whose repetitions all had one schedule, and each has its own now; what it measured \
                  can still be verified and reported. Begin a new run"
                    .to_owned()
            }
        };
        Err(UsageError(format!("{place} cannot be resumed: {why}")).into())
    }

    /// Returns true if a repetition is one of its steps.
    #[must_use]
    pub fn has(&self, one: &FailedRepetition) -> bool {
        let (system, point) = (one.system.clone(), one.point.clone());
        let action = Action::Measure { system, point, repetition: one.repetition };
        self.steps.iter().any(|step| step.action == action)
    }

    /// Estimated duration of all steps that are not done, in seconds.
    #[must_use]
    pub fn estimate_s(&self) -> u64 {
        self.steps.iter().filter(|step| step.state != StepState::Done).map(|step| step.estimate_s).sum()
    }

    /// The plan as text.
    #[must_use]
    pub fn text(&self, points: &[Point]) -> String {
        let mut text = format!("{} at scale {}\n", self.experiment, self.scale);
        text.push_str(&outline::text(points));
        for (index, step) in self.steps.iter().enumerate() {
            let _ = writeln!(text, "{:>3}  {:<58} {:>8}", index + 1, step.action.describe(), minutes(step.estimate_s));
        }
        let _ = writeln!(
            text,
            "     {:<58} {:>8}",
            "in all, after a first build of some minutes",
            minutes(self.estimate_s())
        );
        text
    }
}

/// The points, each with its systems, in the order of a `repetition`, from 1. In each repetition the next system, in order
/// of first appearance, comes first: points are rotated to begin with one that measures it, and the systems of each point
/// are rotated likewise.
fn interleaved(points: &[Point], repetition: u32) -> impl Iterator<Item = (&Point, Vec<&String>)> {
    let mut all: Vec<&String> = Vec::new();
    for system in points.iter().flat_map(|point| &point.settings.systems) {
        if !all.contains(&system) {
            all.push(system);
        }
    }
    let rotation = (repetition.saturating_sub(1) as usize).checked_rem(all.len()).unwrap_or(0);
    all.rotate_left(rotation);
    let is_of = |point: &Point| all.first().is_some_and(|first| point.settings.systems.contains(first));
    let first = points.iter().position(is_of).unwrap_or(0);
    points[first..].iter().chain(&points[..first]).map(move |point| {
        let systems = all.iter().filter(|system| point.settings.systems.contains(system));
        (point, systems.copied().collect())
    })
}

impl Step {
    fn new(action: Action, estimate_s: u64) -> Self {
        Self {
            action,
            seed: None,
            estimate_s,
            state: StepState::Planned,
            fingerprint: None,
            took_s: None,
            note: None,
            failed: None,
        }
    }

    /// Returns true if the step is done, and its result still depends on `fingerprint`.
    #[must_use]
    pub fn is_finished(&self, fingerprint: &str) -> bool {
        self.state == StepState::Done && self.fingerprint.as_deref() == Some(fingerprint)
    }

    /// Marks it as done; its result depends on `fingerprint`.
    pub fn finish(&mut self, fingerprint: String) {
        (self.state, self.fingerprint, self.note) = (StepState::Done, Some(fingerprint), None);
    }

    /// The reason to discard the results of an earlier try when the step begins again; `None` without such results. A
    /// failure stays on record until it is replaced.
    #[must_use]
    pub fn discards(&self) -> Option<String> {
        match self.state {
            StepState::Planned | StepState::Failed => None,
            StepState::Running => Some("the program that ran it ended before it did".to_owned()),
            StepState::Interrupted => Some("it was stopped".to_owned()),
            StepState::Done => Some("its rows were removed".to_owned()),
        }
    }
}

impl Action {
    /// The action in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Build => "build the programs".to_owned(),
            Self::Schedule => "make each repetition's schedule, the same for all systems".to_owned(),
            Self::Measure { system, point, repetition } => {
                format!("measure {system}, point {point}, repetition {repetition}")
            }
            Self::Report => "check the rows, compute statistics, draw the report".to_owned(),
        }
    }
}

/// A duration in minutes and seconds.
fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::points;

    fn points() -> Vec<Point> {
        points::read(
            "systems = [\"a\", \"b\"]\nrepetitions = 2\nload = { minutes = 30, timeout = \"60s\", functions = 20 }\n\
             sandbox = { runtime = \"hollow\", mode = \"sleep\", workers = 2, nodes = 50, cpu = \"64\", \
             memory = \"256GiB\", delay = \"100ms\" }",
        )
        .unwrap()
    }

    /// `b` prepares something once for each point.
    fn takes(system: &str) -> (u64, u64) {
        if system == "b" { (45, 100) } else { (15, 0) }
    }

    #[test]
    fn systems_take_turns_and_the_plan_says_what_it_costs() {
        let points = points();
        let plan = Plan::new(("e", "laptop"), &Overrides::default(), &points, takes);
        insta::assert_snapshot!(plan.text(&points), @r"
        e at scale laptop
          load     30 min of the synthetic trace azure-sample from minute 0, the first 10m warm-up, seeds 1 to 2
          sample   20 functions
          sandbox  hollow, sleep mode, 2 workers × 50 nodes of 64 cores and 256GiB, creation delay 100ms
          1  build the programs                                             0:05
          2  make each repetition's schedule, the same for all systems      0:20
          3  measure a, point replay, repetition 1                         30:15
          4  measure b, point replay, repetition 1                         32:25
          5  measure b, point replay, repetition 2                         32:25
          6  measure a, point replay, repetition 2                         30:15
          7  check the rows, compute statistics, draw the report            1:00
             in all, after a first build of some minutes                  126:45
        ");
    }

    #[test]
    fn points_take_turns_within_a_repetition_and_systems_within_a_point() {
        let points = points::read(
            "systems = [\"a\", \"b\"]\nrepetitions = 2\n\
             load = { kind = \"rate\", rate = 5, seconds = 60, warmup = \"5s\", functions = 8, timeout = \"5s\" }\n\
             sandbox = { runtime = \"hollow\", mode = \"sleep\", workers = 2, cpu = \"64\", memory = \"256GiB\" }\n\
             [vary]\nload.rate = [10, 20]",
        )
        .unwrap();
        let plan = Plan::new(("e", "laptop"), &Overrides::default(), &points, takes);
        insta::assert_snapshot!(plan.text(&points), @r"
        e at scale laptop
          load     10 to 20 per second for 60 s after 5s of warm-up, 8 functions called in turn
          points   2: rate-10, rate-20
          sandbox  hollow, sleep mode, 2 workers of 64 cores and 256GiB, creation delay 0s
          1  build the programs                                             0:05
          2  make each repetition's schedule, the same for all systems      0:04
          3  measure a, point rate-10, repetition 1                         1:20
          4  measure b, point rate-10, repetition 1                         3:30
          5  measure a, point rate-20, repetition 1                         1:20
          6  measure b, point rate-20, repetition 1                         3:30
          7  measure b, point rate-10, repetition 2                         1:50
          8  measure a, point rate-10, repetition 2                         1:20
          9  measure b, point rate-20, repetition 2                         1:50
         10  measure a, point rate-20, repetition 2                         1:20
         11  check the rows, compute statistics, draw the report            0:05
             in all, after a first build of some minutes                   16:14
        ");
    }

    /// No two systems share a point, as in the cold-start comparison.
    #[test]
    fn systems_take_turns_where_each_has_points_of_its_own() {
        let point = |name: &str, system: &str, rate: u32| {
            format!("[[points]]\nname = \"{name}\"\nsystems = [\"{system}\"]\nload.rate = {rate}\n")
        };
        let text = "systems = [\"a\"]\nrepetitions = 5\n\
             load = { kind = \"rate\", seconds = 60, warmup = \"5s\", functions = 8, timeout = \"5s\" }\n\
             sandbox = { runtime = \"hollow\", mode = \"sleep\", workers = 2, cpu = \"64\", memory = \"256GiB\" }\n";
        let each = [("a4", "a", 4), ("a5", "a", 5), ("b3", "b", 3), ("c2", "c", 2), ("b1", "b", 1)];
        let listed: String = each.map(|(name, system, rate)| point(name, system, rate)).concat();
        let points = points::read(&format!("{text}{listed}")).unwrap();
        let plan = Plan::new(("e", "laptop"), &Overrides::default(), &points, takes);
        let mut order = vec![Vec::new(); 5];
        for step in &plan.steps {
            if let Action::Measure { point, repetition, .. } = &step.action {
                order[*repetition as usize - 1].push(point.as_str());
            }
        }
        let (a, b, c) = ("a4 a5 b3 c2 b1", "b3 c2 b1 a4 a5", "c2 b1 a4 a5 b3");
        assert_eq!(order.iter().map(|points| points.join(" ")).collect::<Vec<_>>(), [a, b, c, a, b]);
    }

    #[test]
    fn a_finished_step_is_unfinished_when_what_it_depends_on_changes() {
        let mut step = Step::new(Action::Schedule, 1);
        assert!(!step.is_finished("x"));
        step.state = StepState::Done;
        step.fingerprint = Some("x".to_owned());
        assert!(step.is_finished("x") && !step.is_finished("y"));
        let discards = |state| Step { state, ..step.clone() }.discards();
        assert_eq!(discards(StepState::Planned), None, "nothing was tried");
        assert_eq!(discards(StepState::Failed), None, "that it failed is on record");
        assert_eq!(discards(StepState::Done).unwrap(), "its rows were removed");
        assert_eq!(discards(StepState::Interrupted).unwrap(), "it was stopped");
        assert!(discards(StepState::Running).unwrap().contains("ended before it did"));
    }

    #[test]
    fn a_plan_survives_its_own_json() {
        let plan = Plan::new(("e", "laptop"), &Overrides::default(), &points(), takes);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}
