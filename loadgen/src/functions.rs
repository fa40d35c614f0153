//! `functions.ndjson`: the functions a schedule needs, one JSON object a line, as a control plane registers them.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use trace::Schedule;

use crate::ending::UsageError;

/// The image of the trace function, which every runtime knows.
pub(crate) const DEFAULT_IMAGE: &str = "builtin:function";

/// One function to register. What this program does not know of is passed on as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FunctionLine {
    /// Its name.
    pub(crate) name: String,
    /// What it runs.
    pub(crate) image: String,
    /// Memory that a sandbox of it reserves, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<u64>,
    /// Everything else.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// The functions of a schedule, running `image`.
pub(crate) fn of_schedule(schedule: &Schedule, image: &str) -> Vec<FunctionLine> {
    let line = |function: &trace::ScheduledFunction| FunctionLine {
        name: function.name.clone(),
        image: image.to_owned(),
        memory: Some(u64::from(function.memory_mib.max(1))),
        rest: Map::new(),
    };
    schedule.functions.iter().map(line).collect()
}

/// Writes the file.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, functions: &[FunctionLine]) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    for function in functions {
        serde_json::to_writer(&mut file, function)?;
        file.write_all(b"\n")?;
    }
    file.flush().with_context(|| path.display().to_string())
}

/// Reads the file; empty lines are skipped.
///
/// # Errors
/// [`UsageError`] with file and line.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<FunctionLine>> {
    try_read(path).map_err(UsageError::of)
}

fn try_read(path: &Path) -> anyhow::Result<Vec<FunctionLine>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut functions = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("{}, line {}", path.display(), index + 1);
        let line = line.with_context(place)?;
        if !line.trim().is_empty() {
            functions.push(serde_json::from_str(&line).with_context(place)?);
        }
    }
    if functions.is_empty() {
        bail!("{}: there is no function in it", path.display());
    }
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_passed_on() {
        let text = r#"{"name":"f","image":"builtin:function","memory":7,"scale":{"max":1}}"#;
        let line: FunctionLine = serde_json::from_str(text).unwrap();
        assert_eq!((line.memory, line.rest["scale"]["max"].as_u64()), (Some(7), Some(1)));
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
    }

    #[test]
    fn a_bad_line_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"name\":\"f\",\"image\":\"i\"}\n\n{\"image\":\"i\"}\n").unwrap();
        let error = format!("{:#}", read(file.path()).unwrap_err());
        assert!(error.contains("line 3") && error.contains("name"), "{error}");
    }
}
