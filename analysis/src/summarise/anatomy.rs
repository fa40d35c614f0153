//! The actions of a cold start: requests, changes in the store, and their order.

use std::collections::{BTreeMap, HashMap};

use record::{Action, Anatomy, Outcome, PerColdStart, Step};
use stats::quantile;

use crate::{
    rows::{Row, Rows},
    spread::signed,
};

/// HTTP status of a change that conflicted with an earlier one.
const CONFLICT: u16 = 409;
/// Least share of cold starts that make a request for it to be a step, in thousandths.
const MIN_SHARE_PERMILLE: u64 = 500;
/// Steps are listed up to this multiple of the median response.
const LATENCIES: u64 = 2;

/// One cold start and what was done for its function from its call to the next.
struct Cycle<'a> {
    sent_ns: i64,
    done_ns: i64,
    /// True if the function was invoked again.
    is_whole: bool,
    actions: &'a [&'a Action],
}

/// The cold starts of a repetition that got a response.
pub(crate) fn summary(rows: &Rows, actions: &[Action]) -> Anatomy {
    let mut by_function: HashMap<&str, Vec<&Action>> = HashMap::new();
    // An action for no function, or for several, cannot be assigned to a cold start.
    for action in actions.iter().filter(|action| !action.function.is_empty()) {
        by_function.entry(&action.function).or_default().push(action);
    }
    for actions in by_function.values_mut() {
        actions.sort_by_key(|action| action.at_ns);
    }
    let cycles = cycles(rows, &by_function);
    let whole = cycles.iter().filter(|cycle| cycle.is_whole).count();
    let tell = |kind: Kind| {
        let mut counted: BTreeMap<&str, Count> = BTreeMap::new();
        for cycle in &cycles {
            for action in cycle.actions.iter().filter(|action| Kind::of(action) == kind) {
                let name = if kind == Kind::Request { &action.actor } else { &action.object };
                counted.entry(name).or_default().add(action, cycle);
            }
        }
        let mut reported: Vec<PerColdStart> =
            counted.into_iter().map(|(name, count)| count.per_cold_start(name, cycles.len(), whole)).collect();
        reported.sort_by(|a, b| b.cycle.unwrap_or(b.until_answer).total_cmp(&a.cycle.unwrap_or(a.until_answer)));
        reported
    };
    Anatomy {
        cold_starts: cycles.len() as u64,
        cycles: whole as u64,
        requests: tell(Kind::Request),
        admissions: tell(Kind::Admission),
        changes: tell(Kind::Change),
        steps: steps(&cycles),
    }
}

/// Kind of an action.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A request of a component.
    Request,
    /// An object was shown before it was stored.
    Admission,
    /// A change in the store.
    Change,
}

impl Kind {
    fn of(action: &Action) -> Self {
        match action.actor.as_str() {
            Action::STORE => Self::Change,
            Action::ADMISSION => Self::Admission,
            _ => Self::Request,
        }
    }
}

/// Counts over all cold starts.
#[derive(Default)]
struct Count {
    until_answer: u64,
    cycle: u64,
    writes: u64,
    conflicts: u64,
    bytes: u64,
}

impl Count {
    fn add(&mut self, action: &Action, cycle: &Cycle<'_>) {
        self.until_answer += u64::from(action.at_ns < cycle.done_ns);
        // A cycle includes the end of the sandbox, which is not seen after a function's last invocation.
        if cycle.is_whole {
            let is_write = Kind::of(action) == Kind::Request && !matches!(action.action.as_str(), "get" | "list");
            self.cycle += 1;
            self.writes += u64::from(is_write);
            self.conflicts += u64::from(action.status == Some(CONFLICT));
            self.bytes += action.bytes.unwrap_or(0);
        }
    }

    fn per_cold_start(&self, name: &str, cold_starts: usize, cycles: usize) -> PerColdStart {
        let per_cycle = |count: u64| (cycles > 0).then(|| count as f64 / cycles as f64);
        PerColdStart {
            name: name.to_owned(),
            until_answer: self.until_answer as f64 / cold_starts as f64,
            cycle: per_cycle(self.cycle),
            writes: per_cycle(self.writes),
            conflicts: per_cycle(self.conflicts),
            bytes: per_cycle(self.bytes),
        }
    }
}

fn cycles<'a>(rows: &Rows, actions: &'a HashMap<&str, Vec<&'a Action>>) -> Vec<Cycle<'a>> {
    let mut calls: Vec<&Row> = rows.measured.iter().collect();
    calls.sort_by_key(|row| (row.function, row.scheduled_ns));
    let mut cycles = Vec::new();
    for (place, row) in calls.iter().enumerate() {
        let next =
            calls.get(place + 1).filter(|next| next.function == row.function).map(|next| signed(next.scheduled_ns));
        let is_cold = row.cold == Some(true) && row.outcome == Outcome::Ok;
        let (Some(sent), Some(done), true) = (row.sent_ns, row.done_ns, is_cold) else { continue };
        let of = rows.functions.get(row.function as usize).and_then(|name| actions.get(name.as_str()));
        let of: &[&Action] = of.map_or(&[], Vec::as_slice);
        let sent_ns = signed(sent);
        let from = of.partition_point(|action| action.at_ns < sent_ns);
        let to = of.partition_point(|action| next.is_none_or(|next| action.at_ns < next));
        // The next invocation may have been due before this one was sent.
        let actions = &of[from..to.max(from)];
        cycles.push(Cycle { sent_ns, done_ns: signed(done), is_whole: next.is_some(), actions });
    }
    cycles
}

/// Requests that most cold starts make, by their kind and how manieth of it they are.
fn steps(cycles: &[Cycle<'_>]) -> Vec<Step> {
    type Sort<'a> = (&'a str, &'a str, &'a str, u32);
    let mut found: BTreeMap<Sort<'_>, Vec<(u64, u64)>> = BTreeMap::new();
    for cycle in cycles {
        let mut seen: HashMap<(&str, &str, &str), u32> = HashMap::new();
        for action in cycle.actions.iter().filter(|action| Kind::of(action) == Kind::Request) {
            let sort = (action.actor.as_str(), action.action.as_str(), action.object.as_str());
            let ordinal = seen.entry(sort).and_modify(|ordinal| *ordinal += 1).or_insert(1);
            let at_us = u64::try_from((action.at_ns - cycle.sent_ns) / 1_000).unwrap_or(0);
            found.entry((sort.0, sort.1, sort.2, *ordinal)).or_default().push((at_us, action.took_us.unwrap_or(0)));
        }
    }
    let median = |values: &mut dyn Iterator<Item = u64>| {
        let mut values: Vec<u64> = values.collect();
        values.sort_unstable();
        quantile(&values, 0.5).unwrap_or(0)
    };
    let answered_us =
        median(&mut cycles.iter().map(|cycle| u64::try_from((cycle.done_ns - cycle.sent_ns) / 1_000).unwrap_or(0)));
    let mut steps: Vec<Step> = found
        .into_iter()
        .map(|((actor, action, object, ordinal), times)| Step {
            actor: actor.to_owned(),
            action: action.to_owned(),
            object: object.to_owned(),
            ordinal,
            at_us: median(&mut times.iter().map(|(at_us, _)| *at_us)),
            took_us: median(&mut times.iter().map(|(_, took_us)| *took_us)),
            share_permille: times.len() as u64 * 1_000 / cycles.len() as u64,
        })
        .filter(|step| step.share_permille >= MIN_SHARE_PERMILLE && step.at_us <= LATENCIES * answered_us)
        .collect();
    steps.sort_by_key(|step| step.at_us);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn action(actor: &str, action: &str, object: &str, at_ms: i64) -> Action {
        let is_request = actor != Action::STORE && actor != Action::ADMISSION;
        Action {
            function: "f".to_owned(),
            actor: actor.to_owned(),
            action: action.to_owned(),
            object: object.to_owned(),
            at_ns: at_ms * MS,
            took_us: is_request.then_some(2_000),
            bytes: (actor == Action::STORE).then_some(100),
            status: is_request.then_some(if action == "patch" { 409 } else { 200 }),
        }
    }

    fn row(sent_ms: u64, done_ms: u64) -> Row {
        let ns = |ms: u64| ms * 1_000_000;
        Row {
            index: sent_ms,
            function: 0,
            scheduled_ns: ns(sent_ms),
            sent_ns: Some(ns(sent_ms)),
            done_ns: Some(ns(done_ms)),
            requested_ns: 0,
            executed_ns: None,
            outcome: Outcome::Ok,
            cold: Some(true),
        }
    }

    #[test]
    fn actions_count_until_the_answer_and_until_the_next_call() {
        let rows = Rows {
            functions: vec!["f".to_owned()],
            measured: vec![row(1_000, 1_100), row(5_000, 5_120)],
            ..Rows::default()
        };
        let actions = [
            action("before", "get", "pods", 900),
            action("autoscaler", "patch", "deployments", 1_010),
            action(Action::ADMISSION, "update", "revisions", 1_012),
            action(Action::STORE, "put", "deployments", 1_015),
            action("controller", "get", "pods", 1_050),
            action("autoscaler", "patch", "deployments", 4_000),
            action(Action::STORE, "put", "deployments", 4_005),
            action("autoscaler", "patch", "deployments", 5_030),
            Action { function: String::new(), ..action("other", "get", "pods", 1_020) },
        ];
        let found = summary(&rows, &actions);
        assert_eq!((found.cold_starts, found.cycles), (2, 1));
        let [autoscaler, controller] = &found.requests[..] else { panic!("{:?}", found.requests) };
        assert_eq!(
            (autoscaler.name.as_str(), autoscaler.until_answer, autoscaler.cycle),
            ("autoscaler", 1.0, Some(2.0))
        );
        assert_eq!((autoscaler.writes, autoscaler.conflicts), (Some(2.0), Some(2.0)));
        assert_eq!((controller.until_answer, controller.cycle, controller.writes), (0.5, Some(1.0), Some(0.0)));
        let [shown] = &found.admissions[..] else { panic!("{:?}", found.admissions) };
        assert_eq!((shown.name.as_str(), shown.until_answer, shown.cycle), ("revisions", 0.5, Some(1.0)));
        assert_eq!((shown.writes, shown.conflicts, shown.bytes), (Some(0.0), Some(0.0), Some(0.0)));
        let [changes] = &found.changes[..] else { panic!("{:?}", found.changes) };
        assert_eq!((changes.until_answer, changes.cycle, changes.bytes), (0.5, Some(2.0), Some(200.0)));
        let steps: Vec<(&str, u32, u64, u64)> = found
            .steps
            .iter()
            .map(|step| (step.actor.as_str(), step.ordinal, step.at_us, step.share_permille))
            .collect();
        assert_eq!(
            steps,
            [("autoscaler", 1, 10_000, 1000), ("controller", 1, 50_000, 500)],
            "the second one is too late"
        );
    }

    #[test]
    fn without_cold_starts_the_anatomy_is_empty() {
        let found = summary(&Rows::default(), &[action("autoscaler", "patch", "deployments", 1)]);
        assert_eq!(found, Anatomy::default());
    }
}
