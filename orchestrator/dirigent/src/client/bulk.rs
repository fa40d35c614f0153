//! Registering many functions from a file: newline-delimited JSON in, one result line each back.
//!
//! The whole file is checked before anything is sent, so that a mistake in its last line registers nothing.

use std::{fs, path::Path};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use model::FunctionSpec;
use serde_json::Value;
use ureq::http::Method;

use super::http::{self, Server};
use crate::failure::{Failure, Outcome};

/// Functions sent in one request: enough that the round trip does not matter, few enough that progress shows.
const CHUNK: usize = 200;

/// Registers every function of the file.
pub(crate) fn register(control_plane: &Server, path: &Path) -> Outcome {
    let specs = read(path).map_err(Failure::Usage)?;
    let progress = ProgressBar::new(specs.len() as u64);
    progress.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} functions").expect("a valid template"));
    let mut problems = Vec::new();
    for chunk in specs.chunks(CHUNK) {
        let lines: Vec<String> = chunk
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()
            .context("a function has no form in JSON")?;
        let body = Some((lines.join("\n") + "\n", "application/x-ndjson"));
        let answer = control_plane.ask(Method::POST, "/v1/functions", body)?;
        answer.check().with_context(|| control_plane.describe())?;
        problems.extend(failures(&answer.body, chunk));
        progress.inc(chunk.len() as u64);
    }
    progress.finish_and_clear();
    for problem in &problems {
        eprintln!("{problem}");
    }
    eprintln!("{} of {} functions registered", specs.len() - problems.len(), specs.len());
    if problems.is_empty() { Ok(()) } else { Err(anyhow!("{} functions were refused", problems.len()).into()) }
}

/// The functions of a file; blank lines are allowed.
fn read(path: &Path) -> anyhow::Result<Vec<FunctionSpec>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut specs = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = || format!("{}:{}", path.display(), index + 1);
        let spec: FunctionSpec = serde_json::from_str(line).with_context(at)?;
        spec.check().with_context(at)?;
        specs.push(spec);
    }
    if specs.is_empty() {
        return Err(anyhow!("{}: has no function", path.display()));
    }
    Ok(specs)
}

/// What was refused, one line each; a missing result line counts as refused.
fn failures(answer: &str, chunk: &[FunctionSpec]) -> Vec<String> {
    let mut lines = answer.lines().filter(|line| !line.trim().is_empty());
    let mut failed = Vec::new();
    for spec in chunk {
        let result: Option<Value> = lines.next().and_then(|line| serde_json::from_str(line).ok());
        match result {
            None => failed.push(format!("{}: no result came back", spec.name)),
            Some(result) => {
                let status = result.get("status").and_then(Value::as_u64);
                if !status.is_some_and(|status| (200..300).contains(&status)) {
                    failed.push(format!("{}: {}", spec.name, http::describe(&result)));
                }
            }
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> anyhow::Result<Vec<FunctionSpec>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn the_line_that_is_wrong_is_named() {
        let good = r#"{"name":"a","image":"i"}"#;
        assert_eq!(read_text(&format!("{good}\n\n{good}\n")).unwrap().len(), 2);
        for (bad, expected) in [
            (r#"{"name":"a"}"#, "missing field `image`"),
            (r#"{"name":"A","image":"i"}"#, "has only a-z"),
            (r#"{"name":"a","image":"i","timeout":"0s"}"#, "timeout must be above 0"),
        ] {
            let found = format!("{:#}", read_text(&format!("{good}\n{bad}\n")).unwrap_err());
            assert!(found.contains(":2: ") && found.contains(expected), "expected line 2 and {expected:?}: {found}");
        }
        assert!(read_text("\n").is_err(), "a file without functions is a mistake");
    }

    #[test]
    fn refused_and_missing_results_are_failures() {
        let specs = ["a", "b", "c"].map(|name| FunctionSpec::new(name.parse().unwrap(), "i"));
        let answer = "{\"name\":\"a\",\"status\":201}\n{\"name\":\"b\",\"status\":400,\"error\":\"x\"}\n";
        assert_eq!(failures(answer, &specs), ["b: x", "c: no result came back"]);
    }
}
