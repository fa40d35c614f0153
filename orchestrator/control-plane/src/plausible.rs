//! What peers say, held to what can be: a peer that errs or lies misleads nobody about more than itself.
//!
//! Numbers are cut at bounds that no real peer comes near, so that sums of them, over all peers and for as long as a
//! control plane runs, stay in their types. Names and addresses are checked, texts cut.

use std::net::SocketAddr;

use api::{shorten, wire, wire::sandbox_event::Event};

/// Most invocations of one function that wait, run or arrive at one data plane in the time of a sample.
const MAX_INVOCATIONS: u32 = 1 << 20;
/// Longest time that a sample covers, or that anything took: a day.
const MAX_TIME_US: u64 = 24 * 3600 * 1_000_000;
/// Most CPU and memory of a node: a million cores, a million GiB.
const MAX_CPU_MILLICORES: u64 = 1_000_000_000;
/// See [`MAX_CPU_MILLICORES`].
const MAX_MEMORY_MIB: u64 = 1 << 30;
/// Longest name of a peer or of a node: a host's name (RFC 1035).
const MAX_NAME_BYTES: usize = 253;
/// Nodes of one worker: as many as one with modelled nodes may have.
const MAX_NODES: usize = 10_000;
/// Most sandboxes of one worker, on all of its nodes. Placement gives it no further one, so that its hello may name all that
/// it has: half of what a first message holds, far more than any worker has had, and a sum of what they reserve stays in its
/// type.
pub(crate) const MAX_SANDBOXES: usize = 1 << 18;
/// Steps of a creation, and the longest name of one.
const MAX_STEPS: usize = 16;
/// See [`MAX_STEPS`].
const MAX_STEP_BYTES: usize = 32;

/// Holds what a worker says to what can be.
pub(crate) fn from_worker(message: &mut wire::FromWorker) {
    for event in &mut message.events {
        match &mut event.event {
            Some(Event::Ready(ready)) => {
                for us in [&mut ready.create_us, &mut ready.ready_us, &mut ready.own_us] {
                    *us = (*us).min(MAX_TIME_US);
                }
                ready.steps.truncate(MAX_STEPS);
                ready.steps.retain(|step| is_name(&step.name, MAX_STEP_BYTES));
                ready.steps.iter_mut().for_each(|step| step.us = step.us.min(MAX_TIME_US));
            }
            Some(Event::Failed(failed)) => cut(&mut failed.message),
            Some(Event::Ended(ended)) => cut(&mut ended.message),
            Some(Event::Progress(progress)) => cut(&mut progress.cause),
            None => {}
        }
    }
}

/// Holds what a data plane says to what can be.
pub(crate) fn from_data_plane(message: &mut wire::FromDataPlane) {
    for demand in &mut message.demand {
        for invocations in [&mut demand.waiting, &mut demand.running] {
            *invocations = (*invocations).min(MAX_INVOCATIONS);
        }
    }
    for sample in &mut message.samples {
        let counts =
            [&mut sample.requests, &mut sample.waiting, &mut sample.running, &mut sample.peak, &mut sample.cold];
        for invocations in counts {
            *invocations = (*invocations).min(MAX_INVOCATIONS);
        }
        let span_us = u64::from(sample.span_ms).saturating_mul(1000).min(MAX_TIME_US);
        sample.span_ms = u32::try_from(span_us / 1000).unwrap_or(u32::MAX);
        sample.concurrency_us = sample.concurrency_us.min(span_us.saturating_mul(u64::from(2 * MAX_INVOCATIONS)));
    }
    message.acks.iter_mut().for_each(|ack| ack.own_us = ack.own_us.min(MAX_TIME_US));
    message.failures.iter_mut().for_each(|failure| cut(&mut failure.cause));
}

/// Checks how a worker introduces itself, and holds the rest to what can be.
///
/// # Errors
/// What about it cannot be.
pub(crate) fn worker_hello(hello: &mut wire::WorkerHello) -> Result<(), String> {
    check_name("worker", &hello.worker)?;
    if hello.nodes.len() > MAX_NODES {
        return Err(format!("a worker has {MAX_NODES} nodes at most, this one {}", hello.nodes.len()));
    }
    if hello.sandboxes.len() > MAX_SANDBOXES {
        return Err(format!("a worker has {MAX_SANDBOXES} sandboxes at most, this one {}", hello.sandboxes.len()));
    }
    for node in &mut hello.nodes {
        check_name("node", &node.name)?;
        node.cpu_millicores = node.cpu_millicores.min(MAX_CPU_MILLICORES);
        node.memory_mib = node.memory_mib.min(MAX_MEMORY_MIB);
    }
    for held in &mut hello.sandboxes {
        held.concurrency = held.concurrency.clamp(1, model::MAX_CONCURRENCY);
    }
    // Operators' programs connect to it.
    if hello.admin.parse::<SocketAddr>().is_err() {
        hello.admin.clear();
    }
    Ok(())
}

/// Checks how a data plane introduces itself.
///
/// # Errors
/// What about it cannot be.
pub(crate) fn data_plane_hello(hello: &wire::DataPlaneHello) -> Result<(), String> {
    check_name("data plane", &hello.data_plane)
}

fn check_name(part: &str, name: &str) -> Result<(), String> {
    if is_name(name, MAX_NAME_BYTES) {
        return Ok(());
    }
    let shown: String = name.chars().take(MAX_STEP_BYTES).collect();
    Err(format!("a {part} needs a name of 1 to {MAX_NAME_BYTES} letters, digits and `.-_`: this one is {shown:?}"))
}

/// Returns true for what may stand in logs, paths and addresses as it is.
fn is_name(name: &str, longest: usize) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=longest).contains(&name.len()) && name.bytes().all(is_plain)
}

fn cut(text: &mut String) {
    *text = shorten(std::mem::take(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_whatever_data_planes_say_stay_in_their_types() {
        let most = wire::Sample {
            function: 1,
            span_ms: u32::MAX,
            concurrency_us: u64::MAX,
            requests: u32::MAX,
            waiting: u32::MAX,
            running: u32::MAX,
            peak: u32::MAX,
            cold: u32::MAX,
        };
        let demand = wire::Demand { function: 1, waiting: u32::MAX, running: u32::MAX };
        let ack = wire::EndpointAck { own_us: u64::MAX, ..Default::default() };
        let failure = wire::EndpointFailure { cause: "x".repeat(70_000), ..Default::default() };
        let mut message = wire::FromDataPlane {
            demand: vec![demand],
            samples: vec![most],
            acks: vec![ack],
            failures: vec![failure],
            ..Default::default()
        };
        from_data_plane(&mut message);
        let (demand, sample) = (message.demand[0], message.samples[0]);
        assert!((demand.waiting + demand.running).checked_mul(1000).is_some(), "of a thousand data planes");
        assert!(sample.concurrency_us.checked_mul(100).is_some() && sample.span_ms < u32::MAX, "{sample:?}");
        assert!(message.acks[0].own_us == MAX_TIME_US && message.failures[0].cause.len() <= api::MAX_TEXT_BYTES);
        let real = wire::Sample { span_ms: 1000, concurrency_us: 35_000_000, requests: 9, ..Default::default() };
        let mut message = wire::FromDataPlane { samples: vec![real], ..Default::default() };
        from_data_plane(&mut message);
        assert_eq!(message.samples, [real], "what can be is left alone");
    }

    #[test]
    fn workers_say_names_capacities_and_addresses_that_can_be() {
        let node = wire::NodeAnnouncement { name: "n".to_owned(), cpu_millicores: u64::MAX, memory_mib: u64::MAX };
        let held = wire::HeldSandbox { concurrency: u32::MAX, ..Default::default() };
        let hello = |worker: &str, admin: &str| wire::WorkerHello {
            worker: worker.to_owned(),
            admin: admin.to_owned(),
            nodes: vec![node.clone()],
            sandboxes: vec![held.clone(), wire::HeldSandbox::default()],
            ..Default::default()
        };
        let mut taken = hello("w-1.example_x", "evil.example:80/x");
        assert_eq!(worker_hello(&mut taken), Ok(()));
        assert_eq!((taken.nodes[0].cpu_millicores, taken.admin.as_str()), (MAX_CPU_MILLICORES, ""));
        let concurrencies: Vec<u32> = taken.sandboxes.iter().map(|held| held.concurrency).collect();
        assert_eq!(concurrencies, [model::MAX_CONCURRENCY, 1]);
        for name in ["", "a b", "a\u{1b}[2J", "../x", &"x".repeat(254)] {
            assert!(worker_hello(&mut hello(name, "")).is_err(), "{name:?}");
            assert!(
                data_plane_hello(&wire::DataPlaneHello { data_plane: name.to_owned(), ..Default::default() }).is_err()
            );
        }
        let mut many = hello("w", "");
        many.nodes = vec![node.clone(); MAX_NODES + 1];
        assert!(worker_hello(&mut many).unwrap_err().contains("10000 nodes at most"));
        let mut most = hello("w", "");
        most.sandboxes = vec![held.clone(); MAX_SANDBOXES];
        assert_eq!(worker_hello(&mut most), Ok(()));
        most.sandboxes.push(held.clone());
        assert!(worker_hello(&mut most).unwrap_err().contains("262144 sandboxes at most"));
    }

    #[test]
    fn the_largest_hello_fits_into_a_first_message() {
        let held = wire::HeldSandbox {
            sandbox: u64::MAX,
            node: u32::MAX,
            function: u64::MAX,
            revision: u64::MAX,
            address: "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".to_owned(),
            cpu_millicores: u32::MAX,
            memory_mib: u32::MAX,
            concurrency: u32::MAX,
            queued: true,
        };
        let node =
            wire::NodeAnnouncement { name: "n".repeat(MAX_NAME_BYTES), cpu_millicores: u64::MAX, memory_mib: u64::MAX };
        let bytes_of = |hello: wire::WorkerHello| prost::Message::encoded_len(&hello);
        let of_one = bytes_of(wire::WorkerHello { sandboxes: vec![held], ..Default::default() }) * MAX_SANDBOXES
            + bytes_of(wire::WorkerHello { nodes: vec![node], ..Default::default() }) * MAX_NODES;
        assert!(of_one < api::MAX_MESSAGE_BYTES / 3 * 2, "{of_one} bytes");
    }

    #[test]
    fn a_creation_took_a_time_that_can_be_and_has_few_steps() {
        let step = |name: &str| wire::Step { name: name.to_owned(), us: u64::MAX };
        let mut steps = vec![step("spawn"), step("a=1\n")];
        steps.extend((0..100).map(|_| step("x")));
        let ready =
            wire::SandboxReady { create_us: u64::MAX, ready_us: 3, own_us: u64::MAX, steps, ..Default::default() };
        let events = vec![wire::SandboxEvent { sandbox: 1, event: Some(Event::Ready(ready)) }];
        let mut message = wire::FromWorker { events, ..Default::default() };
        from_worker(&mut message);
        let Some(Event::Ready(ready)) = &message.events[0].event else { panic!("{message:?}") };
        assert_eq!((ready.create_us, ready.ready_us, ready.own_us), (MAX_TIME_US, 3, MAX_TIME_US));
        assert!(ready.steps.len() == MAX_STEPS - 1 && ready.steps.iter().all(|step| step.us == MAX_TIME_US));
    }
}
