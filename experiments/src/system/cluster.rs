//! A system that was started for one repetition: its processes, from the first start to the last one gone.
//!
//! Dropping it stops everything, so that a failure, a panic or Ctrl-C at any point leaves nothing behind.

use std::{
    collections::BTreeMap, fs, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus, time::Duration,
};

use anyhow::{Context, anyhow, bail};
use nix::sys::signal::Signal;
use record::PointDir;

use crate::{
    definition::template::Values,
    exit::{Interrupted, SystemFailed},
    interrupt::wait_regardless,
    machine::usage,
    session::Session,
    system::{
        ProcessTemplate, System,
        launch::Output,
        orphans,
        process::{Process, describe},
        readiness::Condition,
        ready_timeout,
    },
};

/// Most processes of one template: a typing error must not start a million.
const MAX_COUNT: u32 = 1000;

/// A started system.
pub struct Cluster<'a> {
    session: &'a Session,
    system: &'a System,
    point: &'a PointDir,
    values: Values,
    files: BTreeMap<String, String>,
    processes: Vec<Process>,
    /// Files that name child processes.
    child_processes: Vec<PathBuf>,
    stopped: bool,
}

/// Processes that did not stop as requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Processes that did not stop within the grace and were killed.
    pub killed: Vec<String>,
    /// Processes left behind by others, and killed.
    pub orphans: Vec<String>,
    /// Processes that failed while they stopped, each with the end of its log: their last output may be missing.
    pub failed: Vec<String>,
}

impl<'a> Cluster<'a> {
    /// Starts a system afresh and waits until all of it is ready. `values` fill the templates; `{dir}`, `{dirs.NAME}`,
    /// `{name}`, `{number}`, `{ports.NAME.KEY}` and `{own.KEY}` are added.
    ///
    /// # Errors
    /// If a process cannot be started; [`SystemFailed`] with the end of its log when one ends, even if the user interrupted
    /// the start then, or is not ready in time. All processes are stopped then.
    pub fn start(
        session: &'a Session,
        system: &'a System,
        point: &'a PointDir,
        values: Values,
    ) -> anyhow::Result<Self> {
        let mut cluster = Self {
            session,
            system,
            point,
            values,
            files: BTreeMap::new(),
            processes: Vec::new(),
            child_processes: Vec::new(),
            stopped: false,
        };
        match cluster.start_all() {
            Ok(()) => Ok(cluster),
            Err(error) if error.is::<Interrupted>() => Err(ended_early(error, &cluster.early_exits())),
            Err(error) => Err(error),
        }
    }

    fn start_all(&mut self) -> anyhow::Result<()> {
        for template in &self.system.start {
            let first = self.processes.len();
            for (number, name) in names(template, &self.values)? {
                self.start_process(template, &name, number).with_context(|| format!("starting {name}"))?;
            }
            for index in first..self.processes.len() {
                let name = self.processes[index].name.clone();
                self.await_process(template, index).with_context(|| format!("waiting for {name}"))?;
            }
        }
        self.await_system()
    }

    fn start_process(&mut self, template: &ProcessTemplate, name: &str, number: u32) -> anyhow::Result<()> {
        let dir = self.data().join(name);
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let logs = self.point.logs();
        fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
        self.values.set(format!("dirs.{name}"), dir.display().to_string());
        let own =
            self.values.with("dir", dir.display().to_string()).with("name", name).with("number", number.to_string());
        for (file, content) in &template.files {
            let path = dir.join(own.expand(file)?);
            let content = own.expand(content).with_context(|| format!("file {file}"))?;
            self.files.insert(format!("{name}/{file}"), content.clone());
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        }
        let command = own.expand_all(&template.command).context("its command")?;
        let log = logs.join(format!("{name}.log"));
        let child = self.session.launcher.start(&command, &dir, &Output::File(log.clone()))?;
        self.processes.push(Process::new(name, child, Some(&log)));
        Ok(())
    }

    fn await_process(&mut self, template: &ProcessTemplate, index: usize) -> anyhow::Result<()> {
        let name = self.processes[index].name.clone();
        let dir = self.data().join(&name);
        let mut ports = serde_json::Value::Null;
        if let Some(file) = &template.ports {
            let path = dir.join(file);
            let missing = || format!("{} is not there", path.display());
            let read = || fs::read_to_string(&path).map_err(|_| missing());
            let text = self.wait(template.timeout, index, read)?;
            let read = serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()));
            ports = read.map_err(SystemFailed::of)?;
            self.values.set_leaves(&format!("ports.{name}"), &ports);
        }
        self.child_processes.extend(template.child_processes.as_ref().map(|file| dir.join(file)));
        let mut own = self.values.with("dir", dir.display().to_string()).with("name", &name);
        own.set_leaves("own", &ports);
        for check in &template.ready {
            let condition = Condition::new(check, &own)?;
            self.wait(template.timeout, index, || condition.holds())?;
        }
        Ok(())
    }

    /// Waits for a condition that the process at `index` must fulfil; [`SystemFailed`] if it does not.
    fn wait<T>(
        &mut self,
        timeout: Duration,
        index: usize,
        mut poll: impl FnMut() -> Result<T, String>,
    ) -> anyhow::Result<T> {
        let process = &mut self.processes[index];
        let mut reason = String::new();
        let outcome = self.session.interrupt.wait(timeout, || match (poll(), process.ended()) {
            (Ok(value), _) => Some(Ok(value)),
            (Err(_), Some(status)) => Some(Err(status)),
            (Err(why), None) => {
                reason = why;
                None
            }
        })?;
        match outcome {
            Some(Ok(value)) => Ok(value),
            Some(Err(status)) => Err(SystemFailed::of(anyhow!("it {}; {}", describe(status), process.excerpt()))),
            None => {
                let (timeout, log) = (timeout.as_secs(), process.excerpt());
                Err(SystemFailed::of(anyhow!("not ready within {timeout} s: {reason}; {log}")))
            }
        }
    }

    /// Waits for the conditions of the whole system.
    fn await_system(&mut self) -> anyhow::Result<()> {
        // An external system has no process, and hence no time-out of its own.
        let timeout = self.system.start.iter().map(|template| template.timeout).max().unwrap_or_else(ready_timeout);
        for check in &self.system.ready {
            let condition = Condition::new(check, &self.values)?;
            let mut reason = String::new();
            let holds = self.session.interrupt.wait(timeout, || condition.holds().map_err(|why| reason = why).ok())?;
            if holds.is_none() {
                let timeout = timeout.as_secs();
                return Err(SystemFailed::of(anyhow!("the system is not ready within {timeout} s: {reason}")));
            }
        }
        Ok(())
    }

    /// Values for templates, with folders and ports of every process.
    #[must_use]
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The files written for its processes, as `NAME/FILE`, with all placeholders filled.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, String> {
        &self.files
    }

    /// Names and ids of its processes, and of the child processes that they name.
    ///
    /// # Errors
    /// If a file of child processes cannot be read, or uses a role that is taken.
    pub fn processes(&self) -> anyhow::Result<Vec<(String, i32)>> {
        let mut all: Vec<(String, i32)> =
            self.processes.iter().map(|process| (process.name.clone(), process.pid)).collect();
        for path in &self.child_processes {
            let named: BTreeMap<String, i32> = record::read_json(path)?;
            for (role, pid) in named {
                if usage::is_reserved(&role) || all.iter().any(|(taken, _)| *taken == role) {
                    bail!("{} calls a process {role:?}, which is another's role", path.display());
                }
                all.push((role, pid));
            }
        }
        Ok(all)
    }

    /// Processes that have ended by themselves, each with its exit status.
    #[must_use]
    pub fn early_exits(&mut self) -> Vec<String> {
        let ended = self.processes.iter_mut().filter_map(|process| Some((process.name.clone(), process.ended()?)));
        ended.map(|(name, status)| format!("{name} {}", describe(status))).collect()
    }

    /// Data directory of its processes.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.point.path.join("data")
    }

    /// Stops every process, the last started first: SIGTERM, grace period, SIGKILL. Then ends processes that they left
    /// behind. There is no grace period if the user has requested twice to stop.
    pub fn stop(&mut self) -> Stopped {
        self.stopped = true;
        let running: Vec<bool> = self.processes.iter_mut().map(|process| process.ended().is_none()).collect();
        for process in self.processes.iter_mut().rev() {
            process.signal(Signal::SIGTERM);
        }
        let (session, processes) = (self.session, &mut self.processes);
        wait_regardless(self.system.stop.grace_period, || {
            // Not `any`, which stops at the first match: every process must be polled, or it is not reaped.
            let running = processes.iter_mut().filter_map(|process| process.ended().is_none().then_some(())).count();
            (running == 0 || session.interrupt.count() > 1).then_some(())
        });
        let mut stopped = Stopped::default();
        for (process, was_running) in self.processes.iter_mut().zip(running).rev() {
            match process.ended() {
                None => {
                    process.kill();
                    stopped.killed.push(process.name.clone());
                }
                Some(status) if was_running && failed(status) => {
                    stopped.failed.push(format!("{} {}; {}", process.name, describe(status), process.excerpt()));
                }
                Some(_) => {}
            }
        }
        stopped.orphans = orphans::end(&[]);
        stopped
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if !self.stopped {
            let stopped = self.stop();
            if !stopped.orphans.is_empty() {
                self.session.console.line(&format!("left behind and killed: {}", stopped.orphans.join(", ")));
            }
        }
    }
}

/// Attributes an error to the system if processes of it had ended early, even if it is an interrupt: a user who sees the
/// failure may interrupt the rest.
#[must_use]
pub fn ended_early(error: anyhow::Error, early_exits: &[String]) -> anyhow::Error {
    if early_exits.is_empty() {
        return error;
    }
    let error = if error.is::<Interrupted>() { anyhow!("then it was stopped") } else { error };
    SystemFailed::of(error.context(format!("ended early: {}", early_exits.join(", "))))
}

/// Returns true if a process did anything other than stop on request.
fn failed(status: ExitStatus) -> bool {
    !status.success() && status.signal() != Some(Signal::SIGTERM as i32)
}

/// Numbers and names of the processes of a template.
fn names(template: &ProcessTemplate, values: &Values) -> anyhow::Result<Vec<(u32, String)>> {
    let Some(count) = &template.count else { return Ok(vec![(1, template.name.clone())]) };
    let filled = values.expand(count).with_context(|| format!("count of {}", template.name))?;
    let count: u32 = filled
        .parse()
        .ok()
        .filter(|count| (1..=MAX_COUNT).contains(count))
        .with_context(|| format!("count of {} is {filled:?}: expected 1 to {MAX_COUNT}", template.name))?;
    Ok((1..=count).map(|number| (number, format!("{}-{number}", template.name))).collect())
}
