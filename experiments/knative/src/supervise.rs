//! The parts as child processes: started, watched, waited for, ended. Whatever ends this program ends them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use terminal::log;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{components::Component, launch, network::Network, topology};

/// Time between two looks at something that is to become true.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Time for a killed component to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The parts that run. Must be used from one thread that lives as long as they do, because the system ties a child to
/// the thread that started it.
pub struct Supervisor {
    own: PathBuf,
    names: PathBuf,
    logs: PathBuf,
    network: Network,
    components: Vec<RunningComponent>,
}

struct RunningComponent {
    name: &'static str,
    pid: u32,
    log: PathBuf,
    child: Child,
}

impl Supervisor {
    /// Nothing runs yet; logs go to `folder/logs`, the name service's files to `folder`.
    ///
    /// # Errors
    /// If a file cannot be written or the kernel offers no netlink socket.
    pub async fn new(folder: &Path) -> anyhow::Result<Self> {
        let logs = folder.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
        for (name, text) in [("hosts", topology::hosts()), ("resolv.conf", topology::RESOLVER.to_owned())] {
            fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))?;
        }
        let network = Network::here()?;
        network.make_bridge().await?;
        let own = std::env::current_exe().context("finding this program's own file")?;
        Ok(Self { own, names: folder.to_owned(), logs, network, components: Vec::new() })
    }

    /// Starts a part; with its own address it is connected to the bridge.
    ///
    /// # Errors
    /// If it cannot be started or connected.
    pub async fn start(&mut self, component: &Component) -> anyhow::Result<()> {
        let log = self.logs.join(format!("{}.log", component.name));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = Command::new(&self.own);
        command.arg(launch::SUBCOMMAND).args(["--parent", &std::process::id().to_string()]);
        command.arg("--names").arg(&self.names);
        if let Some(address) = component.address {
            command.args(["--address", &address.to_string()]);
        }
        command.arg("--").args(&component.command);
        // Nothing of the user's own: `GOGC` or `GOMAXPROCS` would change what is measured, `HTTPS_PROXY` what is reached.
        command
            .env_clear()
            .env("HOME", &self.names)
            .envs(component.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("starting {}", component.name))?;
        let pid = child.id().context("a child that has just been started has an id")?;
        self.components.push(RunningComponent { name: component.name, pid, log, child });
        if let Some(address) = component.address {
            let connected = self.network.connect(pid, address).await;
            connected.with_context(|| format!("connecting {}; {}", component.name, self.excerpt(component.name)))?;
        }
        Ok(())
    }

    /// Roles and process ids.
    #[must_use]
    pub fn members(&self) -> BTreeMap<&'static str, u32> {
        self.components.iter().map(|component| (component.name, component.pid)).collect()
    }

    /// Waits until `look` is content, at most `within`; gives up when a part ends.
    ///
    /// # Errors
    /// If it takes too long or a part ended, with the reason and what the log of `name` tells.
    pub async fn wait(
        &mut self,
        name: &str,
        within: Duration,
        mut poll: impl AsyncFnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let reason = match poll().await {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            };
            self.check()?;
            if Instant::now() >= deadline {
                bail!("{name} is not ready within {} s: {reason:#}; {}", within.as_secs(), self.excerpt(name));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Fails when a part has ended: each is needed to the end.
    ///
    /// # Errors
    /// With its name and the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for component in &mut self.components {
            if let Some(status) = component.child.try_wait().context("asking for a child's state")? {
                return Err(anyhow!("{} ended ({status}); {}", component.name, log::excerpt(&component.log)));
            }
        }
        Ok(())
    }

    fn excerpt(&self, name: &str) -> String {
        self.components
            .iter()
            .find(|component| component.name == name)
            .map(|component| log::excerpt(&component.log))
            .unwrap_or_default()
    }

    /// Asks a part to end by itself, which one does that writes something down last, and waits a moment for it.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn finish(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(component) = self.components.iter_mut().find(|component| component.name == name) else {
            return Ok(());
        };
        let pid = i32::try_from(component.pid).context("process ids fit in 31 bits")?;
        // Fails only when it has ended already.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let ended = tokio::time::timeout(KILL_TIMEOUT, component.child.wait()).await;
        ended.with_context(|| format!("{name} does not end"))?.context("waiting for a child").map(drop)
    }

    /// Kills every part, the last started first, and removes the bridge.
    ///
    /// # Errors
    /// If a part does not end or the bridge cannot be removed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for component in self.components.iter_mut().rev() {
            // Fails only when it has ended already.
            let _ = component.child.start_kill();
        }
        for component in self.components.iter_mut().rev() {
            let gone = tokio::time::timeout(KILL_TIMEOUT, component.child.wait()).await;
            gone.with_context(|| format!("{} does not end", component.name))?.context("waiting for a child")?;
        }
        self.components.clear();
        self.network.remove_bridge().await
    }
}
