//! The API server's audit log as actions.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::Context;
use jiff::Timestamp;
use record::Action;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Functions;

/// The policy's file in the testbed's folder.
pub const POLICY: &str = "audit-policy.json";
/// The log's file there.
pub const LOG: &str = "audit.log";
/// Prefix of a service account's name.
const CONTROLLERS: &str = "system:serviceaccount:kube-system:";
/// The testbed itself, which is no part of what is measured.
const TESTBED: &str = "admin";

/// The audit policy: actor, verb, object and time of each request once it has its response; no watches, whose response
/// is complete when they end, and no leases. JSON is YAML.
#[must_use]
pub fn policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "None", "verbs": ["watch"] },
            { "level": "None", "resources": [{ "group": "coordination.k8s.io", "resources": ["leases"] }] },
            { "level": "None", "nonResourceURLs": ["*"] },
            // A pod's name is made up when it is created; of what it is made up stands in the request.
            { "level": "Request", "verbs": ["create"], "resources": [{ "group": "", "resources": ["pods"] }] },
            { "level": "Metadata" },
        ],
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default, rename = "requestURI")]
    uri: String,
    #[serde(default)]
    request_object: Value,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// Every request in a log, without the testbed's own.
pub(super) fn actions(log: &Path, functions: &Functions) -> anyhow::Result<Vec<Action>> {
    let file = File::open(log).with_context(|| format!("opening {}", log.display()))?;
    let mut actions = Vec::new();
    for (line, number) in BufReader::new(file).lines().zip(1..) {
        let line = line.with_context(|| format!("reading {}", log.display()))?;
        let entry: Entry = serde_json::from_str(&line).with_context(|| format!("{}, line {number}", log.display()))?;
        if entry.user.username != TESTBED {
            actions.push(action(entry, functions));
        }
    }
    Ok(actions)
}

fn action(entry: Entry, functions: &Functions) -> Action {
    let made_up = entry.request_object.pointer("/metadata/generateName").and_then(Value::as_str).unwrap_or_default();
    let found = [entry.object_ref.name.as_str(), made_up.trim_end_matches('-')].into_iter().chain(selected(&entry.uri));
    let function = found.filter_map(|name| functions.of(name)).next().unwrap_or_default().to_owned();
    let Object { mut resource, subresource, .. } = entry.object_ref;
    if !subresource.is_empty() {
        resource = format!("{resource}/{subresource}");
    }
    let took = entry.stage_timestamp.duration_since(entry.request_received_timestamp).as_micros();
    Action {
        function,
        actor: actor(&entry.user.username, &entry.user_agent).to_owned(),
        action: entry.verb,
        object: resource,
        at_ns: i64::try_from(entry.request_received_timestamp.as_nanosecond()).unwrap_or(i64::MAX),
        took_us: Some(u64::try_from(took).unwrap_or(0)),
        bytes: None,
        status: Some(entry.response_status.code),
    }
}

/// The values of a list's selectors: `labelSelector=KEY%3DVALUE%2C…`.
fn selected(uri: &str) -> impl Iterator<Item = &str> {
    uri.split("%3D").skip(1).filter_map(|value| value.split(['%', '&']).next())
}

/// The part that asked: a controller of the controller manager by its account, any other by its program, because
/// Knative's share an account; one whose program does not say its name by its account.
fn actor<'a>(user: &'a str, agent: &'a str) -> &'a str {
    let program = agent.split('/').next().filter(|program| !program.is_empty());
    user.strip_prefix(CONTROLLERS).or(program).unwrap_or(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_an_action_and_the_testbeds_own_are_left_out() {
        let line = |user: &str, agent: &str, name: &str| {
            json!({
                "kind": "Event", "verb": "update", "user": { "username": user }, "userAgent": agent,
                "objectRef": { "resource": "replicasets", "subresource": "status", "name": name, "namespace": "default" },
                "responseStatus": { "code": 409 },
                "requestReceivedTimestamp": "2026-11-27T08:00:00.000100Z", "stageTimestamp": "2026-11-27T08:00:00.007600Z",
            })
            .to_string()
        };
        let text = [
            line("system:serviceaccount:kube-system:replicaset-controller", "kube-controller-manager/v1", "f-00001-d"),
            line("system:serviceaccount:knative-serving:controller", "autoscaler-tuned/v0", "g"),
            line("hollow-nodes", "", "f"),
            line("admin", "x", "f"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join(LOG);
        std::fs::write(&log, text.join("\n")).unwrap();
        let found = actions(&log, &Functions::new(["f".to_owned()])).unwrap();
        let parts: Vec<(&str, &str)> = found.iter().map(|one| (one.actor.as_str(), one.function.as_str())).collect();
        assert_eq!(parts, [("replicaset-controller", "f"), ("autoscaler-tuned", ""), ("hollow-nodes", "f")]);
        assert_eq!(
            (found[0].object.as_str(), found[0].took_us, found[0].status),
            ("replicasets/status", Some(7500), Some(409))
        );
        assert_eq!(found[0].at_ns % 1_000_000_000, 100_000);
        assert_eq!(
            selected("/api/v1/pods?labelSelector=a%2Fb%3Df-1%2Cc%3Dd&limit=5").collect::<Vec<_>>(),
            ["f-1", "d"]
        );
        std::fs::write(&log, "{}\n").unwrap();
        let error = format!("{:#}", actions(&log, &Functions::new([])).unwrap_err());
        assert!(error.contains("audit.log, line 1"), "{error}");
    }
}
