//! The command log is set back to an older copy, or loses its end, and the same numbers are given out for other things.

use api::wire;
use model::{ClusterId, Epoch, FunctionSpec, SandboxId};

use super::{
    compaction::{compact, has_the_same, logged, replay},
    model_cluster::{Cluster, new_state},
};
use crate::{
    message::{DataPlaneHello, WorkerHello},
    now::Now,
    registry::Registry,
    state::Term,
    store::{Command, Logged, MAX_EPOCHS},
};

fn spec(name: &str) -> FunctionSpec {
    let mut spec = FunctionSpec::new(name.parse().unwrap(), "any");
    spec.scale.min = 1;
    spec
}

/// Names of the functions whose programs run.
fn programs(cluster: &Cluster) -> Vec<&str> {
    cluster.workers[0].sandboxes.values().map(|sandbox| sandbox.name.as_str()).collect()
}

/// A cluster with a sandbox each of `kept`, which a copy of the log has, and of `lost`, which was registered afterwards,
/// so many epochs later; and the length of that copy. The data plane may have been away since the copy.
fn cluster(later_epochs: usize, data_plane_stays: bool) -> (Cluster, usize) {
    let mut cluster = Cluster::new(1, 1);
    cluster.put(spec("kept"));
    cluster.quiesce(1);
    let copied = cluster.log.len();
    if !data_plane_stays {
        cluster.cut_data_plane(0);
    }
    (0..later_epochs).for_each(|_| cluster.restart_control_plane());
    // The epoch that begins after the copy is there again takes the next number.
    if later_epochs == 0 {
        cluster.put(FunctionSpec::new("before".parse().unwrap(), "any"));
    }
    cluster.put(spec("lost"));
    cluster.connect_worker(0);
    if data_plane_stays {
        cluster.quiesce(1);
    }
    cluster.pass(1000);
    cluster.worker_reads(0);
    cluster.worker_finishes_one(0, true);
    cluster.deliver_from_worker(0);
    cluster.data_plane_reads(0);
    assert!(programs(&cluster).ends_with(&["lost"]), "{:?}", programs(&cluster));
    (cluster, copied)
}

/// The log is set back, and `other` gets the number that `lost` had.
fn set_back(cluster: &mut Cluster, copied: usize) -> u64 {
    let lost = cluster.function_id("lost").unwrap();
    cluster.set_back(copied);
    assert_eq!(cluster.function_id("lost"), None);
    while cluster.log.len() as u64 + 1 < lost {
        cluster.restart_control_plane();
    }
    cluster.put(spec("other"));
    assert_eq!(cluster.function_id("other"), Some(lost), "the number is given out again");
    lost
}

/// An invocation of `other` runs its program.
fn expect_own_program(cluster: &mut Cluster, other: u64) {
    cluster.quiesce(1);
    cluster.data_planes[0].arrive(other);
    cluster.quiesce(3);
    assert_eq!(cluster.data_planes[0].running(other), 1, "it is invoked");
    for (id, _) in cluster.data_planes[0].held.iter().filter(|(_, held)| held.in_use > 0) {
        assert_eq!(cluster.workers[0].sandboxes[id].name, "other", "sandbox {id} is invoked");
    }
    assert!(!programs(cluster).contains(&"lost"), "what nobody can name any more ends");
}

#[test]
fn sandboxes_of_what_was_registered_after_the_copy_end_and_those_of_before_stay() {
    for (worker_first, data_plane_stays) in [(true, false), (false, false), (true, true), (false, true)] {
        let (mut cluster, copied) = cluster(0, data_plane_stays);
        let lost = set_back(&mut cluster, copied);
        if worker_first {
            cluster.connect_worker(0);
        }
        cluster.connect_data_plane(0);
        let is_known = cluster.data_planes[0].functions.contains_key(&cluster.function_id("kept").unwrap());
        assert_eq!(is_known, !data_plane_stays, "a data plane that knows of what is lost begins anew");
        expect_own_program(&mut cluster, lost);
        // What a data plane may have begun and does not know of any more runs in no sandbox that stays.
        let kept = cluster.workers[0].sandboxes.iter().find(|(_, sandbox)| sandbox.name == "kept").unwrap().0;
        let is_older = SandboxId::from_wire(*kept).epoch() < cluster.state.term.epoch;
        assert_eq!(is_older, !data_plane_stays, "worker first {worker_first}");
    }
}

#[test]
fn a_sandbox_of_what_is_lost_ends_also_when_its_worker_missed_that_the_first_time() {
    let (mut cluster, copied) = cluster(0, false);
    let lost = set_back(&mut cluster, copied);
    cluster.connect_worker(0);
    cluster.worker_reads_welcome(0);
    cluster.restart_control_plane();
    assert!(programs(&cluster).contains(&"lost"));
    expect_own_program(&mut cluster, lost);
}

/// What it uses is of before the copy, and nobody waits for it, as the log does not have it.
#[test]
fn what_a_data_plane_uses_that_joined_after_the_copy_is_granted_to_no_other() {
    for worker_first in [true, false] {
        let mut cluster = Cluster::new(1, 1);
        let mut kept = spec("kept");
        kept.scale.max = Some(1);
        cluster.put(kept);
        cluster.quiesce(1);
        let (id, copied) = (cluster.function_id("kept").unwrap(), cluster.log.len());
        cluster.add_data_plane();
        cluster.quiesce(1);
        cluster.data_planes[1].arrive(id);
        cluster.quiesce(3);
        assert_eq!(cluster.data_planes[1].running(id), 1, "the new one uses it");
        let used = *cluster.workers[0].sandboxes.keys().next().unwrap();
        cluster.set_back(copied);
        if worker_first {
            cluster.connect_worker(0);
        }
        cluster.connect_data_plane(0);
        cluster.connect_worker(0);
        cluster.data_planes[0].arrive(id);
        cluster.deliver_all_from_data_plane(0);
        cluster.data_plane_reads(0);
        assert!(!cluster.data_planes[0].held.contains_key(&used), "worker first {worker_first}: it was granted");
        cluster.quiesce(3);
        assert!(!cluster.workers[0].sandboxes.contains_key(&used), "worker first {worker_first}: it ends");
        assert_eq!(cluster.data_planes[0].running(id), 1, "another one serves");
    }
}

/// The log has all that the worker was told, also of data planes that are no more.
#[test]
fn what_nobody_uses_is_taken_over_when_data_planes_have_come_and_gone() {
    let mut cluster = Cluster::new(1, 1);
    cluster.put(spec("kept"));
    cluster.quiesce(1);
    cluster.add_data_plane();
    cluster.quiesce(1);
    cluster.cut_data_plane(1);
    cluster.data_planes.pop();
    cluster.quiesce(40);
    let before: Vec<u64> = cluster.workers[0].sandboxes.keys().copied().collect();
    for _ in 0..3 {
        cluster.restart_control_plane();
        cluster.quiesce(3);
        assert!(cluster.workers[0].sandboxes.keys().eq(&before), "it is used as before");
    }
}

/// No data plane has joined since the copy was made.
#[test]
fn a_worker_forgets_a_data_plane_that_the_log_lost_once_what_that_held_has_ended() {
    let mut cluster = Cluster::new(1, 0);
    cluster.put(spec("kept"));
    cluster.quiesce(1);
    let (copied, held) = (cluster.log.len(), cluster.workers[0].sandboxes.keys().copied().collect::<Vec<_>>());
    (0..20).for_each(|number| cluster.put(FunctionSpec::new(format!("lost{number}").parse().unwrap(), "any")));
    cluster.add_data_plane();
    cluster.quiesce(1);
    cluster.cut_data_plane(0);
    cluster.data_planes.pop();
    cluster.set_back(copied);
    cluster.quiesce(3);
    assert!(!held.iter().any(|id| cluster.workers[0].sandboxes.contains_key(id)), "the data plane may hold it");
    let made: Vec<u64> = cluster.workers[0].sandboxes.keys().copied().collect();
    assert_eq!(made.len(), 1);
    for restart in 1..4 {
        cluster.restart_control_plane();
        cluster.quiesce(3);
        assert!(cluster.workers[0].sandboxes.keys().eq(&made), "restart {restart}: nobody holds it");
    }
}

#[test]
fn peers_of_a_lost_epoch_start_again_also_when_its_number_is_reused() {
    for epochs in [1, 2] {
        let (mut cluster, copied) = cluster(epochs, true);
        let lost = set_back(&mut cluster, copied);
        cluster.connect_worker(0);
        assert!(cluster.workers[0].sandboxes.is_empty(), "epochs {epochs}: it was turned away and started anew");
        expect_own_program(&mut cluster, lost);
    }
}

#[test]
fn a_log_that_was_never_set_back_turns_nobody_away_however_often_it_is_read() {
    let (mut cluster, _) = cluster(0, true);
    for _ in 0..20 {
        cluster.restart_control_plane();
    }
    cluster.quiesce(1);
    assert_eq!(programs(&cluster), ["kept", "lost"]);
}

/// Its program knows no nonces, as that of the control plane did not that wrote the log so far.
#[test]
fn a_peer_of_an_older_version_is_admitted_for_one_stream_and_then_to_be_restarted() {
    let mut log = vec![Command::BeginCluster { id: ClusterId(1) }];
    log.push(Command::BeginEpoch { epoch: Epoch(1), nonce: 0 });
    log.push(Command::BeginEpoch { epoch: Epoch(2), nonce: 77 });
    let mut state = new_state(Term { cluster: ClusterId(1), epoch: Epoch(2), nonce: 77 });
    let log = logged(log).into_iter().map(|(index, command)| Logged { index, command });
    state.load(Registry::replay(log));
    state.recover(Now::at_us(0));
    let check = |epoch, epoch_nonce| {
        let hello = wire::WorkerHello { worker: "w".to_owned(), epoch, epoch_nonce, ..Default::default() };
        state.registry.epochs().check(WorkerHello::check(hello).unwrap().known).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(check(1, 0), Ok(()), "of the epoch before the upgrade");
    let refused = check(2, 0).expect_err("it does not say the nonce of the epoch it has been in since");
    assert!(refused.contains("older version") && refused.contains("start it anew"), "{refused}");
    assert_eq!(check(2, 77), Ok(()), "one of this version");
}

#[test]
fn so_many_epochs_are_remembered_and_who_was_in_an_older_one_is_a_stranger() {
    let newest = u32::try_from(MAX_EPOCHS).unwrap() + 2;
    let begin = |epoch: u32| Command::BeginEpoch { epoch: Epoch(epoch), nonce: epoch.into() };
    let log = logged((1..=newest).map(begin).collect());
    let (compacted, snapshot) = compact(&log, log.len());
    assert_eq!((compacted.len(), snapshot.len()), (MAX_EPOCHS, MAX_EPOCHS as u64));
    assert!(has_the_same(&replay(&compacted), &replay(&log)));
    let mut state = new_state(Term { cluster: ClusterId(1), epoch: Epoch(newest), nonce: newest.into() });
    let log = log.into_iter().map(|(index, command)| Logged { index, command });
    state.load(Registry::replay(log));
    state.recover(Now::at_us(0));
    let is_known = |epoch: u32, known: u64| {
        let data_plane = "d".to_owned();
        let hello = wire::DataPlaneHello { data_plane, epoch, epoch_nonce: epoch.into(), known, ..Default::default() };
        state.registry.epochs().check(DataPlaneHello::check(hello).unwrap().known).is_ok()
    };
    assert!(!is_known(2, 2) && is_known(3, 3) && is_known(newest, u64::MAX));
    // The epoch ends before the next one begins.
    assert!(is_known(9, 9) && !is_known(9, 10) && is_known(0, 0) && !is_known(0, 1) && !is_known(newest + 1, 0));
}
