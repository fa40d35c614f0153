//! Demand that no node has room for: who has what becomes free.

use model::FunctionSpec;

use super::model_cluster::{Cluster, NODE_CPU};
use crate::state::Request;

/// So many sandboxes fill the only node.
const ROOM: u32 = 5;

fn put(cluster: &mut Cluster, name: &str, sandboxes: u32) {
    let mut spec = FunctionSpec::new(name.parse().unwrap(), "any");
    (spec.scale.min, spec.cpu, spec.memory) = (sandboxes, u32::try_from(NODE_CPU).unwrap() / ROOM, 1);
    cluster.put(spec);
}

/// Ends the sandbox of a function. Who has its room?
fn successor_of(cluster: &mut Cluster, name: &str) -> String {
    cluster.request(|reply| Request::Delete { name: name.parse().unwrap(), reply });
    cluster.quiesce(1);
    let made = cluster.workers[0].sandboxes.last_key_value().expect("the node is full again");
    made.1.name.clone()
}

#[test]
fn who_has_waited_for_very_long_has_room_by_turns_with_newer_demand() {
    let mut cluster = Cluster::new(1, 1);
    let names = |kind: &str| (0..ROOM).map(|number| format!("{kind}-{number}")).collect::<Vec<_>>();
    let (fillers, old, new) = (names("filler"), names("old"), names("new"));
    fillers.iter().chain(&old).for_each(|name| put(&mut cluster, name, 1));
    cluster.quiesce(1);
    cluster.quiesce(31);
    let mut served = Vec::new();
    for (filler, newest) in fillers.iter().zip(&new) {
        put(&mut cluster, newest, 1);
        served.push(successor_of(&mut cluster, filler));
    }
    // Who demands again counts as new.
    assert_eq!([&*served[0], &*served[2]], ["old-0", "old-1"], "{served:?}");
    assert!(served.iter().any(|name| name.starts_with("new")), "{served:?}");
}

#[test]
fn who_is_served_and_wants_more_has_waited_no_longer_than_that() {
    let mut cluster = Cluster::new(1, 1);
    let fillers = (0..ROOM).map(|number| format!("filler-{number}")).collect::<Vec<_>>();
    fillers.iter().for_each(|name| put(&mut cluster, name, 1));
    put(&mut cluster, "greedy", 0);
    let greedy = cluster.function_id("greedy").unwrap();
    cluster.quiesce(1);
    (0..200).for_each(|_| cluster.data_planes[0].arrive(greedy));
    cluster.quiesce(1);
    ["old-0", "old-1"].iter().for_each(|name| put(&mut cluster, name, 1));
    cluster.quiesce(32);
    let mut served = Vec::new();
    for filler in &fillers {
        cluster.request(|reply| Request::Delete { name: filler.parse().unwrap(), reply });
        cluster.commit(usize::MAX);
        cluster.data_plane_reads(0);
        cluster.deliver_all_from_data_plane(0);
        cluster.worker_reads(0);
        // It is the oldest, and the newest as well.
        cluster.data_planes[0].arrive(greedy);
        cluster.deliver_from_data_plane(0);
        cluster.deliver_from_worker(0);
        cluster.worker_reads(0);
        served.push(cluster.workers[0].sandboxes.last_key_value().expect("the node is full again").1.name.clone());
    }
    for name in ["old-0", "old-1"] {
        assert!(served.iter().any(|served| served == name), "{served:?}");
    }
}
