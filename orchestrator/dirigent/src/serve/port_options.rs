//! The options that name the ports of a component, for the error when one cannot be listened on.

use std::error::Error;

use anyhow::anyhow;

/// The source of a component's addresses.
#[derive(Clone, Copy)]
pub(super) enum PortOptions {
    /// Its own daemon's options, `--KEY IP:PORT`.
    Daemon,
    /// Those of `dirigent up`, `--KEY-port PORT`.
    Up,
}

impl PortOptions {
    /// Returns the error of a `component` that cannot start. If it cannot listen on its address for `key`, the error names
    /// the option that sets another one.
    pub(super) fn explain<E>(self, component: &str, error: E, key: Option<&str>) -> anyhow::Error
    where
        E: Error + Send + Sync + 'static,
    {
        let remedy = match (self, key) {
            (_, None) => String::new(),
            (Self::Daemon, Some(key)) => format!("; --{key} names another address, and port 0 takes any free one"),
            // There, each worker has its own port, in addition to the data plane's.
            (Self::Up, Some("admin")) if component == "worker" => remedy_of_up("worker"),
            (Self::Up, Some(key)) => remedy_of_up(key),
        };
        anyhow!("{component}: {:#}{remedy}", anyhow::Error::new(error))
    }
}

fn remedy_of_up(key: &str) -> String {
    format!("; --{key}-port names another, and 0 takes any free one")
}
