//! Recipe of the build from Go modules: one wrapper module per release, so that each keeps the dependencies it was
//! released with; and the two lines that differ in the tuned variant.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::versions;

/// A wrapper module and the programs built from it.
#[derive(Clone, Copy, Debug)]
pub struct Wrapper {
    /// Name, also of its folder.
    pub name: &'static str,
    /// Its files: name and content.
    pub files: &'static [(&'static str, &'static str)],
    /// Packages to build, each to a program of its last path element (`.` to the wrapper's name).
    pub packages: &'static [&'static str],
    /// Further arguments of `go build`.
    pub flags: &'static [&'static str],
}

/// Says which version the Kubernetes programs are: a release sets it at link time, and Knative refuses one without.
const KUBERNETES_VERSION: &str = "-ldflags=-X k8s.io/component-base/version.gitVersion=v1.29.1 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=29 \
     -X k8s.io/component-base/version.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=v1.29.1 \
     -X k8s.io/client-go/pkg/version.gitMajor=1 -X k8s.io/client-go/pkg/version.gitMinor=29 \
     -X k8s.io/client-go/pkg/version.gitTreeState=clean";

/// A file of `modules/`, as of when this program was compiled.
macro_rules! file {
    ($wrapper:literal, $name:literal) => {
        ($name, include_str!(concat!("../modules/", $wrapper, "/", $name)))
    };
}

/// Every wrapper, the quickest first.
pub const WRAPPERS: [Wrapper; 4] = [
    Wrapper {
        name: "etcd",
        files: &[file!("etcd", "go.mod"), file!("etcd", "go.sum"), file!("etcd", "main.go")],
        packages: &["."],
        flags: &[],
    },
    Wrapper {
        name: "kwok",
        files: &[file!("kwok", "go.mod"), file!("kwok", "go.sum")],
        packages: &["sigs.k8s.io/kwok/cmd/kwok"],
        flags: &[],
    },
    Wrapper {
        name: "knative",
        files: &[file!("knative", "go.mod"), file!("knative", "go.sum"), file!("knative", "kpa/main.go")],
        packages: &[
            "knative.dev/serving/cmd/controller",
            "knative.dev/serving/cmd/autoscaler",
            "knative.dev/serving/cmd/activator",
            "knative.dev/serving/cmd/webhook",
            "./kpa",
        ],
        flags: &[],
    },
    Wrapper {
        name: "kubernetes",
        files: &[file!("kubernetes", "go.mod"), file!("kubernetes", "go.sum")],
        packages: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
        ],
        flags: &["-tags=providerless", KUBERNETES_VERSION],
    },
];

/// The wrapper whose modules carry Knative's manifests and the source of the autoscaler's limits.
pub const KNATIVE: &str = "knative";

/// Manifests to keep: module, path in it. Links of the source tree are missing in module archives, so some come from
/// the modules they point to.
pub const MANIFESTS: [(&str, &[&str]); 3] = [
    (
        "knative.dev/serving",
        &[
            "config/core/100-namespace.yaml",
            "config/core/200-serviceaccount.yaml",
            "config/core/200-roles/activator.yaml",
            "config/core/200-roles/addressable-resolvers-clusterrole.yaml",
            "config/core/200-roles/clusterrole-namespaced.yaml",
            "config/core/200-roles/clusterrole.yaml",
            "config/core/200-roles/podspecable-bindings-clusterrole.yaml",
            "config/core/300-resources/configuration.yaml",
            "config/core/300-resources/domain-mapping.yaml",
            "config/core/300-resources/metric.yaml",
            "config/core/300-resources/podautoscaler.yaml",
            "config/core/300-resources/revision.yaml",
            "config/core/300-resources/route.yaml",
            "config/core/300-resources/service.yaml",
            "config/core/300-secret.yaml",
            "config/core/configmaps/autoscaler.yaml",
            "config/core/configmaps/defaults.yaml",
            "config/core/configmaps/deployment.yaml",
            "config/core/configmaps/domain.yaml",
            "config/core/configmaps/features.yaml",
            "config/core/configmaps/gc.yaml",
            "config/core/configmaps/leader-election.yaml",
            "config/core/configmaps/logging.yaml",
            "config/core/configmaps/observability.yaml",
            "config/core/configmaps/tracing.yaml",
            "config/core/webhooks/secret.yaml",
            "config/core/webhooks/configmap-validation.yaml",
            "config/core/webhooks/defaulting.yaml",
            "config/core/webhooks/resource-validation.yaml",
        ],
    ),
    (
        "knative.dev/networking",
        &[
            "config/certificate.yaml",
            "config/domain-claim.yaml",
            "config/ingress.yaml",
            "config/serverlessservice.yaml",
            "config/config-network.yaml",
        ],
    ),
    ("knative.dev/caching", &["config/image.yaml"]),
];

/// Lines of the autoscaler's source as released, and what stands there instead in the tuned variant: a thousand times the
/// rate and the burst.
pub const LIMITS: [(&str, &str); 2] = [
    ("\tcfg.QPS = controllerNum * rest.DefaultQPS\n", "\tcfg.QPS = 1000 * controllerNum * rest.DefaultQPS\n"),
    ("\tcfg.Burst = controllerNum * rest.DefaultBurst\n", "\tcfg.Burst = 1000 * controllerNum * rest.DefaultBurst\n"),
];

/// The module that a wrapper is made for, and its version as Go writes it.
#[must_use]
pub fn release(wrapper: &str) -> (&'static str, String) {
    let (module, version) = match wrapper {
        "etcd" => ("go.etcd.io/etcd/server/v3", versions::ETCD),
        "kwok" => ("sigs.k8s.io/kwok", versions::KWOK),
        KNATIVE => ("knative.dev/serving", versions::SERVING_MODULE),
        _ => ("k8s.io/kubernetes", versions::KUBERNETES),
    };
    (module, format!("v{version}"))
}

/// Twelve hexadecimal digits that change with anything that goes into the build.
#[must_use]
pub fn key() -> String {
    let mut sum = Sha256::new();
    for wrapper in &WRAPPERS {
        sum.update(format!("{wrapper:?}"));
    }
    sum.update(format!("{MANIFESTS:?}{:?}", LIMITS));
    sum.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrappers_require_the_versions_that_are_promised() {
        for wrapper in &WRAPPERS {
            let (module, version) = release(wrapper.name);
            let line = format!("{module} {version}");
            assert!(wrapper.files[0].1.contains(&line), "{}/go.mod: expected {line:?}", wrapper.name);
        }
        assert!(
            KUBERNETES_VERSION.contains(&format!("component-base/version.gitVersion={} ", versions::git_version()))
        );
    }

    #[test]
    fn the_key_is_short_and_the_same_every_time() {
        assert_eq!((key().len(), key()), (12, key()));
    }
}
