//! Short histories of one function with known outcomes.

use super::super::Function;
use super::*;

#[test]
fn an_idle_function_is_small() {
    // Its name and its entries in the two tables take some 150 bytes more.
    let bytes = size_of::<Function>();
    assert!(bytes <= 800, "an idle function takes {bytes} bytes");
}

/// A world with one sandbox per number, of `slots` slots each.
fn with_sandboxes(numbers: &[u64], slots: u32) -> World {
    let mut world = World::new();
    for &number in numbers {
        world.delta(number, slots, EndpointState::Active);
    }
    world
}

fn arrive(world: &mut World, times: usize) {
    for _ in 0..times {
        world.happen(Event::Arrive);
    }
}

fn believed(world: &World) -> Vec<(u64, u32)> {
    world.believed.iter().map(|(id, &slots)| (id.sequence(), slots)).collect()
}

#[test]
fn draining_returns_slots_as_they_become_free() {
    let mut world = with_sandboxes(&[1], 3);
    arrive(&mut world, 2);
    world.delta(1, 3, EndpointState::Draining);
    assert_eq!(believed(&world), [(1, 2)], "the free slot went back at once");
    world.finish(0);
    assert_eq!(believed(&world), [(1, 1)]);
    world.finish(0);
    assert_eq!(believed(&world), [(1, 0)]);
    assert_eq!(world.state.supply(), (0, 0), "it is not held any more");
}

#[test]
fn a_suspended_sandbox_serves_nobody_until_it_is_active_again() {
    let mut world = with_sandboxes(&[1], 1);
    world.delta(1, 1, EndpointState::Suspended);
    arrive(&mut world, 1);
    assert_eq!((world.waiting.len(), world.running.len()), (1, 0));
    world.delta(1, 1, EndpointState::Active);
    assert_eq!((world.waiting.len(), world.running.len()), (0, 1));
}

#[test]
fn a_cap_returns_the_grants_that_have_been_idle_longest_and_long_enough() {
    let mut world = with_sandboxes(&[1, 2, 3], 1);
    arrive(&mut world, 1);
    let busy = world.running[0].1.id().sequence();
    world.happen(Event::GrantCap { slots: 1, min_idle_ms: 1_000, drain: false });
    assert_eq!(believed(&world).iter().map(|(_, slots)| slots).sum::<u32>(), 3, "nothing was idle for that long");
    assert_eq!(world.limit_acks.last().map(|ack| ack.slots), Some(3));
    world.happen(Event::GrantCap { slots: 1, min_idle_ms: 1, drain: false });
    let kept: Vec<_> = believed(&world).into_iter().filter(|(_, slots)| *slots > 0).collect();
    assert_eq!(kept, [(busy, 1)], "only the busy one is kept");
    assert_eq!(world.limit_acks.last().map(|ack| ack.slots), Some(1));
}

#[test]
fn a_draining_cap_returns_freed_slots_before_waiters_get_them() {
    let mut world = with_sandboxes(&[1, 2], 1);
    arrive(&mut world, 3);
    world.happen(Event::GrantCap { slots: 1, min_idle_ms: 0, drain: true });
    assert_eq!(world.limit_acks.last().map(|ack| ack.slots), Some(2), "both are busy");
    world.finish(0);
    assert_eq!((world.waiting.len(), world.running.len()), (1, 1), "the freed slot went back, not to the waiter");
    assert_eq!(world.limit_acks.last().map(|ack| ack.slots), Some(1), "the limit is met");
    world.finish(0);
    assert_eq!((world.waiting.len(), world.running.len()), (0, 1), "from then on slots stay");
}

#[test]
fn a_draining_cap_waits_until_sandboxes_were_idle_for_long_enough() {
    let mut world = with_sandboxes(&[1], 1);
    world.happen(Event::GrantCap { slots: 0, min_idle_ms: 3, drain: true });
    assert_eq!(believed(&world), [(1, 1)]);
    for _ in 0..3 {
        world.happen(Event::Review);
    }
    assert_eq!(believed(&world), [(1, 0)]);
}

#[test]
fn older_deltas_are_ignored_and_a_new_stream_restarts_versions() {
    let mut world = with_sandboxes(&[1], 1);
    let endpoint = Endpoint { sandbox: SandboxId::new(Epoch(1), 1).unwrap(), address: service::ANY_LOOPBACK };
    let state = EndpointState::Active;
    let stamp = |stream, version| Stamp { stream, version };
    let delta =
        |stream, version, slots| Delta { endpoint, slots, state, stamp: stamp(stream, version), ready_age_us: 0 };
    world.change(|state, now_us, effects| state.apply(delta(1, 9, 5), now_us, effects));
    world.change(|state, now_us, effects| state.apply(delta(1, 8, 2), now_us, effects));
    assert_eq!(world.state.held_slots(), 5, "version 8 came too late");
    world.change(|state, now_us, effects| state.apply(delta(2, 1, 3), now_us, effects));
    assert_eq!(world.state.held_slots(), 3, "the first of the next stream is newer than all before");
}

#[test]
fn a_permanent_creation_problem_ends_waits_and_refuses_for_a_while() {
    let mut world = World::new();
    arrive(&mut world, 2);
    world.happen(Event::Problem(false));
    assert_eq!(world.waiting.len(), 2, "the next attempt may succeed");
    let detail = world.state.queue_deadline_refusal().detail;
    assert_eq!(
        detail.as_deref(),
        Some("no sandbox could be created in time"),
        "that there is one is said at the deadline"
    );
    world.happen(Event::Problem(true));
    assert_eq!(world.waiting.len(), 0);
    arrive(&mut world, 1);
    assert_eq!(world.waiting.len(), 0, "refused at once");
    world.now_us += 1_000_000;
    arrive(&mut world, 1);
    assert_eq!(world.waiting.len(), 1, "later the control plane is asked again");
}

#[test]
fn a_failed_sandbox_stays_unused_until_it_is_gone_whatever_deltas_say() {
    let mut world = with_sandboxes(&[1], 2);
    arrive(&mut world, 1);
    world.happen(Event::Fail(0));
    world.delta(1, 2, EndpointState::Active);
    world.granted.clear();
    arrive(&mut world, 1);
    assert_eq!((world.waiting.len(), world.running.len()), (1, 1));
    assert_eq!(world.state.held_slots(), 0);
}

#[test]
fn a_full_queue_refuses_arrivals_but_no_retries() {
    let mut world = with_sandboxes(&[1], 1);
    arrive(&mut world, 6);
    let (_, admission) = world.change(FunctionState::arrive);
    assert!(matches!(admission, AdmissionDecision::Refused(refusal) if refusal.cause == Cause::QueueFull));
    world.happen(Event::Fail(0));
    world.happen(Event::Retry(0));
    assert_eq!(world.waiting.len(), 6, "the retried one waits as well");
    assert_eq!(world.waiting.keys().next(), Some(&ArrivalNumber(1)), "before all who came later");
}
