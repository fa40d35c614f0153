//! The slot accounting over random histories under every policy, and the order in which each policy chooses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use policy::balance::{Slots, find, policies};
use proptest::prelude::*;
use rand_pcg::Pcg32;

fn slots(name: &str, sandboxes: &[(char, u32)]) -> Slots<char> {
    let concurrency = sandboxes.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let mut slots = Slots::new(find(name).unwrap(), concurrency, Pcg32::new(1, 1));
    sandboxes.iter().for_each(|&(key, count)| slots.insert(key, count, 0));
    slots
}

fn acquired(slots: &mut Slots<char>, times: usize) -> String {
    (0..times).map(|_| slots.acquire().unwrap_or('-')).collect()
}

/// Number of choices of each sandbox among `times`, each released at once.
fn shares(slots: &mut Slots<char>, times: u32) -> BTreeMap<char, u32> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let key = slots.acquire().unwrap();
        slots.release(key, 0);
        *counts.entry(key).or_default() += 1;
    }
    counts
}

#[test]
fn the_table_has_the_policies() {
    let names: Vec<_> = policies().iter().map(|policy| policy.name).collect();
    assert_eq!(names, ["least-loaded", "round-robin", "random", "power-of-two", "knative"]);
    assert!(names.iter().all(|name| find(name).is_some()) && find("best").is_none());
}

#[test]
fn least_loaded_fills_evenly_and_then_has_no_more() {
    let mut slots = slots("least-loaded", &[('a', 2), ('b', 2), ('c', 1)]);
    assert_eq!(acquired(&mut slots, 6), "abcba-", "a tie goes to the one used last");
    assert_eq!((slots.free_total(), slots.in_use_total(), slots.held_total()), (0, 5, 5));
}

#[test]
fn least_loaded_leaves_surplus_idle() {
    let mut slots = slots("least-loaded", &[('a', 1), ('b', 1), ('c', 1)]);
    assert_eq!(acquired(&mut slots, 2), "ab");
    assert!(slots.release('a', 10) && slots.release('b', 20));
    for now_ms in (100..1_000).step_by(100) {
        assert_eq!(slots.acquire(), Some('b'), "the one used last serves all of a light load");
        assert!(slots.release('b', now_ms));
    }
    assert_eq!(slots.longest_idle(900, 900), Some('c'), "granted at 0 and never used");
    slots.remove('c');
    assert_eq!((slots.idle_since_ms(), slots.longest_idle(890, 900)), (Some(10), Some('a')));
    assert_eq!(slots.longest_idle(891, 900), None);
}

#[test]
fn round_robin_takes_turns() {
    let mut slots = slots("round-robin", &[('a', 2), ('b', 2), ('c', 2)]);
    assert_eq!(acquired(&mut slots, 4), "abca");
    assert!(slots.release('b', 1) && slots.release('c', 1));
    assert_eq!(acquired(&mut slots, 5), "bcbc-");
    assert!(slots.release('c', 2) && slots.release('a', 2));
    assert_eq!(acquired(&mut slots, 3), "ac-", "a was longer ago");
}

#[test]
fn random_spreads_evenly_over_what_has_a_free_slot() {
    let mut slots = slots("random", &[('a', 1), ('b', 2), ('c', 9), ('d', 1)]);
    let counts = shares(&mut slots, 4_000);
    assert!(counts.len() == 4 && counts.values().all(|n| (850..1150).contains(n)), "{counts:?}");
    slots.set_open('b', false);
    slots.remove('d');
    let counts = shares(&mut slots, 4_000);
    assert!(counts.len() == 2 && ['a', 'c'].iter().all(|key| (1800..2200).contains(&counts[key])), "{counts:?}");
}

#[test]
fn power_of_two_takes_the_less_loaded_of_two() {
    let mut slots = slots("power-of-two", &[('a', 9)]);
    assert_eq!(acquired(&mut slots, 2), "aa");
    slots.insert('b', 9, 0);
    assert_eq!(acquired(&mut slots, 1), "b", "of two there is no other choice");
    slots.insert('c', 9, 0);
    // In use: 2, 1, 0. Of three pairs, c wins both of its own, b wins against a, and a never wins.
    let counts = shares(&mut slots, 3_000);
    assert_eq!(counts.get(&'a'), None, "{counts:?}");
    assert!((900..1100).contains(&counts[&'b']) && (1900..2100).contains(&counts[&'c']), "{counts:?}");
}

#[test]
fn knative_takes_the_first_with_a_free_slot_up_to_a_concurrency_of_three() {
    let mut slots = slots("knative", &[('b', 3), ('a', 3), ('c', 3)]);
    assert_eq!(acquired(&mut slots, 4), "aaab");
    assert!(slots.release('a', 1));
    assert_eq!(acquired(&mut slots, 6), "abbccc");
    assert_eq!(acquired(&mut slots, 1), "-");
}

#[test]
fn knative_is_round_robin_above_and_skips_full_sandboxes() {
    let mut slots = slots("knative", &[('a', 4), ('b', 1), ('c', 4)]);
    assert_eq!(acquired(&mut slots, 5), "abcac", "b is full at its second turn");
    assert!(slots.release('b', 1));
    assert_eq!(acquired(&mut slots, 4), "abca", "after c comes a, though b is free: unlike round-robin");
    slots.set_policy(find("round-robin").unwrap(), 4);
    assert!(slots.release('b', 2));
    assert_eq!(slots.acquire(), Some('b'), "its last turn is longest ago");
}

#[test]
fn the_same_seed_gives_the_same_choices() {
    for policy in policies() {
        let run = || acquired(&mut slots(policy.name, &[('a', 20), ('b', 30), ('c', 10)]), 60);
        assert_eq!(run(), run(), "{}", policy.name);
        assert!(!run().contains('-'), "{}: every slot is handed out", policy.name);
    }
}

#[test]
fn a_closed_sandbox_gets_no_new_invocation_and_can_be_opened_again() {
    let mut slots = slots("least-loaded", &[('a', 2), ('b', 1)]);
    assert_eq!(slots.acquire(), Some('a'));
    slots.set_open('a', false);
    assert_eq!(acquired(&mut slots, 2), "b-");
    assert_eq!((slots.free_total(), slots.held_total(), slots.in_use('a')), (0, 3, 1));
    assert!(!slots.release('a', 5), "given back, but not to be taken again");
    assert_eq!(slots.longest_idle(0, 5), Some('a'));
    slots.set_open('a', true);
    assert_eq!(slots.free_total(), 2);
}

#[test]
fn revoked_slots_are_not_acquired_again() {
    let mut slots = slots("least-loaded", &[('a', 3)]);
    assert_eq!(acquired(&mut slots, 3), "aaa");
    slots.insert('a', 1, 1);
    assert!(!slots.release('a', 2) && !slots.release('a', 3), "two granted no more");
    assert_eq!(slots.acquire(), None);
    assert!(slots.release('a', 4));
    assert_eq!(slots.acquire(), Some('a'));
}

#[test]
fn a_retry_goes_elsewhere() {
    for policy in policies() {
        let mut slots = slots(policy.name, &[('a', 5), ('b', 1), ('c', 1)]);
        assert_eq!(slots.acquire_other_than(&['a', 'c']), Some('b'), "{}", policy.name);
        assert_eq!(slots.acquire_other_than(&['a']), Some('c'), "{}", policy.name);
        assert_eq!(slots.acquire_other_than(&['a']), None, "{}", policy.name);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u32),
    Open(u8, bool),
    Remove(u8),
    Acquire,
    AcquireOther(Vec<u8>),
    Release(u8),
    Policy(usize, u32),
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = || 0u8..6;
    prop_oneof![
        2 => (key(), 0u32..4).prop_map(|(key, slots)| Step::Insert(key, slots)),
        1 => (key(), any::<bool>()).prop_map(|(key, open)| Step::Open(key, open)),
        1 => key().prop_map(Step::Remove),
        6 => Just(Step::Acquire),
        2 => prop::collection::vec(key(), 0..3).prop_map(Step::AcquireOther),
        6 => key().prop_map(Step::Release),
        1 => (0..policies().len(), 0u32..6).prop_map(|(policy, concurrency)| Step::Policy(policy, concurrency)),
    ]
}

/// A sandbox in the model, which is a plain list.
#[derive(Clone, Copy, Debug)]
struct Sandbox {
    slots: u32,
    in_use: u32,
    open: bool,
    /// Step of the last acquisition, and of the last acquisition or release.
    taken: usize,
    used: usize,
    idle_since_ms: u64,
}

impl Sandbox {
    fn free(&self) -> u32 {
        if self.open { self.slots.saturating_sub(self.in_use) } else { 0 }
    }
}

type Plain = BTreeMap<u8, Sandbox>;

/// The current policy, the step since when it is in force, and its last choice.
#[derive(Clone, Copy, Debug)]
struct Chooser {
    policy: &'static str,
    concurrency: u32,
    last: Option<u8>,
}

impl Chooser {
    /// The sandboxes that the policy's description allows.
    fn allowed(self, plain: &Plain, others: &[u8]) -> Vec<u8> {
        let candidates = plain.iter().filter(|(key, sandbox)| sandbox.free() > 0 && !others.contains(key));
        let candidates = candidates.map(|(key, sandbox)| (*key, *sandbox));
        let order = |(key, sandbox): &(u8, Sandbox)| match (self.policy, self.concurrency) {
            ("least-loaded", _) => (sandbox.in_use as usize, usize::MAX - sandbox.used, *key),
            ("round-robin", _) => (sandbox.taken, 0, *key),
            ("knative", 1..=3) => (0, 0, *key),
            ("knative", 4..) => (usize::from(self.last.is_some_and(|last| *key <= last)), 0, *key),
            // Random policies allow any of them.
            _ => (0, 0, 0),
        };
        let least = candidates.clone().map(|candidate| order(&candidate)).min();
        candidates.filter(|candidate| Some(order(candidate)) == least).map(|(key, _)| key).collect()
    }
}

fn check(slots: &Slots<u8>, plain: &Plain, now_ms: u64) -> Result<(), TestCaseError> {
    let sum = |of: fn(&Sandbox) -> u32| plain.values().map(|sandbox| u64::from(of(sandbox))).sum::<u64>();
    prop_assert_eq!(slots.free_total(), sum(Sandbox::free));
    prop_assert_eq!(slots.held_total(), sum(|sandbox| sandbox.slots));
    prop_assert_eq!(slots.in_use_total(), sum(|sandbox| sandbox.in_use));
    prop_assert_eq!(slots.len(), plain.len());
    for key in 0..6 {
        prop_assert_eq!(slots.in_use(key), plain.get(&key).map_or(0, |sandbox| sandbox.in_use));
        prop_assert_eq!(slots.held(key), plain.get(&key).map(|sandbox| sandbox.slots));
    }
    let idle = plain.iter().filter(|(_, sandbox)| sandbox.in_use == 0 && sandbox.slots > 0);
    let longest = idle.map(|(key, sandbox)| (sandbox.idle_since_ms, *key)).min();
    prop_assert_eq!(slots.longest_idle(0, now_ms), longest.map(|(_, key)| key));
    let age_ms = longest.map_or(0, |(since_ms, _)| now_ms - since_ms);
    prop_assert_eq!(slots.longest_idle(age_ms + 1, now_ms), None);
    Ok(())
}

/// Records a choice, after checking that it was allowed.
fn take(
    plain: &mut Plain,
    chooser: &mut Chooser,
    others: &[u8],
    chosen: (Option<u8>, usize),
) -> Result<(), TestCaseError> {
    let ((key, step), allowed) = (chosen, chooser.allowed(plain, others));
    prop_assert_eq!(key.is_some(), !allowed.is_empty(), "{:?} of {:?}", key, allowed);
    let Some(key) = key else { return Ok(()) };
    prop_assert!(allowed.contains(&key), "{:?} chose {}, expected one of {:?}", chooser, key, allowed);
    let sandbox = plain.get_mut(&key).unwrap();
    sandbox.in_use += 1;
    prop_assert!(sandbox.open && sandbox.in_use <= sandbox.slots, "more than was granted: {:?}", sandbox);
    (sandbox.taken, sandbox.used) = (step, step);
    chooser.last = Some(key);
    Ok(())
}

proptest! {
    #[test]
    fn slots_agree_with_a_plain_list(
        steps in prop::collection::vec((any_step(), 0u64..50), 1..300), policy in 0..policies().len(), seed in 0u64..99,
    ) {
        let policy = &policies()[policy];
        let mut slots = Slots::new(policy, 1, Pcg32::new(seed, 1));
        let mut chooser = Chooser { policy: policy.name, concurrency: 1, last: None };
        let (mut plain, mut now_ms) = (Plain::new(), 0);
        for (number, (step, ahead_ms)) in (1..).zip(steps) {
            now_ms += ahead_ms;
            match step {
                Step::Insert(key, count) => {
                    slots.insert(key, count, now_ms);
                    let new =
                        Sandbox { slots: count, in_use: 0, open: true, taken: 0, used: 0, idle_since_ms: now_ms };
                    plain.entry(key).or_insert(new).slots = count;
                }
                Step::Open(key, open) => {
                    slots.set_open(key, open);
                    if let Some(sandbox) = plain.get_mut(&key) {
                        sandbox.open = open;
                    }
                }
                Step::Remove(key) => {
                    prop_assert_eq!(slots.remove(key), plain.remove(&key).map(|sandbox| sandbox.in_use));
                }
                Step::Acquire => take(&mut plain, &mut chooser, &[], (slots.acquire(), number))?,
                Step::AcquireOther(others) => {
                    take(&mut plain, &mut chooser, &others, (slots.acquire_other_than(&others), number))?;
                }
                Step::Policy(policy, concurrency) => {
                    let policy = &policies()[policy];
                    if (policy.name, concurrency) != (chooser.policy, chooser.concurrency) {
                        chooser = Chooser { policy: policy.name, concurrency, last: None };
                    }
                    slots.set_policy(policy, concurrency);
                }
                Step::Release(key) => {
                    let busy = plain.get_mut(&key).filter(|sandbox| sandbox.in_use > 0);
                    let free = busy.is_some_and(|sandbox| {
                        sandbox.in_use -= 1;
                        (sandbox.used, sandbox.idle_since_ms) = (number, now_ms);
                        sandbox.free() > 0
                    });
                    prop_assert_eq!(slots.release(key, now_ms), free);
                }
            }
            check(&slots, &plain, now_ms)?;
        }
    }
}
