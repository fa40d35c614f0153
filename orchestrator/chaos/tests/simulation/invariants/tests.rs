//! Each invariant on small hand-made histories: violations that it must detect, and histories that it must accept.

use super::{Violation, check};
use crate::simulation::{
    event::{ClientResponse, Event},
    event_log::Entry,
    fault::{Fault, Planned},
    host::Host,
    scenario::{Call, Scenario},
};

const WORKER: Host = Host::Worker(1);
const DATA_PLANE: Host = Host::DataPlane(1);
const PORT: u16 = 49_152;
/// Later than any recovery from a fault at the beginning.
const LATE_MS: u64 = 100_000;

/// Calls 1, 2 … at the given times: of the function with this index, with a body.
fn scenario(calls: &[(u64, usize)], faults: Vec<Planned>) -> Scenario {
    let call = |(index, &(at_ms, function)): (usize, &(u64, usize))| Call {
        id: index as u64 + 1,
        at_ms,
        function,
        data_plane: 1,
        run_ms: 5,
        body_bytes: Some(9),
        abandon_after_ms: None,
    };
    let mut scenario = Scenario::of_seed(0);
    scenario.calls = calls.iter().enumerate().map(call).collect();
    scenario.faults = faults;
    scenario
}

fn response(status: u16, error: Option<&str>, ran: Option<&str>) -> ClientResponse {
    let sandbox = ran.map(|_| "1-1".to_owned());
    let attempts = ran.map(|_| 1);
    let (error, ran) = (error.map(str::to_owned), ran.map(str::to_owned));
    ClientResponse { status, error, sandbox, attempts, cold: false, ran_ms: ran.as_ref().map(|_| 5), ran }
}

fn ok(call: u64, ran: &str) -> Event {
    Event::Responded { call, response: response(200, None, Some(ran)) }
}

fn refused(call: u64, status: u16, error: &str) -> Event {
    Event::Responded { call, response: response(status, Some(error), None) }
}

fn began(call: u64) -> Event {
    Event::Began { worker: WORKER, port: PORT, call }
}

fn ended(call: u64) -> Event {
    Event::Ended { worker: WORKER, port: PORT, call, responded: true }
}

fn down(fault: Fault, from_ms: u64, until_ms: u64) -> Vec<Planned> {
    vec![Planned { fault, from_ms, until_ms }]
}

/// The names of the invariants that `events` break, if the snapshots without load are correct.
fn broken(scenario: &Scenario, events: Vec<(u64, Event)>) -> Vec<&'static str> {
    let rest = || (LATE_MS, Event::Snapshot { expected: Vec::new(), actual: Vec::new() });
    let entries: Vec<_> =
        events.into_iter().chain([rest(), rest()]).map(|(at_ms, event)| Entry { at_ms, event }).collect();
    check(scenario, &entries).into_iter().map(|Violation { invariant, .. }| invariant).collect()
}

#[test]
fn a_run_in_order_passes() {
    let scenario = scenario(&[(10, 4), (20, 5)], Vec::new());
    let other = Event::Began { worker: WORKER, port: PORT + 1, call: 2 };
    let mut other_answer = response(200, None, Some("f5#2"));
    other_answer.sandbox = Some("1-2".to_owned());
    let events = vec![
        (11, began(1)),
        (12, other),
        (16, ended(1)),
        (17, ok(1, "f4#1")),
        (18, Event::Responded { call: 2, response: other_answer }),
    ];
    assert_eq!(broken(&scenario, events), [""; 0]);
}

#[test]
fn an_invocation_without_a_valid_end_is_detected() {
    let scenario = scenario(&[(10, 4)], down(Fault::Kill(DATA_PLANE), 500, 600));
    const NAME: &str = "every invocation gets one response";
    assert_eq!(broken(&scenario, vec![]), [NAME], "it never ended");
    assert_eq!(broken(&scenario, vec![(20, began(1)), (21, ok(1, "f4#1")), (22, ok(1, "f4#1"))]), [NAME], "twice");
    let broke = || Event::Broken { call: 1, cause: "reset".to_owned() };
    assert!(broken(&scenario, vec![(20, broke())]).contains(&NAME), "its data plane lived");
    assert_eq!(broken(&scenario, vec![(501, broke())]), [""; 0], "its data plane was killed");
    assert!(broken(&scenario, vec![(20, Event::TimedOut { call: 1 })]).contains(&NAME));
    assert!(broken(&scenario, vec![(20, refused(1, 404, "unknown-function"))]).contains(&NAME));
}

#[test]
fn a_false_response_is_detected() {
    let scenario = scenario(&[(10, 4)], Vec::new());
    const NAME: &str = "a response is true";
    assert_eq!(broken(&scenario, vec![(20, began(1)), (30, ok(1, "f5#1"))]), [NAME], "another function");
    assert_eq!(broken(&scenario, vec![(20, began(1)), (30, ok(1, "f4#2"))]), [NAME], "another invocation");
    assert_eq!(broken(&scenario, vec![(30, ok(1, "f4#1"))]), [NAME], "no sandbox ran it");
    let failure = Event::Responded { call: 1, response: response(200, Some("timeout"), None) };
    assert!(broken(&scenario, vec![(30, failure)]).contains(&NAME), "a failure as a 200");
}

#[test]
fn a_sandbox_that_runs_too_many_invocations_or_another_function_is_detected() {
    let same = scenario(&[(10, 4), (10, 4)], Vec::new());
    let answers = || [(30, ok(1, "f4#1")), (30, ok(2, "f4#2"))];
    let events = |middle: Vec<(u64, Event)>| middle.into_iter().chain(answers()).collect();
    let at_once = vec![(11, began(1)), (12, began(2))];
    assert_eq!(broken(&same, events(at_once)), ["concurrency is never exceeded"]);
    let in_sequence = vec![(11, began(1)), (12, ended(1)), (12, began(2))];
    assert_eq!(broken(&same, events(in_sequence)), [""; 0]);
    let other = scenario(&[(10, 4), (10, 5)], Vec::new());
    let in_sequence = vec![(11, began(1)), (12, ended(1)), (13, ok(1, "f4#1")), (14, began(2)), (15, ok(2, "f5#2"))];
    assert_eq!(broken(&other, in_sequence), ["a sandbox is of one function"]);
}

#[test]
fn a_forbidden_repetition_is_detected() {
    let mut scenario = scenario(&[(10, 4)], Vec::new());
    let twice = || vec![(11, began(1)), (12, ended(1)), (13, began(1)), (14, ended(1)), (15, ok(1, "f4#1"))];
    assert_eq!(broken(&scenario, twice()), ["nothing is repeated"]);
    scenario.calls[0].body_bytes = None;
    assert_eq!(broken(&scenario, twice()), [""; 0], "a GET may be repeated");
    let after = vec![(11, began(1)), (12, ended(1)), (13, ok(1, "f4#1")), (14, began(1))];
    assert_eq!(broken(&scenario, after), ["nothing is repeated"]);
}

#[test]
fn traffic_to_a_worker_that_is_long_dead_is_detected() {
    let dead = |also: Vec<Planned>| {
        let faults = down(Fault::Lose(WORKER), 1_000, 9_000).into_iter().chain(also).collect();
        scenario(&[], faults)
    };
    let dial = |at_ms| vec![(at_ms, Event::Dialed { from: DATA_PLANE, worker: WORKER })];
    assert_eq!(broken(&dead(Vec::new()), dial(2_999)), [""; 0], "suspicion takes a while");
    assert_eq!(broken(&dead(Vec::new()), dial(3_001)), ["no traffic to a dead worker"]);
    assert_eq!(broken(&dead(Vec::new()), dial(9_001)), [""; 0], "it is back");
    let unaware = down(Fault::Cut(DATA_PLANE, Host::ControlPlane), 900, 3_000);
    assert_eq!(broken(&dead(unaware), dial(3_001)), [""; 0], "the data plane could not know");
}

#[test]
fn a_refusal_in_stable_times_is_detected() {
    const NAME: &str = "served when stable";
    let late = |fault| scenario(&[(8_000, 4)], down(fault, 1_000, 20_000));
    let refusal = || vec![(8_500, refused(1, 504, "queue-deadline"))];
    assert_eq!(broken(&late(Fault::Lose(WORKER)), refusal()), [NAME], "its functions run elsewhere");
    assert_eq!(
        broken(&late(Fault::Kill(Host::ControlPlane)), refusal()),
        [""; 0],
        "without a control plane there are no new sandboxes"
    );
    let healed = scenario(&[(50_000, 4)], down(Fault::Cut(DATA_PLANE, WORKER), 1_000, 2_000));
    assert_eq!(broken(&healed, vec![(50_500, refused(1, 502, "upstream"))]), [NAME]);
}

#[test]
fn a_difference_without_load_is_detected() {
    let scenario = scenario(&[], Vec::new());
    let sandbox = || vec!["worker-1-0 1-1 f0 ready".to_owned()];
    let snapshot = |expected, actual| Entry { at_ms: 1, event: Event::Snapshot { expected, actual } };
    let gone = || Entry { at_ms: 2, event: Event::Deregistered { function: "f0".to_owned() } };
    let count = |entries: Vec<Entry>| check(&scenario, &entries).len();
    assert_eq!(count(vec![snapshot(sandbox(), sandbox()), gone(), snapshot(vec![], vec![])]), 0);
    assert_eq!(
        count(vec![snapshot(sandbox(), vec![]), gone(), snapshot(vec![], vec![])]),
        1,
        "an expected sandbox does not exist"
    );
    assert_eq!(
        count(vec![snapshot(sandbox(), sandbox()), gone(), snapshot(sandbox(), sandbox())]),
        1,
        "a sandbox is left"
    );
    assert_eq!(count(vec![snapshot(sandbox(), sandbox())]), 1, "the second snapshot is missing");
}
