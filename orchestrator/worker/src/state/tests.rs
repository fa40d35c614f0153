//! The table of sandboxes, step by step and under random histories.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;

const NODES: u32 = 2;

fn id(sequence: u64) -> SandboxId {
    SandboxId::new(Epoch(3), sequence).unwrap()
}

fn welcomed() -> State {
    let mut state = State::new(NODES);
    state.opening();
    state.welcome(commander(3)).unwrap();
    let spec = wire::RevisionSpec { function: 1, revision: 5, name: "f".to_owned(), ..wire::RevisionSpec::default() };
    assert_eq!(state.command(wire::ToWorker { functions: vec![spec], ..wire::ToWorker::default() }, now()), []);
    state
}

/// The control plane of the worker's cluster in that epoch.
fn commander(epoch: u32) -> Commander {
    Commander { cluster: "c".to_owned(), epoch: Epoch(epoch), nonce: epoch.into() }
}

/// Any instant: the state only hands it on.
fn now() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn create(state: &mut State, sandbox: SandboxId) -> Vec<Effect> {
    let create = wire::CreateSandbox { sandbox: sandbox.to_wire(), node: 0, revision: 5 };
    state.command(wire::ToWorker { create: vec![create], ..wire::ToWorker::default() }, now())
}

fn delete(state: &mut State, sandbox: SandboxId) -> Vec<Effect> {
    state.command(wire::ToWorker { delete: vec![sandbox.to_wire()], ..wire::ToWorker::default() }, now())
}

fn made() -> Made {
    let address = "127.1.0.0:80".parse().unwrap();
    Made { address, create: Duration::ZERO, ready: Duration::ZERO, steps: Vec::new(), exit: None }
}

fn is_ended(effect: &Effect, expected: Reason) -> bool {
    matches!(effect, Effect::Report { event: Event::Ended { reason, .. }, .. } if *reason == expected)
}

fn is_failed(effects: &[Effect], part: &str) -> bool {
    matches!(effects, [Effect::Report { event: Event::Failed { message, permanent: false }, .. }] if message.contains(part))
}

#[test]
fn a_life_from_creation_to_deletion() {
    let mut state = welcomed();
    assert!(matches!(create(&mut state, id(1))[..], [Effect::Create { node: 0, .. }]));
    assert_eq!(create(&mut state, id(1)), [], "a repeated command does nothing");
    let ready = state.created(id(1), Ok(&made())).unwrap();
    assert!(matches!(ready, Effect::Report { event: Event::Ready(_), .. }), "{ready:?}");
    assert_eq!(create(&mut state, id(1)), [], "a repeated command does nothing");
    assert_eq!(delete(&mut state, id(1)), [Effect::Delete { sandbox: id(1) }]);
    assert_eq!(delete(&mut state, id(1)), [], "a repeated command does nothing");
    assert!(is_ended(&state.deleted(id(1)).unwrap(), Reason::Deleted));
    assert!(state.is_empty());
    assert!(is_ended(&delete(&mut state, id(1))[0], Reason::Deleted), "an unknown one is answered as ended");
}

#[test]
fn a_deletion_during_the_creation_cancels_it_whichever_comes_first() {
    for result in [Ok(&made()), Err(Failure::cancelled())] {
        let mut state = welcomed();
        create(&mut state, id(1));
        assert_eq!(delete(&mut state, id(1)), [Effect::Cancel { sandbox: id(1) }]);
        let was_made = result.is_ok();
        let mut effect = state.created(id(1), result).unwrap();
        if was_made {
            assert_eq!(effect, Effect::Delete { sandbox: id(1) });
            effect = state.deleted(id(1)).unwrap();
        }
        assert!(is_ended(&effect, Reason::Cancelled), "{effect:?}");
        assert!(state.is_empty());
    }
}

#[test]
fn commands_of_an_older_epoch_and_impossible_ones_are_refused() {
    let mut state = welcomed();
    let older = state.welcome(commander(2)).unwrap_err();
    assert_eq!(older.to_string(), "epoch 2 is over: this worker obeys epoch 3");
    let old = SandboxId::new(Epoch(2), 1).unwrap();
    assert!(is_failed(&create(&mut state, old), "epoch 2"));
    for (node, revision, part) in [(NODES, 5, "node 2"), (0, 6, "revision 6")] {
        let create = wire::CreateSandbox { sandbox: id(1).to_wire(), node, revision };
        let effects = state.command(wire::ToWorker { create: vec![create], ..wire::ToWorker::default() }, now());
        assert!(is_failed(&effects, part), "{effects:?}");
    }
    assert!(state.is_empty());
}

#[test]
fn one_of_another_cluster_is_not_obeyed_and_its_cluster_is_joined_with_empty_hands_only() {
    let other = || Commander { cluster: "d".to_owned(), epoch: Epoch(1), nonce: 1 };
    let mut state = welcomed();
    create(&mut state, id(1));
    state.command(wire::ToWorker { known: Some(9), ..wire::ToWorker::default() }, now());
    state.closed();
    assert!(state.welcome(other()).unwrap_err().to_string().contains("\"d\""));
    state.other_cluster();
    let opening = state.opening();
    assert_eq!((opening.cluster.as_str(), opening.known), ("c", 9), "what it holds is of the old cluster");
    assert_eq!(create(&mut state, id(2)), [], "and nothing was obeyed");
    state.welcome(commander(3)).unwrap();
    delete(&mut state, id(1));
    state.created(id(1), Err(Failure::cancelled()));
    state.other_cluster();
    let Opening { cluster, epoch, nonce, known, sandboxes } = state.opening();
    assert_eq!((cluster.as_str(), epoch, nonce, known, sandboxes.len()), ("", Epoch(0), 0, 0, 0));
    state.welcome(other()).unwrap();
}

#[test]
fn what_is_known_can_be_set_back_to_nothing_and_stays_where_nothing_is_said() {
    let mut state = welcomed();
    for (said, known) in [(Some(9), 9), (None, 9), (Some(4), 4), (Some(0), 0), (None, 0)] {
        state.welcome(commander(3)).unwrap();
        state.command(wire::ToWorker { known: said, ..wire::ToWorker::default() }, now());
        assert_eq!(state.opening().known, known, "{said:?}");
    }
}

#[test]
fn any_number_of_revisions_in_one_message_is_known_to_it() {
    let mut state = welcomed();
    let spec = |revision| wire::RevisionSpec { function: revision, revision, ..wire::RevisionSpec::default() };
    let make = |revision| wire::CreateSandbox { sandbox: id(revision).to_wire(), node: 0, revision };
    let batch = wire::ToWorker {
        functions: (10..10_010).map(spec).collect(),
        create: (10..10_010).map(make).collect(),
        ..wire::ToWorker::default()
    };
    let effects = state.command(batch, now());
    let created = effects.iter().filter(|effect| matches!(effect, Effect::Create { .. })).count();
    assert_eq!(created, 10_000);
}

#[test]
fn without_a_welcome_nothing_is_obeyed() {
    let mut state = welcomed();
    state.closed();
    assert_eq!(create(&mut state, id(1)), []);
    assert!(!state.is_commanded() && state.is_empty());
}

#[test]
fn a_new_stream_hears_of_what_is_held_but_not_of_what_ends() {
    let mut state = welcomed();
    for sequence in 1..=4 {
        create(&mut state, id(sequence));
    }
    state.created(id(2), Ok(&made()));
    state.created(id(3), Ok(&made()));
    delete(&mut state, id(3));
    delete(&mut state, id(4));
    let Opening { cluster, epoch, nonce, sandboxes: held, .. } = state.opening();
    assert_eq!((cluster.as_str(), epoch, nonce), ("c", Epoch(3), 3));
    let shown: Vec<(u64, &str)> = held.iter().map(|h| (h.sandbox, h.address.as_str())).collect();
    assert_eq!(shown, [(id(1).to_wire(), ""), (id(2).to_wire(), "127.1.0.0:80")]);
    assert_eq!((held[0].function, held[0].revision), (1, 5));
    for (progress, queued) in [(Progress::Queued("a port"), true), (Progress::Begun, false)] {
        state.progressed(id(1), progress).unwrap();
        assert_eq!(state.opening().sandboxes[0].queued, queued, "where its creation stands");
    }
    state.welcome(commander(4)).unwrap();
    assert!(
        is_failed(&create(&mut state, SandboxId::new(Epoch(4), 1).unwrap()), "revision 5"),
        "told anew each stream"
    );
}

#[test]
fn an_exit_is_reported_unless_the_sandbox_is_being_ended_anyway() {
    let mut state = welcomed();
    for sequence in 1..=2 {
        create(&mut state, id(sequence));
        state.created(id(sequence), Ok(&made()));
    }
    assert!(is_ended(&state.exited(id(1), "signal: 9".to_owned()).unwrap(), Reason::Exited));
    delete(&mut state, id(2));
    assert_eq!(state.exited(id(2), String::new()), None);
    assert!(is_ended(&state.deleted(id(2)).unwrap(), Reason::Deleted));
}

#[test]
fn stopping_ends_everything_and_creates_nothing_more() {
    let mut state = welcomed();
    create(&mut state, id(1));
    create(&mut state, id(2));
    state.created(id(2), Ok(&made()));
    assert_eq!(state.stop(), [Effect::Cancel { sandbox: id(1) }, Effect::Delete { sandbox: id(2) }]);
    assert!(is_failed(&create(&mut state, id(3)), "shutting down"));
    assert!(is_ended(&state.created(id(1), Err(Failure::cancelled())).unwrap(), Reason::Stopped));
    assert!(is_ended(&state.deleted(id(2)).unwrap(), Reason::Stopped));
    assert!(state.is_empty());
}

/// What a runtime that is told exactly the effects has under way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Creating,
    Ready,
    Deleting,
}

#[derive(Clone, Debug)]
enum Step {
    Create(u64),
    Delete(u64),
    FinishCreation(u64, bool),
    FinishDeletion(u64),
    Exit(u64),
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0u64..4;
    prop_oneof![
        3 => id.clone().prop_map(Step::Create),
        3 => id.clone().prop_map(Step::Delete),
        3 => (id.clone(), any::<bool>()).prop_map(|(id, ok)| Step::FinishCreation(id, ok)),
        2 => id.clone().prop_map(Step::FinishDeletion),
        1 => id.prop_map(Step::Exit),
        1 => Just(Step::Reconnect),
    ]
}

/// A runtime and a control plane that watch the effects for what must never happen.
#[derive(Default)]
struct Watch {
    work: BTreeMap<SandboxId, Work>,
    /// Accepted creations without their one final report.
    open: BTreeMap<SandboxId, u32>,
}

impl Watch {
    fn effects(&mut self, effects: Vec<Effect>) -> Result<(), TestCaseError> {
        for effect in effects {
            match effect {
                Effect::Create { sandbox, .. } => {
                    prop_assert_eq!(self.work.insert(sandbox, Work::Creating), None, "created twice at once");
                    *self.open.entry(sandbox).or_default() += 1;
                }
                Effect::Cancel { sandbox } => prop_assert_eq!(self.work.get(&sandbox), Some(&Work::Creating)),
                Effect::Delete { sandbox } => {
                    prop_assert_eq!(self.work.insert(sandbox, Work::Deleting), Some(Work::Ready));
                }
                Effect::Report { event: Event::Ready(_), sandbox } => {
                    prop_assert_eq!(self.work.get(&sandbox), Some(&Work::Ready));
                }
                Effect::Report { event: Event::Ended { reason: Reason::Deleted, .. }, sandbox }
                    if !self.open.contains_key(&sandbox) => {}
                Effect::Report { sandbox, .. } => {
                    let open = self.open.remove(&sandbox);
                    prop_assert_eq!(open, Some(1), "{} ended and was not begun once", sandbox);
                    prop_assert_eq!(self.work.get(&sandbox), None, "reported as ended and still there");
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_accepted_creation_ends_in_exactly_one_report(steps in prop::collection::vec(step(), 0..60)) {
        let (mut state, mut watch) = (welcomed(), Watch::default());
        let finish = (0..4).flat_map(|n| [Step::Delete(n), Step::FinishCreation(n, true), Step::FinishDeletion(n)]);
        for step in steps.into_iter().chain(finish) {
            let effects = match step {
                Step::Create(n) => create(&mut state, id(n)),
                Step::Delete(n) => delete(&mut state, id(n)),
                Step::FinishCreation(n, ok) if watch.work.get(&id(n)) == Some(&Work::Creating) => {
                    if ok {
                        watch.work.insert(id(n), Work::Ready);
                        state.created(id(n), Ok(&made())).into_iter().collect()
                    } else {
                        watch.work.remove(&id(n));
                        state.created(id(n), Err(Failure::passing("x"))).into_iter().collect()
                    }
                }
                Step::FinishDeletion(n) if watch.work.get(&id(n)) == Some(&Work::Deleting) => {
                    watch.work.remove(&id(n));
                    state.deleted(id(n)).into_iter().collect()
                }
                Step::Exit(n) if watch.work.get(&id(n)) == Some(&Work::Ready) => {
                    watch.work.remove(&id(n));
                    state.exited(id(n), String::new()).into_iter().collect()
                }
                Step::Reconnect => {
                    state.opening();
                    let again = welcomed_again(&mut state);
                    prop_assert_eq!(again, vec![]);
                    vec![]
                }
                Step::FinishCreation(..) | Step::FinishDeletion(_) | Step::Exit(_) => vec![],
            };
            watch.effects(effects)?;
        }
        prop_assert!(state.is_empty() && watch.open.is_empty(), "left: {:?} {:?}", state, watch.open);
    }
}

fn welcomed_again(state: &mut State) -> Vec<Effect> {
    state.welcome(commander(3)).unwrap();
    let spec = wire::RevisionSpec { function: 1, revision: 5, ..wire::RevisionSpec::default() };
    state.command(wire::ToWorker { functions: vec![spec], ..wire::ToWorker::default() }, now())
}
