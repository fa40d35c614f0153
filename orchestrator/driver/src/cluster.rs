//! A whole cluster of daemons: one control plane, one data plane, and workers with hollow nodes.

use std::{fmt::Write, fs, time::Duration};

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    Common,
    daemon::{Daemon, sleep},
    http::agent,
};

/// The cluster reaches what it should within this time.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// Its parts. Dropping it kills them and removes their data.
pub(crate) struct Cluster {
    pub(crate) data_plane: Daemon,
    pub(crate) workers: Vec<Daemon>,
    pub(crate) control_plane: Daemon,
    _directory: TempDir,
}

impl Cluster {
    /// Starts `workers` workers of `nodes` nodes each, whose sandboxes take `delay` to make.
    ///
    /// # Errors
    /// When a part does not start.
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
            let mut text = String::new();
            let _ = writeln!(text, "[hollow]\nnodes = {nodes}\nmode = \"sleep\"");
            let _ = writeln!(text, "delay = {{ model = \"constant\", value = \"{}us\" }}", delay.as_micros());
            let file = root.join(format!("worker-{number}.toml"));
            fs::write(&file, text).context("writing a worker's configuration")?;
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
    /// When it does not become so.
    pub(crate) fn reach(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(());
            }
            if began.elapsed() > WAIT_TIMEOUT {
                bail!("the cluster does not get there; its status is {status}");
            }
            sleep(LOOK);
        }
    }

    fn status(&self) -> anyhow::Result<Value> {
        let url = format!("http://{}/v1/status", self.control_plane.port("http"));
        let text = agent().get(&url).call().context("asking for the status")?.body_mut().read_to_string()?;
        serde_json::from_str(&text).context("the status")
    }
}
