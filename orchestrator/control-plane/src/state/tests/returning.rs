//! Supply that comes back: what was out of reach for a while is decided on again, though nobody demands anything.

use std::{collections::BTreeSet, time::Duration};

use api::wire::{self, sandbox_event::Event};
use model::FunctionSpec;

use super::model_cluster::{Cluster, NODE_CPU};
use crate::state::Request;

const KEEP_ALIVE_S: u64 = 20;

fn spec(name: &str) -> FunctionSpec {
    let mut spec = FunctionSpec::new(name.parse().unwrap(), "any");
    spec.scale.stable_window = Duration::from_secs(2);
    spec.scale.keep_alive = Some(Duration::from_secs(KEEP_ALIVE_S));
    spec
}

/// Two workers and one data plane, which had one invocation of `f`, whose sandbox is idle since.
fn idle(spec: FunctionSpec) -> Cluster {
    let mut cluster = Cluster::new(2, 1);
    cluster.put(spec);
    cluster.data_plane_reads(0);
    let id = cluster.function_id("f").expect("it was registered");
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(2);
    cluster.data_planes[0].finish_one(id);
    cluster.quiesce(3);
    assert_eq!(sandboxes(&cluster), 1);
    cluster
}

fn sandboxes(cluster: &Cluster) -> usize {
    cluster.workers.iter().map(|worker| worker.sandboxes.len()).sum()
}

/// The worker that has the only sandbox.
fn owner(cluster: &Cluster) -> usize {
    cluster.workers.iter().position(|worker| !worker.sandboxes.is_empty()).expect("one has it")
}

/// The sandbox of a function that wants none, and then of one that wants one at least: how many are left in the end.
fn left_after(meanwhile: impl Fn(&mut Cluster)) -> [usize; 2] {
    [0, 1].map(|min| {
        let mut wanted = spec("f");
        wanted.scale.min = min;
        let mut cluster = idle(wanted);
        meanwhile(&mut cluster);
        cluster.quiesce(2 * KEEP_ALIVE_S);
        sandboxes(&cluster)
    })
}

#[test]
fn a_worker_s_stream_that_breaks_and_comes_back_leaves_no_surplus() {
    let left = left_after(|cluster| {
        let owner = owner(cluster);
        cluster.cut_worker(owner);
        // Long enough for a successor elsewhere, and not for the node to be given up.
        cluster.worker_reads(1 - owner);
        cluster.worker_finishes_one(1 - owner, true);
        cluster.deliver_from_worker(1 - owner);
        cluster.pass_with(500, &[true, true]);
        cluster.connect_worker(owner);
    });
    assert_eq!(left, [0, 1]);
}

#[test]
fn a_worker_that_is_silent_for_a_while_leaves_no_surplus() {
    let left = left_after(|cluster| {
        let owner = owner(cluster);
        cluster.pass_with(3000, &[owner != 0, owner != 1]);
        cluster.worker_reads(1 - owner);
        cluster.worker_finishes_one(1 - owner, true);
        cluster.deliver_from_worker(1 - owner);
    });
    assert_eq!(left, [0, 1]);
}

#[test]
fn a_data_plane_that_was_away_when_the_keep_alive_ended_leaves_no_surplus() {
    let left = left_after(|cluster| {
        cluster.pass_with((KEEP_ALIVE_S - 5) * 1000, &[true, true]);
        cluster.cut_data_plane(0);
        cluster.pass_with(10_000, &[true, true]);
        cluster.connect_data_plane(0);
    });
    assert_eq!(left, [0, 1]);
}

#[test]
fn a_data_plane_that_reports_after_the_recovery_window_leaves_no_surplus() {
    let left = left_after(|cluster| {
        cluster.restart_control_plane();
        (0..2).for_each(|worker| cluster.connect_worker(worker));
        let window = u64::try_from(cluster.state.settings.health.recovery_window.as_millis()).unwrap();
        cluster.pass_with(window + 500, &[true, true]);
        cluster.connect_data_plane(0);
    });
    assert_eq!(left, [0, 1]);
}

#[test]
fn decisions_wait_for_the_recovery_window_however_long_the_log_took_to_read() {
    let mut cluster = idle(spec("f"));
    cluster.restart_control_plane();
    let window = cluster.state.settings.health.recovery_window;
    let waited_from_us = cluster.now_us;
    cluster.connect_worker(0);
    while !cluster.state.recovery.is_finished() {
        cluster.pass_with(100, &[true, true]);
    }
    let waited = Duration::from_micros(cluster.now_us - waited_from_us);
    assert_eq!(waited, window, "the other peers may be no more");
}

#[test]
fn a_function_keeps_its_lower_bound_whatever_a_worker_reports_of_its_sandbox() {
    let failed = Event::Failed(wire::CreationFailed { message: "no luck".to_owned(), permanent: false });
    let unreachable = Event::Ready(wire::SandboxReady { address: String::new(), ..Default::default() });
    for event in [failed, unreachable] {
        let mut wanted = spec("f");
        wanted.scale.min = 1;
        let mut cluster = idle(wanted);
        let owner = owner(&cluster);
        let old = *cluster.workers[owner].sandboxes.keys().next().expect("it has one");
        if matches!(event, Event::Failed(_)) {
            cluster.workers[owner].sandboxes.clear();
        }
        cluster.worker_sends(owner, wire::SandboxEvent { sandbox: old, event: Some(event.clone()) });
        cluster.quiesce(1);
        let ids: Vec<_> = cluster.workers.iter().flat_map(|worker| worker.sandboxes.keys().copied()).collect();
        assert!(ids.len() == 1 && ids[0] != old, "{event:?}: {ids:?}");
    }
}

#[test]
fn a_worker_that_reports_all_its_sandboxes_as_failed_gets_few() {
    let mut wanted = spec("f");
    wanted.scale.min = 1;
    let mut cluster = idle(wanted);
    let mut commanded = BTreeSet::new();
    for _ in 0..100 {
        for worker in 0..2 {
            cluster.worker_reads(worker);
            cluster.worker_finishes_one(worker, true);
            cluster.deliver_from_worker(worker);
            let made: Vec<_> = cluster.workers[worker].sandboxes.keys().copied().collect();
            for id in made {
                cluster.workers[worker].sandboxes.remove(&id);
                commanded.insert(id);
                let failed = wire::CreationFailed { message: "no luck".to_owned(), permanent: false };
                cluster.worker_sends(worker, wire::SandboxEvent { sandbox: id, event: Some(Event::Failed(failed)) });
            }
        }
        cluster.pass_with(10, &[true, true]);
    }
    assert!((2..=5).contains(&commanded.len()), "{} within a second", commanded.len());
}

#[test]
fn what_a_data_plane_claimed_that_has_left_again_is_out_of_reach() {
    let mut cluster = Cluster::new(1, 2);
    cluster.put(spec("f"));
    (0..2).for_each(|data_plane| cluster.data_plane_reads(data_plane));
    let id = cluster.function_id("f").unwrap();
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(2);
    cluster.restart_control_plane();
    (0..2).for_each(|data_plane| cluster.connect_data_plane(data_plane));
    cluster.cut_data_plane(0);
    cluster.connect_worker(0);
    cluster.data_planes[1].arrive(id);
    cluster.deliver_all_from_data_plane(1);
    cluster.pass_with(1000, &[true]);
    cluster.worker_reads(0);
    assert_eq!(sandboxes(&cluster), 2, "the second data plane has one of its own");
}

#[test]
fn a_lower_bound_is_kept_where_the_holder_is_away() {
    let mut cluster = Cluster::new(1, 2);
    let mut wanted = spec("f");
    wanted.scale.min = 1;
    cluster.put(wanted);
    cluster.quiesce(1);
    let holder = (0..2).find(|index| !cluster.data_planes[*index].held.is_empty()).expect("one has it");
    cluster.cut_data_plane(holder);
    cluster.pass_with(1000, &[true]);
    cluster.worker_reads(0);
    assert_eq!(sandboxes(&cluster), 1, "most are back sooner");
    cluster.pass_with(1500, &[true]);
    cluster.worker_reads(0);
    cluster.worker_finishes_one(0, true);
    cluster.deliver_from_worker(0);
    cluster.data_plane_reads(1 - holder);
    assert_eq!(cluster.data_planes[1 - holder].held.len(), 1, "the other one has a warm sandbox, too");
    cluster.quiesce(2 * KEEP_ALIVE_S);
    assert_eq!(sandboxes(&cluster), 1, "and there is no surplus once it is back");
}

#[test]
fn a_data_plane_that_returns_keeps_what_it_uses_and_idle_ones_go() {
    // One of the busy ones may have been lost meanwhile, which is decided on at once.
    for (busy, lost) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let mut cluster = Cluster::new(1, 2);
        let mut wanted = spec("f");
        (wanted.cpu, wanted.memory) = (1, 1);
        (wanted.scale.policy, wanted.scale.target_utilization) = (Some("dirigent".to_owned()), 1.0);
        cluster.put(wanted);
        (0..2).for_each(|data_plane| cluster.data_plane_reads(data_plane));
        let id = cluster.function_id("f").unwrap();
        (0..5).for_each(|_| cluster.data_planes[busy].arrive(id));
        cluster.quiesce(3);
        assert_eq!(cluster.data_planes[busy].running(id), 5);
        cluster.cut_data_plane(busy);
        for _ in 0..30 {
            cluster.worker_reads(0);
            cluster.worker_finishes_one(0, true);
            cluster.deliver_from_worker(0);
            cluster.data_plane_reads(1 - busy);
            cluster.deliver_all_from_data_plane(1 - busy);
            cluster.pass_with(100, &[true]);
        }
        assert_eq!(cluster.data_planes[1 - busy].held.len(), 5, "{busy}: successors are made");
        let limits_read = cluster.data_planes[busy].limits_read;
        for _ in 0..lost {
            cluster.data_planes[busy].held.pop_first();
        }
        cluster.connect_data_plane(busy);
        cluster.quiesce(4);
        assert_eq!(cluster.data_planes[busy].limits_read, limits_read, "{busy}: it is not asked for busy ones");
        assert_eq!(cluster.data_planes[busy].running(id), 5 - lost, "{busy}");
        assert!(cluster.data_planes[1 - busy].held.is_empty(), "{busy}: idle ones are given back");
    }
}

#[test]
fn a_sample_that_is_older_than_the_demand_of_its_message_does_not_undo_it() {
    let mut cluster = Cluster::new(1, 1);
    cluster.put(spec("f"));
    cluster.data_plane_reads(0);
    let function = cluster.function_id("f").unwrap();
    let demand = vec![wire::Demand { function, waiting: 1, running: 0 }];
    let samples = vec![wire::Sample { function, span_ms: 1000, ..Default::default() }];
    cluster.data_planes[0].send(wire::FromDataPlane { demand, samples, ..Default::default() });
    cluster.deliver_all_from_data_plane(0);
    cluster.worker_reads(0);
    assert_eq!(sandboxes(&cluster), 1);
}

#[test]
fn one_input_makes_a_bounded_number_of_sandboxes_of_a_function() {
    let mut cluster = Cluster::new(1, 1);
    let mut tiny = spec("f");
    (tiny.cpu, tiny.memory) = (0, 0);
    cluster.put(tiny);
    cluster.data_plane_reads(0);
    let function = cluster.function_id("f").unwrap();
    let demand = vec![wire::Demand { function, waiting: 3000, running: 0 }];
    cluster.data_planes[0].send(wire::FromDataPlane { demand, ..Default::default() });
    cluster.deliver_all_from_data_plane(0);
    assert_eq!(cluster.state.cluster.tables.sandboxes.len(), 1024);
    cluster.pass_with(100, &[true]);
    assert_eq!(cluster.state.cluster.tables.sandboxes.len(), 2048, "the next input makes more");
}

#[test]
fn a_data_plane_that_connects_is_granted_what_lies_free() {
    let mut cluster = Cluster::new(1, 1);
    cluster.cut_data_plane(0);
    let mut wanted = spec("f");
    wanted.scale.min = 1;
    cluster.put(wanted);
    cluster.worker_reads(0);
    cluster.worker_finishes_one(0, true);
    cluster.deliver_from_worker(0);
    cluster.pass_with(1000, &[true]);
    cluster.connect_data_plane(0);
    cluster.data_plane_reads(0);
    assert_eq!(cluster.data_planes[0].held.len(), 1, "before anybody asks for it");
}

#[test]
fn room_goes_to_the_first_in_the_queue_though_the_timer_of_another_is_due() {
    let mut cluster = Cluster::new(1, 1);
    for (name, policy) in [("filler", None), ("first", None), ("ticking", Some("dirigent"))] {
        let mut wanted = spec(name);
        wanted.cpu = u32::try_from(NODE_CPU).unwrap();
        wanted.scale.policy = policy.map(str::to_owned);
        cluster.put(wanted);
    }
    let [filler, first, ticking] = ["filler", "first", "ticking"].map(|name| cluster.function_id(name).unwrap());
    cluster.data_plane_reads(0);
    cluster.data_planes[0].arrive(filler);
    cluster.quiesce(1);
    // After a long wait the newest demand comes first.
    for function in [ticking, first] {
        cluster.data_planes[0].arrive(function);
        cluster.deliver_all_from_data_plane(0);
    }
    cluster.request(|reply| Request::Delete { name: "filler".parse().unwrap(), reply });
    cluster.data_plane_reads(0);
    cluster.data_planes[0].finish_one(filler);
    cluster.deliver_all_from_data_plane(0);
    cluster.worker_reads(0);
    let due_us =
        cluster.state.cluster.tables.functions.get(model::FunctionId(ticking)).and_then(|function| function.due_us());
    cluster.now_us = due_us.expect("it is decided on every few seconds");
    // The input in which the filler's end is heard is the first one at that time.
    cluster.deliver_from_worker(0);
    cluster.worker_reads(0);
    let made: Vec<_> = cluster.workers[0].sandboxes.values().map(|sandbox| sandbox.name.as_str()).collect();
    assert_eq!(made, ["first"]);
}
