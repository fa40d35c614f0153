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
    definition::settings::Settings,
    run::{functions, repetition::facts_path},
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
    let settings: Settings = toml::from_str(&manifest.definition).context("reading the definition in the manifest")?;
    let schedule_path = dir.0.join("schedule.csv");
    let schedule = Schedule::read(&schedule_path)?;
    let registered: BTreeSet<String> = functions::names(&dir.0.join("functions.ndjson"))?.into_iter().collect();
    let points = dir.points()?;
    let mut run = Findings::new("run");
    let complete = matches!(manifest.exit, ExitState::Done | ExitState::Invalid);
    run.validity("the run is complete", complete, format!("{:?}", manifest.exit).to_lowercase());
    let expected = settings.systems.len() * settings.repetitions as usize;
    let detail = format!("{} of {expected}", points.len());
    run.validity("every repetition of every system is there", points.len() == expected, detail);
    let sum = checksum::of_file(&schedule_path).with_context(|| format!("reading {}", schedule_path.display()))?;
    same_schedule(&manifest, &sum, &points, &mut run);
    let mut all = run.into_list();
    for point in &points {
        let place = format!("{} {} {}", point.system, point.point, point.repetition);
        let mut findings = Findings::new(&place);
        let evidence =
            Evidence { manifest: &manifest, settings: &settings, schedule: &schedule, registered: &registered };
        evidence.judge(point, &mut findings).with_context(|| place)?;
        all.extend(findings.into_list());
    }
    Ok(all)
}

/// All systems were given the very same schedule.
fn same_schedule(manifest: &Manifest, sum: &str, points: &[PointDir], to: &mut Findings) {
    let mut sums: BTreeSet<String> = BTreeSet::from([sum.to_owned()]);
    sums.extend(manifest.checksums.get("schedule.csv").cloned());
    let loads = points.iter().filter_map(|point| read_json::<LoadSummary>(&point.loadgen()).ok());
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
        let expect = &self.settings.expect;
        accounting.conclude(load.as_ref(), (expect.failed_share_max, expect.cold_share_min), to);
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
