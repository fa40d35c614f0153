//! The invariants of a finished run, judged from its files alone: nothing a program said of itself is believed where
//! the rows can be asked.

pub mod accounting;
pub mod coldness;
pub mod invariant;
pub mod schedule;
pub mod surroundings;

use std::collections::BTreeSet;

use anyhow::Context;
use record::{ColdStart, ExitState, InvocationReader, LoadSummary, Manifest, PointDir, RunDir, read_json, read_table};

use crate::{
    checksum,
    definition::{
        points::{self, Point},
        settings::Settings,
    },
    run::{functions, inputs::Inputs, repetition::facts_path},
    table::Table,
    verify::{
        accounting::Accounting,
        coldness::Coldness,
        invariant::{Findings, Invariant},
        schedule::Schedule,
    },
};

/// Judges every invariant of a run.
///
/// # Errors
/// When the directory holds no run, or a file of it is malformed (missing ones are findings).
pub fn judge(dir: &RunDir) -> anyhow::Result<Vec<Invariant>> {
    let manifest = dir.read_manifest().context("this is no run directory")?;
    let points = points::read(&manifest.definition).context("reading the definition in the manifest")?;
    let repetitions = dir.points()?;
    let mut run = Findings::new("run");
    let complete = matches!(manifest.exit, ExitState::Done | ExitState::Invalid);
    run.validity("the run is complete", complete, format!("{:?}", manifest.exit).to_lowercase());
    let of_point = |point: &Point| point.settings.systems.len() * point.settings.repetitions as usize;
    let expected: usize = points.iter().map(of_point).sum();
    let detail = format!("{} of {expected}", repetitions.len());
    run.validity("every repetition of every system is there", repetitions.len() == expected, detail);
    let mut all = Vec::new();
    for point in &points {
        let of_this: Vec<&PointDir> = repetitions.iter().filter(|dir| dir.point == point.name).collect();
        let inputs = Inputs::of(dir, &point.name);
        let sum = checksum::of_file(&inputs.schedule);
        let sum = sum.with_context(|| format!("reading {}", inputs.schedule.display()))?;
        let name = inputs.schedule.strip_prefix(&dir.0).unwrap_or(&inputs.schedule).display().to_string();
        let listed = manifest.checksums.get(&name).cloned();
        let mut place = if points.len() == 1 { Findings::new("run") } else { Findings::new(&point.name) };
        same_schedule([Some(sum), listed], &of_this, &mut place);
        all.extend(place.into_list());
        let schedule = Schedule::read(&inputs.schedule)?;
        let registered: BTreeSet<String> = functions::names(&inputs.functions)?.into_iter().collect();
        let evidence =
            Evidence { manifest: &manifest, settings: &point.settings, schedule: &schedule, registered: &registered };
        for repetition in of_this {
            let place = format!("{} {} {}", repetition.system, repetition.point, repetition.repetition);
            let mut findings = Findings::new(&place);
            evidence.judge(repetition, &mut findings).with_context(|| place)?;
            all.extend(findings.into_list());
        }
    }
    let mut whole = run.into_list();
    whole.extend(all);
    Ok(whole)
}

/// All systems were given the very same schedule: the file, what the manifest says of it, and what was replayed.
fn same_schedule(file: [Option<String>; 2], repetitions: &[&PointDir], to: &mut Findings) {
    let mut sums: BTreeSet<String> = file.into_iter().flatten().collect();
    let loads = repetitions.iter().filter_map(|point| read_json::<LoadSummary>(&point.loadgen()).ok());
    sums.extend(loads.map(|load| load.schedule_sha256));
    let list: Vec<&str> = sums.iter().map(|sum| sum.get(..12).unwrap_or(sum)).collect();
    to.validity("all systems were given the same schedule", sums.len() == 1, format!("SHA-256 {}", list.join(", ")));
}

/// What a repetition is judged by.
struct Evidence<'a> {
    manifest: &'a Manifest,
    settings: &'a Settings,
    schedule: &'a Schedule,
    registered: &'a BTreeSet<String>,
}

impl Evidence<'_> {
    fn judge(&self, point: &PointDir, to: &mut Findings) -> anyhow::Result<()> {
        let creations: Option<Vec<ColdStart>> =
            point.coldstarts().exists().then(|| read_table(&point.coldstarts())).transpose()?;
        let mut accounting = Accounting::new(self.schedule, self.registered);
        let mut coldness = Coldness::new(creations.as_deref().unwrap_or_default());
        for row in InvocationReader::open(&point.invocations())? {
            let row = row?;
            accounting.observe(&row);
            coldness.observe(&row);
        }
        let load: Option<LoadSummary> = read_json(&point.loadgen()).ok();
        accounting.conclude(load.as_ref(), to);
        accounting.thresholds(self.settings, to);
        coldness.conclude(creations.is_some(), to);
        let facts = read_json(&facts_path(point)).ok();
        surroundings::judge(point, facts.as_ref(), self.manifest.host.cores, to);
        Ok(())
    }
}

/// The invariants as a table.
#[must_use]
pub fn table(invariants: &[Invariant]) -> Table {
    let mut table = Table::new(&["where", "invariant", "verdict", "found"]);
    for one in invariants {
        table.row([one.place.clone(), one.rule.to_owned(), one.words().to_owned(), one.detail.clone()]);
    }
    table
}
