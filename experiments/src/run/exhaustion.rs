//! Exhaustion of the machine by the system: of the memory, until the kernel killed the load generator, or of the disk,
//! until nothing could be written. Then the repetition failed by the system, although none of its processes ended.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use record::{PointDir, ProcessRole};

use crate::{
    machine::{
        disk::{self, MIB},
        host,
        usage::Sample,
    },
    run::preparation,
};

/// Free space below which a disk counts as full: larger than anything written in one piece, such as a frame of rows.
const FULL_MIB: u64 = 16;

/// Most bytes of each log that are kept if the disk is full. Both ends are kept: the first shows the cause, the last how
/// the process ended.
const MAX_LOG_BYTES: u64 = MIB;

/// The share of [`MAX_LOG_BYTES`] for the end of a log.
const LOG_END_BYTES: u64 = MAX_LOG_BYTES / 2;

/// Logs of the runner's own commands; all others are those of the system's processes.
const NOT_THE_SYSTEM: [&str; 2] = ["loadgen.log", "register.log"];

/// Bytes in the blocks that the kernel counts a file's size by.
const BLOCK_BYTES: u64 = 512;

/// Free disk space and memory, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headroom {
    /// On a disk.
    pub disk_mib: u64,
    /// In memory.
    pub memory_mib: u64,
}

impl Headroom {
    /// The free space of a folder's disk, and of the machine's memory.
    #[must_use]
    pub fn left(folder: &Path) -> Self {
        Self { disk_mib: disk::free_mib(folder), memory_mib: host::available_mib() }
    }

    /// The amount that a system took of this headroom, if that explains another failure: at least half of the space
    /// that is gone of a disk that is full now, or of the memory, if the kernel `killed` something.
    #[must_use]
    pub fn exhausted_by(self, system: Self, disk_now_mib: u64, killed: bool) -> Option<String> {
        let gone_mib = self.disk_mib.saturating_sub(disk_now_mib);
        if disk_now_mib < FULL_MIB && self.disk_mib >= FULL_MIB && 2 * system.disk_mib >= gone_mib {
            return Some(format!("it filled the disk with {} MiB", system.disk_mib));
        }
        let is_most = self.memory_mib > 0 && 2 * system.memory_mib >= self.memory_mib;
        (killed && is_most).then(|| format!("it used {} of {} MiB of memory", system.memory_mib, self.memory_mib))
    }
}

/// Disk space of a system's files, and the free space of that disk, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// Space of the system's files.
    pub system_mib: u64,
    /// Free space.
    pub free_mib: u64,
}

impl DiskUsage {
    /// The present usage, in a repetition.
    #[must_use]
    pub fn in_point(point: &PointDir) -> Self {
        Self { system_mib: disk_mib(point), free_mib: disk::free_mib(&point.path) }
    }

    /// The usage before the system was stopped, if usage is `after` then. Space that stopping freed counts as the
    /// system's: it was in files that were deleted and not closed, or elsewhere.
    #[must_use]
    pub fn until_stopped(self, after: Self) -> Self {
        let freed_mib = after.free_mib.saturating_sub(self.free_mib);
        Self { system_mib: self.system_mib.max(after.system_mib + freed_mib), ..self }
    }
}

/// Greatest memory of the system's processes, in MiB, by the last sample.
#[must_use]
pub fn memory_mib(samples: &[Sample]) -> u64 {
    let last = samples.last().into_iter().flat_map(|sample| &sample.processes);
    let of_system = last.filter(|(process, _)| ProcessRole::of(process) == ProcessRole::System);
    of_system.map(|(_, used)| used.peak_rss_bytes).sum::<u64>() / MIB
}

/// Space of the system's data and logs in a repetition, in MiB.
#[must_use]
pub fn disk_mib(point: &PointDir) -> u64 {
    let logs = logs(point).filter(|(name, _)| !NOT_THE_SYSTEM.contains(&name.as_str()));
    let data = files_below(&point.path.join("data"));
    data.iter().map(|(_, bytes)| *bytes).chain(logs.map(|(_, bytes)| bytes)).sum::<u64>() / MIB
}

/// Names and sizes of the logs of a repetition.
fn logs(point: &PointDir) -> impl Iterator<Item = (String, u64)> {
    let entries = fs::read_dir(point.logs()).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        Some((name, entry.metadata().ok()?.blocks() * BLOCK_BYTES))
    })
}

/// All files below a folder, and what each takes of its disk; a link is not followed.
fn files_below(folder: &Path) -> Vec<(PathBuf, u64)> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => files.push((entry.path(), found.blocks() * BLOCK_BYTES)),
                Err(_) => {}
            }
        }
    }
    files
}

/// Removes the data of a failed repetition's system, and the middle of its logs, if the disk is full (`free_mib`): else
/// no later repetition could be measured either.
///
/// # Errors
/// If something cannot be removed; all else is.
pub fn make_room(point: &PointDir, free_mib: u64) -> anyhow::Result<()> {
    if free_mib >= FULL_MIB {
        return Ok(());
    }
    let data = point.path.join("data");
    let mut made = preparation::remove(&data);
    if made.is_err() {
        // It ended at the first one that stays.
        files_below(&data).iter().for_each(|(path, _)| drop(fs::remove_file(path)));
    }
    for (name, _) in logs(point).filter(|(_, bytes)| *bytes > MAX_LOG_BYTES) {
        let path = point.logs().join(name);
        made = made.and(shorten(&path).with_context(|| format!("shortening {}", path.display())));
    }
    made
}

/// Leaves out the middle of a log, in its place: there is no room for another file.
fn shorten(path: &Path) -> io::Result<()> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    let Some(left_out) = file.metadata()?.len().checked_sub(MAX_LOG_BYTES) else { return Ok(()) };
    let mut end = Vec::new();
    (&file).seek(SeekFrom::Start(left_out + MAX_LOG_BYTES - LOG_END_BYTES))?;
    (&file).take(LOG_END_BYTES).read_to_end(&mut end)?;
    let gap = format!("\n[{left_out} bytes are left out here: the disk was full]\n");
    let begins = MAX_LOG_BYTES - LOG_END_BYTES - gap.len() as u64;
    file.write_all_at(gap.as_bytes(), begins)?;
    file.write_all_at(&end, begins + gap.len() as u64)?;
    file.set_len(MAX_LOG_BYTES)
}

#[cfg(test)]
mod tests {
    use record::RunDir;

    use super::*;
    use crate::machine::usage::{LOAD_GENERATOR, RUNNER};

    #[test]
    fn what_a_system_used_up_is_its_doing_and_what_others_did_is_not() {
        let room = |disk_mib, memory_mib| Headroom { disk_mib, memory_mib };
        let before = room(1000, 4000);
        let disk = Some("it filled the disk with 600 MiB".to_owned());
        assert_eq!(before.exhausted_by(room(600, 0), 3, false), disk);
        assert_eq!(before.exhausted_by(room(600, 0), 16, false), None, "there is room");
        assert_eq!(before.exhausted_by(room(400, 0), 0, false), None, "most of it is another's");
        assert_eq!(room(15, 4000).exhausted_by(room(14, 0), 1, false), None, "it was full before");
        let memory = Some("it used 2000 of 4000 MiB of memory".to_owned());
        assert_eq!(before.exhausted_by(room(0, 2000), 900, true), memory);
        assert_eq!(before.exhausted_by(room(0, 1999), 900, true), None, "most of it is another's");
        assert_eq!(before.exhausted_by(room(0, 3000), 900, false), None, "nothing was killed");
        assert_eq!(room(1000, 0).exhausted_by(room(0, 0), 900, true), None, "what there was is not known");
    }

    #[test]
    fn data_and_logs_of_the_system_are_what_it_holds_and_make_room_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let point = RunDir(folder.path().to_owned()).point("s", "p", 1);
        let write = |place: &str, mib: usize| {
            let path = point.path.join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![7; mib << 20]).unwrap();
        };
        [("data/a/b/c", 3), ("data/d", 1), ("logs/a.log", 2), ("logs/loadgen.log", 4), ("invocations.csv.zst", 5)]
            .iter()
            .for_each(|(place, mib)| write(place, *mib));
        assert_eq!(disk_mib(&point), 6);
        make_room(&point, FULL_MIB).unwrap();
        assert_eq!(disk_mib(&point), 6, "there is room");
        make_room(&point, FULL_MIB - 1).unwrap();
        assert_eq!(disk_mib(&point), 1, "both ends of a log");
        assert!(point.invocations().is_file());
    }

    #[test]
    fn a_log_keeps_both_ends_where_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let point = RunDir(folder.path().to_owned()).point("s", "p", 1);
        fs::create_dir_all(point.logs()).unwrap();
        let path = point.logs().join("a.log");
        fs::write(&path, format!("began\n{}ended\n", "on and on\n".repeat(300_000))).unwrap();
        for _ in 0..2 {
            make_room(&point, 0).unwrap();
            let left = fs::read_to_string(&path).unwrap();
            assert!(left.starts_with("began\n") && left.ends_with("on and on\nended\n"));
            assert!(left.contains(" bytes are left out here") && left.len() as u64 == MAX_LOG_BYTES);
        }
    }

    #[test]
    fn what_comes_free_when_a_system_is_stopped_it_had_held() {
        let held = |system_mib, free_mib| DiskUsage { system_mib, free_mib };
        assert_eq!(held(600, 3).until_stopped(held(0, 603)), held(600, 3), "it removed its files");
        assert_eq!(held(0, 3).until_stopped(held(0, 603)), held(600, 3), "it had deleted and not closed them");
        assert_eq!(held(600, 3).until_stopped(held(600, 2)), held(600, 3), "it left them");
    }

    #[test]
    fn the_memory_of_the_system_is_not_that_of_what_measures_it() {
        let used = |mib: u64| crate::machine::usage::Used { peak_rss_bytes: mib * MIB, ..Default::default() };
        let all = [("worker-1", 30), ("worker-1 sandboxes", 5), (LOAD_GENERATOR, 900), (RUNNER, 50)];
        let processes = all.map(|(role, mib)| (role.to_owned(), used(mib))).into();
        assert_eq!(memory_mib(&[Sample { processes, ..Sample::default() }]), 35);
        assert_eq!(memory_mib(&[]), 0);
    }
}
