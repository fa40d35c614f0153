//! Services without selectors and endpoints made by hand: Knative's parts run beside the cluster, not in it.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::topology::{ACTIVATOR, AUTOSCALER, WEBHOOK};

/// An ingress class that only the testbed's stand-in answers for.
pub const INGRESS_CLASS: &str = "testbed.ingress.networking.knative.dev";

/// Name, port of the service, port of the process.
type Port = (&'static str, u16, u16);

/// Webhook, autoscaler and activator as services; the names of ports must match in service and endpoints.
#[must_use]
pub fn all() -> Vec<Value> {
    let of: [(&str, Ipv4Addr, &[Port]); 3] = [
        ("webhook", WEBHOOK, &[("https-webhook", 443, 8443)]),
        ("autoscaler", AUTOSCALER, &[("http", 8080, 8080)]),
        ("activator-service", ACTIVATOR, &[("http", 80, 8012), ("http2", 81, 8013), ("https", 443, 8112)]),
    ];
    of.into_iter().flat_map(|(name, address, ports)| pair(name, address, ports)).collect()
}

fn pair(name: &str, address: Ipv4Addr, ports: &[Port]) -> [Value; 2] {
    let metadata = json!({ "name": name, "namespace": "knative-serving" });
    let served: Vec<Value> =
        ports.iter().map(|(name, port, target)| json!({ "name": name, "port": port, "targetPort": target })).collect();
    let reached: Vec<Value> = ports.iter().map(|(name, _, target)| json!({ "name": name, "port": target })).collect();
    [
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": { "ports": served } }),
        json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
            "subsets": [{ "addresses": [{ "ip": address.to_string() }], "ports": reached }] }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ports_match_in_service_and_endpoints() {
        let objects = all();
        assert_eq!(objects.len(), 6);
        for pair in objects.chunks(2) {
            let names = |ports: &Value| -> Vec<Value> {
                ports.as_array().unwrap().iter().map(|port| port["name"].clone()).collect()
            };
            assert_eq!(names(&pair[0]["spec"]["ports"]), names(&pair[1]["subsets"][0]["ports"]));
            assert_eq!(pair[0]["metadata"], pair[1]["metadata"]);
        }
    }
}
