//! The user of sandboxes, if it is not the worker's own.

use std::{
    fmt,
    fs::{self, Metadata},
    io,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
    str::FromStr,
};

use nix::unistd::{geteuid, getgid, getuid};
use serde::{Deserialize, Serialize};

/// User and group of sandboxes: `65534`, or `65534:65534`. By default, the group has the user's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxUser {
    uid: u32,
    gid: u32,
}

impl SandboxUser {
    /// Checks that this process may start programs as that user.
    ///
    /// # Errors
    /// If it runs neither as that user and group nor as root.
    pub(crate) fn check(self) -> io::Result<()> {
        let own = Self { uid: getuid().as_raw(), gid: getgid().as_raw() };
        if geteuid().is_root() { Ok(()) } else { self.check_against(own) }
    }

    fn check_against(self, own: Self) -> io::Result<()> {
        if self == own {
            return Ok(());
        }
        Err(io::Error::other(format!("only root may start programs as {self} (user:group); this process is {own}")))
    }

    /// Tries what each start of a sandbox needs: a working directory in `directory`, which exists, and a process of
    /// that user in it. Otherwise the problem would appear as failed invocations, to clients who cannot fix it.
    ///
    /// # Errors
    /// If this process may not do that, or if that user cannot reach the directory. The error names the obstacle.
    pub(crate) fn try_in(self, directory: &Path) -> io::Result<()> {
        let own = directory.join("try");
        fs::create_dir(&own)?;
        // The program does not exist, so that only the steps before its execution are tried.
        let mut command = Command::new(own.join("none"));
        command.current_dir(&own);
        let tried = self.apply(&mut command, &own).and_then(|()| command.status());
        fs::remove_dir(&own)?;
        let Err(error) = tried else { return Ok(()) };
        match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::PermissionDenied => Err(io::Error::new(error.kind(), self.explain(directory, &error))),
            _ => Err(error),
        }
    }

    fn explain(self, directory: &Path, error: &io::Error) -> String {
        let directories: Vec<_> = directory.ancestors().collect();
        let is_barrier = |path: &&&Path| fs::metadata(path).is_ok_and(|found| !self.may_enter(&found));
        match directories.iter().rev().find(is_barrier) {
            Some(barrier) => format!(
                "process.user (--sandbox-user): user {self} cannot enter {}, below which its working directories are \
                 ({}): chmod o+x it, or set data_dir (--data-dir) to another directory",
                barrier.display(),
                directory.display()
            ),
            None => format!(
                "process.user (--sandbox-user): this process cannot start programs as user {self} in {}: {error}",
                directory.display()
            ),
        }
    }

    /// Returns true if the mode of a directory lets that user pass through it.
    fn may_enter(self, directory: &Metadata) -> bool {
        // Only the first class that applies counts, even if a later one allows more (path_resolution(7)).
        let shift = match directory {
            own if own.uid() == self.uid => 6,
            shared if shared.gid() == self.gid => 3,
            _ => 0,
        };
        directory.mode() >> shift & 1 == 1
    }

    /// Makes `command` run as that user, and makes the user the owner of `directory`.
    pub(crate) fn apply(self, command: &mut Command, directory: &Path) -> io::Result<()> {
        chown(directory, Some(self.uid), Some(self.gid))?;
        // The standard library drops the supplementary groups of root with this.
        command.uid(self.uid).gid(self.gid);
        Ok(())
    }
}

impl FromStr for SandboxUser {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let is_plain = part.bytes().all(|b| b.is_ascii_digit());
            // System calls take the greatest number as "unchanged".
            part.parse().ok().filter(|&id| is_plain && id < u32::MAX)
        };
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        match (number(uid), number(gid)) {
            (Some(0), _) => {
                Err(format!("{text:?}: user 0 may read everything; leave it out to run sandboxes as this user"))
            }
            (Some(_), Some(0)) => Err(format!(
                "{text:?}: group 0 is root's, and may read what root leaves to it; leave it out for a group with the \
                 user's number"
            )),
            (Some(uid), Some(gid)) => Ok(Self { uid, gid }),
            _ => Err(format!("{text:?}: expected the number of a user, or of a user and a group, as 65534:65534")),
        }
    }
}

impl TryFrom<String> for SandboxUser {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for SandboxUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl From<SandboxUser> for String {
    fn from(user: SandboxUser) -> Self {
        user.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_parsed_and_displayed() {
        for (text, written) in [("65534", "65534:65534"), ("1000:100", "1000:100")] {
            assert_eq!(text.parse::<SandboxUser>().unwrap().to_string(), written);
        }
        for text in ["", "nobody", "0", "0:5", "1000:0", "1:", ":1", "1:2:3", "+1", "-1", "4294967295", "1 "] {
            let refused = text.parse::<SandboxUser>().unwrap_err();
            assert!(refused.contains(&format!("{text:?}")), "{refused}");
        }
    }

    #[test]
    fn only_root_starts_programs_as_another_user() {
        let own = SandboxUser { uid: 1000, gid: 1000 };
        own.check_against(own).unwrap();
        for other in [SandboxUser { gid: 27, ..own }, SandboxUser { uid: 65534, ..own }] {
            let refused = other.check_against(own).unwrap_err().to_string();
            assert!(refused.contains(&other.to_string()) && refused.contains("1000:1000"), "{refused}");
        }
    }
}
