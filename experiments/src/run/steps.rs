//! Execution of each step of a run, and the dependencies of its result.

use std::{
    collections::{BTreeSet, btree_map::Entry},
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use record::{ExitState, PointDir, RunDir, SystemFacts, write_json};

use crate::{
    checksum,
    definition::points::{ONLY_POINT, Point},
    exit::{Exit, Interrupted, UsageError},
    run::{
        Run,
        basis::{self, Basis, RUNNER},
        dependencies::Dependencies,
        functions,
        inputs::Inputs,
        load, manifest, outcome,
        plan::Action,
        preparation,
        programs::{Origin, Programs},
        repetition::Repetition,
        space,
    },
    session::{ChildCommand, CommandEnd, CommandFailed, Session},
    system::{launch::Output, needs},
    verify,
};

/// Longest time the schedule may take to be made: a day of a large trace takes seconds.
const SCHEDULE_TIMEOUT: Duration = Duration::from_secs(600);

/// Longest time the report may take to be made.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1800);

impl Run<'_> {
    /// SHA-256 of what a step's result depends on.
    pub(super) fn fingerprint(&self, action: &Action) -> anyhow::Result<String> {
        let mut parts = vec![serde_json::to_string(action)?];
        match action {
            Action::Build | Action::Report => {}
            Action::Schedule => {
                for point in &self.resolved.points {
                    let settings = &point.settings;
                    parts.push(serde_json::to_string(&settings.load)?);
                    parts.push(format!("{} for {}", settings.seed, settings.repetitions));
                    parts.extend([serde_json::to_string(&settings.function)?, point.name.clone()]);
                }
                parts.extend(self.trace_checksums()?.into_iter().map(|(name, checksum)| format!("{name} {checksum}")));
                parts.extend(self.manifest.checksums.get("loadgen").cloned());
            }
            Action::Measure { system, point, repetition } => {
                let dependencies = self.dependencies(action, (point, *repetition))?;
                return Ok(dependencies.fingerprint(self.manifest.systems.get(system)));
            }
        }
        Ok(checksum::of_text(&parts.join("\n")))
    }

    /// Dependencies of the result of a repetition, which `action` measures, other than its system.
    pub(super) fn dependencies(
        &self,
        action: &Action,
        (point, repetition): (&str, u32),
    ) -> anyhow::Result<Dependencies> {
        let settings = self.resolved.point(point)?.settings.of_repetition(repetition).to_toml();
        let files = self.inputs(point, repetition);
        let sum = |path: &Path| checksum::of_file(path).with_context(|| format!("reading {}", path.display()));
        let mut inputs = vec![sum(&files.schedule)?, sum(&files.functions)?];
        inputs.extend(self.manifest.checksums.get("loadgen").cloned());
        Ok(Dependencies { head: [serde_json::to_string(action)?, settings], inputs })
    }

    fn trace_checksums(&self) -> anyhow::Result<Vec<(String, String)>> {
        let traces = self.resolved.points.iter().filter_map(|point| point.settings.load.trace()?.trace.as_ref());
        let mut checksums = Vec::new();
        for trace in traces.collect::<BTreeSet<_>>() {
            let found = checksum::of_files(trace).with_context(|| format!("reading the trace {}", trace.display()));
            checksums.extend(found?);
        }
        Ok(checksums)
    }

    fn programs(&self) -> anyhow::Result<&Programs> {
        self.programs.as_ref().context("programs are built before they are used")
    }

    pub(super) fn build(&mut self, origin: Origin<'_>) -> anyhow::Result<()> {
        let programs = Programs::new(origin, self.checkout, &self.resolved.systems, self.session.watch())?;
        for measured in &self.resolved.systems.clone() {
            let name = &measured.name;
            if let Some(why) = programs.unbuilt(name) {
                self.unable.insert(name.clone(), why.to_owned());
                continue;
            }
            let missing = needs::missing(&measured.system);
            if !missing.is_empty() {
                self.unable.insert(name.clone(), format!("it cannot run here: {}", missing.join("; ")));
            }
            match manifest::system(measured, &programs) {
                Ok(facts) => self.know(name, facts),
                Err(error) => drop(self.unable.entry(name.clone()).or_insert(format!("{error:#}"))),
            }
        }
        for program in ["loadgen", "analysis"] {
            let checksum = checksum::of_file(Path::new(&programs.path(program)));
            let checksum = checksum.with_context(|| format!("reading {}", programs.path(program)))?;
            self.manifest.checksums.insert(program.to_owned(), checksum);
        }
        self.programs = Some(programs);
        Ok(())
    }

    /// Keeps the facts of a system, unless they are known, if only from another folder, or it is not measured with them.
    fn know(&mut self, name: &str, facts: SystemFacts) {
        let known = self.manifest.systems.get(name);
        let stays = known
            .is_some_and(|known| self.unable.contains_key(name) || basis::system_changes(known, &facts).is_empty());
        if !stays {
            self.manifest.systems.insert(name.to_owned(), facts);
        }
    }

    /// The files that a repetition is given, which may still be waiting for their place.
    fn inputs(&self, point: &str, repetition: u32) -> Inputs {
        if self.is_staged {
            Inputs::staged(&self.dir, point, repetition)
        } else {
            Inputs::of(&self.dir, point, repetition)
        }
    }

    /// Returns true if the files of the schedule step exist.
    pub(super) fn has_schedules(&self) -> bool {
        let of_point = |point: &Point| {
            (1..=point.settings.repetitions).all(|number| Inputs::of(&self.dir, &point.name, number).exist())
        };
        self.resolved.points.iter().all(of_point)
    }

    /// Makes all schedules apart, so that those that repetitions were given stay until it is known that they are given others.
    pub(super) fn schedule(&mut self) -> anyhow::Result<()> {
        self.drop_staged()?;
        self.is_staged = true;
        let points = self.resolved.points.clone();
        for point in &points {
            for repetition in 1..=point.settings.repetitions {
                self.schedule_repetition(point, repetition)
                    .with_context(|| format!("point {}, repetition {repetition}", point.name))?;
            }
        }
        for (name, checksum) in self.trace_checksums()? {
            self.manifest.checksums.insert(format!("trace/{name}"), checksum);
        }
        if self.is_untouched() { Ok(()) } else { self.adopt_schedules() }
    }

    /// Puts the schedules that were made in their place.
    pub(super) fn adopt_schedules(&mut self) -> anyhow::Result<()> {
        if !self.is_staged {
            // A session that was killed may have left some.
            return self.drop_staged();
        }
        for point in &self.resolved.points {
            for repetition in 1..=point.settings.repetitions {
                let (from, to) = (self.inputs(&point.name, repetition), Inputs::of(&self.dir, &point.name, repetition));
                preparation::remove(&to.folder)?;
                let parent = to.folder.parent().unwrap_or(&self.dir.0);
                fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
                fs::rename(&from.folder, &to.folder).with_context(|| format!("placing {}", to.folder.display()))?;
            }
        }
        self.drop_staged()
    }

    /// Removes schedules that are not in their place.
    pub(super) fn drop_staged(&mut self) -> anyhow::Result<()> {
        self.is_staged = false;
        preparation::remove(&Inputs::staging(&self.dir))
    }

    /// Lists the inputs that are there, where the manifest lacks them.
    pub(super) fn list_inputs(&mut self) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for point in &self.resolved.points {
            for repetition in 1..=point.settings.repetitions {
                let inputs = Inputs::of(&self.dir, &point.name, repetition);
                found.extend([inputs.schedule, inputs.functions]);
            }
        }
        for path in found {
            let name = path.strip_prefix(&self.dir.0).unwrap_or(&path).display().to_string();
            if let Entry::Vacant(missing) = self.manifest.checksums.entry(name) {
                missing.insert(checksum::of_file(&path).with_context(|| format!("reading {}", path.display()))?);
            }
        }
        Ok(())
    }

    fn schedule_repetition(&mut self, point: &Point, repetition: u32) -> anyhow::Result<()> {
        let inputs = self.inputs(&point.name, repetition);
        fs::create_dir_all(&inputs.folder).with_context(|| format!("creating {}", inputs.folder.display()))?;
        let found = inputs.folder.join("functions.trace.ndjson");
        let settings = point.settings.of_repetition(repetition);
        let command = load::schedule_command(self.programs()?, &settings, &inputs.schedule, &found);
        let output = Output::File(inputs.folder.join("schedule.log"));
        let child = ChildCommand { command, folder: &inputs.folder, output, timeout: SCHEDULE_TIMEOUT };
        let only = point.name == ONLY_POINT;
        let which = if only { String::new() } else { format!(" of {}", point.name) };
        let begun = format!("making the schedule{which}, repetition {repetition}, seed {}", settings.seed);
        let task = self.session.console.begin(begun);
        self.session.run(&child).map_err(refused)?;
        let count = functions::prepare(&found, &inputs.functions, &settings.function)?;
        fs::remove_file(&found).with_context(|| format!("removing {}", found.display()))?;
        task.done(&format!("{count} functions"));
        let placed = Inputs::of(&self.dir, &point.name, repetition);
        for (path, placed) in [(&inputs.schedule, &placed.schedule), (&inputs.functions, &placed.functions)] {
            let name = placed.strip_prefix(&self.dir.0).unwrap_or(placed).display().to_string();
            self.manifest.checksums.insert(name, checksum::of_file(path)?);
        }
        Ok(())
    }

    pub(super) fn measure(&mut self, point: &PointDir, fingerprint: String) -> anyhow::Result<()> {
        // What a stopped try left is nothing of this one, and takes room.
        preparation::remove(&point.path)?;
        let basis = Basis {
            fingerprint,
            system: self.manifest.systems.get(&point.system).cloned().unwrap_or_default(),
            loadgen: self.manifest.checksums.get("loadgen").cloned().unwrap_or_default(),
            runner: RUNNER.to_owned(),
            git_revision: self.git_revision.clone(),
            host: self.host.clone(),
        };
        let system = self.resolved.system(&point.system)?;
        let inputs = Inputs::of(&self.dir, &point.point, point.repetition);
        let scheduled = fs::metadata(&inputs.schedule).with_context(|| inputs.schedule.display().to_string())?.len();
        space::ensure_free(&self.dir.0, space::of_repetition(scheduled))?;
        let repetition = Repetition {
            settings: &self.resolved.point(&point.point)?.settings.of_repetition(point.repetition),
            system,
            programs: self.programs()?,
            point,
            schedule: &inputs.schedule,
            functions: &inputs.functions,
            dir: &self.dir,
            basis: &basis,
        };
        let measured = repetition.measure(self.session);
        self.take_back_notes(point);
        let facts = measured?;
        let place = outcome::place(point);
        let seen =
            [("ended early", &facts.early_exits), ("had to be killed", &facts.killed), ("left behind", &facts.orphans)];
        for (what, whom) in seen.into_iter().filter(|(_, whom)| !whom.is_empty()) {
            self.manifest.notes.push(format!("{place}: {what}: {}", whom.join(", ")));
        }
        self.manifest.notes.extend(facts.notes.iter().map(|note| format!("{place}: {note}")));
        if facts.interrupted { Err(Interrupted.into()) } else { Ok(()) }
    }

    /// Invariants first: claims depend on them, and the page shows the broken ones.
    pub(super) fn report(&mut self) -> anyhow::Result<()> {
        preparation::forget(&self.dir)?;
        let backup = verify::check_and_record(&self.dir).context("checking the invariants")?;
        if verify::invariant::exit(&backup.invariants) == Exit::Invalid && self.manifest.exit == ExitState::Done {
            self.manifest.exit = ExitState::Invalid;
            write_json(&self.dir.manifest(), &self.manifest)?;
        }
        let made = self.programs().and_then(|programs| analyse(self.session, programs, &self.dir));
        backup.finish(made).map(drop)
    }
}

/// Option by which an analysis leaves the lock of the run's directory to its caller.
const UNDER_LOCK: &str = "--under-lock";

/// A load that the load generator refuses is the user's to correct; no resumed run would have other values.
fn refused(error: anyhow::Error) -> anyhow::Error {
    let how = error.downcast_ref().map(|failed: &CommandFailed| failed.how);
    if how == Some(CommandEnd::Code(Exit::Usage as i32)) { UsageError(format!("{error:#}")).into() } else { error }
}

/// Checks the invariants of a finished run again, and has its report made by what was found. Where it is not made, all that was
/// there stays as it was.
///
/// # Errors
/// When a file of the run is malformed, or the analysis fails.
pub fn report(session: &Session, programs: &Programs, dir: &RunDir) -> anyhow::Result<Exit> {
    let backup = verify::check_and_record(dir).context("checking the invariants")?;
    backup.finish(analyse(session, programs, dir))
}

/// Has the statistics of a run computed, its table printed and its page drawn. An invalid run has a report, too.
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
