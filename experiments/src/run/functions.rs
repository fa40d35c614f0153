//! `functions.ndjson`: the functions that the load generator found in a trace, with the definition's values on top.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::{Map, Value};

use crate::definition::settings::FunctionOverlay;

/// Applies the overlay to every line of `from` and writes the result to `to`; returns the number of functions.
///
/// # Errors
/// If a file cannot be read or written, or a line is no JSON object with a name (its number is named).
pub fn prepare(from: &Path, to: &Path, overlay: &FunctionOverlay) -> anyhow::Result<usize> {
    let text = fs::read_to_string(from).with_context(|| format!("reading {}", from.display()))?;
    let (lines, count) = lay_over(&text, overlay).with_context(|| format!("reading {}", from.display()))?;
    fs::write(to, lines).with_context(|| format!("writing {}", to.display()))?;
    Ok(count)
}

/// The image that the load generator writes where a definition names none.
const DEFAULT_WORKLOAD: &str = "builtin:function";

/// File with the functions as one system is given them, in the folder of a repetition.
const DEPLOYED: &str = "functions.ndjson";

/// The workload of an experiment's functions: the image that its definition names. Systems have images of their own for it.
#[must_use]
pub fn workload(overlay: &FunctionOverlay) -> &str {
    overlay.image.as_deref().unwrap_or(DEFAULT_WORKLOAD)
}

/// The message that a system cannot run a workload.
#[must_use]
pub fn no_image(system: &str, workload: &str) -> String {
    format!("{system} has no image for the workload {workload:?}: add one to its table `images` in systems.toml")
}

/// The functions in `from` with a system's own images: `from` itself if the image has the name of the workload, otherwise a
/// new file in `folder`.
///
/// # Errors
/// If a file cannot be read or written, or the system has no image for a workload.
pub fn with_images(
    from: &Path,
    folder: &Path,
    (system, images): (&str, &BTreeMap<String, String>),
) -> anyhow::Result<PathBuf> {
    let text = fs::read_to_string(from).with_context(|| format!("reading {}", from.display()))?;
    let mut lines = String::with_capacity(text.len());
    let mut differs = false;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (_, mut function) = parse(index, line)?;
        let workload = function.get("image").and_then(Value::as_str).unwrap_or(DEFAULT_WORKLOAD);
        let image = images.get(workload).with_context(|| no_image(system, workload))?;
        differs |= image != workload;
        function.insert("image".to_owned(), image.as_str().into());
        lines.push_str(&Value::Object(function).to_string());
        lines.push('\n');
    }
    if !differs {
        return Ok(from.to_owned());
    }
    let to = folder.join(DEPLOYED);
    fs::write(&to, lines).with_context(|| format!("writing {}", to.display()))?;
    Ok(to)
}

/// The names of the functions in a file.
///
/// # Errors
/// If it cannot be read, or a line is no JSON object with a name.
pub fn names(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    numbered.map(|(index, line)| Ok(parse(index, line)?.0)).collect()
}

fn lay_over(text: &str, overlay: &FunctionOverlay) -> anyhow::Result<(String, usize)> {
    let over = fields(overlay)?;
    let mut lines = String::new();
    let mut count = 0;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (_, mut function) = parse(index, line)?;
        for (key, value) in &over {
            merge(&mut function, key, value);
        }
        if let Some(least) = overlay.memory_at_least {
            let memory = function.get("memory").and_then(Value::as_u64).unwrap_or(0).max(u64::from(least));
            function.insert("memory".to_owned(), memory.into());
        }
        lines.push_str(&Value::Object(function).to_string());
        lines.push('\n');
        count += 1;
    }
    if count == 0 {
        bail!("there is no function in it");
    }
    Ok((lines, count))
}

fn parse(index: usize, line: &str) -> anyhow::Result<(String, Map<String, Value>)> {
    let number = index + 1;
    let function: Map<String, Value> =
        serde_json::from_str(line).with_context(|| format!("line {number}: expected a JSON object"))?;
    match function.get("name").and_then(Value::as_str) {
        Some(name) => Ok((name.to_owned(), function)),
        None => bail!("line {number}: expected a field `name`"),
    }
}

/// The overlay's fields as JSON, without the one that is a rule.
fn fields(overlay: &FunctionOverlay) -> anyhow::Result<Map<String, Value>> {
    let Value::Object(mut fields) = serde_json::to_value(overlay)? else { bail!("an overlay is an object") };
    fields.remove("memory_at_least");
    Ok(fields)
}

fn merge(into: &mut Map<String, Value>, key: &str, value: &Value) {
    match (into.get_mut(key), value) {
        (Some(Value::Object(under)), Value::Object(over)) => {
            for (key, value) in over {
                under.insert(key.clone(), value.clone());
            }
        }
        _ => {
            into.insert(key.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(text: &str) -> FunctionOverlay {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn values_are_laid_over_and_what_the_trace_says_stays() {
        let text =
            "{\"name\":\"a\",\"memory\":170,\"scale\":{\"max\":9,\"min\":1}}\n\n{\"name\":\"b\",\"memory\":20}\n";
        let over = overlay("image = \"i\"\ncpu = 1000\nmemory_at_least = 64\nscale = { min = 0, policy = \"kpa\" }");
        let (lines, count) = lay_over(text, &over).unwrap();
        let read: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(count, 2);
        let first = serde_json::json!({
            "name": "a", "memory": 170, "image": "i", "cpu": 1000, "scale": {"max": 9, "min": 0, "policy": "kpa"}
        });
        assert_eq!(read[0], first);
        assert_eq!((&read[1]["memory"], &read[1]["scale"]["policy"]), (&64.into(), &"kpa".into()));
    }

    #[test]
    fn functions_run_the_image_that_the_system_has_for_their_workload() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("shared.ndjson");
        fs::write(&from, "{\"name\":\"a\",\"image\":\"w\",\"cpu\":1}\n{\"name\":\"b\",\"image\":\"w\"}\n").unwrap();
        let images = |image: &str| BTreeMap::from([("w".to_owned(), image.to_owned())]);
        let deployed = with_images(&from, folder.path(), ("toy", &images("docker.io/x"))).unwrap();
        let text = fs::read_to_string(&deployed).unwrap();
        assert_eq!(text.matches("\"image\":\"docker.io/x\"").count(), 2, "{text}");
        assert!(deployed != from && text.contains("\"cpu\":1"), "{text}");
        assert_eq!(with_images(&from, folder.path(), ("toy", &images("w"))).unwrap(), from, "nothing differs");
        let refused = with_images(&from, folder.path(), ("toy", &BTreeMap::new())).unwrap_err().to_string();
        assert_eq!(refused, "toy has no image for the workload \"w\": add one to its table `images` in systems.toml");
    }

    #[test]
    fn a_bad_line_is_named() {
        let refused = |text: &str| format!("{:#}", lay_over(text, &FunctionOverlay::default()).unwrap_err());
        assert!(refused("{\"name\":\"a\"}\nnonsense\n").starts_with("line 2: expected a JSON object"));
        assert_eq!(refused("{\"memory\":1}\n"), "line 1: expected a field `name`");
        assert_eq!(refused("\n"), "there is no function in it");
    }
}
