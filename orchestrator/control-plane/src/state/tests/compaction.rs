//! A compacted log says the same as the whole one, wherever compaction stopped and whatever is appended afterwards.

use std::collections::BTreeMap;

use model::{ClusterId, DataPlaneId, Epoch, FunctionSpec, NodeName, NodeSpec, Resources};
use proptest::prelude::*;

use crate::{
    registry::Registry,
    state::State,
    store::{Command, Logged, Snapshot},
};

pub(super) type Log = BTreeMap<u64, Command>;

pub(super) fn replay(log: &Log) -> Registry {
    Registry::replay(log.iter().map(|(index, command)| Logged { index: *index, command: command.clone() }))
}

/// The same registry as far as its things go: of the newest change a compacted log may not know the index.
pub(super) fn has_the_same(one: &Registry, other: &Registry) -> bool {
    one.clone().without_indexes() == other.clone().without_indexes()
}

/// The tables of a state have what its registry has, and no more.
pub(super) fn follows_registry(state: &State) -> Result<(), TestCaseError> {
    let registered = state.cluster.tables.functions.iter().filter(|function| !function.removed).count();
    prop_assert_eq!(registered, state.registry.functions().len(), "functions");
    for registered in state.registry.functions() {
        let function =
            state.cluster.tables.functions.get(registered.id).expect("a registered function is in the table");
        prop_assert!(!function.removed && function.registered == *registered, "{:?}", registered.spec.name);
    }
    prop_assert_eq!(state.cluster.tables.nodes.iter().count(), state.registry.nodes().len(), "nodes");
    for (name, registered) in state.registry.nodes() {
        let node = state
            .cluster
            .tables
            .nodes
            .get(state.cluster.tables.nodes.find(&name.0).expect("a registered node is in the table"));
        prop_assert_eq!((node.capacity(), node.is_drained()), (registered.capacity, registered.drained), "{}", name);
    }
    prop_assert_eq!(state.cluster.data_planes.iter().count(), state.registry.data_planes().len(), "data planes");
    for id in state.registry.data_planes() {
        prop_assert!(state.cluster.data_planes.find(id).is_some(), "{}", id);
    }
    Ok(())
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
        let is_the_same = has_the_same(&replay(&partly), &replay(&whole));
        prop_assert!(is_the_same, "after {} of {}: {partly:?} for {whole:?}", place, whole.len());

        let first = whole.len() as u64 + 1;
        whole.extend((first..).zip(later.clone()));
        partly.extend((first..).zip(later));
        let is_the_same = has_the_same(&replay(&partly), &replay(&whole));
        prop_assert!(is_the_same, "with commands appended afterwards: {partly:?} for {whole:?}");
    }

    #[test]
    fn a_registry_that_was_written_down_and_read_again_goes_on_as_the_one_before(
        commands in commands(),
        later in commands(),
    ) {
        let whole = logged(commands);
        let mut before = replay(&whole);
        let mut read: Registry = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        prop_assert_eq!(&read, &before);
        for (index, command) in (whole.len() as u64 + 1..).zip(later) {
            prop_assert_eq!(read.apply(index, command.clone()), before.apply(index, command));
        }
        prop_assert_eq!(read, before);
    }

    #[test]
    fn it_leaves_one_command_for_each_thing_there_is_and_nothing_to_do_again(commands in commands()) {
        let whole = logged(commands);
        let (once, snapshot) = compact(&whole, whole.len());
        let registry = replay(&whole);
        let drained = registry.nodes().filter(|(_, node)| node.drained).count();
        let things = registry.functions().len() + registry.nodes().len() + drained;
        let things = things + registry.data_planes().len() + registry.epochs().len();
        let has_removal = registry.data_plane_removal_index() > 0;
        let things = things + usize::from(registry.cluster().is_some()) + usize::from(has_removal);
        prop_assert_eq!(once.len(), things, "{:?}", &once);
        prop_assert_eq!(snapshot.len(), things as u64, "the count that is kept is the true one");
        let (twice, _) = compact(&once, once.len());
        prop_assert_eq!(twice, once);
    }
}
