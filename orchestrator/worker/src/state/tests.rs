//! The table of sandboxes, step by step and under random histories.

use std::{collections::BTreeMap, time::Duration};

use model::FunctionId;
use proptest::prelude::*;

use super::*;

const NODES: usize = 2;

fn id(sequence: u64) -> SandboxId {
    SandboxId::new(Epoch(3), sequence).unwrap()
}

fn welcomed() -> State {
    let mut state = State::new(NODES);
    state.on_stream_opening();
    state.on_welcome(leader(3)).unwrap();
    assert_eq!(state.on_commands(revision(5), now()), []);
    state
}

/// A batch that names one revision.
fn revision(revision: u64) -> Commands {
    Commands { revisions: vec![Arc::new(SandboxSpec::example(revision, "any"))], ..Commands::default() }
}

const CLUSTER: Option<ClusterId> = Some(ClusterId(0xc));
const OTHER_CLUSTER: Option<ClusterId> = Some(ClusterId(0xd));

/// The leader of the worker's cluster in that epoch.
fn leader(epoch: u32) -> Leader {
    Leader { cluster: CLUSTER, epoch: Epoch(epoch), nonce: epoch.into() }
}

/// Any instant: the state only passes it on.
fn now() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn create(state: &mut State, sandbox: SandboxId) -> Vec<Effect> {
    let create = CreateCommand { sandbox, node: 0, revision: Revision(5) };
    state.on_commands(Commands { create: vec![create], ..Commands::default() }, now())
}

fn delete(state: &mut State, sandbox: SandboxId) -> Vec<Effect> {
    state.on_commands(Commands { delete: vec![sandbox], ..Commands::default() }, now())
}

fn created() -> CreatedSandbox {
    let address = "127.1.0.0:80".parse().unwrap();
    CreatedSandbox { address, create: Duration::ZERO, ready: Duration::ZERO, steps: Vec::new(), exit: None }
}

fn is_ended(effect: &Effect, expected: EndReason) -> bool {
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
    let ready = state.on_created(id(1), Ok(&created())).unwrap();
    assert!(matches!(ready, Effect::Report { event: Event::Ready(_), .. }), "{ready:?}");
    assert_eq!(create(&mut state, id(1)), [], "a repeated command does nothing");
    assert_eq!(delete(&mut state, id(1)), [Effect::Delete { sandbox: id(1) }]);
    assert_eq!(delete(&mut state, id(1)), [], "a repeated command does nothing");
    assert!(is_ended(&state.on_deleted(id(1)).unwrap(), EndReason::Deleted));
    assert!(state.is_empty());
    assert!(is_ended(&delete(&mut state, id(1))[0], EndReason::Deleted), "an unknown one is reported as ended");
}

#[test]
fn a_deletion_during_the_creation_cancels_it_whichever_comes_first() {
    for result in [Ok(&created()), Err(CreationFailure::cancelled())] {
        let mut state = welcomed();
        create(&mut state, id(1));
        assert_eq!(delete(&mut state, id(1)), [Effect::Cancel { sandbox: id(1) }]);
        let was_created = result.is_ok();
        let mut effect = state.on_created(id(1), result).unwrap();
        if was_created {
            assert_eq!(effect, Effect::Delete { sandbox: id(1) });
            effect = state.on_deleted(id(1)).unwrap();
        }
        assert!(is_ended(&effect, EndReason::Cancelled), "{effect:?}");
        assert!(state.is_empty());
    }
}

#[test]
fn commands_of_an_older_epoch_and_impossible_ones_are_refused() {
    let mut state = welcomed();
    let older = state.on_welcome(leader(2)).unwrap_err();
    assert_eq!(older.to_string(), "epoch 2 is over: this worker obeys epoch 3");
    let old = SandboxId::new(Epoch(2), 1).unwrap();
    assert!(is_failed(&create(&mut state, old), "epoch 2"));
    for (node, revision, part) in [(NODES, 5, "node 2"), (0, 6, "revision 6")] {
        let create = CreateCommand { sandbox: id(1), node, revision: Revision(revision) };
        let effects = state.on_commands(Commands { create: vec![create], ..Commands::default() }, now());
        assert!(is_failed(&effects, part), "{effects:?}");
    }
    assert!(state.is_empty());
}

#[test]
fn a_leader_of_another_cluster_is_refused_and_its_cluster_is_joined_only_without_sandboxes() {
    let other = Leader { cluster: OTHER_CLUSTER, epoch: Epoch(1), nonce: 1 };
    let mut state = welcomed();
    create(&mut state, id(1));
    state.on_commands(Commands { known: Some(9), ..Commands::default() }, now());
    state.on_stream_closed();
    assert!(state.on_welcome(other).unwrap_err().to_string().contains(&ClusterId(0xd).to_string()));
    state.on_other_cluster();
    let held = state.on_stream_opening();
    assert_eq!((held.leader, held.known), (Some(leader(3)), 9), "its sandboxes belong to the old cluster");
    assert_eq!(create(&mut state, id(2)), [], "and it executes no command");
    state.on_welcome(leader(3)).unwrap();
    delete(&mut state, id(1));
    state.on_created(id(1), Err(CreationFailure::cancelled()));
    state.on_other_cluster();
    assert_eq!(state.on_stream_opening(), HeldState { leader: None, known: 0, sandboxes: Vec::new() });
    state.on_welcome(other).unwrap();
}

#[test]
fn the_known_index_can_be_reset_to_0_and_stays_if_a_batch_has_none() {
    let mut state = welcomed();
    for (received, known) in [(Some(9), 9), (None, 9), (Some(4), 4), (Some(0), 0), (None, 0)] {
        state.on_welcome(leader(3)).unwrap();
        state.on_commands(Commands { known: received, ..Commands::default() }, now());
        assert_eq!(state.on_stream_opening().known, known, "{received:?}");
    }
}

#[test]
fn a_message_may_use_any_number_of_revisions_that_it_names() {
    let mut state = welcomed();
    let spec = |revision| Arc::new(SandboxSpec::example(revision, "any"));
    let create = |revision| CreateCommand { sandbox: id(revision), node: 0, revision: Revision(revision) };
    let batch = Commands {
        revisions: (10..10_010).map(spec).collect(),
        create: (10..10_010).map(create).collect(),
        ..Commands::default()
    };
    let effects = state.on_commands(batch, now());
    let created = effects.iter().filter(|effect| matches!(effect, Effect::Create { .. })).count();
    assert_eq!(created, 10_000);
}

#[test]
fn commands_without_a_welcome_are_ignored() {
    let mut state = welcomed();
    state.on_stream_closed();
    assert_eq!(create(&mut state, id(1)), []);
    assert!(!state.has_leader() && state.is_empty());
}

#[test]
fn a_hello_names_the_sandboxes_except_those_that_are_being_ended() {
    let mut state = welcomed();
    for sequence in 1..=4 {
        create(&mut state, id(sequence));
    }
    state.on_created(id(2), Ok(&created()));
    state.on_created(id(3), Ok(&created()));
    delete(&mut state, id(3));
    delete(&mut state, id(4));
    let HeldState { leader: obeyed, sandboxes: held, .. } = state.on_stream_opening();
    assert_eq!(obeyed, Some(leader(3)));
    let addresses: Vec<_> = held.iter().map(|held| (held.sandbox, held.address)).collect();
    assert_eq!(addresses, [(id(1), None), (id(2), Some(created().address))]);
    assert_eq!((held[0].spec.function, held[0].spec.revision), (FunctionId(1), Revision(5)));
    for (progress, queued) in [(Progress::Queued(Some("a port")), true), (Progress::Started, false)] {
        state.on_progress(id(1), progress).unwrap();
        assert_eq!(state.on_stream_opening().sandboxes[0].queued, queued, "the progress of its creation");
    }
    state.on_welcome(leader(4)).unwrap();
    assert!(
        is_failed(&create(&mut state, SandboxId::new(Epoch(4), 1).unwrap()), "revision 5"),
        "revisions are forgotten with their stream"
    );
}

#[test]
fn an_exit_is_reported_unless_the_sandbox_is_being_ended_anyway() {
    let mut state = welcomed();
    for sequence in 1..=2 {
        create(&mut state, id(sequence));
        state.on_created(id(sequence), Ok(&created()));
    }
    assert!(is_ended(&state.on_exited(id(1), "signal: 9".to_owned()).unwrap(), EndReason::Exited));
    delete(&mut state, id(2));
    assert_eq!(state.on_exited(id(2), String::new()), None);
    assert!(is_ended(&state.on_deleted(id(2)).unwrap(), EndReason::Deleted));
}

#[test]
fn stopping_ends_everything_and_creates_nothing_more() {
    let mut state = welcomed();
    create(&mut state, id(1));
    create(&mut state, id(2));
    state.on_created(id(2), Ok(&created()));
    assert_eq!(state.stop(), [Effect::Cancel { sandbox: id(1) }, Effect::Delete { sandbox: id(2) }]);
    assert!(is_failed(&create(&mut state, id(3)), "shutting down"));
    assert!(is_ended(&state.on_created(id(1), Err(CreationFailure::cancelled())).unwrap(), EndReason::Stopped));
    assert!(is_ended(&state.on_deleted(id(2)).unwrap(), EndReason::Stopped));
    assert!(state.is_empty());
}

/// The work of a runtime that gets exactly the effects.
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

/// A runtime and a control plane that check the effects.
#[derive(Default)]
struct Checker {
    work: BTreeMap<SandboxId, Work>,
    /// Accepted creations without their one final report.
    open: BTreeMap<SandboxId, u32>,
}

impl Checker {
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
                Effect::Report { event: Event::Ended { reason: EndReason::Deleted, .. }, sandbox }
                    if !self.open.contains_key(&sandbox) => {}
                Effect::Report { sandbox, .. } => {
                    let open = self.open.remove(&sandbox);
                    prop_assert_eq!(open, Some(1), "{} ended and was not created exactly once", sandbox);
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
        let (mut state, mut checker) = (welcomed(), Checker::default());
        let finish = (0..4).flat_map(|n| [Step::Delete(n), Step::FinishCreation(n, true), Step::FinishDeletion(n)]);
        for step in steps.into_iter().chain(finish) {
            let effects = match step {
                Step::Create(n) => create(&mut state, id(n)),
                Step::Delete(n) => delete(&mut state, id(n)),
                Step::FinishCreation(n, ok) if checker.work.get(&id(n)) == Some(&Work::Creating) => {
                    if ok {
                        checker.work.insert(id(n), Work::Ready);
                        state.on_created(id(n), Ok(&created())).into_iter().collect()
                    } else {
                        checker.work.remove(&id(n));
                        state.on_created(id(n), Err(CreationFailure::transient("x"))).into_iter().collect()
                    }
                }
                Step::FinishDeletion(n) if checker.work.get(&id(n)) == Some(&Work::Deleting) => {
                    checker.work.remove(&id(n));
                    state.on_deleted(id(n)).into_iter().collect()
                }
                Step::Exit(n) if checker.work.get(&id(n)) == Some(&Work::Ready) => {
                    checker.work.remove(&id(n));
                    state.on_exited(id(n), String::new()).into_iter().collect()
                }
                Step::Reconnect => {
                    state.on_stream_opening();
                    let again = welcomed_again(&mut state);
                    prop_assert_eq!(again, vec![]);
                    vec![]
                }
                Step::FinishCreation(..) | Step::FinishDeletion(_) | Step::Exit(_) => vec![],
            };
            checker.effects(effects)?;
        }
        prop_assert!(state.is_empty() && checker.open.is_empty(), "left: {:?} {:?}", state, checker.open);
    }
}

fn welcomed_again(state: &mut State) -> Vec<Effect> {
    state.on_welcome(leader(3)).unwrap();
    state.on_commands(revision(5), now())
}
