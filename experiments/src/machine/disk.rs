//! Disk space: how much is free where something is to be written.

use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Bytes in a MiB.
pub const MIB: u64 = 1024 * 1024;

/// Disk space that this user may still fill where `folder` is, or would be once it is made, in MiB; 0 where nothing can be
/// found out.
#[must_use]
pub fn free_mib(folder: &Path) -> u64 {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = absolute.ancestors().find(|folder| folder.exists());
    let free = there.and_then(|folder| statvfs(folder).ok());
    free.map_or(0, |disk| disk.blocks_available() * disk.fragment_size() / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_space_of_the_one_it_will_be_in() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_mib(folder.path()) > 0 && free_mib(&folder.path().join("a/b")) > 0);
        assert_eq!(free_mib(Path::new("/proc/no/such")), 0, "the kernel's own files take no others");
    }
}
