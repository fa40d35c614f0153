//! The book of slots over random histories, and the order in which each policy hands them out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use policy::balance::{Slots, find, policies};
use proptest::prelude::*;

fn slots(name: &str, sandboxes: &[(char, u32)]) -> Slots<char> {
    let mut slots = Slots::new(find(name).unwrap());
    sandboxes.iter().for_each(|&(key, count)| slots.insert(key, count, 0));
    slots
}

fn acquired(slots: &mut Slots<char>, times: usize) -> String {
    (0..times).map(|_| slots.acquire().unwrap_or('-')).collect()
}

#[test]
fn the_table_has_the_policies() {
    assert_eq!(policies()[0].name, "least-loaded");
    assert!(find("round-robin").is_some() && find("best").is_none());
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
    assert_eq!(slots.idle_longest(900, 900), Some('c'), "lent at 0 and never used");
    slots.remove('c');
    assert_eq!((slots.idle_since_ms(), slots.idle_longest(890, 900)), (Some(10), Some('a')));
    assert_eq!(slots.idle_longest(891, 900), None);
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
fn a_closed_sandbox_takes_nothing_new_and_opens_again() {
    let mut slots = slots("least-loaded", &[('a', 2), ('b', 1)]);
    assert_eq!(slots.acquire(), Some('a'));
    slots.set_open('a', false);
    assert_eq!(acquired(&mut slots, 2), "b-");
    assert_eq!((slots.free_total(), slots.held_total(), slots.in_use('a')), (0, 3, 1));
    assert!(!slots.release('a', 5), "given back, but not to be taken again");
    assert_eq!(slots.idle_longest(0, 5), Some('a'));
    slots.set_open('a', true);
    assert_eq!(slots.free_total(), 2);
}

#[test]
fn slots_taken_away_are_not_taken_again() {
    let mut slots = slots("least-loaded", &[('a', 3)]);
    assert_eq!(acquired(&mut slots, 3), "aaa");
    slots.insert('a', 1, 1);
    assert!(!slots.release('a', 2) && !slots.release('a', 3), "two lent no more");
    assert_eq!(slots.acquire(), None);
    assert!(slots.release('a', 4));
    assert_eq!(slots.acquire(), Some('a'));
}

#[test]
fn a_retry_goes_elsewhere() {
    let mut slots = slots("least-loaded", &[('a', 5), ('b', 1), ('c', 1)]);
    assert_eq!(slots.acquire_other_than(&['a']), Some('b'));
    assert_eq!(slots.acquire_other_than(&['a', 'b']), Some('c'));
    assert_eq!(slots.acquire_other_than(&['a']), None);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u32),
    Open(u8, bool),
    Remove(u8),
    Acquire,
    AcquireOther(Vec<u8>),
    Release(u8),
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
    ]
}

/// A sandbox as a list would have it.
#[derive(Clone, Copy, Debug)]
struct Sandbox {
    slots: u32,
    in_use: u32,
    open: bool,
    /// When it was last taken, and when it was last taken or given back, by step.
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

/// The sandbox that the policy's description names.
fn preferred(plain: &Plain, policy: &str, others: &[u8]) -> Option<u8> {
    let candidates = plain.iter().filter(|(key, sandbox)| sandbox.free() > 0 && !others.contains(key));
    let order = |(key, sandbox): &(&u8, &Sandbox)| match policy {
        "least-loaded" => (sandbox.in_use, usize::MAX - sandbox.used, **key),
        _ => (0, sandbox.taken, **key),
    };
    candidates.min_by_key(order).map(|(key, _)| *key)
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
    prop_assert_eq!(slots.idle_longest(0, now_ms), longest.map(|(_, key)| key));
    let age_ms = longest.map_or(0, |(since_ms, _)| now_ms - since_ms);
    prop_assert_eq!(slots.idle_longest(age_ms + 1, now_ms), None);
    Ok(())
}

fn take(plain: &mut Plain, key: Option<u8>, step: usize) -> Result<(), TestCaseError> {
    if let Some(sandbox) = key.and_then(|key| plain.get_mut(&key)) {
        sandbox.in_use += 1;
        prop_assert!(sandbox.open && sandbox.in_use <= sandbox.slots, "more than was lent: {:?}", sandbox);
        (sandbox.taken, sandbox.used) = (step, step);
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_book_is_what_a_list_says(
        steps in prop::collection::vec((any_step(), 0u64..50), 1..300), policy in 0usize..2,
    ) {
        let policy = &policies()[policy];
        let (mut slots, mut plain, mut now_ms) = (Slots::new(policy), Plain::new(), 0);
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
                Step::Acquire => {
                    let expected = preferred(&plain, policy.name, &[]);
                    prop_assert_eq!(slots.acquire(), expected, "{}", policy.name);
                    take(&mut plain, expected, number)?;
                }
                Step::AcquireOther(others) => {
                    let expected = preferred(&plain, policy.name, &others);
                    prop_assert_eq!(slots.acquire_other_than(&others), expected, "{}", policy.name);
                    take(&mut plain, expected, number)?;
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
