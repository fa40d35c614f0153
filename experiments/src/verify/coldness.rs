//! Cold starts were cold and warm invocations warm: rows are joined to the creations that the system recorded.
//!
//! A cold start is an invocation whose sandbox became ready after the invocation arrived. Its creation may have begun
//! before, for another invocation that a freed slot then served; such rows are counted apart. Between ready on the
//! worker and known to the data plane lies a journey of unknown length: only what contradicts both ends is a finding.
//!
//! A rule is held by a proof of every row that must keep it, and not measured where one lacks what would prove it.

use std::collections::HashMap;

use record::{ColdStart, CreationOutcome, Finding, Invocation, Outcome, Weight};
use stats::quantile;

use crate::verify::invariant::{Findings, Tally};

/// Tolerance between two clock readings on one machine, in nanoseconds: the system states phases in whole microseconds
/// each, and takes the wall clock once per creation.
pub const CLOCK_TOLERANCE_NS: i64 = 1_000_000;

/// Longest time for which a sandbox may have been ready on its worker, in nanoseconds, when a row that waits for it is sent. The
/// notification of the data plane takes a few milliseconds. Rows that are sent later are reported, because most of the cold
/// start was over before they arrived.
pub const MAX_NOTIFICATION_NS: i64 = 100_000_000;

/// Greatest share of cold rows whose creation may have begun before they arrived: they wait only for the rest of it. If
/// functions are invoked rarely there are none; in a trace a freed slot serves a few invocations that had caused one.
const MAX_BEGUN_BEFORE_SHARE: f64 = 0.01;

/// A creation, with times in nanoseconds from the run's start.
#[derive(Clone, Debug)]
struct Creation {
    function: String,
    requested_ns: i64,
    /// Instant at which it became ready, on its worker.
    ready_ns: Option<i64>,
    /// Latest instant at which the data plane learned of it.
    known_ns: Option<i64>,
    /// All that lies before the endpoint is on its way to the data plane. `net_dataplane` is left out: it holds the way
    /// back of the data plane's acknowledgement, which the invocation does not wait for.
    phases_us: Option<u64>,
    /// Instant at which those phases had ended.
    published_ns: Option<i64>,
    succeeded: bool,
    /// Instant of the first response of its sandbox, by the load generator's clock.
    first_done_ns: Option<u64>,
    /// Send time of the last row that reports to have waited for it, by the same clock.
    last_cold_sent_ns: Option<u64>,
}

impl Creation {
    /// Its sandbox responded to a row.
    fn note_response(&mut self, row: &Invocation, sent_ns: u64) {
        self.first_done_ns = self.first_done_ns.into_iter().chain(row.done_ns).min();
        if row.cold == Some(1) {
            self.last_cold_sent_ns = self.last_cold_sent_ns.max(Some(sent_ns));
        }
    }

    /// Returns true if its sandbox was ready for a row that reports no wait, sent at `sent_ns`; `None` if that cannot
    /// be decided. All phases of a row are between its arrival and its response, so that the reported ones give its
    /// latest arrival; a row that does not report all may have arrived as soon as it was sent. A queued row may have
    /// got a sandbox that was made meanwhile.
    fn was_ready_for(&self, row: &Invocation, sent_ns: i64) -> Option<bool> {
        if row.queue_us.is_some_and(|waited| waited > 0) {
            return Some(true);
        }
        let by = |ns: i64| self.ready_ns.map(|ready| ready <= ns.saturating_add(CLOCK_TOLERANCE_NS));
        let latest_ns = row.done_ns?.saturating_sub(reported_us(row).saturating_mul(1000));
        let could_be = by(i64::try_from(latest_ns).unwrap_or(i64::MAX))?;
        (!could_be || phases_us(row).is_some() || by(sent_ns)?).then_some(could_be)
    }

    /// The wait of a row for it less its phases, in microseconds; `None` if a phase is not recorded. For a row that had
    /// arrived when it began, all phases count. For another row only their end counts, which is before the row began to
    /// run.
    fn left_by_wait_us(&self, row: &Invocation, is_own: bool) -> Option<i64> {
        if is_own {
            return row.cold_us.zip(self.phases_us).map(|(wait, phases)| difference(wait, phases));
        }
        let run_us = row.done_ns.zip(row.exec_us).map(|(done, exec)| difference(done / 1000, exec));
        run_us.zip(self.published_ns).map(|(run_us, published_ns)| run_us.saturating_sub(published_ns / 1000))
    }

    /// Returns true if its sandbox had responded before a row was sent that reports to have waited for it. Of the
    /// system's own reports only the identity of the sandbox is used.
    fn had_responded(&self) -> bool {
        self.first_done_ns.zip(self.last_cold_sent_ns).is_some_and(|(done, sent)| done < sent)
    }
}

const KNOWN: &str = "rows with a response are known to be cold or warm";
const NEW: &str = "cold rows have a new sandbox of their function";
const FIRST: &str = "no sandbox had responded before a row that waited for it was sent";
const BEFORE: &str = "cold rows arrived before their sandbox could be used";
const WARM: &str = "warm rows found their sandbox ready";
const NEWS: &str = "cold rows were sent before their sandbox was ready on its worker";
const OWN: &str = "creations of cold rows began after these arrived, but for 1 %";
const WAITS: &str = "phases of a creation never exceed the wait for it";

/// Counts while rows pass by.
#[derive(Debug, Default)]
pub struct Coldness {
    creations: HashMap<String, Creation>,
    ids_twice: u64,
    /// Rows with a response that may have been cold or warm: each rule about either may be broken by them.
    unknown: u64,
    cold: u64,
    own_creation: u64,
    not_created: u64,
    /// Cold rows, by when their sandbox could be used.
    before: Tally,
    /// Likewise, by when it was ready on its worker.
    news: Tally,
    /// Longest time for which a sandbox had been ready on its worker by then, in nanoseconds.
    ahead_ns: i64,
    warm: u64,
    warm_not_created: u64,
    /// Warm rows, by when their sandbox was ready.
    ready: Tally,
    latency: Residuals,
    waits: Residuals,
}

/// Residuals of the rows: whole time less phases.
#[derive(Debug, Default)]
struct Residuals {
    found_us: Vec<i64>,
    /// Rows without a phase, or without the whole.
    unproved: u64,
}

impl Residuals {
    fn note(&mut self, residual_us: Option<i64>) {
        match residual_us {
            Some(residual) => self.found_us.push(residual),
            None => self.unproved += 1,
        }
    }

    /// No row's phases are longer than the whole.
    fn check(mut self, rule: &'static str, to: &mut Findings) {
        self.found_us.sort_unstable();
        let found = &self.found_us;
        let (Some(least), Some(median), Some(p99)) = (found.first(), quantile(found, 0.5), quantile(found, 0.99))
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
        let too_long = found.partition_point(|us| us.saturating_mul(1000) < -CLOCK_TOLERANCE_NS);
        to.each(rule, Tally { broken: too_long as u64, unproved: self.unproved }, detail);
    }
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
                published_ns: published_us.map(at),
                succeeded: row.outcome == CreationOutcome::Ready,
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
        let whole_us = row.done_ns.map(|done| done.saturating_sub(sent) / 1000);
        self.latency.note(whole_us.zip(phases_us(row)).map(|(whole, phases)| difference(whole, phases)));
        let mut creation = row.sandbox.as_ref().and_then(|sandbox| self.creations.get_mut(sandbox));
        if let Some(creation) = &mut creation {
            creation.note_response(row, sent);
        }
        let creation = creation.filter(|creation| creation.succeeded && creation.function == row.function);
        let arrived = i64::try_from(sent).unwrap_or(i64::MAX);
        match (row.cold, creation) {
            (None, _) => self.unknown += 1,
            (Some(1), None) => {
                (self.cold, self.not_created) = (self.cold + 1, self.not_created + 1);
                self.before.note(None);
                self.news.note(None);
            }
            (Some(1), Some(creation)) => {
                let own = creation.requested_ns.saturating_add(CLOCK_TOLERANCE_NS) >= arrived;
                (self.cold, self.own_creation) = (self.cold + 1, self.own_creation + u64::from(own));
                let since = creation.known_ns.map(|known| known.saturating_add(CLOCK_TOLERANCE_NS));
                self.before.note(since.map(|since| since >= arrived));
                let ahead = creation.ready_ns.map(|ready| arrived.saturating_sub(ready));
                self.ahead_ns = self.ahead_ns.max(ahead.unwrap_or(0));
                self.news.note(ahead.map(|ahead| ahead <= MAX_NOTIFICATION_NS));
                self.waits.note(creation.left_by_wait_us(row, own));
            }
            (Some(_), None) => {
                (self.warm, self.warm_not_created) = (self.warm + 1, self.warm_not_created + 1);
                self.ready.note(None);
            }
            (Some(_), Some(creation)) => {
                self.warm += 1;
                self.ready.note(creation.was_ready_for(row, arrived));
            }
        }
    }

    /// Evaluates the counts.
    pub fn conclude(self, has_creations: bool, to: &mut Findings) {
        self.latency.check("phases never exceed the latency", to);
        if !has_creations || (self.cold == 0 && self.warm == 0) {
            let reason = if has_creations { "no row says whether it was cold" } else { "there is no coldstarts.csv" };
            for rule in [KNOWN, NEW, FIRST, BEFORE, NEWS, OWN, WARM, WAITS] {
                to.not_measured(rule, reason);
            }
            return;
        }
        let (known, unknown) = (self.cold + self.warm, self.unknown);
        to.add(KNOWN, Weight::Mark, Finding::of(unknown == 0), format!("{known} of {} rows", known + unknown));
        let with_unknown = |of: Tally| Tally { unproved: of.unproved + unknown, ..of };
        let tally = |broken| with_unknown(Tally { broken, unproved: 0 });
        let detail = format!(
            "{} cold rows, {} without; {} creations, {} ids twice",
            self.cold,
            self.not_created,
            self.creations.len(),
            self.ids_twice
        );
        to.each(NEW, tally(self.not_created + self.ids_twice), detail);
        let older = self.creations.values().filter(|creation| creation.had_responded()).count() as u64;
        to.each(FIRST, tally(older), format!("{older} sandboxes had"));
        let shared = self.cold - self.not_created - self.own_creation;
        let detail = format!(
            "{} arrived later; {} with a creation begun after they arrived, {shared} with one already under way",
            self.before.broken, self.own_creation
        );
        to.each(BEFORE, with_unknown(self.before), detail);
        let detail = format!(
            "{} of {} cold rows were sent more than {} ms after it was, the last one {:.1} ms",
            self.news.broken,
            self.cold,
            MAX_NOTIFICATION_NS / 1_000_000,
            self.ahead_ns as f64 / 1e6
        );
        to.add(NEWS, Weight::Mark, with_unknown(self.news).finding(), detail);
        let is_too_much = shared as f64 > MAX_BEGUN_BEFORE_SHARE * self.cold as f64;
        let tally = with_unknown(Tally { broken: u64::from(is_too_much), unproved: self.not_created });
        let detail = format!("{shared} of {} cold rows waited for one that was already under way", self.cold);
        to.add(OWN, Weight::Mark, tally.finding(), detail);
        let detail = format!(
            "{} warm rows, {} whose sandbox was ready only later, {} without a creation",
            self.warm, self.ready.broken, self.warm_not_created
        );
        let found = Tally { broken: self.ready.broken + self.warm_not_created, ..self.ready };
        to.each(WARM, with_unknown(found), detail);
        let unproved = self.waits.unproved + unknown;
        Residuals { unproved, ..self.waits }.check(WAITS, to);
    }
}

/// Sum of a row's phases; `None` unless it reports all of them.
fn phases_us(row: &Invocation) -> Option<u64> {
    [row.queue_us, row.cold_us, row.exec_us].iter().all(Option::is_some).then(|| reported_us(row))
}

/// Sum of the phases that a row reports. Reported values are arbitrary, so that the sum saturates.
fn reported_us(row: &Invocation) -> u64 {
    [row.queue_us, row.cold_us, row.exec_us].into_iter().flatten().fold(0, u64::saturating_add)
}

fn nanoseconds(us: u64) -> i64 {
    i64::try_from(us.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// `whole - parts`, which may be negative, in microseconds.
fn difference(whole: u64, parts: u64) -> i64 {
    let (whole, parts) = (i64::try_from(whole).unwrap_or(i64::MAX), i64::try_from(parts).unwrap_or(i64::MAX));
    whole.saturating_sub(parts)
}

#[cfg(test)]
mod tests {
    use record::{Phase, Scope};

    use super::*;

    const MS: i64 = 1_000_000;

    /// The result of [`OWN`] if `begun_before` of 200 cold rows had their creation begun two seconds before they were
    /// sent.
    fn own(begun_before: u64, unknown: bool) -> (Finding, Weight, String) {
        let creation = |index: u64| ColdStart {
            function: "f".to_owned(),
            sandbox: format!("1-{index}"),
            node: "n".to_owned(),
            requested_ns: 5_000 * MS - if index < begun_before { 2_000 * MS } else { 0 },
            decide_us: Some(1),
            place_us: Some(1),
            dispatch_us: Some(1),
            create_us: Some(if index < begun_before { 2_003_000 } else { 3_000 }),
            ready_us: Some(1),
            publish_us: Some(1),
            net_worker_us: Some(1),
            net_dataplane_us: Some(1),
            outcome: CreationOutcome::Ready,
            create_steps: None,
        };
        let creations: Vec<ColdStart> = (0..200).map(creation).collect();
        let mut coldness = Coldness::new(&creations);
        for index in 0..200 {
            coldness.observe(&Invocation {
                function: "f".to_owned(),
                index,
                phase: Phase::Measured,
                scheduled_ns: 5_000_000_000,
                sent_ns: Some(5_000_000_000),
                first_byte_ns: Some(5_005_000_000),
                done_ns: Some(5_005_000_000),
                requested_us: 0,
                memory_mib: 1,
                executed_us: Some(0),
                queue_us: Some(0),
                cold_us: Some(4_000),
                exec_us: Some(0),
                status: Some(200),
                outcome: Outcome::Ok,
                cold: (!unknown || index > 0).then_some(1),
                sandbox: Some(format!("1-{index}")),
                attempts: Some(1),
                error: None,
                address: None,
            });
        }
        let mut findings = Findings::new(Scope::Run);
        coldness.conclude(true, &mut findings);
        let found = findings.into_list();
        assert!(found.iter().all(|one| !one.is_broken()), "{found:?}");
        let own = found.into_iter().find(|one| one.rule == OWN).unwrap();
        (own.finding, own.weight, own.detail)
    }

    #[test]
    fn creations_that_began_before_more_than_a_hundredth_of_the_cold_rows_arrived_are_marked() {
        let detail = |count: u64| format!("{count} of 200 cold rows waited for one that was already under way");
        assert_eq!(own(0, false), (Finding::Held, Weight::Mark, detail(0)));
        assert_eq!(own(2, false), (Finding::Held, Weight::Mark, detail(2)));
        assert_eq!(own(3, false), (Finding::NotHeld, Weight::Mark, detail(3)));
        assert_eq!(own(198, false), (Finding::NotHeld, Weight::Mark, detail(198)));
        assert_eq!(own(0, true).0, Finding::NotMeasured, "a row of which nothing says whether it was cold");
    }
}
