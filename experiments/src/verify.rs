//! The invariants of a finished run, checked from its files alone: where the rows can decide a rule, no program's own
//! summary is trusted.

pub mod accounting;
pub mod basis;
pub mod coldness;
pub mod components;
pub mod invariant;
pub mod overload;
pub mod results_backup;
pub mod schedule;
pub mod surroundings;

use std::{collections::BTreeSet, fmt::Write, io, path::Path};

use anyhow::Context;
use record::{
    CheckedRepetition, ColdStart, ExitState, FailedRepetition, Finding, Invariant, Invariants, InvocationReader,
    LoadSummary, Manifest, PointDir, RunDir, SCHEMA_VERSION, Scope, Weight, read_json, read_table, write_json,
};
use terminal::{Format, Table};

use crate::{
    checksum,
    definition::{
        points::{self, Point},
        settings::Settings,
    },
    run::{functions, inputs::Inputs, repetition::facts_path},
    verify::{
        accounting::Accounting,
        coldness::Coldness,
        invariant::{Findings, Tally},
        overload::OverloadTest,
        results_backup::ResultsBackup,
        schedule::Schedule,
    },
};

/// Most missing repetitions that one finding names; the others are only counted.
const MAX_NAMED: usize = 20;

/// Checks every invariant of a run and records the results in its directory, for the evaluation of claims. The previous results
/// are kept as a backup until [`ResultsBackup::finish`]; they stay in place if the run cannot be checked.
///
/// # Errors
/// As of [`check`], and if the previous results cannot be moved or the new ones not be written.
pub fn check_and_record(dir: &RunDir) -> anyhow::Result<ResultsBackup> {
    let backup = ResultsBackup::begin(dir, check(dir)?)?;
    match write_json(&dir.invariants(), &backup.invariants) {
        Ok(()) => Ok(backup),
        Err(error) => backup.finish(Err(error.into())),
    }
}

/// Removes the invariants, statistics, claims and report of a run, because new rows are going to be measured.
///
/// # Errors
/// If something cannot be removed.
pub fn forget(dir: &RunDir) -> anyhow::Result<()> {
    let unfinished = [dir.judged_before(), results_backup::moving(dir), dir.unfinished_report()];
    results_backup::parts(dir).iter().chain(&unfinished).try_for_each(|path| results_backup::remove(path))
}

/// Checks every invariant of a run.
///
/// # Errors
/// If the directory holds no run, or a file of it is malformed (missing ones are findings).
pub fn check(dir: &RunDir) -> anyhow::Result<Invariants> {
    let manifest = dir.read_manifest()?;
    let points = points::read(&manifest.definition).context("reading the definition in the manifest")?;
    let repetitions = dir.points()?;
    let mut run = Findings::new(Scope::Run);
    let (complete, ended) = ending(manifest.exit);
    run.validity("the run is complete", complete, format!("{ended:?}").to_lowercase());
    let planned: BTreeSet<Place> = points.iter().flat_map(planned_of).collect();
    let found: BTreeSet<Place> = repetitions.iter().map(place_of).collect();
    run.validity(
        "every repetition of every system is there",
        planned.is_subset(&found),
        there(&planned, &found, &manifest.failures),
    );
    let mut all = run.into_list();
    let (known, foreign): (Vec<_>, Vec<_>) = repetitions.iter().partition(|dir| planned.contains(&place_of(dir)));
    for dir in foreign {
        let mut findings = Findings::new(scope_of(dir));
        findings.validity(
            "the repetition was planned",
            false,
            "the run's definition has none of this system, point and number",
        );
        all.extend(findings.into_list());
    }
    for point in &points {
        for number in 1..=point.settings.repetitions {
            let is_of = |dir: &&&PointDir| dir.point == point.name && dir.repetition == number;
            let together: Vec<&PointDir> = known.iter().filter(is_of).copied().collect();
            if !together.is_empty() {
                all.extend(check_together((dir, &manifest), point, number, &together)?);
            }
        }
    }
    all.extend(components::check(&known, &manifest.systems)?);
    all.extend(basis::check_runner(&known));
    // Foreign repetitions are listed too: otherwise a later check could not tell that they were there.
    let checked = repetitions.iter().map(checked).collect();
    Ok(Invariants { schema_version: SCHEMA_VERSION, checked, invariants: all })
}

/// Returns true if a run was measured to its end, and its final state. The results of this module may make a run
/// invalid afterwards; they must be the same when it is checked again.
fn ending(exit: ExitState) -> (bool, ExitState) {
    match exit {
        ExitState::Done | ExitState::Invalid => (true, ExitState::Done),
        other => (false, other),
    }
}

/// System, point and number of a repetition.
type Place = (String, String, u32);

fn planned_of(point: &Point) -> impl Iterator<Item = Place> {
    let numbers = 1..=point.settings.repetitions;
    let of_system =
        move |system| numbers.clone().map(move |number| (String::clone(system), point.name.clone(), number));
    point.settings.systems.iter().flat_map(of_system)
}

fn place_of(dir: &PointDir) -> Place {
    (dir.system.clone(), dir.point.clone(), dir.repetition)
}

fn scope_of(dir: &PointDir) -> Scope {
    Scope::Repetition { system: dir.system.clone(), point: dir.point.clone(), repetition: dir.repetition }
}

/// Number of planned repetitions that have rows, and the missing ones with their reasons if known.
fn there(planned: &BTreeSet<Place>, found: &BTreeSet<Place>, failures: &[FailedRepetition]) -> String {
    let mut detail = format!("{} of {}", planned.intersection(found).count(), planned.len());
    for (system, point, number) in planned.difference(found).take(MAX_NAMED) {
        let is_it = |failure: &&FailedRepetition| {
            (&failure.system, &failure.point, failure.repetition) == (system, point, *number)
        };
        let reason = failures.iter().find(is_it).and_then(|failure| failure.reason.lines().next());
        let _ = write!(detail, "; {system} {point} {number}: {}", reason.unwrap_or("no rows"));
    }
    let more = planned.difference(found).count().saturating_sub(MAX_NAMED);
    if more > 0 {
        let _ = write!(detail, "; and {more} more");
    }
    detail
}

/// Checks one repetition of a point, in which all its systems share a schedule.
fn check_together(
    (dir, manifest): (&RunDir, &Manifest),
    point: &Point,
    number: u32,
    together: &[&PointDir],
) -> anyhow::Result<Vec<Invariant>> {
    let inputs = Inputs::left(dir, &point.name, number);
    let mut findings = Findings::new(Scope::Point { point: point.name.clone(), repetition: Some(number) });
    if !inputs.exist() {
        let place = inputs.folder.strip_prefix(&dir.0).unwrap_or(&inputs.folder).display();
        findings.validity(
            "the schedule is there",
            false,
            format!("schedule.csv or functions.ndjson is not in {place}"),
        );
        return Ok(findings.into_list());
    }
    let sum = checksum::of_file(&inputs.schedule);
    let sum = sum.with_context(|| format!("reading {}", inputs.schedule.display()))?;
    let name = inputs.schedule.strip_prefix(&dir.0).unwrap_or(&inputs.schedule).display().to_string();
    let listed = manifest.checksums.get(&name).cloned();
    same_schedule([Some(sum), listed], together, &mut findings);
    let mut all = findings.into_list();
    let schedule = Schedule::read(&inputs.schedule)?;
    let registered: BTreeSet<String> = functions::names(&inputs.functions)?.into_iter().collect();
    let evidence = Evidence { manifest, settings: &point.settings, schedule: &schedule, registered: &registered };
    for repetition in together {
        let scope = scope_of(repetition);
        let mut findings = Findings::new(scope.clone());
        evidence.check(repetition, &mut findings).with_context(|| scope.to_string())?;
        all.extend(findings.into_list());
    }
    Ok(all)
}

fn checked(point: &PointDir) -> CheckedRepetition {
    CheckedRepetition {
        system: point.system.clone(),
        point: point.point.clone(),
        repetition: point.repetition,
        started_unix_ns: read_json(&point.loadgen()).ok().map(|load: LoadSummary| load.started_unix_ns),
    }
}

/// Checks that all systems were given the same schedule, by the checksums of the file, in the manifest, and of each replay.
/// If one is missing, the rule is not measured.
fn same_schedule(file: [Option<String>; 2], repetitions: &[&PointDir], to: &mut Findings) {
    let replayed = |point: &&PointDir| read_json::<LoadSummary>(&point.loadgen()).ok().map(|load| load.schedule_sha256);
    let checksums: Vec<Option<String>> = file.into_iter().chain(repetitions.iter().map(replayed)).collect();
    let sums: BTreeSet<&str> = checksums.iter().flatten().map(String::as_str).collect();
    let list: Vec<&str> = sums.iter().map(|sum| sum.get(..12).unwrap_or(sum)).collect();
    let unproved = checksums.iter().filter(|sum| sum.is_none()).count() as u64;
    let tally = Tally { broken: u64::from(sums.len() > 1), unproved };
    let unknown = if unproved == 0 { "" } else { "; the manifest or a loadgen.json lacks it" };
    let detail = format!("SHA-256 {}{unknown}", list.join(", "));
    to.add("all systems were given the same schedule", Weight::Validity, tally.finding(), detail);
}

/// Inputs of the checks of one repetition.
struct Evidence<'a> {
    manifest: &'a Manifest,
    settings: &'a Settings,
    schedule: &'a Schedule,
    registered: &'a BTreeSet<String>,
}

impl Evidence<'_> {
    fn check(&self, point: &PointDir, to: &mut Findings) -> anyhow::Result<()> {
        let creations: Option<Vec<ColdStart>> =
            point.coldstarts().exists().then(|| read_table(&point.coldstarts())).transpose()?;
        let mut accounting = Accounting::new(self.schedule, self.registered);
        let mut coldness = Coldness::new(creations.as_deref().unwrap_or_default());
        // Bursts have no rate that the system could fail to sustain.
        let mut overload =
            self.settings.load.rate().filter(|rate| rate.bursts.is_none()).map(|_| OverloadTest::default());
        for row in InvocationReader::open(&point.invocations())? {
            let row = row?;
            accounting.observe(&row);
            coldness.observe(&row);
            overload.iter_mut().for_each(|test| test.observe(&row));
        }
        let load: Option<LoadSummary> = read_json(&point.loadgen()).ok();
        accounting.conclude(load.as_ref(), to);
        let overload = overload.and_then(|test| test.overload(load.as_ref()));
        accounting.thresholds(self.settings, overload.as_deref(), to);
        coldness.conclude(creations.is_some(), to);
        let facts = read_json(&facts_path(point)).ok();
        surroundings::check(point, facts.as_ref(), self.manifest.host.cores, to);
        basis::check(point, facts.as_ref(), self.manifest, &self.settings.of_repetition(point.repetition), to);
        Ok(())
    }
}

/// Prints the invariants on standard output, or those of them that do not hold.
///
/// # Errors
/// If standard output is closed for another reason than that its reader has seen enough.
pub fn print(invariants: &Invariants, all: bool, format: Format) -> io::Result<()> {
    let is_shown = |one: &&Invariant| all || one.finding == Finding::NotHeld;
    let shown: Vec<&Invariant> = invariants.invariants.iter().filter(is_shown).collect();
    // An empty table is noise for a person, but a program expects the format that it asked for.
    if shown.is_empty() && format == Format::Table { Ok(()) } else { table(&shown).print(format) }
}

/// Numbers of invariants by result, in words.
#[must_use]
pub fn count(invariants: &Invariants, dir: &Path) -> String {
    let invariants = &invariants.invariants;
    let mut words = format!("{} invariants", invariants.len());
    for outcome in ["held", "marked", "not measured", "not held"] {
        let count = invariants.iter().filter(|one| one.words() == outcome).count();
        if count > 0 || outcome == "held" {
            let _ = write!(words, ", {count} {outcome}");
        }
    }
    format!("{words}; all of them: repro verify {} --all", dir.display())
}

fn table(invariants: &[&Invariant]) -> Table {
    let mut table = Table::new(["where", "invariant", "outcome", "found"]);
    for one in invariants {
        table.row([one.scope.to_string(), one.rule.clone(), one.words().to_owned(), one.detail.clone()]);
    }
    table
}
