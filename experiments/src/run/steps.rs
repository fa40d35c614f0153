//! How each step of a run is done, and what its result depends on.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use record::{PointDir, RunDir};

use crate::{
    checksum,
    exit::{Exit, Interrupted},
    run::{Run, functions, load, manifest, plan::Action, programs::Programs, repetition::Repetition},
    session::{Errand, Session},
    system::{launch::Output, needs},
};

/// Longest time the schedule may take to be made: a day of a large trace takes seconds.
const SCHEDULE_WITHIN: Duration = Duration::from_secs(600);

/// Longest time the report may take to be made.
const REPORT_WITHIN: Duration = Duration::from_secs(1800);

impl Run<'_> {
    /// SHA-256 of what a step's result depends on.
    pub(super) fn fingerprint(&self, action: &Action) -> anyhow::Result<String> {
        let mut parts = vec![serde_json::to_string(action)?];
        match action {
            Action::Build | Action::Report => {}
            Action::Schedule => {
                let settings = &self.order.settings;
                parts.extend([serde_json::to_string(&settings.load)?, settings.seed.to_string()]);
                parts.push(serde_json::to_string(&settings.function)?);
                parts.extend(self.trace_checksums()?.into_iter().map(|(name, checksum)| format!("{name} {checksum}")));
                parts.extend(self.manifest.checksums.get("loadgen").cloned());
            }
            Action::Measure { system, .. } => {
                parts.push(self.order.settings.to_toml());
                parts.push(serde_json::to_string(&self.manifest.systems.get(system))?);
                parts.push(checksum::of_file(&self.schedule_path())?);
                parts.push(checksum::of_file(&self.functions_path())?);
                parts.extend(self.manifest.checksums.get("loadgen").cloned());
            }
        }
        Ok(checksum::of_text(&parts.join("\n")))
    }

    fn trace_checksums(&self) -> anyhow::Result<Vec<(String, String)>> {
        match &self.order.settings.load.trace {
            None => Ok(Vec::new()),
            Some(trace) => checksum::of_files(trace).with_context(|| format!("reading the trace {}", trace.display())),
        }
    }

    fn programs(&self) -> anyhow::Result<&Programs> {
        self.programs.as_ref().context("programs are built before they are used")
    }

    fn schedule_path(&self) -> PathBuf {
        self.dir.0.join("schedule.csv")
    }

    fn functions_path(&self) -> PathBuf {
        self.dir.0.join("functions.ndjson")
    }

    pub(super) fn build(&mut self, folder: Option<&Path>) -> anyhow::Result<()> {
        let programs = match folder {
            Some(folder) => Programs::in_folder(folder)?,
            None => Programs::build(self.checkout, &self.order.systems, &self.session.console)?,
        };
        for (name, system) in &self.order.systems {
            let facts = manifest::system(system, &programs).with_context(|| name.clone())?;
            self.manifest.systems.insert(name.clone(), facts);
        }
        for program in ["loadgen", "analysis"] {
            let checksum = checksum::of_file(Path::new(&programs.path(program)));
            let checksum = checksum.with_context(|| format!("reading {}", programs.path(program)))?;
            self.manifest.checksums.insert(program.to_owned(), checksum);
        }
        self.programs = Some(programs);
        Ok(())
    }

    pub(super) fn schedule(&mut self) -> anyhow::Result<()> {
        let (schedule, functions) = (self.schedule_path(), self.functions_path());
        let found = self.dir.0.join("functions.trace.ndjson");
        let command = load::schedule_command(self.programs()?, &self.order.settings, &schedule, &found);
        let output = Output::File(self.dir.0.join("schedule.log"));
        let errand = Errand { command, folder: &self.dir.0, output, within: SCHEDULE_WITHIN };
        let task = self.session.console.begin("making the schedule");
        self.session.run(&errand)?;
        let count = functions::prepare(&found, &functions, &self.order.settings.function)?;
        fs::remove_file(&found).with_context(|| format!("removing {}", found.display()))?;
        task.done(&format!("{count} functions"));
        for (name, checksum) in self.trace_checksums()? {
            self.manifest.checksums.insert(format!("trace/{name}"), checksum);
        }
        for path in [&schedule, &functions] {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.manifest.checksums.insert(name, checksum::of_file(path)?);
        }
        Ok(())
    }

    pub(super) fn measure(&mut self, point: &PointDir) -> anyhow::Result<()> {
        let system = self.order.system(&point.system)?;
        let missing = needs::missing(system);
        if !missing.is_empty() {
            bail!("it cannot run here: {}", missing.join("; "));
        }
        let repetition = Repetition {
            settings: &self.order.settings,
            system,
            programs: self.programs()?,
            point,
            schedule: &self.schedule_path(),
            functions: &self.functions_path(),
        };
        let facts = repetition.measure(self.session)?;
        let place = format!("{} {} repetition {}", point.system, point.point, point.repetition);
        let seen =
            [("ended early", &facts.deaths), ("had to be killed", &facts.killed), ("left behind", &facts.orphans)];
        for (what, whom) in seen.into_iter().filter(|(_, whom)| !whom.is_empty()) {
            self.manifest.notes.push(format!("{place}: {what}: {}", whom.join(", ")));
        }
        self.manifest.notes.extend(facts.notes.iter().map(|note| format!("{place}: {note}")));
        if facts.interrupted { Err(Interrupted.into()) } else { Ok(()) }
    }

    pub(super) fn report(&self) -> anyhow::Result<()> {
        // Whether the run may be used is judged, and said, once all its steps are done.
        report(self.session, self.programs()?, &self.dir).map(drop)
    }
}

/// Has the statistics of a run computed, its table printed and its page drawn. An invalid run has a report, too.
///
/// # Errors
/// When the analysis fails.
pub fn report(session: &Session, programs: &Programs, dir: &RunDir) -> anyhow::Result<Exit> {
    let command = vec![programs.path("analysis"), "report".to_owned(), dir.0.display().to_string()];
    let errand = Errand { command, folder: &dir.0, output: Output::Printed, within: REPORT_WITHIN };
    let invalid = Exit::Invalid as i32;
    let code = session.run_accepting(&errand, &[0, invalid])?;
    Ok(if code == invalid { Exit::Invalid } else { Exit::Done })
}
