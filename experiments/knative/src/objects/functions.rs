//! A function as a Knative service: what `functions.ndjson` says of it, in the form of the published manifests.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};

/// Marks what the testbed registered: only that is ever removed.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "dirigent-testbed");
/// The namespace of all functions.
pub const NAMESPACE: &str = "default";
/// Longest name: Knative appends to it, and the whole must be a DNS label.
const NAME_MAX: usize = 40;

/// The fields of a line of `functions.ndjson` that are used.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// CPU of one sandbox, in millicores.
    #[serde(default = "cpu")]
    pub cpu: u32,
    /// Memory of one sandbox, in MiB.
    #[serde(default = "memory")]
    pub memory: u32,
    /// Invocations one sandbox runs at once.
    #[serde(default = "concurrency")]
    pub concurrency: u32,
    /// Longest run of an invocation.
    #[serde(default = "timeout", with = "humantime_serde")]
    pub timeout: std::time::Duration,
    /// `http1` or `h2c`.
    #[serde(default = "protocol")]
    pub protocol: String,
    /// Scaling bounds.
    #[serde(default)]
    pub scale: Scale,
}

fn cpu() -> u32 {
    100
}

fn memory() -> u32 {
    128
}

fn concurrency() -> u32 {
    1
}

fn timeout() -> std::time::Duration {
    std::time::Duration::from_secs(300)
}

fn protocol() -> String {
    "http1".to_owned()
}

/// Scaling bounds. Windows are the cluster's, as in the published experiment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Scale {
    /// Least sandboxes.
    #[serde(default)]
    pub min: u32,
    /// Most sandboxes; absent: any number.
    #[serde(default)]
    pub max: Option<u32>,
    /// Concurrency to aim for in each sandbox; absent: the release's share of the function's concurrency.
    #[serde(default)]
    pub target: Option<f64>,
}

/// Reads `functions.ndjson`.
///
/// # Errors
/// If it cannot be read, or a line is no function Knative can take: with file and line.
pub fn read(path: &Path) -> anyhow::Result<Vec<Function>> {
    let text = fs::read_to_string(path).with_context(|| format!("--from {}", path.display()))?;
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut functions = Vec::new();
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let place = || format!("--from {}, line {number}", path.display());
        let function = parse(line).with_context(place)?;
        if let Some(before) = lines.insert(function.name.clone(), number) {
            bail!("{}: name: expected each function once, {:?} is on line {before} too", place(), function.name);
        }
        functions.push(function);
    }
    if functions.is_empty() {
        bail!("--from {}: expected functions, one JSON object a line, found none", path.display());
    }
    Ok(functions)
}

fn parse(line: &str) -> anyhow::Result<Function> {
    let fields: Value = serde_json::from_str(line).context("expected a function as a JSON object on one line")?;
    check_types(&fields)?;
    let function: Function = serde_json::from_value(fields)?;
    if function.name.is_empty() || function.name.len() > NAME_MAX {
        bail!("name: expected 1 to {NAME_MAX} characters, since Knative appends to it, found {:?}", function.name);
    }
    if !matches!(function.protocol.as_str(), "http1" | "h2c") {
        bail!("protocol: expected http1 or h2c, found {:?}", function.protocol);
    }
    Ok(function)
}

/// Refuses a field whose value is of another type than its own, in words for who wrote it.
fn check_types(fields: &Value) -> anyhow::Result<()> {
    let Some(fields) = fields.as_object() else { bail!("expected a function as an object, found {fields}") };
    let is_count = |value: &Value| value.as_u64().is_some_and(|count| count <= u32::MAX.into());
    let is_duration = |value: &Value| value.as_str().is_some_and(|text| humantime::parse_duration(text).is_ok());
    let expected: [(&str, bool, &str); 7] = [
        ("name", fields.get("name").is_some_and(Value::is_string), "a text"),
        ("cpu", fields.get("cpu").is_none_or(is_count), "millicores as a whole number"),
        ("memory", fields.get("memory").is_none_or(is_count), "MiB as a whole number"),
        ("concurrency", fields.get("concurrency").is_none_or(is_count), "a whole number"),
        ("timeout", fields.get("timeout").is_none_or(is_duration), "a duration as text, like \"30s\""),
        ("protocol", fields.get("protocol").is_none_or(Value::is_string), "http1 or h2c"),
        ("scale", fields.get("scale").is_none_or(Value::is_object), "an object like {\"min\": 0, \"max\": 10}"),
    ];
    match expected.into_iter().find(|(_, holds, _)| !holds) {
        Some((field, _, expected)) => match fields.get(field) {
            Some(found) => bail!("{field}: expected {expected}, found {found}"),
            None => bail!("{field}: expected {expected}, found nothing"),
        },
        None => Ok(()),
    }
}

/// The Knative service of a function.
#[must_use]
pub fn service(function: &Function) -> Value {
    let mut annotations = json!({
        "autoscaling.knative.dev/initial-scale": "0",
        "autoscaling.knative.dev/min-scale": function.scale.min.to_string(),
        "autoscaling.knative.dev/target-burst-capacity": "-1",
    });
    if let Some(max) = function.scale.max {
        annotations["autoscaling.knative.dev/max-scale"] = json!(max.to_string());
    }
    if let Some(target) = function.scale.target {
        annotations["autoscaling.knative.dev/target"] = json!(target.to_string());
    }
    let (key, value) = MANAGED_BY;
    // A function answers when it is done: it may take as long to begin its answer as to end it.
    let timeout_s = function.timeout.as_secs().max(1);
    let port = if function.protocol == "h2c" { "h2c" } else { "http1" };
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": { "name": function.name, "namespace": NAMESPACE, "labels": { key: value } },
        "spec": { "template": {
            "metadata": { "annotations": annotations },
            "spec": {
                "containerConcurrency": function.concurrency,
                "timeoutSeconds": timeout_s,
                "responseStartTimeoutSeconds": timeout_s,
                "enableServiceLinks": false,
                "nodeSelector": { "loader-nodetype": "worker" },
                "containers": [{
                    "name": "user-container",
                    "image": "dev.local/function:latest",
                    "ports": [{ "name": port, "containerPort": 8080 }],
                    "resources": { "requests": {
                        "cpu": format!("{}m", function.cpu), "memory": format!("{}Mi", function.memory) } },
                }],
            },
        } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_service_of_the_published_form() {
        let line = r#"{"name":"f","image":"builtin:function","cpu":100,"memory":64,"concurrency":1,"timeout":"10s",
            "scale":{"max":1,"keep_alive":"1s"},"queue":{"deadline":"1s"}}"#;
        let service = service(&parse(line).unwrap());
        let template = &service["spec"]["template"];
        let annotation =
            |name: &str| template["metadata"]["annotations"][format!("autoscaling.knative.dev/{name}")].clone();
        assert_eq!((annotation("initial-scale"), annotation("target-burst-capacity")), (json!("0"), json!("-1")));
        assert_eq!((annotation("max-scale"), annotation("target")), (json!("1"), Value::Null));
        assert_eq!(
            (&template["spec"]["timeoutSeconds"], &template["spec"]["responseStartTimeoutSeconds"]),
            (&json!(10), &json!(10))
        );
        assert_eq!(template["spec"]["containers"][0]["resources"]["requests"], json!({"cpu":"100m","memory":"64Mi"}));
        assert_eq!(service["metadata"]["labels"]["app.kubernetes.io/managed-by"], "dirigent-testbed");
    }

    #[test]
    fn a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("functions.ndjson");
        fs::write(&path, "{\"name\":\"a\"}\n\n{\"name\":\"a\",\"protocol\":\"udp\"}\n").unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.starts_with("--from ") && error.contains(", line 3: protocol: expected http1 or h2c"), "{error}");
        for (text, expected) in [
            ("{\"name\":\"a\"}\n{\"name\":\"a\"}", "line 2: name: expected each function once, \"a\" is on line 1 too"),
            (
                "{\"name\":\"a\",\"memory\":\"128Mi\"}",
                "line 1: memory: expected MiB as a whole number, found \"128Mi\"",
            ),
            ("{\"name\":\"a\",\"timeout\":30}", "timeout: expected a duration as text, like \"30s\", found 30"),
            ("{\"name\":\"a\",\"scale\":[1,5]}", "scale: expected an object"),
            ("{}", "name: expected a text, found nothing"),
            ("[1]", "line 1: expected a function as an object"),
            ("\n", "expected functions, one JSON object a line, found none"),
        ] {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", read(&path).unwrap_err());
            assert!(error.contains(expected), "expected {expected:?} in {error:?}");
        }
        let long = parse(&format!("{{\"name\":\"{}\"}}", "x".repeat(41))).unwrap_err().to_string();
        assert!(long.contains("1 to 40 characters"), "{long}");
    }
}
