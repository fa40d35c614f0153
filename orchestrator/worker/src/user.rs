//! The user as whom sandboxes run, where that is not the worker's own.

use std::{
    fmt, io,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::Command,
    str::FromStr,
};

use nix::unistd::{geteuid, getuid};
use serde::{Deserialize, Serialize};

/// User and group of sandboxes: `65534`, or `65534:65534`. Without a group it has the user's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxUser {
    uid: u32,
    gid: u32,
}

impl SandboxUser {
    /// Whether this process may start programs as that user.
    ///
    /// # Errors
    /// When it runs as neither that user nor root.
    pub(crate) fn check(self) -> io::Result<()> {
        let own = getuid();
        if geteuid().is_root() || own.as_raw() == self.uid {
            return Ok(());
        }
        Err(io::Error::other(format!("only root may start programs as user {self}; this process is user {own}")))
    }

    /// Makes `command` run as that user, in `directory`, which becomes its own.
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
            // The greatest number stands for "as it is" in system calls.
            part.parse().ok().filter(|&id| is_plain && id < u32::MAX)
        };
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        match (number(uid), number(gid)) {
            (Some(0), _) => {
                Err(format!("{text:?}: user 0 may read everything; leave it out to run sandboxes as this user"))
            }
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
    fn users_are_read_and_written() {
        for (text, written) in [("65534", "65534:65534"), ("1000:100", "1000:100")] {
            assert_eq!(text.parse::<SandboxUser>().unwrap().to_string(), written);
        }
        for text in ["", "nobody", "0", "0:5", "1:", ":1", "1:2:3", "+1", "-1", "4294967295", "1 "] {
            let refused = text.parse::<SandboxUser>().unwrap_err();
            assert!(refused.contains(&format!("{text:?}")), "{refused}");
        }
    }
}
