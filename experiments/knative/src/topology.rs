//! Addresses of the testbed: one bridge, the control plane on it, and a network namespace for each part of Knative and
//! for the pods, because Knative's parts take fixed ports that collide in one namespace.

use std::net::Ipv4Addr;

/// The bridge's name.
pub const BRIDGE: &str = "knative0";
/// Length of the bridge's network prefix.
pub const PREFIX: u8 = 24;
/// Kubernetes' control plane, on the bridge itself.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Knative's controller.
pub const CONTROLLER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// Knative's autoscaler.
pub const AUTOSCALER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);
/// Knative's activator.
pub const ACTIVATOR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 4);
/// Knative's webhook.
pub const WEBHOOK: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 5);
/// The hollow nodes: the way to every pod.
pub const NODES: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 6);
/// The pods' network.
pub const PODS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 0);
/// Length of the pods' network prefix.
pub const PODS_PREFIX: u8 = 16;
/// First address of the services' network, which nothing routes: it stands for the API server in its certificate.
pub const FIRST_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The API server's port.
pub const API_PORT: u16 = 6443;
/// etcd's port for clients, on loopback.
pub const ETCD_PORT: u16 = 2379;
/// The activator's port for HTTP/1.1.
pub const ACTIVATOR_PORT: u16 = 8012;
/// A pod's ports for invocations: HTTP/1.1, and HTTP/2 with prior knowledge.
pub const POD_PORTS: [u16; 2] = [8012, 8013];

/// Address of the API server.
#[must_use]
pub fn api() -> String {
    format!("https://{CONTROL_PLANE}:{API_PORT}")
}

/// Content of the hosts file of every process: the whole name service.
#[must_use]
pub fn hosts() -> String {
    format!(
        "127.0.0.1 localhost\n\
         {AUTOSCALER} autoscaler.knative-serving.svc.cluster.local autoscaler.knative-serving.svc\n\
         {ACTIVATOR} activator-service.knative-serving.svc.cluster.local activator-service.knative-serving.svc\n\
         {WEBHOOK} webhook.knative-serving.svc webhook.knative-serving.svc.cluster.local\n"
    )
}

/// The resolver's file: no search list, from which Knative would derive the cluster's domain.
pub const RESOLVER: &str = "nameserver 127.0.0.1\n";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_address_on_the_bridge_is_in_its_network_and_used_once() {
        let all = [CONTROL_PLANE, CONTROLLER, AUTOSCALER, ACTIVATOR, WEBHOOK, NODES];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        for address in all {
            assert_eq!(address.octets()[..3], CONTROL_PLANE.octets()[..3], "{address} is not in /{PREFIX}");
        }
        assert_ne!(PODS.octets()[..2], CONTROL_PLANE.octets()[..2], "pods have a network of their own");
    }

    #[test]
    fn names_that_components_of_knative_use_have_their_addresses() {
        let hosts = hosts();
        let address = |name: &str| {
            let mut lines = hosts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            lines.find(|line| line[1..].contains(&name)).map(|line| line[0].to_owned())
        };
        for (name, expected) in [
            ("localhost", Ipv4Addr::LOCALHOST),
            ("autoscaler.knative-serving.svc.cluster.local", AUTOSCALER),
            ("activator-service.knative-serving.svc.cluster.local", ACTIVATOR),
            ("webhook.knative-serving.svc", WEBHOOK),
        ] {
            assert_eq!(address(name), Some(expected.to_string()), "{name}");
        }
        assert!(!RESOLVER.contains("search"), "Knative would derive the cluster's domain from it");
    }
}
