//! Schedules of a run. New ones are made in a staging folder, so that those of finished repetitions stay until it is known
//! that they are replaced.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs,
    time::Duration,
};

use anyhow::Context;
use record::RunDir;

use crate::{
    checksum,
    definition::points::{ONLY_POINT, Point},
    exit::{Exit, UsageError},
    run::{functions, inputs::Inputs, load, preparation, programs::Programs},
    session::{ChildCommand, CommandEnd, CommandFailed, Session},
    system::launch::Output,
};

/// Longest time the schedule may take to be made: a day of a large trace takes seconds.
const SCHEDULE_TIMEOUT: Duration = Duration::from_secs(600);

/// SHA-256 by name, as the manifest has them.
type Checksums = BTreeMap<String, String>;

/// The schedules of a run.
pub(super) struct Schedules {
    dir: RunDir,
    /// True if schedules were made that are not at their final paths yet.
    is_staged: bool,
}

impl Schedules {
    /// Those in a run's directory.
    pub(super) fn new(dir: RunDir) -> Self {
        Self { dir, is_staged: false }
    }

    /// The files of a repetition, which may still be in the staging folder.
    pub(super) fn inputs(&self, point: &str, repetition: u32) -> Inputs {
        if self.is_staged {
            Inputs::staged(&self.dir, point, repetition)
        } else {
            Inputs::of(&self.dir, point, repetition)
        }
    }

    /// Returns true if all are at their final paths.
    pub(super) fn exist(&self, points: &[Point]) -> bool {
        repetitions(points).all(|(point, repetition)| Inputs::of(&self.dir, &point.name, repetition).exist())
    }

    /// Makes all of them in the staging folder and adds their checksums to `checksums`.
    pub(super) fn make(
        &mut self,
        session: &Session,
        programs: &Programs,
        points: &[Point],
        checksums: &mut Checksums,
    ) -> anyhow::Result<()> {
        self.drop_staged()?;
        self.is_staged = true;
        for (point, repetition) in repetitions(points) {
            self.make_one(session, programs, (point, repetition), checksums)
                .with_context(|| format!("point {}, repetition {repetition}", point.name))?;
        }
        for (name, checksum) in trace_checksums(points)? {
            checksums.insert(format!("trace/{name}"), checksum);
        }
        Ok(())
    }

    fn make_one(
        &self,
        session: &Session,
        programs: &Programs,
        (point, repetition): (&Point, u32),
        checksums: &mut Checksums,
    ) -> anyhow::Result<()> {
        let inputs = self.inputs(&point.name, repetition);
        fs::create_dir_all(&inputs.folder).with_context(|| format!("creating {}", inputs.folder.display()))?;
        let found = inputs.folder.join("functions.trace.ndjson");
        let settings = point.settings.of_repetition(repetition);
        let command = load::schedule_command(programs, &settings, &inputs.schedule, &found);
        let output = Output::File(inputs.folder.join("schedule.log"));
        let child = ChildCommand { command, folder: &inputs.folder, output, timeout: SCHEDULE_TIMEOUT };
        let only = point.name == ONLY_POINT;
        let which = if only { String::new() } else { format!(" of {}", point.name) };
        let begun = format!("making the schedule{which}, repetition {repetition}, seed {}", settings.seed);
        let task = session.console.begin(begun);
        session.run(&child).map_err(refused)?;
        let count = functions::prepare(&found, &inputs.functions, &settings.function)?;
        fs::remove_file(&found).with_context(|| format!("removing {}", found.display()))?;
        task.done(&format!("{count} functions"));
        let placed = Inputs::of(&self.dir, &point.name, repetition);
        for (path, placed) in [(&inputs.schedule, &placed.schedule), (&inputs.functions, &placed.functions)] {
            let name = placed.strip_prefix(&self.dir.0).unwrap_or(placed).display().to_string();
            checksums.insert(name, checksum::of_file(path)?);
        }
        Ok(())
    }

    /// Moves new schedules to their final paths.
    pub(super) fn adopt(&mut self, points: &[Point]) -> anyhow::Result<()> {
        if !self.is_staged {
            // A killed session may have left schedules in the staging folder.
            return self.drop_staged();
        }
        for (point, repetition) in repetitions(points) {
            let (from, to) = (self.inputs(&point.name, repetition), Inputs::of(&self.dir, &point.name, repetition));
            preparation::remove(&to.folder)?;
            let parent = to.folder.parent().unwrap_or(&self.dir.0);
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
            fs::rename(&from.folder, &to.folder).with_context(|| format!("placing {}", to.folder.display()))?;
        }
        self.drop_staged()
    }

    /// Removes the staging folder.
    pub(super) fn drop_staged(&mut self) -> anyhow::Result<()> {
        self.is_staged = false;
        preparation::remove(&Inputs::staging(&self.dir))
    }

    /// Adds the checksums of schedules at their final paths that `checksums` lacks.
    pub(super) fn list(&self, points: &[Point], checksums: &mut Checksums) -> anyhow::Result<()> {
        let of_one = |(point, repetition): (&Point, u32)| {
            let inputs = Inputs::of(&self.dir, &point.name, repetition);
            [inputs.schedule, inputs.functions]
        };
        for path in repetitions(points).flat_map(of_one) {
            let name = path.strip_prefix(&self.dir.0).unwrap_or(&path).display().to_string();
            if let Entry::Vacant(missing) = checksums.entry(name) {
                missing.insert(checksum::of_file(&path).with_context(|| format!("reading {}", path.display()))?);
            }
        }
        Ok(())
    }
}

/// Every repetition of every point.
fn repetitions(points: &[Point]) -> impl Iterator<Item = (&Point, u32)> {
    points.iter().flat_map(|point| (1..=point.settings.repetitions).map(move |repetition| (point, repetition)))
}

/// SHA-256 of the files of every trace that is replayed.
pub(super) fn trace_checksums(points: &[Point]) -> anyhow::Result<Vec<(String, String)>> {
    let traces = points.iter().filter_map(|point| point.settings.load.trace()?.trace.as_ref());
    let mut checksums = Vec::new();
    for trace in traces.collect::<BTreeSet<_>>() {
        let found = checksum::of_files(trace).with_context(|| format!("reading the trace {}", trace.display()));
        checksums.extend(found?);
    }
    Ok(checksums)
}

/// An error of the load generator's options is one of usage: a resumed run would have the same values.
fn refused(error: anyhow::Error) -> anyhow::Error {
    let how = error.downcast_ref().map(|failed: &CommandFailed| failed.how);
    if how == Some(CommandEnd::Code(Exit::Usage as i32)) { UsageError(format!("{error:#}")).into() } else { error }
}
