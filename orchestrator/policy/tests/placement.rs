//! Placement over random histories of a pool: capacity is never exceeded, and a node with room is found if there is one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use model::Resources;
use policy::placement::{NodeKey, Placement, Pool, find, policies};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_pcg::Pcg64;

fn resources(cpu_millicores: u64, memory_mib: u64) -> Resources {
    Resources { cpu_millicores, memory_mib }
}

fn pool(capacities: &[(u64, u64)]) -> Pool {
    let mut pool = Pool::new();
    for (key, &(cpu, memory)) in (0..).zip(capacities) {
        pool.insert(NodeKey(key), resources(cpu, memory));
    }
    pool
}

/// How often each node is chosen in `times` placements that are not reserved.
fn chosen(name: &str, pool: &Pool, request: Resources, times: u32) -> BTreeMap<u32, u32> {
    let mut placement = Placement::new(find(name).unwrap());
    let mut rng = Pcg64::seed_from_u64(7);
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let node = placement.choose(pool, request, &[], &mut rng).unwrap();
        *counts.entry(node.0).or_default() += 1;
    }
    counts
}

#[test]
fn the_table_has_the_policies() {
    assert_eq!(policies()[0].name, "power-of-two");
    assert!(find("random").is_some() && find("nearest").is_none());
}

#[test]
fn random_spreads_evenly() {
    let counts = chosen("random", &pool(&[(1000, 1000); 4]), resources(1, 1), 4_000);
    assert!(counts.len() == 4 && counts.values().all(|n| (850..1150).contains(n)), "{counts:?}");
}

#[test]
fn power_of_two_takes_the_emptier_of_two() {
    let mut pool = pool(&[(1000, 1000); 3]);
    assert!(pool.reserve(NodeKey(0), resources(100, 900)), "memory is nearly gone");
    assert!(pool.reserve(NodeKey(1), resources(500, 100)));
    let counts = chosen("power-of-two", &pool, resources(10, 10), 3_000);
    // Of three pairs, node 2 wins both of its own, node 1 wins against node 0, and node 0 never wins.
    assert_eq!(counts.get(&0), None, "{counts:?}");
    assert!((900..1100).contains(&counts[&1]) && (1900..2100).contains(&counts[&2]), "{counts:?}");
}

#[test]
fn the_same_seed_gives_the_same_nodes() {
    let run = || {
        let mut pool = pool(&[(1000, 1000); 50]);
        let mut placement = Placement::new(find("power-of-two").unwrap());
        let mut rng = Pcg64::seed_from_u64(3);
        let place = |_| {
            let node = placement.choose(&pool, resources(10, 10), &[], &mut rng).unwrap();
            assert!(pool.reserve(node, resources(10, 10)));
            node
        };
        (0..500).map(place).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn the_only_node_with_room_among_thousands_is_found() {
    for name in ["random", "power-of-two"] {
        // CPU is left on every other node and memory on the others: the maxima of every subtree lie.
        let capacities: Vec<_> = (0..5_000).map(|i| if i % 2 == 0 { (1000, 10) } else { (10, 1000) }).collect();
        let mut pool = pool(&capacities);
        let mut placement = Placement::new(find(name).unwrap());
        let mut rng = Pcg64::seed_from_u64(1);
        assert_eq!(placement.choose(&pool, resources(500, 500), &[], &mut rng), None);
        pool.insert(NodeKey(4_321), resources(500, 500));
        let node = placement.choose(&pool, resources(500, 500), &[], &mut rng);
        assert_eq!(node, Some(NodeKey(4_321)), "{name} after an earlier refusal");
    }
}

#[test]
fn a_refusal_is_forgotten_when_room_is_made() {
    // The last two make sure that it takes a search to see that nothing fits.
    let mut pool = pool(&[(100, 100), (100, 100), (100, 0), (0, 100)]);
    let mut placement = Placement::new(find("random").unwrap());
    let mut rng = Pcg64::seed_from_u64(1);
    let mut choose = |pool: &Pool| placement.choose(pool, resources(60, 60), &[], &mut rng);
    pool.set_open(NodeKey(1), false);
    assert!(pool.reserve(NodeKey(0), resources(60, 60)));
    assert_eq!(choose(&pool), None);
    assert!(pool.release(NodeKey(0), resources(60, 60)));
    assert_eq!(choose(&pool), Some(NodeKey(0)), "after a release");
    assert!(pool.reserve(NodeKey(0), resources(60, 60)));
    assert_eq!(choose(&pool), None);
    pool.set_open(NodeKey(1), true);
    assert_eq!(choose(&pool), Some(NodeKey(1)), "after a node was opened");
}

#[test]
fn a_node_to_avoid_is_the_last_resort() {
    let mut pool = pool(&[(100, 100); 3]);
    let mut placement = Placement::new(find("random").unwrap());
    let mut rng = Pcg64::seed_from_u64(1);
    let avoid = [NodeKey(0), NodeKey(1)];
    for _ in 0..100 {
        assert_eq!(placement.choose(&pool, resources(60, 60), &avoid, &mut rng), Some(NodeKey(2)));
    }
    assert!(pool.reserve(NodeKey(2), resources(60, 60)));
    let node = placement.choose(&pool, resources(60, 60), &avoid, &mut rng);
    assert!(node.is_some_and(|node| avoid.contains(&node)), "nothing else has room, got {node:?}");
}

#[test]
fn what_exists_is_adopted_even_beyond_the_capacity() {
    let mut pool = pool(&[(100, 100)]);
    pool.adopt(NodeKey(0), resources(150, 50));
    assert_eq!(pool.free(NodeKey(0)), Some(resources(0, 50)));
    assert!(!pool.reserve(NodeKey(0), resources(1, 1)));
    assert!(pool.release(NodeKey(0), resources(150, 50)));
    assert_eq!(pool.free(NodeKey(0)), Some(resources(100, 100)));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u32, Resources),
    Remove(u32),
    Open(u32, bool),
    Reserve(u32, Resources),
    Release(u32, Resources),
    Choose(Resources, [u32; 2], bool),
}

fn any_resources() -> impl Strategy<Value = Resources> {
    (0u64..12, 0u64..12).prop_map(|(cpu, memory)| resources(cpu, memory))
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = || 0u32..40;
    prop_oneof![
        3 => (key(), any_resources()).prop_map(|(key, r)| Step::Insert(key, r)),
        1 => key().prop_map(Step::Remove),
        2 => (key(), any::<bool>()).prop_map(|(key, open)| Step::Open(key, open)),
        3 => (key(), any_resources()).prop_map(|(key, r)| Step::Reserve(key, r)),
        3 => (key(), any_resources()).prop_map(|(key, r)| Step::Release(key, r)),
        6 => (any_resources(), [key(), key()], any::<bool>()).prop_map(|(r, avoid, keep)| Step::Choose(r, avoid, keep)),
    ]
}

/// A pool that scans.
#[derive(Debug, Default)]
struct Plain(BTreeMap<u32, Node>);

#[derive(Clone, Copy, Debug)]
struct Node {
    capacity: Resources,
    reserved: Resources,
    open: bool,
}

impl Node {
    fn has_room(&self, request: Resources) -> bool {
        (self.reserved + request).fits_in(self.capacity)
    }
}

fn check(pool: &Pool, plain: &Plain) -> Result<(), TestCaseError> {
    prop_assert_eq!(pool.len(), plain.0.len());
    prop_assert_eq!(pool.open_len(), plain.0.values().filter(|node| node.open).count());
    for key in 0..40 {
        let node = plain.0.get(&key);
        let key = NodeKey(key);
        prop_assert_eq!(pool.reserved(key), node.map(|node| node.reserved));
        prop_assert_eq!(pool.capacity(key), node.map(|node| node.capacity));
        prop_assert_eq!(pool.is_open(key), node.is_some_and(|node| node.open));
        let free = node.map(|Node { capacity, reserved, .. }| {
            let left = |whole: u64, part: u64| whole.saturating_sub(part);
            resources(
                left(capacity.cpu_millicores, reserved.cpu_millicores),
                left(capacity.memory_mib, reserved.memory_mib),
            )
        });
        prop_assert_eq!(pool.free(key), free);
    }
    Ok(())
}

fn check_choice(
    plain: &Plain,
    request: Resources,
    avoid: &[NodeKey],
    node: Option<NodeKey>,
) -> Result<(), TestCaseError> {
    let fitting: Vec<_> =
        plain.0.iter().filter(|(_, node)| node.open && node.has_room(request)).map(|(key, _)| NodeKey(*key)).collect();
    prop_assert_eq!(node.is_some(), !fitting.is_empty(), "{:?} among {:?}", node, fitting);
    if let Some(node) = node {
        prop_assert!(fitting.contains(&node), "{:?} has no room or is closed", node);
        let only_avoided = fitting.iter().all(|node| avoid.contains(node));
        prop_assert!(only_avoided || !avoid.contains(&node), "{:?} was to be avoided", node);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_pool_is_what_a_scan_says(
        steps in prop::collection::vec(any_step(), 1..200), policy in 0usize..2, seed in any::<u64>(),
    ) {
        let (mut pool, mut plain) = (Pool::new(), Plain::default());
        let mut placement = Placement::new(&policies()[policy]);
        let mut rng = Pcg64::seed_from_u64(seed);
        for step in steps {
            match step {
                Step::Insert(key, capacity) => {
                    pool.insert(NodeKey(key), capacity);
                    let new = Node { capacity, reserved: Resources::default(), open: true };
                    plain.0.entry(key).or_insert(new).capacity = capacity;
                }
                Step::Remove(key) => prop_assert_eq!(pool.remove(NodeKey(key)), plain.0.remove(&key).is_some()),
                Step::Open(key, open) => {
                    pool.set_open(NodeKey(key), open);
                    if let Some(node) = plain.0.get_mut(&key) {
                        node.open = open;
                    }
                }
                Step::Reserve(key, request) => {
                    let node = plain.0.get_mut(&key).filter(|node| node.has_room(request));
                    prop_assert_eq!(pool.reserve(NodeKey(key), request), node.is_some());
                    if let Some(node) = node {
                        node.reserved = node.reserved + request;
                    }
                }
                Step::Release(key, request) => {
                    let node = plain.0.get_mut(&key).filter(|node| request.fits_in(node.reserved));
                    prop_assert_eq!(pool.release(NodeKey(key), request), node.is_some());
                    if let Some(node) = node {
                        node.reserved = node.reserved - request;
                    }
                }
                Step::Choose(request, avoid, keep) => {
                    let avoid = avoid.map(NodeKey);
                    let node = placement.choose(&pool, request, &avoid, &mut rng);
                    check_choice(&plain, request, &avoid, node)?;
                    if let Some(node) = node.filter(|_| keep) {
                        prop_assert!(pool.reserve(node, request));
                        let kept = plain.0.get_mut(&node.0).unwrap();
                        kept.reserved = kept.reserved + request;
                    }
                }
            }
            check(&pool, &plain)?;
        }
    }
}
