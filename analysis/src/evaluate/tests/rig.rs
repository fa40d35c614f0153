//! Builds runs of a few numbers per repetition, from which claims are evaluated.

use std::path::PathBuf;

use std::time::Duration;

use record::{
    CheckedRepetition, Claims, ColdSummary, EvaluatedClaim, FailurePolicy, Finding, Invariant, Invariants, Load,
    MachineUse, Manifest, Outcome, Point, PointDir, PointSummary, ProcessSummary, RateCheck, RateLoad, Rates,
    RowCounts, SCHEMA_VERSION, Scope, SlowdownDefinition, SlowdownSummary, Spread, SustainedRateTest, TraceLoad,
    Validity, Weight,
};

use crate::{curves::Curves, evaluate::evaluate, series::Series, summarise::PointResult, verification::Verification};

/// Rates that ours is measured at, and those of the baseline; the bound of 1,250 lies at 3,750 against 3 per second.
pub(super) const OURS: [u32; 4] = [1000, 3000, 3900, 4500];
pub(super) const THEIRS: [f64; 4] = [2.0, 3.0, 3.1, 5.0];

/// A run in the making.
#[derive(Clone)]
pub(super) struct Rig {
    pub(super) manifest: Manifest,
    pub(super) points: Vec<PointSummary>,
    pub(super) invariants: Vec<Invariant>,
    /// Rules about noise that hold unless a test sets another result.
    pub(super) quiet: Vec<&'static str>,
    /// Rules about the identity of rows that hold in every repetition.
    pub(super) proved: Vec<&'static str>,
    /// True if the runner has checked the invariants.
    pub(super) checked: bool,
}

/// Result of a minute at a constant rate.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Minute {
    Sustained,
    /// Not found sustained, and not surely too much.
    Unsure,
    /// A tenth is not achieved.
    Failed,
    /// Too short to be tested.
    Short,
    /// The generator was late.
    Late,
}

impl Rig {
    pub(super) fn new(experiment: &str, points: Vec<Point>) -> Self {
        let mut manifest: Manifest = serde_json::from_str(
            r#"{"schema_version":1,"experiment":"","scale":"laptop","started":"","ended":null,"git_revision":"",
            "command":[],"definition":"","host":{"cpu":"","cores":2,"memory_mib":1,"kernel":"","mitigations":{},"clock":""},
            "systems":{},"seeds":{},"checksums":{},"exit":"done","notes":[]}"#,
        )
        .unwrap();
        (manifest.experiment, manifest.points) = (experiment.to_owned(), points);
        let (quiet, proved) = (Invariant::NOISE.to_vec(), Invariant::IDENTITY_OF_ALL.to_vec());
        Self { manifest, points: Vec::new(), invariants: Vec::new(), quiet, proved, checked: true }
    }

    /// A sweep in which each repetition of ours sustains so many per second, and the baseline 2 and surely not 3.
    pub(super) fn sweep<const N: usize>(sustained: [u32; N]) -> Self {
        let rates = OURS.map(f64::from).into_iter().chain(THEIRS);
        let mut rig = Self::new("cold-start-sweep", rates.map(|rate| planned(rate, N)).collect());
        for (number, highest) in (1..).zip(sustained) {
            for rate in OURS {
                let what = if rate <= highest { Minute::Sustained } else { Minute::Failed };
                rig.minute(("dirigent-kpa", f64::from(rate), number), what);
            }
            rig.minute(("knative", 2.0, number), Minute::Sustained);
            rig.minute(("knative", 3.0, number), Minute::Failed);
        }
        rig
    }

    /// A trace on which slowdowns of the baseline are these, with failures penalised and dropped; those of ours are 1.
    pub(super) fn trace<const N: usize>(slowdowns: [f64; N]) -> Self {
        let mut rig = Self::new("azure-500", vec![only(Load::Trace(replayed()), N)]);
        for (number, slowdown) in (1..).zip(slowdowns) {
            for (system, p99) in [("dirigent-kpa", 1.0), ("knative", slowdown)] {
                let of = |failures| SlowdownSummary {
                    definition: SlowdownDefinition::Seed,
                    failures,
                    functions: 9,
                    p50: p99,
                    p90: p99,
                    p99,
                    max: p99,
                    geometric_mean: Some(p99),
                };
                let slowdowns = vec![of(FailurePolicy::Penalise), of(FailurePolicy::Drop)];
                let new = point((system, "azure-500", number), 108_419, 108_419);
                let counts = RowCounts { functions: 293, ..new.counts.clone() };
                let rates = new.rates.map(|rates| Rates { window_s: 1200.0, ..rates });
                rig.points.push(PointSummary { slowdowns, counts, rates, ..new });
            }
        }
        rig
    }

    /// Bursts in which the cluster manager's shares of Knative's cold starts are these, in thousandths.
    pub(super) fn bursts<const N: usize>(shares: [i64; N]) -> Self {
        let load = Load::Rate(RateLoad { burst: Some(100), ..RateLoad::default() });
        let mut rig = Self::new("overhead", vec![only(load, N)]);
        for (number, share) in (1..).zip(shares) {
            let overhead_permille = Some(spread(share));
            let cold = ColdSummary { overhead_permille, ..ColdSummary::default() };
            rig.points.push(PointSummary { cold, ..point(("knative", "burst-100-delay-500ms", number), 100, 100) });
        }
        rig
    }

    /// Sets the result of a minute of a system at a rate in a repetition, replacing an earlier one.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a minute has few rows")]
    pub(super) fn minute(&mut self, (system, rate, number): (&str, f64, u32), what: Minute) {
        let rows = (rate * 60.0).max(1000.0) as u64;
        let answered = if what == Minute::Failed { rows * 9 / 10 } else { rows };
        let holds = match what {
            Minute::Sustained => Some(true),
            Minute::Unsure | Minute::Failed => Some(false),
            Minute::Short | Minute::Late => None,
        };
        let slope = if what == Minute::Unsure { 4.9 } else { 0.0 };
        let sustained = RateCheck { holds, reasons: vec!["a reason".to_owned()] };
        let rate_test =
            SustainedRateTest { sustained, slope_lower_percent_per_min: Some(slope), ..SustainedRateTest::default() };
        let valid = Some(what != Minute::Late);
        let place = name(rate);
        self.without((system, rate, number));
        let new = point((system, &place, number), rows, answered);
        let validity = Validity { valid, only_late: what == Minute::Late, ..new.validity.clone() };
        let window_s = rows as f64 / rate;
        let rates = Rates { window_s, offered_per_s: rate, achieved_per_s: answered as f64 / window_s };
        self.points.push(PointSummary { rate_test: Some(rate_test), validity, rates: Some(rates), ..new });
    }

    /// Says how much CPU time a system used for each of 100 cold starts at a rate, in milliseconds by repetition.
    pub(super) fn cost<const N: usize>(&mut self, (system, rate): (&str, f64), each_ms: [u64; N]) {
        let place = name(rate);
        for point in self.points.iter_mut().filter(|point| (point.system.as_str(), &point.point) == (system, &place)) {
            let process = |process: &str, cpu_us| ProcessSummary {
                process: process.to_owned(),
                cpu_us,
                cpu_us_per_invocation: None,
                rss_bytes: 0,
                ctx_switches: 0,
            };
            let used_us = each_ms[point.repetition as usize - 1] * 100_000;
            point.processes = vec![process("worker-1", used_us), process("load-generator", 9), process("machine", 9)];
            point.machine = Some(MachineUse { in_no_row_us: Some(0), ..MachineUse::default() });
            point.rate_test.get_or_insert_default().creations = Some(100);
        }
    }

    /// Plans some systems at all rates of the subject, and others at all rates of the reference.
    pub(super) fn plan(&mut self, subject: &[&str], reference: &[&str]) {
        let all = OURS.map(|rate| (f64::from(rate), subject)).into_iter().chain(THEIRS.map(|rate| (rate, reference)));
        for (rate, systems) in all {
            let place = name(rate);
            for point in self.manifest.points.iter_mut().filter(|point| point.name == place) {
                point.systems = systems.iter().map(|&system| system.to_owned()).collect();
            }
        }
    }

    /// The claim of this id, evaluated.
    pub(super) fn claim(&self, id: &str) -> EvaluatedClaim {
        self.evaluated().claims.into_iter().find(|claim| claim.id == id).unwrap()
    }

    /// Removes a repetition.
    pub(super) fn without(&mut self, (system, rate, number): (&str, f64, u32)) {
        let place = name(rate);
        self.points.retain(|point| {
            (point.system.as_str(), point.point.as_str(), point.repetition) != (system, place.as_str(), number)
        });
    }

    /// Says what was found of a rule of a repetition.
    pub(super) fn rule(&mut self, (system, point, repetition): (&str, &str, u32), weight: Weight, finding: Finding) {
        let scope = Scope::Repetition { system: system.to_owned(), point: point.to_owned(), repetition };
        let (rule, detail) = ("a rule".to_owned(), String::new());
        self.invariants.push(Invariant { scope, rule, weight, finding, detail, share_ppm: None, most_ppm: None });
    }

    /// Likewise, of a rule that is known by its words.
    pub(super) fn found(&mut self, place: (&str, &str, u32), rule: &str, (weight, finding): (Weight, Finding)) {
        self.rule(place, weight, finding);
        let last = self.invariants.last_mut().unwrap();
        rule.clone_into(&mut last.rule);
    }

    /// The first claim about the experiment, evaluated.
    pub(super) fn first(&self) -> EvaluatedClaim {
        self.evaluated().claims.remove(0)
    }

    pub(super) fn evaluated(&self) -> Claims {
        let mut points = self.points.clone();
        points.sort_by(|a, b| (&a.system, &a.point, a.repetition).cmp(&(&b.system, &b.point, b.repetition)));
        let dirs: Vec<PointDir> = points.iter().map(dir).collect();
        let checked = dirs.iter().map(|dir| CheckedRepetition {
            system: dir.system.clone(),
            point: dir.point.clone(),
            repetition: dir.repetition,
            started_unix_ns: None,
        });
        let rules = || {
            let quiet = self.quiet.iter().map(|rule| (*rule, Weight::Mark));
            quiet.chain(self.proved.iter().map(|rule| (*rule, Weight::Validity)))
        };
        let all = points.iter().flat_map(|point| rules().map(move |(rule, weight)| held(point, rule, weight)));
        let invariants = self.invariants.iter().cloned().chain(all).collect();
        let found = Invariants { schema_version: SCHEMA_VERSION, checked: checked.collect(), invariants };
        let verification = Verification::of(self.checked.then_some(found), &dirs).unwrap();
        let curves = || Curves { slowdown_seed: Vec::new(), slowdown_artifact: Vec::new(), scheduling_ms: Vec::new() };
        let results: Vec<PointResult> =
            points.into_iter().map(|summary| PointResult { summary, curves: curves() }).collect();
        let series = Series::group(&results);
        evaluate(&self.manifest, &series, &verification)
    }
}

/// A planned point of the sweep.
pub(super) fn planned(rate: f64, repetitions: usize) -> Point {
    let load = RateLoad { rate_per_s: Some(rate), cooldown: Some(Duration::from_secs(5)), burst: None };
    let values = [("load.rate", format!("{rate:?}")), ("sandbox.delay", "40ms".to_owned())];
    Point {
        name: name(rate),
        values: values.map(|(key, value)| (key.to_owned(), value)).into(),
        ..only(Load::Rate(load), repetitions)
    }
}

/// The trace that is replayed where claims hold.
pub(super) fn replayed() -> TraceLoad {
    TraceLoad { minutes: Some(30), minute: Some(Duration::from_secs(60)), ..TraceLoad::default() }
}

/// The only point of a definition.
fn only(load: Load, repetitions: usize) -> Point {
    let repetitions = Some(u32::try_from(repetitions).unwrap());
    Point { name: Point::ONLY.to_owned(), repetitions, load, ..Point::default() }
}

/// A rule that holds in a repetition; a rule about noise means that there was none.
fn held(PointSummary { system, point, repetition, .. }: &PointSummary, rule: &str, weight: Weight) -> Invariant {
    let scope = Scope::Repetition { system: system.clone(), point: point.clone(), repetition: *repetition };
    let (rule, none) = (rule.to_owned(), (weight == Weight::Mark).then_some(0));
    Invariant { scope, rule, weight, finding: Finding::Held, detail: String::new(), share_ppm: none, most_ppm: none }
}

/// The name of the point of a rate.
pub(super) fn name(rate: f64) -> String {
    format!("rate-{rate}")
}

fn dir(point: &PointSummary) -> PointDir {
    let PointSummary { system, point, repetition, .. } = point.clone();
    PointDir { path: PathBuf::from("/nowhere"), system, point, repetition }
}

fn spread(value: i64) -> Spread {
    Spread { count: 1, min: value, p50: value, p90: value, p99: value, p999: value, max: value }
}

/// A valid repetition of a minute with so many rows, of which so many succeeded.
pub(super) fn point((system, point, repetition): (&str, &str, u32), rows: u64, ok: u64) -> PointSummary {
    let outcomes = [(Outcome::Ok, ok), (Outcome::Timeout, rows - ok)].into_iter().collect();
    let per_s = |count: u64| count as f64 / 60.0;
    PointSummary {
        system: system.to_owned(),
        point: point.to_owned(),
        repetition,
        counts: RowCounts { measured: rows, sent: rows, outcomes, ..RowCounts::default() },
        rates: Some(Rates { window_s: 60.0, offered_per_s: per_s(rows), achieved_per_s: per_s(ok) }),
        latency_ns: None,
        scheduling_ns: None,
        lag_ns: None,
        slowdowns: Vec::new(),
        timeout_ns: 0,
        timeout_from: String::new(),
        cold: ColdSummary::default(),
        creations: None,
        anatomy: None,
        processes: Vec::new(),
        machine: None,
        rate_test: None,
        validity: Validity { valid: Some(true), ..Validity::default() },
        notes: Vec::new(),
    }
}
