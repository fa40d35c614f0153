//! Small histories with known ends.

use std::time::Duration;

use model::FunctionSpec;

use super::model_cluster::Cluster;
use crate::state::{Acknowledgement, PutOutcome, Registration, Request};

fn spec(name: &str) -> FunctionSpec {
    let mut spec = FunctionSpec::new(name.parse().unwrap(), "any");
    spec.scale.stable_window = Duration::from_secs(10);
    spec
}

fn cluster_with(spec: FunctionSpec) -> (Cluster, u64) {
    let mut cluster = Cluster::new(2, 1);
    let name = spec.name.to_string();
    cluster.put(spec);
    let id = cluster.function_id(&name).expect("it was registered");
    cluster.data_plane_reads(0);
    (cluster, id)
}

/// One worker, and two data planes that know the function.
fn shared_by_two(spec: FunctionSpec) -> (Cluster, u64) {
    let mut cluster = Cluster::new(1, 2);
    let name = spec.name.to_string();
    cluster.put(spec);
    let id = cluster.function_id(&name).expect("it was registered");
    (0..2).for_each(|data_plane| cluster.data_plane_reads(data_plane));
    (cluster, id)
}

/// May have one sandbox.
fn bounded() -> FunctionSpec {
    let mut spec = spec("f");
    spec.scale.max = Some(1);
    spec
}

fn sandboxes(cluster: &Cluster) -> usize {
    cluster.workers.iter().map(|worker| worker.sandboxes.len()).sum()
}

#[test]
fn one_invocation_makes_one_sandbox_and_the_next_one_uses_it() {
    let (mut cluster, id) = cluster_with(spec("f"));
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(2);
    assert_eq!((sandboxes(&cluster), cluster.data_planes[0].running(id)), (1, 1));
    cluster.data_planes[0].finish_one(id);
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(2);
    assert_eq!((sandboxes(&cluster), cluster.data_planes[0].running(id)), (1, 1));
}

#[test]
fn the_upper_bound_is_kept_and_the_lower_one_too() {
    let mut bounded = spec("f");
    (bounded.scale.min, bounded.scale.max) = (1, Some(2));
    let (mut cluster, id) = cluster_with(bounded);
    cluster.quiesce(1);
    assert_eq!(sandboxes(&cluster), 1, "the lower bound is made without demand");
    (0..5).for_each(|_| cluster.data_planes[0].arrive(id));
    cluster.quiesce(2);
    assert_eq!(sandboxes(&cluster), 2, "the upper bound holds");
    for _ in 0..5 {
        cluster.data_planes[0].finish_one(id);
        cluster.data_planes[0].finish_one(id);
        cluster.quiesce(1);
    }
    cluster.quiesce(30);
    assert_eq!(sandboxes(&cluster), 1, "the lower bound stays without demand");
}

#[test]
fn the_last_sandbox_lives_for_the_keep_alive_and_not_much_longer() {
    let (mut cluster, id) = cluster_with(spec("f"));
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(2);
    cluster.data_planes[0].finish_one(id);
    cluster.quiesce(8);
    assert_eq!(sandboxes(&cluster), 1, "it is kept for 10 s");
    cluster.quiesce(6);
    assert_eq!(sandboxes(&cluster), 0, "it is ended afterwards");
}

#[test]
fn a_full_cluster_serves_the_rest_as_soon_as_there_is_room() {
    let mut large = spec("f");
    large.cpu = 1000;
    let (mut cluster, id) = cluster_with(large);
    let mut other = spec("g");
    other.cpu = 1000;
    cluster.put(other);
    cluster.data_plane_reads(0);
    let other = cluster.function_id("g").unwrap();
    (0..2).for_each(|_| cluster.data_planes[0].arrive(id));
    cluster.quiesce(2);
    cluster.data_planes[0].arrive(other);
    cluster.quiesce(2);
    assert_eq!(cluster.data_planes[0].running(other), 0, "both nodes are full");
    cluster.request(|reply| Request::Delete { name: "f".parse().unwrap(), reply });
    (0..2).for_each(|_| cluster.data_planes[0].finish_one(id));
    cluster.quiesce(1);
    assert_eq!(cluster.data_planes[0].running(other), 1, "room was made");
}

#[test]
fn a_cluster_that_has_been_full_for_long_serves_the_newest_demand_first() {
    let whole_node = |name: &str| {
        let mut spec = spec(name);
        spec.cpu = 1000;
        spec
    };
    let (mut cluster, id) = cluster_with(whole_node("f"));
    (0..2).for_each(|_| cluster.data_planes[0].arrive(id));
    cluster.quiesce(2);
    let later = ["g", "h"].map(|name| {
        cluster.put(whole_node(name));
        cluster.data_plane_reads(0);
        let id = cluster.function_id(name).unwrap();
        cluster.data_planes[0].arrive(id);
        cluster.quiesce(1);
        id
    });
    cluster.quiesce(3);
    cluster.request(|reply| Request::Delete { name: "f".parse().unwrap(), reply });
    cluster.data_planes[0].finish_one(id);
    cluster.quiesce(1);
    assert_eq!(later.map(|id| cluster.data_planes[0].running(id)), [0, 1], "the newest has the longest to wait yet");
    cluster.data_planes[0].finish_one(id);
    cluster.quiesce(1);
    assert_eq!(later.map(|id| cluster.data_planes[0].running(id)), [1, 1], "and then there was room for both");
}

#[test]
fn an_idle_slot_elsewhere_is_recalled_before_a_sandbox_is_made() {
    let (mut cluster, id) = shared_by_two(spec("f"));
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(1);
    cluster.data_planes[0].finish_one(id);
    cluster.quiesce(1);
    cluster.data_planes[1].arrive(id);
    cluster.quiesce(1);
    assert_eq!(cluster.data_planes[1].running(id), 1);
    assert_eq!(sandboxes(&cluster), 1, "the idle sandbox moved from one data plane to the other");
}

#[test]
fn a_restarted_control_plane_keeps_functions_and_finds_their_sandboxes() {
    let (mut cluster, id) = cluster_with(spec("f"));
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(2);
    cluster.restart_control_plane();
    assert_eq!(cluster.function_id("f"), Some(id), "the function has the same id");
    cluster.quiesce(3);
    assert_eq!(sandboxes(&cluster), 1, "its sandbox was adopted");
    assert_eq!(cluster.data_planes[0].running(id), 1, "its invocation still runs");
}

#[test]
fn what_a_dead_worker_ran_runs_elsewhere() {
    let (mut cluster, id) = cluster_with(spec("f"));
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(2);
    let on = cluster.workers.iter().position(|worker| !worker.sandboxes.is_empty()).unwrap();
    cluster.kill_worker(on);
    cluster.data_planes[0].arrive(id);
    cluster.deliver_from_data_plane(0);
    let other = 1 - on;
    for _ in 0..8 {
        cluster.deliver_from_data_plane(0);
        cluster.worker_sends_heartbeat(other);
        cluster.worker_reads(other);
        cluster.worker_finishes_one(other, true);
        cluster.deliver_from_worker(other);
        cluster.data_plane_reads(0);
        cluster.pass(250);
    }
    assert_eq!(cluster.data_planes[0].running(id), 1);
    assert_eq!(cluster.workers[other].sandboxes.len(), 1);
}

#[test]
fn a_registration_is_answered_once_the_data_plane_knows_of_it() {
    let mut cluster = Cluster::new(1, 1);
    cluster.quiesce(1);
    let mut first = cluster.request(|reply| Request::Put { spec: Box::new(spec("f")), only_over: None, reply });
    assert!(first.try_recv().is_err(), "the data plane has not acknowledged it");
    cluster.data_plane_reads(0);
    cluster.deliver_from_data_plane(0);
    assert_eq!(first.try_recv(), Ok(Ok(Registration { outcome: PutOutcome::Created, is_known: true })));
    let mut again = cluster.request(|reply| Request::Put { spec: Box::new(spec("f")), only_over: None, reply });
    assert_eq!(again.try_recv(), Ok(Ok(Registration { outcome: PutOutcome::Unchanged, is_known: true })));
    let mut known = cluster.request(|reply| Request::Acknowledged { name: "f".to_owned(), reply });
    assert_eq!(known.try_recv(), Ok(Acknowledgement::Complete));
    let mut deaf = cluster.request(|reply| Request::Put { spec: Box::new(spec("g")), only_over: None, reply });
    let mut unknown = cluster.request(|reply| Request::Acknowledged { name: "g".to_owned(), reply });
    cluster.pass(1001);
    let expected = Registration { outcome: PutOutcome::Created, is_known: false };
    assert_eq!(deaf.try_recv(), Ok(Ok(expected)), "waits one second at most, and the response says so");
    assert_eq!(unknown.try_recv(), Ok(Acknowledgement::Missing));
    cluster.cut_data_plane(0);
    let mut nobody = cluster.request(|reply| Request::Acknowledged { name: "f".to_owned(), reply });
    assert_eq!(nobody.try_recv(), Ok(Acknowledgement::Missing), "no data plane is waited for");
}

#[test]
fn a_response_does_not_wait_for_a_data_plane_that_a_later_command_of_the_batch_admits() {
    let mut cluster = Cluster::new(1, 0);
    cluster.writes_slowly = true;
    let mut put = cluster.request(|reply| Request::Put { spec: Box::new(spec("f")), only_over: None, reply });
    cluster.add_data_plane();
    assert!(put.try_recv().is_err(), "nothing is durable yet");
    cluster.commit(2);
    assert_eq!(put.try_recv(), Ok(Ok(Registration { outcome: PutOutcome::Created, is_known: false })));
}

#[test]
fn a_repeated_registration_responds_once_data_planes_know_the_function() {
    let mut cluster = Cluster::new(1, 2);
    cluster.quiesce(1);
    cluster.put(spec("f"));
    let mut again = cluster.request(|reply| Request::Put { spec: Box::new(spec("f")), only_over: None, reply });
    let mut known = cluster.request(|reply| Request::Acknowledged { name: "f".to_owned(), reply });
    let mut other = cluster.request(|reply| Request::Acknowledged { name: "g".to_owned(), reply });
    assert_eq!(other.try_recv(), Ok(Acknowledgement::NoSuchFunction), "nobody need know of what is not there");
    for data_plane in 0..2 {
        let answered = [again.try_recv().is_ok(), known.try_recv().is_ok()];
        assert_eq!(answered, [false, false], "{data_plane} of 2 data planes know it");
        cluster.data_plane_reads(data_plane);
        cluster.deliver_from_data_plane(data_plane);
    }
    assert_eq!(again.try_recv(), Ok(Ok(Registration { outcome: PutOutcome::Unchanged, is_known: true })));
    assert_eq!(known.try_recv(), Ok(Acknowledgement::Complete));
}

#[test]
fn after_a_restart_slots_that_an_absent_data_plane_may_hold_are_not_granted() {
    let (mut cluster, id) = shared_by_two(spec("f"));
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(1);
    cluster.restart_control_plane();
    cluster.connect_worker(0);
    cluster.connect_data_plane(1);
    cluster.data_planes[1].arrive(id);
    for _ in 0..8 {
        cluster.data_plane_reads(1);
        cluster.deliver_from_data_plane(1);
        cluster.pass(250);
        cluster.worker_sends_heartbeat(0);
        cluster.worker_reads(0);
        cluster.worker_finishes_one(0, true);
        cluster.deliver_from_worker(0);
    }
    assert_eq!((cluster.data_planes[0].running(id), cluster.data_planes[1].running(id)), (1, 1));
    assert_eq!(sandboxes(&cluster), 2, "the absent one still uses the first");
}

#[test]
fn what_a_killed_data_plane_began_is_joined_by_nothing_also_over_a_restart() {
    for restart in [false, true] {
        let (mut cluster, id) = cluster_with(spec("f"));
        cluster.data_planes[0].arrive(id);
        cluster.quiesce(2);
        let busy = *cluster.data_planes[0].held.keys().next().expect("it serves the invocation");
        cluster.kill_data_plane(0);
        if restart {
            cluster.restart_control_plane();
        }
        cluster.quiesce(1);
        cluster.data_planes[0].arrive(id);
        cluster.quiesce(2);
        assert_eq!(cluster.data_planes[0].running(id), 1, "restart {restart}: the next invocation is served");
        assert!(!cluster.data_planes[0].held.contains_key(&busy), "restart {restart}: but not where another may run");
        assert_eq!(sandboxes(&cluster), 1, "restart {restart}: the sandbox that nobody can vouch for is ended");
    }
}

#[test]
fn what_was_granted_when_its_node_was_given_up_is_granted_to_nobody_when_the_node_returns() {
    let mut cluster = Cluster::new(1, 2);
    cluster.put(spec("f"));
    let id = cluster.function_id("f").expect("it was registered");
    cluster.quiesce(1);
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(2);
    let busy = *cluster.data_planes[0].held.keys().next().expect("it serves the invocation");
    cluster.cut_data_plane(0);
    cluster.cut_worker(0);
    (0..12).for_each(|_| cluster.pass(1000));
    assert!(cluster.state.cluster.tables.sandboxes.len() == 0, "the node was given up");

    for _ in 0..2 {
        // The command to end it may be lost with the link; the next one has it again.
        cluster.cut_worker(0);
        cluster.connect_worker(0);
    }
    cluster.data_planes[1].arrive(id);
    for _ in 0..8 {
        cluster.deliver_from_data_plane(1);
        cluster.worker_sends_heartbeat(0);
        cluster.worker_reads(0);
        cluster.worker_finishes_one(0, true);
        cluster.deliver_from_worker(0);
        cluster.data_plane_reads(1);
        assert!(!cluster.data_planes[1].held.contains_key(&busy), "its first holder may still use it");
        cluster.pass(250);
    }
    assert_eq!(cluster.data_planes[1].running(id), 1, "the invocation runs in another sandbox");
    assert!(!cluster.workers[0].sandboxes.contains_key(&busy), "the one nobody can vouch for is ended");
}

#[test]
fn a_slot_that_only_seems_busy_elsewhere_is_recalled_before_a_sandbox_is_made() {
    let (mut cluster, id) = shared_by_two(spec("f"));
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(1);
    cluster.data_planes[0].finish_one(id);
    // The other one's demand arrives before the news that the first invocation has ended.
    cluster.data_planes[1].arrive(id);
    cluster.deliver_from_data_plane(1);
    for _ in 0..8 {
        (0..2).for_each(|data_plane| cluster.data_plane_reads(data_plane));
        (0..2).for_each(|data_plane| cluster.deliver_from_data_plane(data_plane));
    }
    assert_eq!(cluster.data_planes[1].running(id), 1, "it got the slot");
    cluster.worker_reads(0);
    assert_eq!(sandboxes(&cluster), 1, "no second sandbox was made");
}

#[test]
fn at_the_upper_bound_a_busy_slot_moves_when_it_is_free() {
    let (mut cluster, id) = shared_by_two(bounded());
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(1);
    cluster.data_planes[1].arrive(id);
    cluster.quiesce(1);
    assert_eq!(cluster.data_planes[1].running(id), 0, "the only slot is in use");
    cluster.data_planes[0].finish_one(id);
    for _ in 0..8 {
        (0..2).for_each(|data_plane| cluster.deliver_from_data_plane(data_plane));
        (0..2).for_each(|data_plane| cluster.data_plane_reads(data_plane));
    }
    assert_eq!(cluster.data_planes[1].running(id), 1, "it came over at once");
}

#[test]
fn a_data_plane_that_holds_less_than_believed_is_not_asked_over_and_over() {
    let (mut cluster, id) = shared_by_two(bounded());
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(1);
    cluster.data_planes[0].finish_one(id);
    cluster.quiesce(1);
    let before = cluster.data_planes[0].limits_read;
    // A fault: it holds nothing any more, and never said so.
    cluster.data_planes[0].held.clear();
    cluster.data_planes[1].arrive(id);
    for _ in 0..100 {
        (0..2).for_each(|data_plane| cluster.deliver_from_data_plane(data_plane));
        (0..2).for_each(|data_plane| cluster.data_plane_reads(data_plane));
    }
    let asked = cluster.data_planes[0].limits_read - before;
    assert!((1..=2).contains(&asked), "asked {asked} times within a moment");
}
