//! File descriptors: every connection takes one, and the usual soft limit is far below what a cluster needs.

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Below this, a daemon would fail under load in ways that are hard to read, so it does not start.
const MIN_DESCRIPTORS: u64 = 1024;

/// Raises the soft limit to the hard one, and says what it is then.
///
/// # Errors
/// If even the hard limit is too low.
pub(super) fn raise() -> anyhow::Result<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    enough(hard)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")?;
    }
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}

fn enough(hard: u64) -> anyhow::Result<()> {
    ensure!(
        hard >= MIN_DESCRIPTORS,
        "the hard limit of open files is {hard}, at least {MIN_DESCRIPTORS} are needed: raise it with `ulimit -Hn` as root"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_refused_with_what_to_do() {
        assert!(enough(MIN_DESCRIPTORS).is_ok());
        let refused = enough(MIN_DESCRIPTORS - 1).unwrap_err().to_string();
        assert!(refused.contains("1023") && refused.contains("ulimit"), "{refused}");
    }
}
