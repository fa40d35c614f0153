//! The I/O threads, which carry connections: each runs its own single-threaded runtime, so that no response crosses threads.

use std::{io, sync::Arc, thread};

use tokio::runtime;

use crate::{
    http::{
        h2c::H2c,
        http1::{Http1, Opened},
    },
    machine::clock::request_prompt_wakeups,
    measure::reading::Reading,
    replay::dispatch::DispatchQueue,
};

/// The protocol by which an I/O thread sends invocations.
#[derive(Clone)]
pub(crate) enum Transport {
    /// One at a time per connection.
    Http1(Arc<Http1>),
    /// Many per connection.
    H2c(Arc<H2c>),
}

impl Transport {
    fn reading(&self) -> &Arc<Reading> {
        match self {
            Self::Http1(http1) => &http1.replay.reading,
            Self::H2c(h2c) => &h2c.replay.reading,
        }
    }
}

/// Starts a thread that carries the connections `opened` beforehand and sends the invocations of its queue, for as long as the process lives.
///
/// # Errors
/// If the thread or its runtime cannot be started.
pub(crate) fn start(
    queue: Arc<DispatchQueue>,
    transport: Transport,
    opened: Vec<Opened>,
    priority: Option<i32>,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("io".to_owned()).spawn(move || {
        request_prompt_wakeups(priority);
        runtime.block_on(async {
            let reading = Arc::clone(transport.reading());
            drop(tokio::spawn(async move { reading.watch().await }));
            if let Transport::Http1(http1) = &transport {
                http1.adopt_opened(opened);
            }
            loop {
                for index in queue.take().await {
                    send(&transport, index);
                }
            }
        });
    })?;
    Ok(())
}

/// A task for each, so that a fault in one invocation ends that one only.
fn send(transport: &Transport, index: usize) {
    match transport {
        Transport::Http1(http1) => drop(tokio::spawn(Arc::clone(http1).send(index))),
        Transport::H2c(h2c) => drop(tokio::spawn(Arc::clone(h2c).send(index))),
    }
}
