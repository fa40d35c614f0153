//! The manifest of a run: written before the first step, so that even a killed run can be identified.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context, bail};
use record::{ExitState, Manifest, SystemFacts};

use crate::{
    checkout::Checkout,
    checksum, isolation,
    machine::host,
    run::{
        measured_system::MeasuredSystem,
        plan::Plan,
        programs::Programs,
        recorded_points,
        repetition::now,
        resolved::{PlannedExperiment, ResolvedExperiment},
    },
};

/// Most bytes of a version: a longer one is not a version but another output of the command.
const MAX_VERSION_BYTES: usize = 500;

/// The manifest of a run that begins now.
#[must_use]
pub fn begin(checkout: &Checkout, planned: &PlannedExperiment) -> Manifest {
    let PlannedExperiment { experiment, plan } = planned;
    let mut notes = Vec::new();
    if plan.overrides.quick {
        notes.push(Manifest::QUICK_NOTE.to_owned());
    }
    Manifest {
        schema_version: record::SCHEMA_VERSION,
        experiment: experiment.definition.id.clone(),
        scale: plan.scale.clone(),
        started: now(),
        ended: None,
        git_revision: revision(checkout.root()),
        command: isolation::typed(std::env::args()),
        programs: None,
        definition: experiment.to_toml(),
        points: recorded_points::of(&experiment.points),
        host: host::facts(),
        systems: BTreeMap::new(),
        seeds: seeds(experiment),
        checksums: BTreeMap::new(),
        exit: ExitState::Running,
        failures: Vec::new(),
        discarded: Vec::new(),
        quick: plan.overrides.quick,
        notes,
    }
}

/// The manifest of a resumed run. It keeps its start, and the facts that repetitions were measured with until they are
/// measured again. `new` is the manifest of a run that would begin now.
#[must_use]
pub fn resumed(old: &Manifest, new: Manifest, plan: &Plan) -> Manifest {
    let mut notes = new.notes;
    notes.extend(old.notes.iter().filter(|note| !notes.contains(note)).cloned().collect::<Vec<_>>());
    let revision =
        if new.git_revision == old.git_revision { String::new() } else { format!(", revision {}", new.git_revision) };
    notes.push(format!("{}{}: {}{revision}", Manifest::RESUMED_NOTE, new.started, new.command.join(" ")));
    Manifest {
        started: old.started.clone(),
        git_revision: old.git_revision.clone(),
        command: old.command.clone(),
        host: old.host.clone(),
        systems: old.systems.clone(),
        // Those of programs are taken again; schedules and traces that are there are not made again.
        checksums: old.checksums.clone(),
        discarded: old.discarded.clone(),
        failures: old.failures.iter().filter(|failure| plan.has(failure)).cloned().collect(),
        notes,
        ..new
    }
}

/// The seed of every repetition, by its use; a point that has one of its own is named with it.
fn seeds(experiment: &ResolvedExperiment) -> BTreeMap<String, u64> {
    let shared = experiment.shared();
    let mut seeds = BTreeMap::from([("schedule".to_owned(), shared.seed)]);
    for point in &experiment.points {
        let own = if point.settings.seed == shared.seed { String::new() } else { format!("{}/", point.name) };
        let of_point = (1..=point.settings.repetitions)
            .map(|repetition| (format!("{own}repetition-{repetition}"), point.settings.seed_of(repetition)));
        seeds.extend(of_point);
    }
    seeds
}

/// The revision of the checkout, with `-dirty` when files differ from it.
#[must_use]
pub fn revision(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (git(&["rev-parse", "HEAD"]), git(&["status", "--porcelain"])) {
        (Some(revision), Some(changes)) if changes.is_empty() => revision,
        (Some(revision), _) => format!("{revision}-dirty"),
        (None, _) => "unknown".to_owned(),
    }
}

/// The facts about a system: its version, its table, and the checksums of its programs.
///
/// # Errors
/// If the version command fails: no version, no measurement.
pub fn system(measured: &MeasuredSystem, programs: &Programs) -> anyhow::Result<SystemFacts> {
    let (system, values) = (&measured.system, programs.values(measured));
    let command = values.expand_all(&system.version).context("the command for its version")?;
    let (program, arguments) = command.split_first().context("the command for its version is empty")?;
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot start {program}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.lines().next().unwrap_or_default().trim();
    if !output.status.success() || version.is_empty() || version.len() > MAX_VERSION_BYTES {
        bail!("{} does not print its version: no version, no measurement", command.join(" "));
    }
    let mut binaries = BTreeMap::new();
    let commands = system.start.iter().map(|process| &process.command).chain([&system.register.command]);
    let commands = commands.chain(system.prepare.as_ref().map(|prepare| &prepare.command));
    for template in commands.filter_map(|command| command.first()) {
        let Ok(path) = values.expand(template) else { continue };
        if Path::new(&path).is_file() && !binaries.contains_key(&path) {
            let checksum = checksum::of_file(Path::new(&path)).with_context(|| format!("reading {path}"))?;
            binaries.insert(path, checksum);
        }
    }
    Ok(SystemFacts { version: version.to_owned(), definition: system.to_toml(), binaries })
}
