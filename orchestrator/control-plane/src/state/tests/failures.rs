//! Creations that fail, also after they seemed to succeed: tried again later and elsewhere.

use std::{collections::BTreeSet, time::Duration};

use api::wire::{self, sandbox_event::Event};
use model::{FunctionSpec, SandboxId};

use super::model_cluster::Cluster;
use crate::{
    message::{SandboxReport, WorkerHello},
    state::{Input, Request, SessionId, cluster::SandboxState, views::show_function},
};

/// How a sandbox that was ready turns out to be of no use.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Its worker says that it ended.
    Exits,
    /// A data plane says that it cannot be reached.
    Breaks,
}

fn cluster_with(spec: FunctionSpec, workers: usize) -> (Cluster, u64) {
    let mut cluster = Cluster::new(workers, 1);
    cluster.put(spec);
    let id = cluster.function_id("f").expect("it was registered");
    cluster.data_plane_reads(0);
    (cluster, id)
}

fn spec() -> FunctionSpec {
    FunctionSpec::new("f".parse().unwrap(), "any")
}

/// For some time so many invocations wait, and every sandbox is ready at once and ends soon afterwards. When sandboxes were commanded, in
/// microseconds, and after how many failures.
fn crash_loop(cluster: &mut Cluster, waiting: u32, end: End, seconds: u64) -> Vec<(u64, u32)> {
    let id = cluster.function_id("f").unwrap();
    let mut seen = BTreeSet::new();
    let mut created = Vec::new();
    for _ in 0..seconds * 20 {
        let failures = cluster.believed("f").backoff.failures;
        for index in 0..cluster.workers.len() {
            cluster.worker_sends_heartbeat(index);
            cluster.worker_reads(index);
            let new: Vec<_> = cluster.workers[index].sandboxes.keys().filter(|id| seen.insert(**id)).collect();
            created.extend(new.iter().map(|_| (cluster.now_us, failures)));
            while cluster.workers[index].sandboxes.values().any(|sandbox| !sandbox.ready) {
                cluster.worker_finishes_one(index, true);
            }
            cluster.deliver_from_worker(index);
        }
        while cluster.data_planes[0].waiting_for(id) < waiting {
            cluster.data_planes[0].arrive(id);
        }
        cluster.data_plane_reads(0);
        cluster.pass(25);
        for index in 0..cluster.workers.len() {
            match end {
                End::Exits => {
                    while !cluster.workers[index].sandboxes.is_empty() {
                        cluster.sandbox_exits(index);
                    }
                }
                End::Breaks => cluster.sandboxes_break(index),
            }
            cluster.deliver_from_worker(index);
        }
        cluster.deliver_all_from_data_plane(0);
        cluster.pass(25);
    }
    created
}

#[test]
fn a_permanent_failure_without_a_reason_is_announced() {
    let mut cluster = Cluster::new(1, 1);
    cluster.quiesce(1);
    cluster.put(spec());
    let id = cluster.function_id("f").unwrap();
    cluster.quiesce(1);
    cluster.data_planes[0].arrive(id);
    for _ in 0..3 {
        cluster.deliver_all_from_data_plane(0);
        cluster.pass_with(500, &[true]);
        cluster.worker_reads(0);
        let sandbox = *cluster.workers[0].sandboxes.keys().next().expect("another attempt is made");
        cluster.workers[0].sandboxes.clear();
        let failed = Event::Failed(wire::CreationFailed { message: String::new(), permanent: true });
        cluster.worker_sends(0, wire::SandboxEvent { sandbox, event: Some(failed) });
    }
    cluster.data_plane_reads(0);
    let problem = ("its worker gives no reason".to_owned(), true);
    assert_eq!(cluster.data_planes[0].problems.get(&id), Some(&problem), "an empty text would say that it is over");
}

#[test]
fn a_crash_loop_makes_one_sandbox_a_second_at_most_after_ten_failures() {
    for end in [End::Exits, End::Breaks] {
        for (waiting, min) in [(0, 1), (0, 4), (20, 0)] {
            let what = format!("{end:?}, {waiting} wait, min {min}");
            let mut looping = spec();
            looping.scale.min = min;
            let (mut cluster, _) = cluster_with(looping, 2);
            let created = crash_loop(&mut cluster, waiting, end, 120);
            let late: Vec<u64> = created.iter().filter(|(_, failures)| *failures >= 10).map(|(at, _)| *at).collect();
            let failures = cluster.believed("f").backoff.failures;
            assert!(failures >= 10, "{what}: {failures} failures");
            assert!(late.len() >= 2, "{what}: it is tried again and again: {created:?}");
            for pair in late.windows(2) {
                assert!(pair[1] - pair[0] >= 1_000_000, "{what}: two within {} µs", pair[1] - pair[0]);
            }
        }
    }
}

#[test]
fn where_a_sandbox_ended_soon_after_it_was_ready_the_next_one_is_not_made() {
    for end in [End::Exits, End::Breaks] {
        let mut kept = spec();
        kept.scale.min = 1;
        let (mut cluster, _) = cluster_with(kept, 2);
        let mut used = Vec::new();
        for _ in 0..2 {
            while cluster.workers.iter().all(|worker| worker.sandboxes.is_empty()) {
                cluster.pass_with(100, &[true, true]);
                (0..2).for_each(|worker| cluster.worker_reads(worker));
            }
            let on = cluster.workers.iter().position(|worker| !worker.sandboxes.is_empty()).unwrap();
            used.push(on);
            cluster.worker_finishes_one(on, true);
            cluster.deliver_from_worker(on);
            cluster.data_plane_reads(0);
            match end {
                End::Exits => cluster.sandbox_exits(on),
                End::Breaks => cluster.sandboxes_break(on),
            }
            cluster.deliver_from_worker(on);
            cluster.deliver_all_from_data_plane(0);
            // What broke is ended by command.
            cluster.worker_reads(on);
        }
        assert_ne!(used[0], used[1], "{end:?}");
        let backoff = &cluster.believed("f").backoff;
        assert_eq!(backoff.failures, 2, "{end:?}");
        assert!(backoff.last_error.as_ref().unwrap().contains("after it was ready"), "{end:?}: {backoff:?}");
    }
}

#[test]
fn a_sandbox_that_has_lasted_ends_the_count_of_failures_and_its_end_is_none() {
    let mut kept = spec();
    kept.scale.min = 1;
    let (mut cluster, _) = cluster_with(kept, 1);
    crash_loop(&mut cluster, 0, End::Exits, 3);
    assert!(cluster.believed("f").backoff.failures >= 3);
    cluster.quiesce(30);
    let failures = |cluster: &Cluster| cluster.believed("f").backoff.failures;
    assert_eq!(failures(&cluster), 0, "it has lasted");
    cluster.sandbox_exits(0);
    cluster.deliver_from_worker(0);
    assert_eq!(failures(&cluster), 0, "whatever ends after that long was made well");
    cluster.worker_reads(0);
    assert_eq!(cluster.workers[0].sandboxes.len(), 1, "and the next one is made at once");
}

#[test]
fn sandboxes_that_are_given_up_soon_after_they_served_end_the_count_of_failures() {
    for min in [0, 1] {
        let mut short_lived = spec();
        short_lived.scale.stable_window = Duration::from_secs(2);
        short_lived.scale.min = min;
        let (mut cluster, id) = cluster_with(short_lived, 2);
        crash_loop(&mut cluster, 2, End::Exits, 30);
        let failures = |cluster: &Cluster| cluster.believed("f").backoff.failures;
        assert!(failures(&cluster) >= 5, "{}", failures(&cluster));
        // From now on the program works: whoever waits is served, by one sandbox after the other.
        while cluster.data_planes[0].waiting_for(id) > 0 {
            cluster.quiesce(1);
            assert!(cluster.now_us < 120_000_000, "min {min}: it was never served");
        }
        assert!(failures(&cluster) >= 5, "min {min}: that they are ready proves nothing");
        while cluster.data_planes[0].running(id) > 0 {
            cluster.data_planes[0].finish_one(id);
        }
        cluster.quiesce(8);
        assert_eq!(failures(&cluster), 0, "min {min}: the surplus was given up in good order");
    }
}

#[test]
fn a_creation_that_takes_too_long_is_given_up_and_made_elsewhere() {
    let (mut cluster, id) = cluster_with(spec(), 2);
    cluster.data_planes[0].arrive(id);
    cluster.deliver_all_from_data_plane(0);
    (0..2).for_each(|worker| cluster.worker_reads(worker));
    let on = cluster.workers.iter().position(|worker| !worker.sandboxes.is_empty()).expect("it is being made");
    let deadline = cluster.state.settings.health.creation_deadline;
    cluster.pass_with(u64::try_from(deadline.as_millis()).unwrap() - 1000, &[true, true]);
    (0..2).for_each(|worker| cluster.worker_reads(worker));
    assert_eq!(cluster.workers.iter().map(|worker| worker.sandboxes.len()).sum::<usize>(), 1, "it may take as long");
    cluster.pass_with(2000, &[true, true]);
    (0..2).for_each(|worker| cluster.worker_reads(worker));
    assert!(cluster.workers[on].sandboxes.is_empty(), "it is ended");
    assert_eq!(cluster.workers[1 - on].sandboxes.len(), 1, "and another one made on the other node");
    let function = cluster.believed("f");
    assert!(function.backoff.last_error.as_ref().unwrap().contains("was not ready within"), "{:?}", function.backoff);
    assert_eq!(function.activity.creations_failed, 1);
    cluster.worker_finishes_one(1 - on, true);
    cluster.quiesce(1);
    assert_eq!(cluster.data_planes[0].running(id), 1);
}

/// A cluster of one worker in which three invocations run in one sandbox that was just retired.
fn with_retired_sandbox() -> (Cluster, u64) {
    let mut shared = spec();
    shared.concurrency = 3;
    let (mut cluster, id) = cluster_with(shared, 1);
    (0..3).for_each(|_| cluster.data_planes[0].arrive(id));
    cluster.quiesce(1);
    assert_eq!((cluster.workers[0].sandboxes.len(), cluster.data_planes[0].running(id)), (1, 3));
    cluster.data_planes[0].retire_all();
    cluster.quiesce(1);
    (cluster, id)
}

#[test]
fn a_retired_sandbox_ends_when_what_runs_there_has_ended() {
    let (mut cluster, id) = with_retired_sandbox();
    let retired: Vec<u64> = cluster.workers[0].sandboxes.keys().copied().collect();
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(1);
    assert_eq!(cluster.data_planes[0].running(id), 4, "another one serves what came since");
    assert!(retired.iter().all(|id| cluster.workers[0].sandboxes.contains_key(id)), "three still run there");
    for left in [2, 1] {
        cluster.data_planes[0].finish_one(id);
        cluster.quiesce(1);
        assert!(retired.iter().all(|id| cluster.workers[0].sandboxes.contains_key(id)), "{left} still run there");
    }
    cluster.data_planes[0].finish_one(id);
    cluster.quiesce(1);
    assert!(!retired.iter().any(|id| cluster.workers[0].sandboxes.contains_key(id)), "nothing runs there any more");
    assert_eq!(cluster.data_planes[0].running(id), 1);
    assert_eq!(cluster.believed("f").backoff.failures, 0, "it had worked");
}

#[test]
fn retired_sandboxes_of_a_function_without_a_bound_are_not_without_bound() {
    let mut shared = spec();
    (shared.concurrency, shared.scale.max, shared.cpu, shared.memory) = (100, None, 1, 1);
    let (mut cluster, id) = cluster_with(shared, 1);
    for _ in 0..40 {
        cluster.data_planes[0].arrive(id);
        cluster.quiesce(1);
        cluster.data_planes[0].retire_all();
        cluster.quiesce(1);
    }
    assert_eq!(cluster.workers[0].sandboxes.len(), 33);
    let known = &cluster.data_planes[0];
    assert_eq!((known.waiting_for(id), known.running(id)), (7, 33), "none was ended for another");
}

#[test]
fn retired_sandboxes_are_no_more_than_a_function_may_have_and_none_ends_for_another() {
    let mut shared = spec();
    (shared.concurrency, shared.scale.max) = (3, Some(2));
    let (mut cluster, id) = cluster_with(shared, 1);
    for round in 1..6u32 {
        (0..3).for_each(|_| cluster.data_planes[0].arrive(id));
        cluster.quiesce(1);
        let there = cluster.workers[0].sandboxes.len();
        assert!(there <= 4, "{there} in round {round}: two that are retired, and two that are not");
        assert_eq!(cluster.data_planes[0].running(id), 3 * round.min(4), "nothing that runs is ended in round {round}");
        cluster.data_planes[0].retire_all();
        cluster.quiesce(1);
    }
    assert_eq!(cluster.data_planes[0].waiting_for(id), 3, "there is no place for another sandbox");
    (0..3).for_each(|_| cluster.data_planes[0].finish_one(id));
    cluster.quiesce(1);
    assert_eq!((cluster.data_planes[0].waiting_for(id), cluster.data_planes[0].running(id)), (0, 12));
}

#[test]
fn a_retired_sandbox_has_the_time_out_of_its_function_to_drain() {
    let (mut cluster, _) = with_retired_sandbox();
    let deadline = cluster.state.settings.health.drain_deadline + spec().timeout;
    cluster.quiesce(deadline.as_secs() - 5);
    assert_eq!(cluster.workers[0].sandboxes.len(), 1, "its invocations may take as long");
    cluster.quiesce(10);
    assert!(cluster.workers[0].sandboxes.is_empty(), "nothing runs for longer than that");
}

/// What a worker says of a creation that waits for others, or has begun.
fn progress(cluster: &mut Cluster, sandbox: u64, queued: bool) {
    progress_at(cluster, 0, sandbox, queued);
}

/// What that worker says of such a creation.
pub(super) fn progress_at(cluster: &mut Cluster, worker: usize, sandbox: u64, queued: bool) {
    let progress = Event::Progress(wire::CreationProgress { queued, ..Default::default() });
    cluster.worker_sends(worker, wire::SandboxEvent { sandbox, event: Some(progress) });
}

/// A cluster with one worker that has so many creations to do, all but the first of which wait for that; in order.
fn queue(creations: u32) -> (Cluster, Vec<u64>) {
    let mut spec = spec();
    (spec.scale.min, spec.cpu, spec.memory) = (creations, 1, 1);
    let (mut cluster, _) = cluster_with(spec, 1);
    cluster.worker_reads(0);
    let sandboxes: Vec<_> = cluster.workers[0].sandboxes.keys().copied().collect();
    assert_eq!(sandboxes.len(), creations as usize);
    sandboxes[1..].iter().for_each(|sandbox| progress(&mut cluster, *sandbox, true));
    (cluster, sandboxes)
}

/// Half of the time that a creation may take.
pub(super) const HALF_DEADLINE_MS: u64 = 15_000;

#[test]
fn creations_that_wait_for_others_which_become_ready_are_no_failures_however_long_they_wait() {
    let (mut cluster, sandboxes) = queue(12);
    for sandbox in &sandboxes {
        progress(&mut cluster, *sandbox, false);
        cluster.pass_with(HALF_DEADLINE_MS, &[true]);
        cluster.worker_finishes_one(0, true);
        cluster.deliver_from_worker(0);
        cluster.worker_reads(0);
    }
    let all: Vec<_> = cluster.workers[0].sandboxes.keys().copied().collect();
    assert_eq!(all, sandboxes, "each was made once");
    assert_eq!(cluster.believed("f").backoff.failures, 0);
}

/// A cluster with a worker that can make one sandbox a second, and with a function `f` whose creation waits there behind
/// ten others. Each second two more come, for so many seconds: all nodes but that worker's are drained until
/// `others_open_s`. The sandboxes of `f` that were commanded there meanwhile.
fn overload(workers: usize, seconds: u64, others_open_s: u64) -> (Cluster, BTreeSet<u64>) {
    let mut cluster = Cluster::new(workers, 1);
    let drain_others = |cluster: &mut Cluster, drained| {
        for index in 1..workers {
            cluster.request(|reply| Request::DrainNode { name: format!("w{index}-node"), drained, reply });
        }
    };
    drain_others(&mut cluster, true);
    let put = |cluster: &mut Cluster, name: &str| {
        let mut spec = FunctionSpec::new(name.parse().unwrap(), "any");
        (spec.scale.min, spec.cpu, spec.memory) = (1, 1, 1);
        cluster.put(spec);
    };
    (0..10).for_each(|which| put(&mut cluster, &format!("other-0-{which}")));
    put(&mut cluster, "f");
    let mut of_f = BTreeSet::new();
    for second in 1..=seconds {
        if second == others_open_s {
            drain_others(&mut cluster, false);
        }
        (0..2).for_each(|which| put(&mut cluster, &format!("other-{second}-{which}")));
        cluster.worker_reads(0);
        of_f.extend(cluster.workers[0].sandboxes.iter().filter(|(_, one)| one.name == "f").map(|(id, _)| *id));
        cluster.worker_queues(0);
        cluster.deliver_from_worker(0);
        cluster.pass_with(1000, &vec![true; workers]);
        cluster.worker_serves_next(0);
        cluster.deliver_from_worker(0);
    }
    (cluster, of_f)
}

pub(super) fn expect_no_blame(cluster: &Cluster) {
    let function = cluster.believed("f");
    assert_eq!((function.backoff.failures, function.activity.creations_failed), (0, 0));
    assert_eq!(cluster.state.cluster.tables.nodes.failing().count(), 0, "no node is avoided by others");
}

#[test]
fn a_creation_that_later_ones_overtake_for_as_long_as_it_may_take_is_made_elsewhere() {
    let (mut cluster, of_f) = overload(2, 45, 36);
    assert_eq!(of_f.len(), 1, "it waits at the first worker");
    assert!(of_f.iter().all(|id| !cluster.workers[0].sandboxes.contains_key(id)), "and is given up there");
    cluster.worker_reads(1);
    let there: Vec<_> = cluster.workers[1].sandboxes.values().map(|sandbox| sandbox.name.as_str()).collect();
    assert_eq!(there.iter().filter(|name| **name == "f").count(), 1, "{there:?}");
    expect_no_blame(&cluster);
}

#[test]
fn a_creation_that_later_ones_overtake_on_the_only_node_is_served_there() {
    let deadlines = 2;
    let (cluster, of_f) = overload(1, deadlines * 2 * HALF_DEADLINE_MS / 1000, u64::MAX);
    assert_eq!(of_f.len(), 1, "it does not begin again");
    let function = cluster.believed("f");
    assert_eq!((function.ready(), function.starting()), (1, 0));
    let longest = cluster.workers[0].sandboxes.values().filter_map(|sandbox| sandbox.queued_us).min();
    assert!(longest.is_some_and(|since_us| since_us > 0), "and so had those that came before it");
    expect_no_blame(&cluster);
}

#[test]
fn creations_that_are_served_the_newest_first_are_made_once_however_long_they_wait() {
    let (mut cluster, sandboxes) = queue(12);
    progress(&mut cluster, sandboxes[0], true);
    for sandbox in sandboxes.iter().rev() {
        progress(&mut cluster, *sandbox, false);
        cluster.pass_with(HALF_DEADLINE_MS, &[true]);
        cluster.worker_finishes(0, *sandbox);
        cluster.deliver_from_worker(0);
        cluster.worker_reads(0);
    }
    let all: Vec<_> = cluster.workers[0].sandboxes.keys().copied().collect();
    assert_eq!(all, sandboxes, "each was made once");
}

#[test]
fn the_time_in_which_the_control_plane_stood_still_is_no_time_that_a_creation_waited() {
    let (mut cluster, sandboxes) = queue(4);
    let finish = |cluster: &mut Cluster, sandbox| {
        progress(cluster, sandbox, false);
        cluster.worker_finishes(0, sandbox);
        cluster.deliver_from_worker(0);
    };
    cluster.pass_with(HALF_DEADLINE_MS, &[true]);
    finish(&mut cluster, sandboxes[0]);
    cluster.stand_still(2 * HALF_DEADLINE_MS);
    cluster.pass_with(1000, &[true]);
    // It overtakes the others, which have not waited for as long as they may.
    let mut spec = FunctionSpec::new("later".parse().unwrap(), "any");
    (spec.scale.min, spec.cpu, spec.memory) = (1, 1, 1);
    cluster.put(spec);
    cluster.worker_reads(0);
    let later = *cluster.workers[0].sandboxes.keys().max().unwrap();
    finish(&mut cluster, later);
    cluster.pass_with(HALF_DEADLINE_MS, &[true]);
    cluster.worker_reads(0);
    let all: Vec<_> = cluster.workers[0].sandboxes.keys().copied().collect();
    assert_eq!(all, [sandboxes.as_slice(), &[later]].concat(), "none began anew");
}

#[test]
fn a_creation_goes_on_to_wait_while_others_become_ready_on_another_node_of_its_worker() {
    let mut cluster = Cluster::new(0, 0);
    let session = SessionId(1000);
    let node = |name: &str| wire::NodeAnnouncement { name: name.to_owned(), cpu_millicores: 100, memory_mib: 100 };
    let worker = "of-two".to_owned();
    let hello = wire::WorkerHello { worker: worker.clone(), nodes: vec![node("n0"), node("n1")], ..Default::default() };
    let hello = Box::new(WorkerHello::check(hello).unwrap());
    cluster.input(Input::WorkerJoined { session, hello });
    let newest = |cluster: &Cluster| {
        cluster.state.cluster.tables.sandboxes.iter().map(|(id, _)| id).max().expect("one was commanded").to_wire()
    };
    let report = |cluster: &mut Cluster, sandbox, event| {
        let report = SandboxReport::of(wire::SandboxEvent { sandbox, event: Some(event) }).unwrap();
        cluster.input(Input::SandboxReports { session, reports: vec![report], read_us: cluster.now_us });
    };
    let mut made = Vec::new();
    for round in 0..8 {
        let mut spec = FunctionSpec::new(format!("f{round}").parse().unwrap(), "any");
        // The first one fills its node, so that all others are made on the other one.
        let size = if round == 0 { 100 } else { 1 };
        (spec.scale.min, spec.cpu, spec.memory) = (1, size, size);
        cluster.put(spec);
        let sandbox = newest(&cluster);
        report(&mut cluster, sandbox, Event::Progress(wire::CreationProgress { queued: true, ..Default::default() }));
        made.push(sandbox);
    }
    for sandbox in &made[1..] {
        for _ in 0..HALF_DEADLINE_MS / 500 {
            cluster.pass(500);
            cluster.input(Input::Heartbeats { received: vec![(worker.clone(), cluster.now_us)] });
        }
        let address = "127.1.0.1:80".to_owned();
        report(&mut cluster, *sandbox, Event::Ready(wire::SandboxReady { address, ..Default::default() }));
    }
    let still =
        cluster.state.cluster.tables.sandboxes.get(SandboxId::from_wire(made[0])).map(|sandbox| sandbox.state());
    assert_eq!(still, Some(SandboxState::Starting), "its turn is still to come");
}

/// How many creations had failed after one deadline and a half in which others became ready at the worker of a creation
/// that `was_queued` as it said, and `is_queued` when it connects again; all workers were away together in between, so
/// that their creations were not given up.
fn failed_after_reconnection(was_queued: bool, is_queued: bool) -> u32 {
    let mut cluster = Cluster::new(2, 1);
    cluster.request(|reply| Request::DrainNode { name: "w1-node".to_owned(), drained: true, reply });
    let mut spec = spec();
    (spec.scale.min, spec.cpu, spec.memory) = (4, 1, 1);
    cluster.put(spec);
    cluster.worker_reads(0);
    let sandboxes: Vec<_> = cluster.workers[0].sandboxes.keys().copied().collect();
    for (place, sandbox) in sandboxes.iter().enumerate() {
        progress(&mut cluster, *sandbox, place > 0 || was_queued);
        cluster.workers[0].sandboxes.get_mut(sandbox).unwrap().queued_us = (place > 0 || is_queued).then_some(0);
    }
    cluster.pass(2000);
    (0..2).for_each(|worker| cluster.cut_worker(worker));
    (0..2).for_each(|worker| cluster.connect_worker(worker));
    for sandbox in &sandboxes[1..] {
        cluster.pass_with(HALF_DEADLINE_MS, &[true, true]);
        cluster.worker_finishes(0, *sandbox);
        cluster.deliver_from_worker(0);
    }
    cluster.worker_reads(0);
    let function = cluster.believed("f");
    let is_there = cluster.workers[0].sandboxes.contains_key(&sandboxes[0]);
    assert_eq!(is_there, function.activity.creations_failed == 0, "it is given up if it failed");
    function.activity.creations_failed
}

#[test]
fn where_a_creation_stands_is_known_again_when_its_worker_has_connected_again() {
    assert_eq!(failed_after_reconnection(true, false), 1, "it has begun since");
    assert_eq!(failed_after_reconnection(false, true), 0, "it waits, as was said on the stream that broke");
    assert_eq!(failed_after_reconnection(true, true), 0, "it waits as before");
}

#[test]
fn the_time_of_a_creation_counts_from_when_it_begins_and_it_fails_once_that_is_over() {
    let (mut cluster, sandboxes) = queue(2);
    cluster.pass_with(HALF_DEADLINE_MS, &[true]);
    progress(&mut cluster, sandboxes[1], false);
    cluster.pass_with(HALF_DEADLINE_MS + 1000, &[true]);
    let failed = |cluster: &Cluster| cluster.believed("f").activity.creations_failed;
    assert_eq!(failed(&cluster), 1, "the one that began first");
    cluster.worker_reads(0);
    assert!(cluster.workers[0].sandboxes.contains_key(&sandboxes[1]), "the other one still has time");
    cluster.pass_with(HALF_DEADLINE_MS, &[true]);
    cluster.worker_reads(0);
    cluster.deliver_from_worker(0);
    assert!(!cluster.workers[0].sandboxes.contains_key(&sandboxes[1]));
    assert!(failed(&cluster) >= 2, "and then it failed, too");
}

/// How many nodes are avoided by all after five functions had a sandbox each on the only node, which their data planes
/// could not reach soon afterwards; `holders` are those that had them.
fn avoided_after_breaks(data_planes: usize, holders: &[usize]) -> usize {
    let mut cluster = Cluster::new(1, data_planes);
    for number in 0..5 {
        let name = format!("f{number}");
        cluster.put(FunctionSpec::new(name.parse().unwrap(), "any"));
        let id = cluster.function_id(&name).unwrap();
        (0..data_planes).for_each(|index| cluster.data_plane_reads(index));
        let holder = holders[number % holders.len()];
        cluster.data_planes[holder].arrive(id);
        cluster.quiesce(1);
        assert_eq!(cluster.data_planes[holder].running(id), 1);
    }
    cluster.sandboxes_break(0);
    while cluster.data_planes.iter().any(|known| known.has_outgoing()) {
        (0..data_planes).for_each(|index| cluster.deliver_from_data_plane(index));
    }
    let failed = |number| cluster.believed(&format!("f{number}")).backoff.failures;
    assert!((0..5).all(|number| failed(number) > 0), "each function tries later and elsewhere");
    cluster.state.cluster.tables.nodes.failing().count()
}

#[test]
fn a_node_is_avoided_by_all_when_more_than_one_data_plane_cannot_reach_it() {
    assert_eq!(avoided_after_breaks(1, &[0]), 1, "there is nobody else to ask");
    assert_eq!(avoided_after_breaks(2, &[0]), 0, "its own way there may be broken");
    assert_eq!(avoided_after_breaks(2, &[0, 1]), 1, "both say so");
}

#[test]
fn what_went_wrong_stays_until_what_is_run_is_registered_differently() {
    let mut kept = spec();
    kept.scale.min = 1;
    let (mut cluster, id) = cluster_with(kept.clone(), 1);
    cluster.worker_reads(0);
    cluster.worker_finishes_one(0, false);
    cluster.deliver_from_worker(0);
    let shown = |cluster: &mut Cluster, spec: &FunctionSpec| {
        cluster.put(spec.clone());
        (0..8).for_each(|_| cluster.data_plane_reads(0));
        let view = show_function(&cluster.state.cluster, cluster.believed("f"));
        (view.failures, view.last_error, cluster.data_planes[0].problems.contains_key(&id))
    };
    let failed = (1, Some("no luck".to_owned()), true);
    assert_eq!(shown(&mut cluster, &kept), failed, "nothing has changed");
    kept.scale.max = Some(7);
    assert_eq!(shown(&mut cluster, &kept), failed, "what failed is run as before");
    kept.image = "other".to_owned();
    assert_eq!(shown(&mut cluster, &kept), (0, None, false), "nothing is known of this one");
}

#[test]
fn what_exceeds_a_bound_still_is_a_problem_still() {
    let mut unfit = spec();
    unfit.timeout = model::duration::MAX_DURATION + Duration::from_secs(1);
    let (mut cluster, id) = cluster_with(unfit.clone(), 1);
    cluster.data_planes[0].arrive(id);
    cluster.deliver_all_from_data_plane(0);
    cluster.data_planes[0].waiting.clear();
    cluster.data_plane_samples(0);
    cluster.deliver_all_from_data_plane(0);
    for max in [2, 1] {
        (0..8).for_each(|_| cluster.data_plane_reads(0));
        let problem = cluster.data_planes[0].problems.get(&id);
        assert!(problem.is_some_and(|(cause, permanent)| cause.contains("timeout") && *permanent), "{problem:?}");
        unfit.scale.max = Some(max);
        cluster.put(unfit.clone());
    }
    unfit.timeout = Duration::from_secs(1);
    cluster.put(unfit);
    (0..8).for_each(|_| cluster.data_plane_reads(0));
    assert_eq!(cluster.data_planes[0].problems.get(&id), None);
}

#[test]
fn what_a_creation_waits_for_is_shown_while_it_waits() {
    let (mut cluster, sandboxes) = queue(2);
    let shown = |cluster: &Cluster| show_function(&cluster.state.cluster, cluster.believed("f")).last_error;
    assert_eq!(shown(&cluster), None, "its turn will come");
    let mut wait = |queued: bool, cause: &str| {
        let progress = Event::Progress(wire::CreationProgress { queued, cause: cause.to_owned() });
        cluster.worker_sends(0, wire::SandboxEvent { sandbox: sandboxes[0], event: Some(progress) });
        shown(&cluster)
    };
    assert_eq!(wait(true, "no port is free"), Some("a creation on node w0-node waits: no port is free".to_owned()));
    assert_eq!(wait(false, ""), None, "it has begun");
}
