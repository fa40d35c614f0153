//! Demand that no node has room for: who has what becomes free.

use model::FunctionSpec;

use super::model_cluster::{Cluster, NODE_CPU};
use crate::state::Request;

/// So many sandboxes fill the only node.
const ROOM: u32 = 5;

fn put(cluster: &mut Cluster, name: &str) {
    let mut spec = FunctionSpec::new(name.parse().unwrap(), "any");
    (spec.scale.min, spec.cpu, spec.memory) = (1, u32::try_from(NODE_CPU).unwrap() / ROOM, 1);
    cluster.put(spec);
}

/// Ends the sandbox of a function. Who has its room?
fn successor_of(cluster: &mut Cluster, name: &str) -> String {
    cluster.request(Request::Delete { name: name.parse().unwrap() });
    cluster.settle(1);
    let made = cluster.workers[0].sandboxes.last_key_value().expect("the node is full again");
    made.1.name.clone()
}

#[test]
fn who_has_waited_for_very_long_has_room_by_turns_with_newer_demand() {
    let mut cluster = Cluster::new(1, 1);
    let names = |kind: &str| (0..ROOM).map(|number| format!("{kind}-{number}")).collect::<Vec<_>>();
    let (fillers, old, new) = (names("filler"), names("old"), names("new"));
    fillers.iter().chain(&old).for_each(|name| put(&mut cluster, name));
    cluster.settle(1);
    cluster.settle(31);
    let mut served = Vec::new();
    for (filler, newest) in fillers.iter().zip(&new) {
        put(&mut cluster, newest);
        served.push(successor_of(&mut cluster, filler));
    }
    // Who demands again counts as new.
    assert_eq!([&*served[1], &*served[3]], ["old-0", "old-1"], "{served:?}");
    assert!(served.iter().any(|name| name.starts_with("new")), "{served:?}");
}
