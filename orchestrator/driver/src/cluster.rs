//! A whole cluster of daemons: one control plane, one data plane, and workers with hollow nodes.

use std::{fs, time::Duration};

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    Common,
    daemon::{Daemon, sleep},
    http::agent,
};

/// Longest wait for a state of the cluster.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);
/// Time between two reads of the status.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The running daemons. Dropping it kills them and removes their data.
pub(crate) struct Cluster {
    pub(crate) data_plane: Daemon,
    pub(crate) workers: Vec<Daemon>,
    pub(crate) control_plane: Daemon,
    _directory: TempDir,
}

impl Cluster {
    /// Starts `workers` workers of `nodes` nodes each, in which the creation of a sandbox takes `delay`.
    ///
    /// # Errors
    /// If a component does not start.
    pub(crate) fn start(common: &Common, workers: u32, nodes: u32, delay: Duration) -> anyhow::Result<Self> {
        let program = common.program()?;
        let directory = tempfile::tempdir().context("making a directory")?;
        let root = directory.path();
        let any = "127.0.0.1:0";
        let control_plane = Daemon::control_plane(&program, &root.join("control-plane"), &[])?;
        let stream = control_plane.port("stream").to_string();
        let arguments = ["data-plane", "--control-plane", &stream, "--invoke", any, "--admin", any];
        let data_plane = Daemon::start(&program, &root.join("data-plane"), &arguments)?;
        let start = |number: u32| {
            let file = root.join(format!("worker-{number}.toml"));
            fs::write(&file, worker_config(nodes, delay)).context("writing a worker's configuration")?;
            let (name, file) = (format!("w{number}"), file.display().to_string());
            let arguments = ["worker", "--config", &file, "--runtime", "hollow", "--name", &name];
            let arguments = [&arguments[..], &["--admin", any, "--control-plane", &stream]].concat();
            Daemon::start(&program, &root.join(&name), &arguments)
        };
        let workers = (0..workers).map(start).collect::<anyhow::Result<Vec<_>>>()?;
        let cluster = Self { data_plane, workers, control_plane, _directory: directory };
        let expected = u64::from(nodes) * cluster.workers.len() as u64;
        cluster.reach(|status| status["nodes_ready"] == expected && status["data_planes"][0].is_string())?;
        Ok(cluster)
    }

    /// Waits until the cluster's status is as wanted.
    ///
    /// # Errors
    /// If it is not within [`WAIT_TIMEOUT`].
    pub(crate) fn reach(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(());
            }
            if began.elapsed() > WAIT_TIMEOUT {
                bail!("the cluster did not reach the expected state within {WAIT_TIMEOUT:?}; its status is {status}");
            }
            sleep(POLL_INTERVAL);
        }
    }

    fn status(&self) -> anyhow::Result<Value> {
        let url = format!("http://{}/v1/status", self.control_plane.port("http"));
        let text = agent().get(&url).call().context("requesting the status")?.body_mut().read_to_string()?;
        serde_json::from_str(&text).context("the status")
    }
}

/// The configuration of a worker with hollow nodes.
fn worker_config(nodes: u32, delay: Duration) -> String {
    let delay_us = delay.as_micros();
    format!(
        "[hollow]\nnodes = {nodes}\nmode = \"sleep\"\ndelay = {{ model = \"constant\", value = \"{delay_us}us\" }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_keeps_its_microseconds_in_the_configuration() {
        let text = worker_config(7, Duration::from_micros(1_500));
        assert!(text.contains("\nnodes = 7\n") && text.contains("value = \"1500us\""), "{text}");
        assert!(worker_config(1, Duration::ZERO).contains("value = \"0us\""));
    }
}
