//! A compacted log says the same as the whole one, wherever compaction stopped and whatever is appended afterwards.

use std::collections::BTreeMap;

use model::{ClusterId, DataPlaneId, Epoch, FunctionSpec, NodeName, NodeSpec, Registered, Resources};
use proptest::prelude::*;

use super::model_cluster::new_state;
use crate::{
    clock::Now,
    state::{State, Term, history::Begun},
    store::{Command, Logged, Snapshot},
};

pub(super) type Log = BTreeMap<u64, Command>;

/// What is durable, as a state has it: functions with their ids and revisions, nodes, data planes, and the epochs.
#[derive(Debug, PartialEq)]
pub(super) struct Durable {
    functions: Vec<Registered>,
    nodes: BTreeMap<String, (Resources, bool)>,
    data_planes: Vec<String>,
    epochs: Vec<Begun>,
    cluster: Option<ClusterId>,
}

pub(super) fn durable(state: &State, log: &Log) -> Durable {
    let functions = state.functions.in_order().filter_map(|(_, id)| state.functions.get(id));
    let nodes = state.nodes.iter().map(|(_, node)| (node.name.to_string(), (node.capacity, node.drained)));
    let mut data_planes: Vec<_> = state.data_planes.iter().map(|(_, known)| known.id.to_string()).collect();
    data_planes.sort();
    Durable {
        functions: functions.map(|function| function.registered.as_ref().clone()).collect(),
        nodes: nodes.collect(),
        data_planes,
        epochs: state.history.epochs(),
        cluster: log.values().find_map(|command| match command {
            Command::BeginCluster { id } => Some(*id),
            _ => None,
        }),
    }
}

pub(super) fn replay(log: &Log) -> Durable {
    let mut state = new_state(Term { cluster: ClusterId(1), epoch: Epoch(1), nonce: 1 });
    let entries = log.iter().map(|(index, command)| Logged { index: *index, command: command.clone() });
    state.recover(Now::at_us(0), entries.collect());
    durable(&state, log)
}

/// Takes the first `count` entries in.
pub(super) fn compact(log: &Log, count: usize) -> (Log, Snapshot) {
    let (mut compacted, mut snapshot) = (log.clone(), Snapshot::default());
    for (index, command) in log.iter().take(count) {
        if !snapshot.take(*index, command, &mut compacted).unwrap() {
            compacted.remove(index);
        }
    }
    (compacted, snapshot)
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let spec = (0..3, 0..3, 0..2u32).prop_map(|(name, image, max)| {
        let mut spec = FunctionSpec::new(format!("f{name}").parse().unwrap(), format!("image{image}"));
        spec.scale.max = Some(max + 1);
        spec
    });
    let node = || (0..2).prop_map(|name| NodeName(format!("n{name}").into()));
    let data_plane = || (0..2).prop_map(|name| DataPlaneId(format!("d{name}")));
    let capacity = |cpu| Resources { cpu_millicores: cpu, memory_mib: 1000 };
    let command = prop_oneof![
        8 => spec.prop_map(|spec| Command::PutFunction { spec: Box::new(spec) }),
        3 => (0..3).prop_map(|name| Command::DeleteFunction { name: format!("f{name}").parse().unwrap() }),
        2 => (node(), 1..3u64).prop_map(move |(name, cpu)| {
            Command::PutNode { node: NodeSpec { name, capacity: capacity(cpu) } }
        }),
        2 => (node(), any::<bool>()).prop_map(|(name, drained)| Command::DrainNode { name, drained }),
        1 => node().prop_map(|name| Command::RemoveNode { name }),
        1 => data_plane().prop_map(|id| Command::PutDataPlane { id }),
        1 => data_plane().prop_map(|id| Command::RemoveDataPlane { id }),
        1 => (1..3u128).prop_map(|id| Command::BeginCluster { id: ClusterId(id) }),
        1 => (1..9u32).prop_map(|epoch| Command::BeginEpoch { epoch: Epoch(epoch), nonce: epoch.into() }),
    ];
    prop::collection::vec(command, 0..60)
}

pub(super) fn logged(commands: Vec<Command>) -> Log {
    (1..).zip(commands).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_leads_to_the_same_state_however_far_it_came(
        commands in commands(),
        part in 0.0..=1.0,
        later in commands(),
    ) {
        let mut whole = logged(commands);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place")]
        let place = (whole.len() as f64 * part) as usize;
        let (mut partly, _) = compact(&whole, place);
        prop_assert_eq!(replay(&partly), replay(&whole), "after {} of {}", place, whole.len());

        let first = whole.len() as u64 + 1;
        whole.extend((first..).zip(later.clone()));
        partly.extend((first..).zip(later));
        prop_assert_eq!(replay(&partly), replay(&whole), "with commands appended afterwards");
    }

    #[test]
    fn it_leaves_one_command_for_each_thing_there_is_and_nothing_to_do_again(commands in commands()) {
        let whole = logged(commands);
        let (once, snapshot) = compact(&whole, whole.len());
        let Durable { functions, nodes, data_planes, epochs, cluster } = replay(&whole);
        let drained = nodes.values().filter(|(_, drained)| *drained).count();
        let things = functions.len() + nodes.len() + drained + data_planes.len() + epochs.len();
        let things = things + usize::from(cluster.is_some());
        prop_assert_eq!(once.len(), things, "{:?}", &once);
        prop_assert_eq!(snapshot.len(), things as u64, "the count that is kept is the true one");
        let (twice, _) = compact(&once, once.len());
        prop_assert_eq!(twice, once);
    }
}
