//! Whether cold starts were cold and warm invocations warm: rows joined to the creations that the system recorded.
//!
//! A cold start is an invocation whose sandbox became ready after the invocation arrived. Its creation may have begun
//! before, for another invocation that a freed slot then served; such rows are counted apart. Between ready on the
//! worker and known to the data plane lies a journey of unknown length: only what contradicts both ends is a finding.

use std::collections::HashMap;

use record::{ColdStart, Finding, Invocation, Outcome, Weight};
use stats::quantile;

use crate::verify::invariant::Findings;

/// How far two readings of clocks on one machine may disagree, in nanoseconds: the system states phases in whole
/// microseconds each, and takes the wall clock once per creation.
pub const CLOCK_TOLERANCE_NS: i64 = 1_000_000;

/// A creation, with times in nanoseconds from the run's start.
#[derive(Clone, Debug)]
struct Creation {
    function: String,
    requested_ns: i64,
    /// When it became ready, on its worker.
    ready_ns: Option<i64>,
    /// When the data plane knew that at the latest.
    known_ns: Option<i64>,
    /// All that lies before the endpoint is on its way to the data plane. `net_dataplane` is left out: it holds the way
    /// back of the data plane's acknowledgement, which the invocation does not wait for.
    phases_us: Option<u64>,
    succeeded: bool,
    /// When its sandbox had answered a row for the first time, by the load generator's clock.
    first_done_ns: Option<u64>,
    /// When the last of the rows that say they waited for it was sent, by the same clock.
    last_cold_sent_ns: Option<u64>,
}

impl Creation {
    /// Its sandbox answered a row.
    fn answers(&mut self, row: &Invocation, sent_ns: u64) {
        self.first_done_ns = self.first_done_ns.into_iter().chain(row.done_ns).min();
        if row.cold == Some(1) {
            self.last_cold_sent_ns = self.last_cold_sent_ns.max(Some(sent_ns));
        }
    }

    /// Whether its sandbox had answered before a row was sent that says it waited for it. Nothing that the system says of
    /// itself decides this but which sandbox answered.
    fn had_answered(&self) -> bool {
        self.first_done_ns.zip(self.last_cold_sent_ns).is_some_and(|(done, sent)| done < sent)
    }
}

const KNOWN: &str = "answered rows are known to be cold or warm";
const NEW: &str = "cold rows have a new sandbox of their function";
const FIRST: &str = "no sandbox had answered before a row that waited for it was sent";
const BEFORE: &str = "cold rows arrived before their sandbox could be used";
const WARM: &str = "warm rows found their sandbox ready";
const WAITS: &str = "phases of a creation never exceed the wait for it";

/// Counts while rows pass by.
#[derive(Debug, Default)]
pub struct Coldness {
    creations: HashMap<String, Creation>,
    ids_twice: u64,
    /// Answered rows of which nothing says whether they were cold.
    unknown: u64,
    cold: u64,
    /// Cold rows of whose sandbox it is known when it could be used.
    dated: u64,
    own_creation: u64,
    not_created: u64,
    ready_before: u64,
    warm: u64,
    warm_not_created: u64,
    warm_ready_after: u64,
    residuals_us: Vec<i64>,
    creation_residuals_us: Vec<i64>,
}

impl Coldness {
    /// Knows the creations; no row seen yet.
    #[must_use]
    pub fn new(rows: &[ColdStart]) -> Self {
        let mut coldness = Self::default();
        for row in rows {
            let to_ready_us = row.to_ready_us();
            let published_us = to_ready_us.zip(row.publish_us).map(|(to_ready, publish)| to_ready + publish);
            let known_us = published_us.zip(row.net_dataplane_us).map(|(published, net)| published + net);
            let at = |us: u64| row.requested_ns.saturating_add(nanoseconds(us));
            let creation = Creation {
                function: row.function.clone(),
                requested_ns: row.requested_ns,
                ready_ns: to_ready_us.map(at),
                known_ns: known_us.map(at),
                phases_us: published_us,
                succeeded: row.outcome == "ready",
                first_done_ns: None,
                last_cold_sent_ns: None,
            };
            coldness.ids_twice += u64::from(coldness.creations.insert(row.sandbox.clone(), creation).is_some());
        }
        coldness
    }

    /// Counts a row.
    pub fn observe(&mut self, row: &Invocation) {
        let Some(sent) = row.sent_ns else { return };
        if row.outcome != Outcome::Ok {
            return;
        }
        let Some(cold) = row.cold else {
            self.unknown += 1;
            return;
        };
        self.residual(row, sent);
        let arrived = i64::try_from(sent).unwrap_or(i64::MAX);
        let mut creation = row.sandbox.as_ref().and_then(|sandbox| self.creations.get_mut(sandbox));
        if let Some(creation) = &mut creation {
            creation.answers(row, sent);
        }
        let creation = creation.filter(|creation| creation.succeeded && creation.function == row.function);
        let waited = row.queue_us.unwrap_or(0) > 0;
        match (cold, creation) {
            (1, None) => self.not_created += 1,
            (1, Some(creation)) => {
                let own = creation.requested_ns.saturating_add(CLOCK_TOLERANCE_NS) >= arrived;
                self.own_creation += u64::from(own);
                let before = |known: i64| known.saturating_add(CLOCK_TOLERANCE_NS) < arrived;
                self.dated += u64::from(creation.known_ns.is_some());
                self.ready_before += u64::from(creation.known_ns.is_some_and(before));
                if let (true, Some(waited), Some(phases)) = (own, row.cold_us, creation.phases_us) {
                    self.creation_residuals_us.push(difference(waited, phases));
                }
            }
            (_, None) => self.warm_not_created += 1,
            (_, Some(creation)) => {
                let latest = latest_arrival_ns(row).unwrap_or(i64::MAX);
                let after = |ready: i64| ready > latest.saturating_add(CLOCK_TOLERANCE_NS);
                self.warm_ready_after += u64::from(!waited && creation.ready_ns.is_some_and(after));
            }
        }
        if cold == 1 { self.cold += 1 } else { self.warm += 1 }
    }

    /// What of a row's time no phase accounts for.
    fn residual(&mut self, row: &Invocation, sent: u64) {
        let (Some(done), Some(_)) = (row.done_ns, row.exec_us) else { return };
        self.residuals_us.push(difference(done.saturating_sub(sent) / 1000, phases_us(row)));
    }

    /// Judges what was counted.
    pub fn conclude(mut self, has_creations: bool, to: &mut Findings) {
        phases("phases never exceed the latency", &mut self.residuals_us, to);
        if !has_creations || (self.cold == 0 && self.warm == 0) {
            let reason = if has_creations { "no row says whether it was cold" } else { "there is no coldstarts.csv" };
            for rule in [KNOWN, NEW, FIRST, BEFORE, WARM, WAITS] {
                to.not_measured(rule, reason);
            }
            return;
        }
        let (known, verdict) = (self.cold + self.warm, Finding::of(self.unknown == 0));
        to.add(KNOWN, Weight::Mark, verdict, format!("{} of {} rows", known, known + self.unknown));
        let detail = format!(
            "{} cold rows, {} without; {} creations, {} ids twice",
            self.cold,
            self.not_created,
            self.creations.len(),
            self.ids_twice
        );
        to.validity(NEW, self.not_created == 0 && self.ids_twice == 0, detail);
        let older = self.creations.values().filter(|creation| creation.had_answered()).count();
        to.validity(FIRST, older == 0, format!("{older} sandboxes had"));
        let shared = self.cold - self.not_created - self.own_creation;
        let begun = format!(
            "{} with a creation begun after they arrived, {shared} with one already under way",
            self.own_creation
        );
        if self.cold > 0 && self.dated == 0 {
            to.not_measured(BEFORE, format!("nothing says since when a sandbox could be used; {begun}"));
        } else {
            to.validity(BEFORE, self.ready_before == 0, format!("{} arrived later; {begun}", self.ready_before));
        }
        let detail = format!(
            "{} warm rows, {} whose sandbox was ready only later, {} without a creation",
            self.warm, self.warm_ready_after, self.warm_not_created
        );
        to.validity(WARM, self.warm_ready_after == 0 && self.warm_not_created == 0, detail);
        phases(WAITS, &mut self.creation_residuals_us, to);
    }
}

/// When a row can have arrived at the data plane at the latest: all its phases lie between then and its answer, as far as
/// they are told.
fn latest_arrival_ns(row: &Invocation) -> Option<i64> {
    i64::try_from(row.done_ns?.saturating_sub(phases_us(row).saturating_mul(1000))).ok()
}

/// The phases that a row tells of, in all. What it tells may be anything, so that the sum saturates.
fn phases_us(row: &Invocation) -> u64 {
    [row.queue_us, row.cold_us, row.exec_us].into_iter().flatten().fold(0, u64::saturating_add)
}

/// Judges the residuals of a sum of phases.
fn phases(rule: &'static str, residuals_us: &mut [i64], to: &mut Findings) {
    residuals_us.sort_unstable();
    let (Some(least), Some(median), Some(p99)) =
        (residuals_us.first(), quantile(residuals_us, 0.5), quantile(residuals_us, 0.99))
    else {
        to.not_measured(rule, "no row has all phases");
        return;
    };
    let ms = |us: i64| us as f64 / 1e3;
    let detail = format!(
        "residual least {:.3} ms (−1 ms allowed for clock readings), median {:.3} ms, p99 {:.3} ms",
        ms(*least),
        ms(median),
        ms(p99)
    );
    to.validity(rule, least.saturating_mul(1000) >= -CLOCK_TOLERANCE_NS, detail);
}

fn nanoseconds(us: u64) -> i64 {
    i64::try_from(us.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// `whole - parts`, which may be negative, in microseconds.
fn difference(whole: u64, parts: u64) -> i64 {
    let (whole, parts) = (i64::try_from(whole).unwrap_or(i64::MAX), i64::try_from(parts).unwrap_or(i64::MAX));
    whole.saturating_sub(parts)
}
