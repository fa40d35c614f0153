//! One repetition of one point: fresh system, registration, load, harvest, stop.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use record::{LoadSummary, PointDir, RunDir, SampledWindow, read_json, write_json};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    definition::{settings::Settings, template::Values},
    exit::{Interrupted, SystemFailed},
    machine::{
        disk,
        usage::{LOAD_GENERATOR, RUNNER, Sample, Sampler},
    },
    run::{
        basis::Basis,
        exhaustion::{self, DiskUsage, Headroom},
        functions, harvest, join, load, measured_system, preparation,
        programs::Programs,
    },
    session::{ChildCommand, CommandEnd, CommandFailed, Session, stop_politely},
    system::{
        System,
        cluster::{Cluster, Stopped, ended_early},
        launch::Output,
        process::{Process, describe},
    },
};

/// Exit code of a load generator that could not keep its schedule. Its rows are complete and marked as late, so the
/// repetition is kept and judged by them.
const LOAD_INVALID: i32 = 3;

/// Time after the end of the schedule and the load time-out within which the load generator must end.
const LOAD_SLACK: Duration = Duration::from_secs(60);

/// The measurement of one repetition: its subject and its resources.
#[derive(Clone, Copy, Debug)]
pub struct Repetition<'a> {
    /// The experiment's settings.
    pub settings: &'a Settings,
    /// The table of the system.
    pub system: &'a System,
    /// Built programs.
    pub programs: &'a Programs,
    /// Directory of the results.
    pub point: &'a PointDir,
    /// The schedule.
    pub schedule: &'a Path,
    /// The functions to register, with the names of their workloads as images.
    pub functions: &'a Path,
    /// The run that it belongs to, with the prepared states.
    pub dir: &'a RunDir,
    /// Programs and machine of the measurement.
    pub basis: &'a Basis,
}

/// `repetition.json`: observations of the runner in a repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepetitionFacts {
    /// Version of this document.
    pub schema_version: u32,
    /// Start, RFC 3339, UTC.
    pub started: String,
    /// Time at which everything had stopped, RFC 3339, UTC.
    pub ended: String,
    /// Programs and machine of the measurement; absent in records of versions without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_with: Option<Basis>,
    /// The measured part; empty when it was too short to be sampled.
    pub window: Option<SampledWindow>,
    /// Exit code of the load generator; empty when a signal ended it.
    pub load_exit: Option<i32>,
    /// Processes of the system that ended before they were stopped.
    #[serde(alias = "deaths")]
    pub early_exits: Vec<String>,
    /// Processes that had to be killed, because they did not stop.
    pub killed: Vec<String>,
    /// Processes that others left behind.
    pub orphans: Vec<String>,
    /// True if the user stopped it.
    pub interrupted: bool,
    /// Files that could not be harvested, and other caveats.
    pub notes: Vec<String>,
}

/// The load generator failed.
#[derive(Debug, Error)]
#[error("the load generator {how}: its messages are above")]
struct GeneratorFailed {
    how: String,
    /// True if it was killed: only the kernel does so, when memory is exhausted.
    killed: bool,
    /// Greatest memory of the system's processes by then, in MiB.
    system_mib: u64,
}

/// An error of a command; if the command was killed, with the memory that the system used.
fn killed_with(error: anyhow::Error, cluster: &Cluster<'_>) -> anyhow::Error {
    let killed = CommandEnd::Signal(Signal::SIGKILL as i32);
    if error.downcast_ref().is_none_or(|failed: &CommandFailed| failed.how != killed) {
        return error;
    }
    let sampler = cluster.processes().and_then(|processes| Ok(Sampler::start(processes)?));
    let system_mib = sampler.map_or(0, |sampler| exhaustion::memory_mib(&sampler.finish()));
    let how = "that registers was killed".to_owned();
    anyhow::Error::from(GeneratorFailed { how, killed: true, system_mib }).context(error)
}

/// Path of the facts of a repetition.
#[must_use]
pub fn facts_path(point: &PointDir) -> std::path::PathBuf {
    point.facts()
}

impl Repetition<'_> {
    /// Measures the repetition. All started processes are stopped, also after an error.
    ///
    /// # Errors
    /// [`SystemFailed`] when the system does not become ready, refuses functions, ended before another step failed, or exhausted
    /// the disk or memory that the step needed; another one when the load generator fails, or a file cannot be written. An
    /// interrupted load is no error unless the system had ended before: its rows are harvested and marked as interrupted.
    pub fn measure(&self, session: &Session) -> anyhow::Result<RepetitionFacts> {
        let mut facts = RepetitionFacts {
            schema_version: record::SCHEMA_VERSION,
            started: now(),
            measured_with: Some(self.basis.clone()),
            ..Default::default()
        };
        let path = &self.point.path;
        fs::create_dir_all(self.point.logs()).with_context(|| format!("creating {}", path.display()))?;
        let before = Headroom::left(path);
        let mut held = None;
        let Err(error) = self.go_through(session, &mut facts, &mut held) else { return Ok(facts) };
        let error = self.by_whom(error, &facts.early_exits, (before, held));
        // A failed clean-up must not replace the reason of the failure.
        match exhaustion::make_room(self.point, disk::free_mib(path)) {
            Ok(()) => Err(error),
            Err(problem) => Err(error.context(format!("there is no room ({problem:#})"))),
        }
    }

    /// Prepares, starts, registers, loads, harvests and stops; `held` becomes the system's disk usage if its load failed.
    fn go_through(
        &self,
        session: &Session,
        facts: &mut RepetitionFacts,
        held: &mut Option<DiskUsage>,
    ) -> anyhow::Result<()> {
        let mut values = self.values()?;
        if let Some(preparation) = &self.system.prepare {
            let folder = preparation::prepared(session, self.dir, preparation, &values, &self.basis.system)?;
            values.set("prepared", folder.display().to_string());
        }
        let task = session.console.begin(format!("starting {}", self.point.system));
        let mut cluster = Cluster::start(session, self.system, self.point, values)?;
        task.done("ready");
        self.write_config(&cluster)?;
        let registered = self.register(session, &cluster);
        let loaded = registered.and_then(|()| self.load(session, &mut cluster, facts));
        facts.early_exits = cluster.early_exits();
        if loaded.is_err() {
            // Disk and memory of the system must be read before it is stopped, which frees them.
            *held = Some(DiskUsage::in_point(self.point));
        }
        let samples = loaded?;
        if let Some(source) = &self.system.harvest.nodes {
            note(facts, "nodes", harvest::nodes(source, cluster.values(), self.point));
        }
        let task = session.console.begin(format!("stopping {}", self.point.system));
        let Stopped { killed, orphans, failed } = cluster.stop();
        task.done(if orphans.is_empty() { "nothing left behind" } else { "processes were left behind and killed" });
        (facts.killed, facts.orphans) = (killed, orphans);
        facts.notes.extend(failed.into_iter().map(|what| format!("while it stopped: {what}")));
        self.harvest(&cluster, &samples, facts)?;
        facts.ended = now();
        write_json(&facts_path(self.point), facts)?;
        if facts.early_exits.is_empty() && facts.killed.is_empty() {
            let data = cluster.data();
            // The results are complete, so data that cannot be removed are only noted.
            if let Err(error) = fs::remove_dir_all(&data) {
                facts.notes.push(format!("{} is left: {error}", data.display()));
            }
        }
        Ok(())
    }

    /// Attributes an error to the system if processes of it had ended early, or it had exhausted the disk or memory.
    fn by_whom(
        &self,
        error: anyhow::Error,
        early_exits: &[String],
        (before, held): (Headroom, Option<DiskUsage>),
    ) -> anyhow::Error {
        if !early_exits.is_empty() {
            return ended_early(error, early_exits);
        }
        let killed = error.downcast_ref::<GeneratorFailed>().filter(|failed| failed.killed);
        let memory_mib = killed.map_or(0, |failed| failed.system_mib);
        let after = DiskUsage::in_point(self.point);
        let held = held.map_or(after, |held| held.until_stopped(after));
        let system = Headroom { disk_mib: held.system_mib, memory_mib };
        match before.exhausted_by(system, held.free_mib, killed.is_some()) {
            Some(why) if !error.is::<Interrupted>() => SystemFailed::of(error.context(why)),
            _ => error,
        }
    }

    /// Values for the templates of the system.
    fn values(&self) -> anyhow::Result<Values> {
        let mut values = Values::default();
        let settings = serde_json::to_value(self.settings).expect("settings are tables of plain values");
        values.set_leaves("", &settings);
        values.set("bin", self.programs.folder().display().to_string());
        values.set("functions", self.deployable_functions()?.display().to_string());
        values.set("point", self.point.path.display().to_string());
        values.set("system", &self.point.system);
        for (name, value) in measured_system::parameters(self.system, self.settings).context("the parameters")? {
            values.set(format!("parameters.{name}"), value);
        }
        Ok(values)
    }

    /// The functions as this system can deploy them.
    fn deployable_functions(&self) -> anyhow::Result<PathBuf> {
        if !self.system.takes_functions() {
            return Ok(self.functions.to_owned());
        }
        functions::with_images(self.functions, &self.point.path, (&self.point.system, &self.system.images))
    }

    fn register(&self, session: &Session, cluster: &Cluster<'_>) -> anyhow::Result<()> {
        let task = session.console.begin("registering the functions");
        let command = cluster.values().expand_all(&self.system.register.command).context("the command to register")?;
        let is_ours = command.first().is_some_and(|program| self.programs.is_ours(program));
        let class = if is_ours { CommandFailed::of_harness } else { CommandFailed::of_system };
        let output = Output::File(self.point.logs().join("register.log"));
        let child = ChildCommand { command, folder: &self.point.path, output, timeout: self.system.register.timeout };
        let registered = session.run(&child).map_err(class).map_err(|error| killed_with(error, cluster));
        registered.context("registering the functions")?;
        task.done("");
        Ok(())
    }

    /// Replays the schedule, and samples the resource usage of every process meanwhile.
    fn load(
        &self,
        session: &Session,
        cluster: &mut Cluster<'_>,
        facts: &mut RepetitionFacts,
    ) -> anyhow::Result<Vec<Sample>> {
        let files = (self.schedule, self.point.path.as_path());
        let command = load::run_command(self.programs, self.settings, &self.system.invoke, cluster.values(), files)?;
        let length = self.settings.load.length();
        session.console.line(&format!(
            "replaying {} of load against {}",
            humantime::format_duration(length),
            self.point.system
        ));
        let output = Output::Shown(self.point.logs().join("loadgen.log"));
        let timeout = length + self.settings.load.timeout + LOAD_SLACK;
        let mut process = session.start(&ChildCommand { command, folder: &self.point.path, output, timeout })?;
        let mut watched = cluster.processes()?;
        watched.push((LOAD_GENERATOR.to_owned(), process.pid));
        watched.push((RUNNER.to_owned(), nix::unistd::Pid::this().as_raw()));
        let sampler = Sampler::start(watched).context("sampling processes")?;
        let status = match session.interrupt.wait(timeout, || process.ended()) {
            Ok(Some(status)) => Some(status),
            Ok(None) => return Err(self.overdue(&mut process, timeout)),
            Err(_) => {
                facts.interrupted = true;
                let has_failed = !cluster.early_exits().is_empty();
                session.console.line("stopping: what was measured is kept");
                let status = stop_politely(&mut process);
                if has_failed {
                    bail!("then its load was stopped");
                }
                status
            }
        };
        let samples = sampler.finish();
        facts.load_exit = status.and_then(|status| status.code());
        match status {
            Some(status) if !facts.interrupted && !matches!(status.code(), Some(0 | LOAD_INVALID)) => {
                let killed = status.signal() == Some(Signal::SIGKILL as i32);
                let system_mib = exhaustion::memory_mib(&samples);
                Err(GeneratorFailed { how: describe(status), killed, system_mib }.into())
            }
            _ => Ok(samples),
        }
    }

    fn overdue(&self, process: &mut Process, timeout: Duration) -> anyhow::Error {
        stop_politely(process);
        let timeout = humantime::format_duration(timeout);
        anyhow::anyhow!("the load generator did not end within {timeout} for {}", self.point.system)
    }

    /// Collects the files of the stopped system and of the load generator.
    fn harvest(&self, cluster: &Cluster<'_>, samples: &[Sample], facts: &mut RepetitionFacts) -> anyhow::Result<()> {
        let load: LoadSummary = match read_json(&self.point.loadgen()) {
            Ok(load) => load,
            Err(error) if facts.interrupted => {
                facts.notes.push(format!("the load generator left no summary: {error}"));
                return Ok(());
            }
            Err(error) => return Err(error).context("the load generator left no summary"),
        };
        if let Some(template) = &self.system.harvest.coldstarts {
            let path = cluster.values().expand(template).context("harvest.coldstarts")?;
            note(facts, "coldstarts", harvest::coldstarts(Path::new(&path), self.point, load.started_unix_ns));
            if self.system.harvest.join_coldstarts {
                note(facts, "coldness of rows", join::rows_to_creations(self.point));
            }
        }
        if let Some(template) = &self.system.harvest.actions {
            let path = cluster.values().expand(template).context("harvest.actions")?;
            note(facts, "actions", harvest::actions(Path::new(&path), self.point, load.started_unix_ns));
        }
        for template in &self.system.harvest.files {
            let path = cluster.values().expand(template).context("harvest.files")?;
            note(facts, &path, harvest::keep(Path::new(&path), self.point));
        }
        let warmup_ns = i64::try_from(self.settings.load.warmup().as_nanos()).unwrap_or(i64::MAX);
        facts.window = harvest::processes(samples, &load, warmup_ns, self.point)?;
        Ok(())
    }

    /// `config.toml`: the settings and every file the system was given.
    fn write_config(&self, cluster: &Cluster<'_>) -> anyhow::Result<()> {
        let files = toml::Table::from_iter([("files".to_owned(), toml::Value::try_from(cluster.files())?)]);
        let text = format!("{}\n{}", self.settings.to_toml(), toml::to_string_pretty(&files)?);
        let path = self.point.config();
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}

/// Notes a failed harvest instead of failing: the rows of the load are still valid, and the note says what is missing.
fn note<T>(facts: &mut RepetitionFacts, what: &str, harvested: anyhow::Result<T>) {
    if let Err(error) = harvested {
        facts.notes.push(format!("no {what}: {error:#}"));
    }
}

/// The time, RFC 3339, UTC, to the second.
#[must_use]
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
