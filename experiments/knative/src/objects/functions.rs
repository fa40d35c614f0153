//! A function as a Knative service: what `functions.ndjson` says of it, in the form of the published manifests.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};

/// Marks what the testbed registered: only that is ever removed.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "dirigent-testbed");
/// The namespace of all functions.
pub const NAMESPACE: &str = "default";
/// Longest name: Knative appends to it, and the whole must be a DNS label.
const NAME_MAX: usize = 40;

/// What is used of a line of `functions.ndjson`.
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
/// When it cannot be read, or a line is no function Knative can take: with file and line.
pub fn read(path: &Path) -> anyhow::Result<Vec<Function>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let numbered = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    numbered.map(|(line, number)| parse(line).with_context(|| format!("{}, line {number}", path.display()))).collect()
}

fn parse(line: &str) -> anyhow::Result<Function> {
    let function: Function = serde_json::from_str(line)?;
    if function.name.is_empty() || function.name.len() > NAME_MAX {
        bail!("the name {:?} must have 1 to {NAME_MAX} characters: Knative appends to it", function.name);
    }
    if !matches!(function.protocol.as_str(), "http1" | "h2c") {
        bail!("{:?} is no protocol: expected http1 or h2c", function.protocol);
    }
    Ok(function)
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
        assert!(error.contains("functions.ndjson, line 3: \"udp\" is no protocol"), "{error}");
        let long = parse(&format!("{{\"name\":\"{}\"}}", "x".repeat(41))).unwrap_err().to_string();
        assert!(long.contains("1 to 40 characters"), "{long}");
    }
}
