//! KWOK's stages of nodes, pods and ingresses: the hollow kubelet.
//!
//! A pod becomes ready in two steps, as with a real kubelet: after the modelled delay of its creation it has an address
//! and runs, and then it is ready. The delay is constant, like that of our own hollow sandboxes. How a pod ends is in
//! `pods.rs`, because it drains first.

use std::time::Duration;

use serde_json::{Value, json};

/// KWOK's configuration: its stages, one YAML document each (JSON is YAML).
#[must_use]
pub fn configuration(delay: Duration) -> String {
    let stages = [node_ready(), node_heartbeat(), pod_runs(delay), pod_ready(), ingress_ready()];
    stages.iter().map(|stage| format!("---\n{stage}\n")).collect()
}

fn stage(name: &str, (group, kind): (&str, &str), select: &[Value], spec: Value) -> Value {
    let mut whole = json!({ "resourceRef": { "apiGroup": group, "kind": kind },
        "selector": { "matchExpressions": select } });
    if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
        whole.extend(spec);
    }
    json!({ "apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": { "name": name }, "spec": whole })
}

fn exists(key: &str) -> Value {
    json!({ "key": key, "operator": "Exists" })
}

fn missing(key: &str) -> Value {
    json!({ "key": key, "operator": "DoesNotExist" })
}

fn is(key: &str, value: &str) -> Value {
    json!({ "key": key, "operator": "In", "values": [value] })
}

fn is_not(key: &str, value: &str) -> Value {
    json!({ "key": key, "operator": "NotIn", "values": [value] })
}

const NODE: (&str, &str) = ("v1", "Node");
const POD: (&str, &str) = ("v1", "Pod");
const READY: &str = ".status.conditions.[] | select( .type == \"Ready\" ) | .status";
const DELETED: &str = ".metadata.deletionTimestamp";
const ADDRESS: &str = ".status.podIP";

/// Conditions, addresses and phase of a node; allocatable and capacity stay as the object has them.
const NODE_STATUS: &str = r"{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
  message: {{ .message | Quote }}
  reason: {{ .reason | Quote }}
  status: {{ .status | Quote }}
  type: {{ .type | Quote }}
{{ end }}
addresses:
- address: {{ NodeIP | Quote }}
  type: InternalIP
phase: Running
";

fn node_ready() -> Value {
    stage("node-ready", NODE, &[is_not(READY, "True")], json!({ "next": { "statusTemplate": NODE_STATUS } }))
}

/// A node's status is renewed every ten minutes as a kubelet does; between, its lease says that it lives.
fn node_heartbeat() -> Value {
    let delay = json!({ "durationMilliseconds": 600_000, "jitterDurationMilliseconds": 610_000 });
    let select = [is(".status.phase", "Running"), is(READY, "True")];
    stage("node-heartbeat", NODE, &select, json!({ "delay": delay, "next": { "statusTemplate": NODE_STATUS } }))
}

/// Step one: address and running containers, not ready yet. `startTime` must be set, or the autoscaler fails on it.
const POD_RUNS: &str = r#"{{ $now := Now }}
conditions:
- lastTransitionTime: {{ $now | Quote }}
  status: "True"
  type: Initialized
- lastTransitionTime: {{ $now | Quote }}
  status: "False"
  reason: ContainersNotReady
  type: Ready
- lastTransitionTime: {{ $now | Quote }}
  status: "False"
  reason: ContainersNotReady
  type: ContainersReady
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  name: {{ .name | Quote }}
  ready: false
  restartCount: 0
  started: true
  state:
    running:
      startedAt: {{ $now | Quote }}
{{ end }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName ( or .spec.hostNetwork false ) ( or .metadata.uid "" ) ( or .metadata.name "" ) ( or .metadata.namespace "" ) | Quote }}
phase: Running
startTime: {{ $now | Quote }}
"#;

fn pod_runs(delay: Duration) -> Value {
    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let mut spec = json!({ "next": { "statusTemplate": POD_RUNS } });
    if delay_ms > 0 {
        spec["delay"] = json!({ "durationMilliseconds": delay_ms });
    }
    stage("pod-runs", POD, &[missing(DELETED), missing(ADDRESS)], spec)
}

/// Step two: ready.
const POD_IS_READY: &str = r#"{{ $now := Now }}
{{ $root := . }}
conditions:
- lastTransitionTime: {{ $now | Quote }}
  status: "True"
  type: Ready
- lastTransitionTime: {{ $now | Quote }}
  status: "True"
  type: ContainersReady
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  name: {{ .name | Quote }}
  ready: true
  restartCount: 0
  started: true
  state:
    running:
      startedAt: {{ $root.status.startTime | Quote }}
{{ end }}
"#;

fn pod_ready() -> Value {
    let select = [missing(DELETED), exists(ADDRESS), is(READY, "False")];
    stage("pod-ready", POD, &select, json!({ "next": { "statusTemplate": POD_IS_READY } }))
}

/// The ingress stand-in: says of each ingress that it works, because invocations go to the activator directly.
const INGRESS_READY: &str = r#"{{ $now := Now }}
observedGeneration: {{ .metadata.generation }}
conditions:
- lastTransitionTime: {{ $now | Quote }}
  status: "True"
  type: LoadBalancerReady
- lastTransitionTime: {{ $now | Quote }}
  status: "True"
  type: NetworkConfigured
- lastTransitionTime: {{ $now | Quote }}
  status: "True"
  type: Ready
publicLoadBalancer:
  ingress:
  - domainInternal: testbed.knative-serving.svc.cluster.local
privateLoadBalancer:
  ingress:
  - domainInternal: testbed.knative-serving.svc.cluster.local
"#;

fn ingress_ready() -> Value {
    let unready = is_not(READY, "True");
    let kind = ("networking.internal.knative.dev/v1alpha1", "Ingress");
    stage("ingress-ready", kind, &[unready], json!({ "next": { "statusTemplate": INGRESS_READY } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(delay: Duration) -> Vec<Value> {
        configuration(delay).split("---\n").skip(1).map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    #[test]
    fn the_delay_is_constant_and_before_the_address() {
        let of = |delay: u64| {
            let stages = stages(Duration::from_millis(delay));
            stages.into_iter().find(|stage| stage["metadata"]["name"] == "pod-runs").unwrap()
        };
        assert_eq!(of(40)["spec"]["delay"], json!({ "durationMilliseconds": 40 }), "no jitter");
        assert_eq!(of(0)["spec"].get("delay"), None);
    }

    #[test]
    fn a_pod_has_its_address_before_it_is_ready() {
        let stages = stages(Duration::ZERO);
        let template = |name: &str| {
            let stage = stages.iter().find(|stage| stage["metadata"]["name"] == name).unwrap();
            stage["spec"]["next"]["statusTemplate"].as_str().unwrap().to_owned()
        };
        assert!(template("pod-runs").contains("podIP") && template("pod-runs").contains("startTime"));
        assert!(!template("pod-ready").contains("podIP") && template("pod-ready").contains("ready: true"));
    }
}
