//! Execution of each step of a run.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use record::{ExitState, PointDir, RunDir};

use crate::{
    checksum,
    exit::{Exit, Interrupted},
    run::{
        Run,
        dependencies::Dependencies,
        inputs::Inputs,
        manifest, outcome,
        plan::Action,
        preparation,
        programs::{Origin, Programs},
        repetition::Repetition,
        schedules, space,
    },
    session::{ChildCommand, Session},
    system::{launch::Output, needs},
    verify,
};

/// Longest time the report may take to be made.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1800);

impl Run<'_> {
    /// SHA-256 of everything that a step's result depends on.
    pub(super) fn fingerprint(&self, action: &Action) -> anyhow::Result<String> {
        let mut parts = vec![serde_json::to_string(action)?];
        let loadgen = self.state.manifest.checksums.get("loadgen");
        match action {
            Action::Build | Action::Report => {}
            Action::Schedule => {
                for point in &self.experiment.points {
                    let settings = &point.settings;
                    parts.push(serde_json::to_string(&settings.load)?);
                    parts.push(format!("{} for {}", settings.seed, settings.repetitions));
                    parts.extend([serde_json::to_string(&settings.function)?, point.name.clone()]);
                }
                let traces = schedules::trace_checksums(&self.experiment.points)?;
                parts.extend(traces.into_iter().map(|(name, checksum)| format!("{name} {checksum}")));
                parts.extend(loadgen.cloned());
            }
            Action::Measure { system, point, repetition } => {
                let settings = self.experiment.point(point)?.settings.of_repetition(*repetition);
                let inputs = self.schedules.inputs(point, *repetition);
                let dependencies = Dependencies::of(action, &settings, &inputs, loadgen)?;
                return Ok(dependencies.fingerprint(self.state.manifest.systems.get(system)));
            }
        }
        Ok(checksum::of_text(&parts.join("\n")))
    }

    pub(super) fn build(&mut self, origin: Origin<'_>) -> anyhow::Result<()> {
        let programs = Programs::new(origin, self.checkout, &self.experiment.systems, self.session.watch())?;
        let mut unable = BTreeMap::new();
        for measured in &self.experiment.systems {
            let name = &measured.name;
            if let Some(why) = programs.unbuilt(name) {
                unable.insert(name.clone(), why.to_owned());
                continue;
            }
            let missing = needs::missing(&measured.system);
            if !missing.is_empty() {
                unable.insert(name.clone(), format!("it cannot run here: {}", missing.join("; ")));
            }
            match manifest::system(measured, &programs) {
                // No new rows will be measured, so the facts of the recorded ones must stay.
                Ok(_) if unable.contains_key(name) && self.state.manifest.systems.contains_key(name) => {}
                Ok(facts) => self.state.know_system(name, facts),
                Err(error) => drop(unable.entry(name.clone()).or_insert(format!("{error:#}"))),
            }
        }
        for program in ["loadgen", "analysis"] {
            let checksum = checksum::of_file(Path::new(&programs.path(program)));
            let checksum = checksum.with_context(|| format!("reading {}", programs.path(program)))?;
            self.state.manifest.checksums.insert(program.to_owned(), checksum);
        }
        self.environment.take(programs, unable);
        Ok(())
    }

    pub(super) fn schedule(&mut self) -> anyhow::Result<()> {
        let (programs, points) = (self.environment.programs()?, &self.experiment.points);
        self.schedules.make(self.session, programs, points, &mut self.state.manifest.checksums)?;
        if self.state.is_untouched() { Ok(()) } else { self.schedules.adopt(points) }
    }

    pub(super) fn measure(&mut self, point: &PointDir, fingerprint: String) -> anyhow::Result<()> {
        // Files of an interrupted try would be taken for those of this one, and take disk space.
        preparation::remove(&point.path)?;
        let basis = self.environment.basis(fingerprint, point, &self.state.manifest);
        let system = self.experiment.system(&point.system)?;
        let inputs = Inputs::of(&self.state.dir, &point.point, point.repetition);
        let scheduled = fs::metadata(&inputs.schedule).with_context(|| inputs.schedule.display().to_string())?.len();
        space::ensure_free(&self.state.dir.0, space::of_repetition(scheduled))?;
        let repetition = Repetition {
            settings: &self.experiment.point(&point.point)?.settings.of_repetition(point.repetition),
            system,
            programs: self.environment.programs()?,
            point,
            schedule: &inputs.schedule,
            functions: &inputs.functions,
            dir: &self.state.dir,
            basis: &basis,
        };
        let measured = repetition.measure(self.session);
        self.state.take_back_notes(point);
        let facts = measured?;
        let place = outcome::place(point);
        let seen =
            [("ended early", &facts.early_exits), ("had to be killed", &facts.killed), ("left behind", &facts.orphans)];
        for (what, whom) in seen.into_iter().filter(|(_, whom)| !whom.is_empty()) {
            self.state.manifest.notes.push(format!("{place}: {what}: {}", whom.join(", ")));
        }
        self.state.manifest.notes.extend(facts.notes.iter().map(|note| format!("{place}: {note}")));
        if facts.interrupted { Err(Interrupted.into()) } else { Ok(()) }
    }

    /// Checks invariants first: claims depend on them, and the page shows the broken ones.
    pub(super) fn report(&mut self) -> anyhow::Result<()> {
        preparation::forget(&self.state.dir)?;
        let backup = verify::check_and_record(&self.state.dir).context("checking the invariants")?;
        if verify::invariant::exit(&backup.invariants) == Exit::Invalid && self.state.manifest.exit == ExitState::Done {
            self.state.manifest.exit = ExitState::Invalid;
            self.state.save()?;
        }
        let made = self.environment.programs().and_then(|programs| analyse(self.session, programs, &self.state.dir));
        backup.finish(made).map(drop)
    }
}

/// Option by which an analysis leaves the lock of the run's directory to its caller.
const UNDER_LOCK: &str = "--under-lock";

/// Checks the invariants of a finished run again, and makes its report from the findings. If that fails, the previous
/// results are restored.
///
/// # Errors
/// If a file of the run is malformed, or the analysis fails.
pub fn report(session: &Session, programs: &Programs, dir: &RunDir) -> anyhow::Result<Exit> {
    let backup = verify::check_and_record(dir).context("checking the invariants")?;
    backup.finish(analyse(session, programs, dir))
}

/// Starts the analysis of a run, which computes statistics, prints the summary and writes the page. An invalid run has a
/// report, too: it shows the reasons.
fn analyse(session: &Session, programs: &Programs, dir: &RunDir) -> anyhow::Result<Exit> {
    let analysis = programs.path("analysis");
    let is_known = knows_under_lock(&analysis);
    let mut command = vec![analysis, "report".to_owned(), dir.0.display().to_string()];
    command.extend(is_known.then(|| UNDER_LOCK.to_owned()));
    let child = ChildCommand { command, folder: &dir.0, output: Output::Printed, timeout: REPORT_TIMEOUT };
    let invalid = Exit::Invalid as i32;
    let code = session.run_accepting(&child, &[0, invalid])?;
    Ok(if code == invalid { Exit::Invalid } else { Exit::Done })
}

/// Returns true if this analysis accepts [`UNDER_LOCK`]: in a folder given by the user it may be of an earlier
/// revision, which locks nothing. If it cannot be started, making the report fails with the reason.
fn knows_under_lock(analysis: &str) -> bool {
    let help = Command::new(analysis).args(["report", "--help"]).stdin(Stdio::null()).output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains(UNDER_LOCK))
}
