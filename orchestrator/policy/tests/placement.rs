//! Placement over random histories of a pool: capacity is never exceeded, and a node with room is found if there is
//! one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use model::Resources;
use policy::placement::{NodeKey, Placement, Policy, Pool, Wanted, find, policies};
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

/// One policy that places on one pool.
struct Placer {
    policy: &'static Policy,
    placement: Placement,
    rng: Pcg64,
}

impl Placer {
    fn new(name: &str) -> Self {
        Self { policy: find(name).unwrap(), placement: Placement::new(), rng: Pcg64::seed_from_u64(7) }
    }

    fn choose(&mut self, pool: &Pool, resources: Resources, avoid: &[NodeKey]) -> Option<NodeKey> {
        self.placement.choose(pool, Wanted { policy: self.policy, resources, avoid }, &mut self.rng)
    }
}

/// Number of choices of each node among `times` placements without reservations.
fn chosen(name: &str, pool: &Pool, request: Resources, times: u32) -> BTreeMap<u32, u32> {
    let mut placer = Placer::new(name);
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let node = placer.choose(pool, request, &[]).unwrap();
        *counts.entry(node.0).or_default() += 1;
    }
    counts
}

#[test]
fn the_table_has_the_policies() {
    let names: Vec<_> = policies().iter().map(|policy| policy.name).collect();
    assert_eq!(names, ["power-of-two", "random", "round-robin", "kubernetes"]);
    assert!(names.iter().all(|name| find(name).is_some()) && find("nearest").is_none());
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

/// The nodes of `times` placements that are reserved.
fn turns(placer: &mut Placer, pool: &mut Pool, request: Resources, times: usize) -> Vec<u32> {
    let choose = |_| {
        let node = placer.choose(pool, request, &[]).unwrap();
        assert!(pool.reserve(node, request));
        node.0
    };
    (0..times).map(choose).collect()
}

#[test]
fn round_robin_takes_turns_and_skips_full_and_closed_nodes() {
    let mut pool = pool(&[(100, 100), (300, 300), (300, 300), (300, 300), (0, 0)]);
    pool.set_open(NodeKey(3), false);
    let mut placer = Placer::new("round-robin");
    assert_eq!(turns(&mut placer, &mut pool, resources(100, 100), 4), [0, 1, 2, 1], "0 is full, 4 too small");
    pool.set_open(NodeKey(3), true);
    assert_eq!(turns(&mut placer, &mut pool, resources(100, 100), 2), [2, 3], "3 is back in its place");
    assert!(pool.remove(NodeKey(1)));
    assert_eq!(turns(&mut placer, &mut pool, resources(100, 100), 3), [2, 3, 3], "after 3 come 2 and again 3");
}

#[test]
fn round_robin_continues_after_the_node_that_the_index_found() {
    // A run of full nodes longer than any sample separates the two halves.
    let mut pool = Pool::new();
    for key in 0..400 {
        let capacity = if (100..300).contains(&key) { 0 } else { 1 };
        pool.insert(NodeKey(key), resources(capacity, capacity));
    }
    let mut placer = Placer::new("round-robin");
    let expected: Vec<_> = (0..100).chain(300..400).collect();
    assert_eq!(turns(&mut placer, &mut pool, resources(1, 1), 200), expected);
    assert_eq!(placer.choose(&pool, resources(1, 1), &[]), None);
}

#[test]
fn kubernetes_takes_the_node_with_the_greatest_score_and_spreads_equals() {
    let mut pool = pool(&[(1000, 1000); 4]);
    // With (100, 100) more: node 0 has shares 0.6 and 0.2: (40 + 80) / 2 = 60, σ = 0.2, 80: 140 in all.
    assert!(pool.reserve(NodeKey(0), resources(500, 100)));
    // Node 1 has 0.5 and 0.5: 50, σ = 0, 100: 150. Less free than node 0, and preferred for its balance.
    assert!(pool.reserve(NodeKey(1), resources(400, 400)));
    // Nodes 2 and 3 have 0.4 and 0.4: 60 + 100 = 160.
    assert!(pool.reserve(NodeKey(2), resources(300, 300)) && pool.reserve(NodeKey(3), resources(300, 300)));
    let counts = chosen("kubernetes", &pool, resources(100, 100), 1_000);
    assert!(counts.len() == 2 && [2, 3].iter().all(|node| (400..600).contains(&counts[node])), "{counts:?}");
    pool.set_open(NodeKey(2), false);
    pool.set_open(NodeKey(3), false);
    assert_eq!(chosen("kubernetes", &pool, resources(100, 100), 100), BTreeMap::from([(1, 100)]));
}

#[test]
fn the_same_seed_gives_the_same_nodes() {
    for policy in policies() {
        let run = || turns(&mut Placer::new(policy.name), &mut pool(&[(1000, 1000); 50]), resources(10, 10), 500);
        assert_eq!(run(), run(), "{}", policy.name);
    }
}

#[test]
fn the_only_node_with_room_among_thousands_is_found() {
    for policy in policies() {
        // CPU is left on every other node and memory on the others: the maxima of every subtree are misleading.
        let capacities: Vec<_> = (0..5_000).map(|i| if i % 2 == 0 { (1000, 10) } else { (10, 1000) }).collect();
        let mut pool = pool(&capacities);
        let mut placer = Placer::new(policy.name);
        assert_eq!(placer.choose(&pool, resources(500, 500), &[]), None);
        pool.insert(NodeKey(4_321), resources(500, 500));
        let node = placer.choose(&pool, resources(500, 500), &[]);
        assert_eq!(node, Some(NodeKey(4_321)), "{} after an earlier refusal", policy.name);
    }
}

#[test]
fn a_refusal_is_forgotten_when_capacity_is_freed() {
    // The last two make a search necessary to find that nothing fits.
    let mut pool = pool(&[(100, 100), (100, 100), (100, 0), (0, 100)]);
    let mut placer = Placer::new("random");
    let mut choose = |pool: &Pool| placer.choose(pool, resources(60, 60), &[]);
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
fn a_pool_found_full_by_one_policy_is_full_for_all_until_capacity_is_freed() {
    // CPU is left on one node and memory on the other, so that a search is necessary to find that nothing fits.
    let mut pool = pool(&[(100, 0), (0, 100)]);
    let mut placement = Placement::new();
    let mut rng = Pcg64::seed_from_u64(1);
    for first in policies() {
        let mut choose =
            |pool: &Pool, policy, resources| placement.choose(pool, Wanted { policy, resources, avoid: &[] }, &mut rng);
        assert_eq!(choose(&pool, first, resources(60, 60)), None, "{}", first.name);
        for then in policies() {
            assert_eq!(choose(&pool, then, resources(60, 60)), None, "{} after {}", then.name, first.name);
            let smaller = choose(&pool, then, resources(60, 0));
            assert_eq!(smaller, Some(NodeKey(0)), "less than what was refused, {} after {}", then.name, first.name);
        }
        pool.insert(NodeKey(2), resources(60, 60));
        for then in policies() {
            let found = choose(&pool, then, resources(60, 60));
            assert_eq!(found, Some(NodeKey(2)), "{} after room was made", then.name);
        }
        assert!(pool.remove(NodeKey(2)));
    }
}

#[test]
fn a_node_to_avoid_is_the_last_resort() {
    for policy in policies() {
        let mut pool = pool(&[(100, 100); 3]);
        let mut placer = Placer::new(policy.name);
        let avoid = [NodeKey(0), NodeKey(1)];
        for _ in 0..100 {
            assert_eq!(placer.choose(&pool, resources(60, 60), &avoid), Some(NodeKey(2)), "{}", policy.name);
        }
        assert!(pool.reserve(NodeKey(2), resources(60, 60)));
        let node = placer.choose(&pool, resources(60, 60), &avoid);
        assert!(node.is_some_and(|node| avoid.contains(&node)), "{}: nothing else has room, got {node:?}", policy.name);
    }
}

#[test]
fn existing_sandboxes_are_adopted_even_beyond_the_capacity() {
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
    Choose(Resources, [u32; 2], bool, usize),
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
        6 => (any_resources(), [key(), key()], any::<bool>(), 0..policies().len())
            .prop_map(|(r, avoid, keep, policy)| Step::Choose(r, avoid, keep, policy)),
    ]
}

/// A reference pool that scans all nodes.
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
    /// All policies place on one pool and share the memory of refusals.
    #[test]
    fn a_pool_agrees_with_a_full_scan(
        steps in prop::collection::vec(any_step(), 1..200), seed in any::<u64>(),
    ) {
        let (mut pool, mut plain) = (Pool::new(), Plain::default());
        let mut placement = Placement::new();
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
                Step::Choose(resources, avoid, keep, policy) => {
                    let policy = &policies()[policy];
                    let avoid = avoid.map(NodeKey);
                    let node = placement.choose(&pool, Wanted { policy, resources, avoid: &avoid }, &mut rng);
                    check_choice(&plain, resources, &avoid, node)?;
                    if let Some(node) = node.filter(|_| keep) {
                        prop_assert!(pool.reserve(node, resources));
                        let kept = plain.0.get_mut(&node.0).unwrap();
                        kept.reserved = kept.reserved + resources;
                    }
                }
            }
            check(&pool, &plain)?;
        }
    }
}
