//! What differs from the set-up of the published figures, told from what the run recorded of itself.

use std::collections::BTreeSet;

use record::Manifest;
use toml::Value;

/// A word in a definition or command, and what it means for a reader who compares.
const MEANINGS: [(&str, &str); 5] = [
    (
        "hollow",
        "Sandboxes are hollow: a creation is a modelled delay, nothing is isolated, and the node answers invocations \
         itself. Published: containerd containers or Firecracker snapshots.",
    ),
    (
        "process",
        "Sandboxes are child processes of the worker, limited but not isolated. Published: containerd containers or \
         Firecracker snapshots.",
    ),
    (
        "sleep",
        "Functions sleep for the time they are asked to run instead of using a core, so that a large trace fits a small \
         machine. Published: they spin.",
    ),
    (
        "synthetic",
        "The trace is synthetic, made to the published shape. Published: a sample of the Azure Functions trace.",
    ),
    ("synth", "The trace is synthetic, made to the published shape. Published: a sample of the Azure Functions trace."),
];

/// Words that are about a trace and its run times; at a constant rate functions have nothing to run.
const OF_A_TRACE: [&str; 3] = ["sleep", "synthetic", "synth"];

/// Sentences, one for each difference.
pub(super) fn differences(manifest: &Manifest, at_rate: bool) -> Vec<String> {
    let mut found = Vec::new();
    if manifest.scale == "laptop" {
        found.push(format!(
            "One machine ({} cores) holds load generator, system and sandboxes, connected by its loopback device. Published: \
             17 or 93 worker machines (xl170, 10 cores) and a network.",
            manifest.host.cores
        ));
    }
    let words = words(manifest);
    for (word, meaning) in MEANINGS.into_iter().filter(|(word, _)| !(at_rate && OF_A_TRACE.contains(word))) {
        if words.contains(word) && !found.iter().any(|said| said == meaning) {
            found.push(meaning.to_owned());
        }
    }
    found.push(
        "Latency counts from the instant an invocation was due. Published: from the instant the load generator got to send \
         it, which hides its lateness."
            .to_owned(),
    );
    found
}

/// Every word among the values of the definitions, and of the command.
fn words(manifest: &Manifest) -> BTreeSet<String> {
    let mut words: BTreeSet<String> = manifest.command.iter().flat_map(|argument| split(argument)).collect();
    let definitions = manifest.systems.values().map(|system| &system.definition).chain([&manifest.definition]);
    for definition in definitions {
        if let Ok(table) = definition.parse::<toml::Table>() {
            collect(&Value::Table(table), &mut words);
        }
    }
    words
}

fn collect(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => words.extend(split(text)),
        Value::Array(values) => values.iter().for_each(|value| collect(value, words)),
        Value::Table(table) => table.values().for_each(|value| collect(value, words)),
        _ => {}
    }
}

fn split(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned)
}
