//! Taking invocations: the connections of clients, HTTP/1.1 and HTTP/2 on one port, until they have ended.

use std::{sync::Arc, time::Duration};

use api::{Accepted, Listener};
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

/// Connections accepted in one turn of the runtime. A new connection costs more than a request on an old one, and what is
/// under way waits for all of them: its answers, which free slots, and the requests of clients that are here already. If
/// a thousand are accepted between two answers, each slot serves one invocation per thousand connections, clients that
/// wait come with more of them, and nothing is left of the capacity. The others wait with the kernel, at no cost.
const MAX_ACCEPTED_AT_ONCE: u32 = 4;
/// Wait after a failed accept (no file descriptor is free, mostly): connections end meanwhile.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);
/// After the drain deadline, time for the last refusals to reach their clients.
const REFUSAL_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves clients until `stopping`; then lets what has begun end, until the drain deadline, while new requests are
/// answered 503.
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
    // Connections of clients that come during the drain; they only hear that we are leaving.
    let mut late = JoinSet::new();
    let drained = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        biased;
        () = drained => return,
        () = sleep_until(deadline) => {}
        () = server.accept_into(&mut late) => {}
    }
    tracing::warn!(left = connections.len(), "drain deadline passed");
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
    /// Tells connections to end once their requests are answered.
    leave: CancellationToken,
}

impl Server {
    /// Takes connections for ever.
    async fn accept_into(&mut self, connections: &mut JoinSet<()>) {
        let max_connections = self.plane.config.limits.client_connections() + MAX_SURPLUS;
        let mut accepted_count = 0;
        loop {
            if accepted_count == MAX_ACCEPTED_AT_ONCE {
                accepted_count = 0;
                yield_now().await;
            }
            tokio::select! {
                biased;
                Some(_ended) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < max_connections => match accepted {
                    Ok(Accepted { io, peer, .. }) => {
                        let client = self.clients.register(&self.plane, peer, connections.len() + 1, &self.leave);
                        connections.spawn(serve_client(io, client));
                        accepted_count += 1;
                    }
                    Err(error) => {
                        tracing::warn!(cause = %error, "cannot accept a connection");
                        sleep(ACCEPT_BACKOFF).await;
                    }
                }
            }
        }
    }
}
