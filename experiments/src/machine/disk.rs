//! Disks: free space, and bytes read and written.

use std::{collections::BTreeMap, fs, path::Path};

use nix::sys::statvfs::statvfs;
use record::DiskUse;

/// Bytes in a MiB.
pub const MIB: u64 = 1024 * 1024;

/// Free disk space for this user at `folder`, which need not exist yet, in MiB; 0 if unknown.
#[must_use]
pub fn free_mib(folder: &Path) -> u64 {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = absolute.ancestors().find(|folder| folder.exists());
    let free = there.and_then(|folder| statvfs(folder).ok());
    free.map_or(0, |disk| disk.blocks_available() * disk.fragment_size() / MIB)
}

/// Activity of a disk since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Sectors read.
    pub read_sectors: u64,
    /// Sectors written.
    pub written_sectors: u64,
    /// Time in which it was busy, in milliseconds.
    pub busy_ms: u64,
}

/// Unit of the kernel's counters, independent of the disk's sectors.
const SECTOR_BYTES: u64 = 512;

/// Names of the physical disks: partitions and stacked devices would count twice.
#[must_use]
pub fn physical() -> Vec<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let devices = entries.filter(|entry| entry.path().join("device").exists());
    devices.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Activity of these disks; disks that the kernel does not list are left out.
#[must_use]
pub fn transfers(disks: &[String]) -> BTreeMap<String, Transfers> {
    let text = fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let mut all = parse(&text);
    all.retain(|name, _| disks.contains(name));
    all
}

/// Every line of `/proc/diskstats` that is of the expected form.
fn parse(text: &str) -> BTreeMap<String, Transfers> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| fields.get(place)?.parse().ok();
        let of = Transfers { read_sectors: number(5)?, written_sectors: number(9)?, busy_ms: number(12)? };
        Some(((*fields.get(2)?).to_owned(), of))
    };
    text.lines().filter_map(line).collect()
}

/// Activity of disks between two samples; `None` if no disk is in both.
#[must_use]
pub fn between(first: &BTreeMap<String, Transfers>, last: &BTreeMap<String, Transfers>) -> Option<DiskUse> {
    let both = last.iter().filter_map(|(name, end)| Some((first.get(name)?, end)));
    both.fold(None, |sum: Option<DiskUse>, (begin, end)| {
        let sum = sum.unwrap_or_default();
        let read = end.read_sectors.saturating_sub(begin.read_sectors);
        let written = end.written_sectors.saturating_sub(begin.written_sectors);
        let busy_us = end.busy_ms.saturating_sub(begin.busy_ms) * 1_000;
        Some(DiskUse {
            read_bytes: sum.read_bytes + read * SECTOR_BYTES,
            written_bytes: sum.written_bytes + written * SECTOR_BYTES,
            busiest_us: sum.busiest_us.max(busy_us),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded on Linux 6.8.
    const BEGIN: &str = "   7       0 loop0 19 0 68 3 0 0 0 0 0 9 3 0 0 0 0 0 0\n \
        254       0 vda 113017 17 8311066 45861 519420 226171 41225816 466640 0 152000 513034 0 0 0 0 2310 532\n \
        254       1 vda1 100 0 800 1 2 0 16 1 0 12 2\n 254 16 vdb 1 0 8 1 0 0 0 0 0 4 1\n 254 17 cut 1 0\n";

    #[test]
    fn whole_disks_are_summed_and_the_busiest_one_counts() {
        let begin = parse(BEGIN);
        assert_eq!(begin["vda"], Transfers { read_sectors: 8_311_066, written_sectors: 41_225_816, busy_ms: 152_000 });
        assert_eq!(begin.len(), 4, "a line that is cut off is none");
        let mut end = begin.clone();
        end.insert(
            "vda".to_owned(),
            Transfers { read_sectors: 8_311_068, written_sectors: 41_225_826, busy_ms: 152_250 },
        );
        end.insert("vdb".to_owned(), Transfers { read_sectors: 9, written_sectors: 1, busy_ms: 304 });
        let expected = DiskUse { read_bytes: 3 * 512, written_bytes: 11 * 512, busiest_us: 300_000 };
        assert_eq!(between(&begin, &end), Some(expected));
        assert_eq!(between(&BTreeMap::new(), &end), None, "one that was not there before is not known");
    }

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_space_of_the_one_it_will_be_in() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_mib(folder.path()) > 0 && free_mib(&folder.path().join("a/b")) > 0);
        assert_eq!(free_mib(Path::new("/proc/no/such")), 0, "the kernel's own files take no others");
    }
}
