//! Memory limits that the kernel enforces: a control group for each sandbox, if this process may make control groups.
//!
//! Supports both versions of the interface (cgroups(7)). Not the default, because moving a process into a group waits
//! for every CPU of the machine, some ten milliseconds.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Prefix of the names of groups; the number of the worker's process follows.
const PREFIX: &str = "dirigent-sandbox-";
/// Attempts to remove a group, with [`REMOVE_PAUSE`] between them: killed members need a moment to end.
const MAX_REMOVE_ATTEMPTS: u32 = 200;
/// See [`MAX_REMOVE_ATTEMPTS`].
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// Limit of the group that tests whether groups can be made.
const PROBE_BYTES: u64 = 64 * 1024 * 1024;

/// Version of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The parent of the groups: the group of this process, or its parent.
#[derive(Debug)]
pub(super) struct Cgroups {
    directory: PathBuf,
    version: Version,
}

/// The group of one sandbox. Removed on drop.
#[derive(Debug)]
pub(super) struct Cgroup {
    directory: PathBuf,
    version: Version,
}

impl Cgroups {
    /// Finds a parent under which groups can be made, by making one. Removes the groups of killed workers.
    pub(super) fn find() -> io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let (own, version) = own_group(&groups, &mounts)
            .ok_or_else(|| io::Error::other("this process is in no control group with the memory controller"))?;
        let above = own.parent().map(Path::to_owned);
        // Several workers may be in one process, and their tests in several threads.
        let probe = format!("probe-{:?}", thread::current().id());
        let mut problem = None;
        // In version 2 a group with processes of its own has no children with controllers: then its parent may do.
        for directory in [Some(own), above].into_iter().flatten() {
            let found = Self { directory, version };
            if version == Version::Two {
                // Refused by the kernel if the group itself has processes. It may be enabled already, so `make`
                // decides.
                let _ = fs::write(found.directory.join("cgroup.subtree_control"), "+memory");
            }
            match found.make(&probe, PROBE_BYTES) {
                Ok(probe) => {
                    drop(probe);
                    found.remove_stale();
                    return Ok(found);
                }
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem.unwrap_or_else(|| io::Error::other("no control group can be made")))
    }

    /// Makes the group `name`, whose members together hold at most `bytes`.
    pub(super) fn make(&self, name: &str, bytes: u64) -> io::Result<Cgroup> {
        let directory = self.directory.join(format!("{PREFIX}{}-{name}", process::id()));
        fs::create_dir(&directory)?;
        let group = Cgroup { directory, version: self.version };
        let set = |file: &str, value: &str| fs::write(group.directory.join(file), value);
        match self.version {
            Version::One => {
                // In this order, because the kernel refuses a limit with swap that is below the one without.
                set("memory.limit_in_bytes", &bytes.to_string())?;
                // Exists only if the kernel accounts swap.
                let _ = set("memory.memsw.limit_in_bytes", &bytes.to_string());
            }
            Version::Two => {
                set("memory.max", &bytes.to_string())?;
                // `memory.max` leaves swap out, so that the group could exceed it by swapping.
                let _ = set("memory.swap.max", "0");
                // A sandbox must not continue with some of its processes killed.
                let _ = set("memory.oom.group", "1");
            }
        }
        Ok(group)
    }

    fn remove_stale(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let worker =
                name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
            // If the number belongs to another process by now, the group is removed later.
            if worker.is_some_and(|worker| !Path::new(&format!("/proc/{worker}")).exists()) {
                // Fails while members of the killed worker are still ending. The next worker removes it then.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

impl Cgroup {
    /// The file of the members. A process joins the group by writing `0` to it.
    pub(super) fn members_file(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.directory.join("cgroup.procs"))
    }

    /// Returns true if the kernel killed a process of the group because the group exceeded its limit.
    pub(super) fn has_killed(&self) -> bool {
        let file = if self.version == Version::One { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(self.directory.join(file)).unwrap_or_default();
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.is_some_and(|kills| kills.trim() != "0")
    }

    fn end_members(&self) {
        let members = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse().ok()).filter(|pid: &i32| *pid > 0) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Cgroup {
    /// Kills the members and removes the group. Blocks until that is done, at most a second.
    pub(super) fn remove(&self) {
        for _ in 0..MAX_REMOVE_ATTEMPTS {
            match fs::remove_dir(&self.directory) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => self.end_members(),
                _ => return,
            }
            thread::park_timeout(REMOVE_PAUSE);
        }
    }
}

/// The directory of this process's group with the memory controller, from `/proc/self/cgroup` and
/// `/proc/self/mountinfo`.
fn own_group(groups: &str, mounts: &str) -> Option<(PathBuf, Version)> {
    let entry = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    };
    let entries: Vec<(String, String)> = groups.lines().filter_map(entry).collect();
    let first = entries.iter().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let (group, version) = match first {
        Some((_, group)) => (group, Version::One),
        None => (&entries.iter().find(|(controllers, _)| controllers.is_empty())?.1, Version::Two),
    };
    mounts.lines().find_map(|line| {
        // proc_pid_mountinfo(5): root and mount point, then after a lone hyphen type, source and options.
        let (mount, kind) = line.split_once(" - ")?;
        let (mount, kind): (Vec<_>, Vec<_>) = (mount.split(' ').collect(), kind.split(' ').collect());
        let is_it = match version {
            Version::One => *kind.first()? == "cgroup" && kind.get(2)?.split(',').any(|option| option == "memory"),
            Version::Two => *kind.first()? == "cgroup2",
        };
        let below = Path::new(group).strip_prefix(mount.get(3)?).ok().filter(|_| is_it)?;
        Some((Path::new(mount.get(4)?).join(below), version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_this_process_is_found_below_its_mount() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                      31 24 0:27 /pod /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let first = own_group("3:cpu:/\n4:memory:/pod/a\n0::/\n", mounts);
        assert_eq!(first, Some(("/sys/fs/cgroup/memory/a".into(), Version::One)));
        let second = own_group("0::/system.slice/worker.service\n", mounts);
        assert_eq!(second, Some(("/sys/fs/cgroup/unified/system.slice/worker.service".into(), Version::Two)));
        assert_eq!(own_group("4:memory:/elsewhere\n", mounts), None);
        assert_eq!(own_group("", mounts), None);
    }
}
