//! Preparation that takes too long to be repeated: done once, and kept for all repetitions with the same initial state.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use record::{RunDir, SystemFacts};

use crate::{
    checksum,
    definition::template::Values,
    run::basis,
    session::{ChildCommand, CommandFailed, Session},
    system::{Preparation, launch::Output},
};

/// Folder of all prepared states, in the run's directory; removed when all is measured.
const FOLDER: &str = "prepared";

/// Runs a preparation unless its state exists, and returns the folder of the state. Two systems, or two points, share a
/// state if the same programs of the same version prepare it by the same command from the same functions.
///
/// # Errors
/// [`SystemFailed`](crate::exit::SystemFailed) when the command fails: with the end of its log.
pub fn prepared(
    session: &Session,
    dir: &RunDir,
    preparation: &Preparation,
    values: &Values,
    facts: &SystemFacts,
) -> anyhow::Result<PathBuf> {
    let functions = PathBuf::from(values.expand("{functions}")?);
    let same = values.with("prepared", "").with("dir", "").with("functions", checksum::of_file(&functions)?);
    let same = same.expand_all(&preparation.command).context("the command to prepare")?;
    let programs = basis::programs(facts).into_iter().map(|(name, sum)| format!("{name} {sum}"));
    let key = [facts.version.clone()].into_iter().chain(programs).chain(same).collect::<Vec<_>>().join("\n");
    let key = checksum::of_text(&key);
    let root = dir.0.join(FOLDER);
    let (kept, work) = (root.join(&key[..12]), root.join(format!("{}.work", &key[..12])));
    if kept.is_dir() {
        return Ok(kept);
    }
    let partial = work.join("state");
    remove(&work)?;
    fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
    let task = session.console.begin("preparing what repetitions begin from");
    let own = values.with("prepared", text(&partial)).with("dir", text(&work));
    let child = ChildCommand {
        command: own.expand_all(&preparation.command).context("the command to prepare")?,
        folder: &work,
        output: Output::File(work.join("prepare.log")),
        timeout: preparation.timeout,
    };
    session.run(&child).map_err(CommandFailed::of_system)?;
    fs::rename(&partial, &kept).with_context(|| format!("keeping {}", partial.display()))?;
    remove(&work)?;
    task.done("kept for all that begin alike");
    Ok(kept)
}

/// Removes every prepared state of a run.
///
/// # Errors
/// If one cannot be removed.
pub fn forget(dir: &RunDir) -> anyhow::Result<()> {
    remove(&dir.0.join(FOLDER))
}

/// Removes a folder if it is there.
///
/// # Errors
/// If it cannot be removed.
pub fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
