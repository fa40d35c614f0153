//! The log of Knative's webhook as actions: the API server shows it an object before it stores it, and waits.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::Context;
use jiff::Timestamp;
use record::Action;
use serde::Deserialize;

use super::Functions;

/// The log's file in the testbed's folder.
pub(super) const LOG: &str = "logs/webhook.log";
/// Prefix of the message that it logs once for each response.
const ANSWERED: &str = "remote admission controller audit annotations";

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    message: String,
    timestamp: Timestamp,
    #[serde(default, rename = "knative.dev/name")]
    name: String,
    #[serde(default, rename = "knative.dev/operation")]
    operation: String,
    #[serde(default, rename = "knative.dev/resource")]
    resource: String,
    #[serde(default, rename = "knative.dev/subresource")]
    subresource: String,
}

/// Every object that was shown to it. Lines of other forms, such as a panic's, tell of none.
pub(super) fn actions(log: &Path, functions: &Functions) -> anyhow::Result<Vec<Action>> {
    let file = File::open(log).with_context(|| format!("opening {}", log.display()))?;
    let mut actions = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.with_context(|| format!("reading {}", log.display()))?;
        let Ok(entry) = serde_json::from_str::<Entry>(&line) else { continue };
        if entry.message.starts_with(ANSWERED) {
            actions.push(action(&entry, functions));
        }
    }
    Ok(actions)
}

fn action(entry: &Entry, functions: &Functions) -> Action {
    // "serving.knative.dev/v1, Resource=services"
    let mut object = entry.resource.rsplit('=').next().unwrap_or_default().to_owned();
    if !entry.subresource.is_empty() {
        object = format!("{object}/{}", entry.subresource);
    }
    Action {
        function: functions.of(&entry.name).unwrap_or_default().to_owned(),
        actor: Action::ADMISSION.to_owned(),
        action: entry.operation.to_lowercase(),
        object,
        at_ns: i64::try_from(entry.timestamp.as_nanosecond()).unwrap_or(i64::MAX),
        took_us: None,
        bytes: None,
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_an_action_whatever_else_the_log_says() {
        let answer = |zone: &str| {
            serde_json::json!({
                "severity": "INFO", "timestamp": format!("2026-11-27T08:00:00.250{zone}"), "logger": "webhook",
                "message": "remote admission controller audit annotations=map[string]string(nil)",
                "knative.dev/kind": "serving.knative.dev/v1, Kind=Revision", "knative.dev/name": "f-00001",
                "knative.dev/operation": "UPDATE", "knative.dev/resource": "serving.knative.dev/v1, Resource=revisions",
                "knative.dev/subresource": "status",
            })
        };
        let request = serde_json::json!({ "timestamp": "2026-11-27T08:00:00.240Z", "message": "Webhook ServeHTTP" });
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("webhook.log");
        let lines = [request.to_string(), answer("Z").to_string(), "panic: {".to_owned(), answer("+0000").to_string()];
        std::fs::write(&log, lines.join("\n")).unwrap();
        let found = actions(&log, &Functions::new(["f".to_owned()])).unwrap();
        assert_eq!(found.len(), 2);
        for action in &found {
            assert_eq!(
                (action.function.as_str(), action.actor.as_str(), action.action.as_str(), action.object.as_str()),
                ("f", "admission", "update", "revisions/status")
            );
            assert_eq!(action.at_ns % 1_000_000_000, 250_000_000);
        }
    }
}
