//! Memory limits that the kernel holds: a control group for each sandbox, where this process may make some.
//!
//! Both versions of the interface are used (cgroups(7)). Moving a process into a group waits for every CPU of the machine,
//! some ten milliseconds, so it is asked for and not the default.

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

/// What the names of all groups made here begin with; the number of the worker's process follows.
const PREFIX: &str = "dirigent-sandbox-";
/// Attempts to remove a group, with [`REMOVE_PAUSE`] between them: what was killed in it needs a moment to end.
const REMOVE_ATTEMPTS: u32 = 200;
/// See [`REMOVE_ATTEMPTS`].
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// Limit of the group that is made to see whether one can be.
const PROBE_BYTES: u64 = 64 * 1024 * 1024;

/// The two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where groups are made: the group of this process, or the one above it.
#[derive(Debug)]
pub(super) struct Cgroups {
    directory: PathBuf,
    version: Version,
}

/// The group of one sandbox. It is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Cgroup {
    directory: PathBuf,
    version: Version,
}

impl Cgroups {
    /// Finds out where groups can be made, by making one. Removes those that a killed worker left.
    pub(super) fn find() -> io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let (own, version) = own_group(&groups, &mounts)
            .ok_or_else(|| io::Error::other("this process is in no group that limits memory"))?;
        let above = own.parent().map(Path::to_owned);
        // Several workers may be in one process, and their tests in several threads.
        let probe = format!("probe-{:?}", thread::current().id());
        let mut problem = None;
        for directory in [Some(own), above].into_iter().flatten() {
            let found = Self { directory, version };
            if version == Version::Two {
                // It may be on already. Where processes are in the group itself the kernel refuses it.
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
        Err(problem.unwrap_or_else(|| io::Error::other("there is no place for groups")))
    }

    /// Makes the group called `name` among those of this process, whose members together hold `bytes` at most.
    pub(super) fn make(&self, name: &str, bytes: u64) -> io::Result<Cgroup> {
        let directory = self.directory.join(format!("{PREFIX}{}-{name}", process::id()));
        fs::create_dir(&directory)?;
        let group = Cgroup { directory, version: self.version };
        let set = |file: &str, value: &str| fs::write(group.directory.join(file), value);
        match self.version {
            Version::One => {
                set("memory.limit_in_bytes", &bytes.to_string())?;
                // Only there where swap is counted.
                let _ = set("memory.memsw.limit_in_bytes", &bytes.to_string());
            }
            Version::Two => {
                set("memory.max", &bytes.to_string())?;
                let _ = set("memory.swap.max", "0");
                // A sandbox without one of its processes is not to go on.
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
            if worker.is_some_and(|worker| !Path::new(&format!("/proc/{worker}")).exists()) {
                // Whatever is still in it dies with its worker, and the next one removes it.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

impl Cgroup {
    /// The file through which a process enters, by writing `0` to it.
    pub(super) fn entrance(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.directory.join("cgroup.procs"))
    }

    /// Whether the kernel ended a process of the group for what the group held.
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
    /// Ends what is left in it and removes it; waits for that.
    pub(super) fn remove(&self) {
        for _ in 0..REMOVE_ATTEMPTS {
            match fs::remove_dir(&self.directory) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => self.end_members(),
                _ => return,
            }
            thread::park_timeout(REMOVE_PAUSE);
        }
    }
}

/// The directory of the group of this process that counts memory, from `/proc/self/cgroup` and `/proc/self/mountinfo`.
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
        let (place, kind) = line.split_once(" - ")?;
        let (place, kind): (Vec<_>, Vec<_>) = (place.split(' ').collect(), kind.split(' ').collect());
        let is_it = match version {
            Version::One => *kind.first()? == "cgroup" && kind.get(2)?.split(',').any(|option| option == "memory"),
            Version::Two => *kind.first()? == "cgroup2",
        };
        let below = Path::new(group).strip_prefix(place.get(3)?).ok().filter(|_| is_it)?;
        Some((Path::new(place.get(4)?).join(below), version))
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
