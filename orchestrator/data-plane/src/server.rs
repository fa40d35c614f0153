//! Accepts the connections of clients, HTTP/1.1 and HTTP/2 on one port, and keeps them until they have ended.

use std::{sync::Arc, time::Duration};

use service::{AcceptFailures, Accepted, Listener};
use tokio::{
    task::{JoinSet, yield_now},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clients::{Clients, MAX_SURPLUS},
    connection::serve_client,
    function::FunctionState,
    plane::Plane,
    refusal::Cause,
};

/// Connections accepted in one poll. Accepting costs more than a request on an open connection, and everything under
/// way waits for it: responses, which free slots, and requests of connected clients. With a thousand accepts between
/// two responses each slot would serve one invocation per thousand connections, waiting clients would open more of
/// them, and no capacity would be left. The others wait in the kernel's backlog at no cost.
const MAX_ACCEPTED_AT_ONCE: u32 = 4;
/// Time after the drain deadline for the last refusals to reach their clients.
const REFUSAL_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves clients until `stopping`, then drains: requests under way may finish until the drain deadline, new ones are
/// refused with 503.
pub(crate) async fn run(plane: Arc<Plane>, listener: Box<dyn Listener>, stopping: CancellationToken) {
    let leave = CancellationToken::new();
    let mut server = Server { plane: plane.clone(), listener, clients: Clients::default(), leave: leave.clone() };
    let mut connections = JoinSet::new();
    tokio::select! {
        biased;
        () = stopping.cancelled() => {}
        () = server.accept_into(&mut connections) => {}
    }
    plane.set_stopping();
    leave.cancel();
    let deadline = Instant::now() + plane.config.drain_deadline;
    // Connections accepted during the drain; their requests are only refused.
    let mut late = JoinSet::new();
    let drained = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        biased;
        () = drained => return,
        () = sleep_until(deadline) => {}
        () = server.accept_into(&mut late) => {}
    }
    tracing::warn!(left = connections.len(), "drain deadline passed");
    // Waiting invocations get a refusal rather than a reset.
    for function in plane.functions.all() {
        let refusal = Cause::ShuttingDown.plain();
        function.change(|state: &mut FunctionState, now_us, effects| state.refuse_all(&refusal, now_us, effects));
    }
    sleep(REFUSAL_FLUSH_TIMEOUT).await;
}

struct Server {
    plane: Arc<Plane>,
    listener: Box<dyn Listener>,
    clients: Clients,
    /// Cancelled to make connections end once their requests are complete.
    leave: CancellationToken,
}

impl Server {
    /// Accepts connections and never returns.
    async fn accept_into(&mut self, connections: &mut JoinSet<()>) {
        let max_connections = self.plane.config.limits.client_connections() + MAX_SURPLUS;
        let mut failures = AcceptFailures::new("the port for invocations");
        let mut accepted_count = 0;
        loop {
            if accepted_count == MAX_ACCEPTED_AT_ONCE {
                accepted_count = 0;
                yield_now().await;
            }
            tokio::select! {
                biased;
                // Reaps ended connections, which also makes room below the bound.
                Some(_ended) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < max_connections => match accepted {
                    Ok(Accepted { io, peer, .. }) => {
                        let client = self.clients.register(&self.plane, peer, connections.len() + 1, &self.leave);
                        connections.spawn(serve_client(io, client));
                        accepted_count += 1;
                    }
                    // Mostly no file descriptor is free. Connections end meanwhile.
                    Err(error) => failures.log_and_back_off(&error).await,
                }
            }
        }
    }
}
