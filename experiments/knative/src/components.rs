//! The parts of the baseline and how each is started: programs, flags and environment, for both variants.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use record::Setting;

use crate::{
    anatomy,
    cache::Built,
    compile::TUNED_AUTOSCALER,
    credentials::{Credentials, Identity},
    recipe::LIMITS,
    topology::{
        ACTIVATOR, API_PORT, AUTOSCALER, CONTROL_PLANE, CONTROLLER, ETCD_PORT, NODES, PODS, PODS_PREFIX, WEBHOOK,
    },
    variant::Variant,
};

/// A part: a process of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its role.
    pub name: &'static str,
    /// Its address in a network namespace of its own; `None`: the control plane's namespace.
    pub address: Option<Ipv4Addr>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
}

/// Inputs of the components' command lines.
#[derive(Clone, Copy, Debug)]
pub struct ComponentBuilder<'a> {
    /// The programs.
    pub built: &'a Built,
    /// Certificates and tokens.
    pub credentials: &'a Credentials,
    /// Data folder.
    pub data: &'a Path,
    /// Variant of the baseline.
    pub variant: Variant,
    /// Workers of each controller; `None`: as released.
    pub workers: Option<u32>,
    /// True if the API server logs every request.
    pub audit: bool,
}

impl ComponentBuilder<'_> {
    fn component(&self, name: &'static str, program: &str, arguments: &[String]) -> Component {
        let mut command = vec![self.built.program(program).display().to_string()];
        command.extend_from_slice(arguments);
        let collector = match name {
            "activator" => Some(ACTIVATOR_GOGC),
            _ => self.tuned().then_some(TUNED_GOGC),
        };
        let environment = collector.map(|percent| ("GOGC".to_owned(), percent.to_owned())).into_iter().collect();
        Component { name, address: None, command, environment }
    }

    fn tuned(&self) -> bool {
        self.variant == Variant::Tuned
    }

    /// Every part, in the order in which they start.
    #[must_use]
    pub fn all(&self) -> Vec<Component> {
        vec![
            self.etcd(),
            self.api_server(),
            self.controller_manager(),
            self.scheduler(),
            self.webhook(),
            self.controller(),
            self.autoscaler(),
            self.activator(),
            self.kwok(),
        ]
    }

    /// Settings of the components that differ from the release. Those of the tuned variant are found by comparing the
    /// command lines of both variants.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let stock = ComponentBuilder { variant: Variant::Stock, workers: None, ..*self };
        let room = "room for the history of thousands of functions";
        let mut settings = vec![Setting::new("etcd", QUOTA_FLAG, QUOTA_BYTES, room)];
        settings.extend(self.all().iter().zip(&stock.all()).flat_map(|(own, stock)| differences(own, stock)));
        settings
    }

    /// File that describes the stages of the hollow nodes' pods.
    #[must_use]
    pub fn stages(&self) -> PathBuf {
        self.data.join("stages.yaml")
    }

    /// etcd: durable as released, on loopback only.
    #[must_use]
    pub fn etcd(&self) -> Component {
        let client = format!("http://127.0.0.1:{ETCD_PORT}");
        let arguments = [
            format!("--data-dir={}", self.data.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            format!("{QUOTA_FLAG}={QUOTA_BYTES}"),
        ];
        self.component("etcd", "etcd", &arguments)
    }

    /// The API server. It finds webhooks by their endpoints, so that no proxy of services is needed.
    #[must_use]
    pub fn api_server(&self) -> Component {
        let file = |name: &str| self.credentials.file(name);
        let mut arguments = vec![
            format!("--etcd-servers=http://127.0.0.1:{ETCD_PORT}"),
            format!("--bind-address={CONTROL_PLANE}"),
            format!("--secure-port={API_PORT}"),
            format!("--advertise-address={CONTROL_PLANE}"),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--client-ca-file={}", file("ca.crt")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", file("service-accounts.key")),
            "--enable-aggregator-routing=true".to_owned(),
            "--allow-privileged=true".to_owned(),
        ];
        if self.audit {
            arguments.push(format!("--audit-policy-file={}", self.data.join(anatomy::POLICY).display()));
            arguments.push(format!("--audit-log-path={}", self.data.join(anatomy::LOG).display()));
            // Otherwise it begins a new file after 100 MB, and what was before would be missing.
            arguments.push(format!("--audit-log-maxsize={AUDIT_MIB}"));
        }
        if self.tuned() {
            arguments.push("--max-requests-inflight=4000".to_owned());
            arguments.push("--max-mutating-requests-inflight=2000".to_owned());
        }
        self.component("kube-apiserver", "kube-apiserver", &arguments)
    }

    fn kubeconfigs(&self, identity: Identity) -> Vec<String> {
        let path = self.credentials.kubeconfig(identity);
        ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
            .map(|flag| format!("--{flag}={path}"))
            .to_vec()
    }

    /// The controller manager, with all its controllers.
    #[must_use]
    pub fn controller_manager(&self) -> Component {
        let mut arguments = self.kubeconfigs(Identity::ControllerManager);
        arguments.extend([
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", self.credentials.file("service-accounts.key")),
            format!("--root-ca-file={}", self.credentials.file("ca.crt")),
            "--leader-elect=true".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
        ]);
        if self.tuned() {
            arguments.extend(LIFTED.map(str::to_owned));
        }
        if let Some(workers) = self.workers {
            arguments.extend(SYNCS.map(|what| format!("--concurrent-{what}-syncs={workers}")));
        }
        self.component("kube-controller-manager", "kube-controller-manager", &arguments)
    }

    /// The scheduler.
    #[must_use]
    pub fn scheduler(&self) -> Component {
        let mut arguments = self.kubeconfigs(Identity::Scheduler);
        arguments.extend(["--leader-elect=true".to_owned(), "--bind-address=127.0.0.1".to_owned()]);
        if self.tuned() {
            arguments.extend(LIFTED.map(str::to_owned));
        }
        self.component("kube-scheduler", "kube-scheduler", &arguments)
    }

    /// The hollow nodes' kubelet.
    #[must_use]
    pub fn kwok(&self) -> Component {
        let arguments = [
            format!("--kubeconfig={}", self.credentials.kubeconfig(Identity::Nodes)),
            format!("--config={}", self.stages().display()),
            "--manage-all-nodes=true".to_owned(),
            format!("--cidr={PODS}/{PODS_PREFIX}"),
            format!("--node-ip={NODES}"),
            "--node-lease-duration-seconds=40".to_owned(),
        ];
        self.component("kwok", "kwok", &arguments)
    }

    /// One of Knative's own parts, with what its released manifest sets.
    fn serving(&self, name: &'static str, program: &str, address: Ipv4Addr, identity: Identity) -> Component {
        let mut environment = vec![
            ("SYSTEM_NAMESPACE", "knative-serving".to_owned()),
            ("CONFIG_LOGGING_NAME", "config-logging".to_owned()),
            ("CONFIG_OBSERVABILITY_NAME", "config-observability".to_owned()),
            ("METRICS_DOMAIN", "knative.dev/internal/serving".to_owned()),
            ("KUBECONFIG", self.credentials.kubeconfig(identity)),
            ("POD_NAME", name.to_owned()),
            ("POD_IP", address.to_string()),
        ];
        if self.tuned() {
            environment.push(("KUBE_API_QPS", "10000".to_owned()));
            environment.push(("KUBE_API_BURST", "10000".to_owned()));
        }
        if let Some(workers) = self.workers {
            environment.push(("K_THREADS_PER_CONTROLLER", workers.to_string()));
        }
        let mut component = Component { address: Some(address), ..self.component(name, program, &[]) };
        component.environment.extend(environment.into_iter().map(|(name, value)| (name.to_owned(), value)));
        component
    }

    /// Knative's webhook.
    #[must_use]
    pub fn webhook(&self) -> Component {
        let mut webhook = self.serving("webhook", "webhook", WEBHOOK, Identity::Controller);
        webhook.environment.push(("WEBHOOK_NAME".to_owned(), "webhook".to_owned()));
        webhook.environment.push(("WEBHOOK_PORT".to_owned(), "8443".to_owned()));
        webhook
    }

    /// Knative's controller.
    #[must_use]
    pub fn controller(&self) -> Component {
        self.serving("controller", "controller", CONTROLLER, Identity::Controller)
    }

    /// Knative's autoscaler; the tuned one was built without its limits.
    #[must_use]
    pub fn autoscaler(&self) -> Component {
        let program = if self.tuned() { TUNED_AUTOSCALER } else { "autoscaler" };
        let mut autoscaler = self.serving("autoscaler", program, AUTOSCALER, Identity::Controller);
        for (name, value) in &mut autoscaler.environment {
            if name == "METRICS_DOMAIN" {
                "knative.dev/serving".clone_into(value);
            }
        }
        autoscaler
    }

    /// Knative's activator.
    #[must_use]
    pub fn activator(&self) -> Component {
        self.serving("activator", "activator", ACTIVATOR, Identity::Activator)
    }
}

/// Differences of a component's command line from the stock variant's.
fn differences(own: &Component, stock: &Component) -> Vec<Setting> {
    let tuned = "the tuned form: the best that was found by trying";
    let flags = own.command.iter().skip(1).filter(|flag| !stock.command.contains(flag));
    let mut settings: Vec<Setting> = flags
        .map(|flag| flag.split_once('=').unwrap_or((flag, "")))
        .map(|(flag, value)| Setting::new(own.name, flag, value, tuned))
        .collect();
    let variables = own.environment.iter().filter(|variable| !stock.environment.contains(variable));
    settings.extend(variables.map(|(name, value)| Setting::new(own.name, name, value, tuned)));
    if own.command.first() != stock.command.first() {
        settings.extend(LIMITS.map(|(released, lifted)| Setting::new(own.name, released.trim(), lifted.trim(), tuned)));
    }
    settings
}

/// Size limit of the audit log, in MiB: larger than any will become.
const AUDIT_MIB: u32 = 1 << 20;

/// Size limit of etcd's store.
const QUOTA_FLAG: &str = "--quota-backend-bytes";
/// Twice the released value.
const QUOTA_BYTES: &str = "4294967296";

/// Garbage that components written in Go may accumulate before a collection, in percent of the memory in use: four
/// times the default, which trades memory that is free for a quarter of the collections.
const TUNED_GOGC: &str = "400";
/// The same of the activator, in both variants: its release sets it.
const ACTIVATOR_GOGC: &str = "500";

/// Controllers of Kubernetes that have a part in a cold start, as the flags of their workers name them.
const SYNCS: [&str; 5] = ["deployment", "replicaset", "endpoint", "service-endpoint", "gc"];

/// A client without a limit worth the name.
const LIFTED: [&str; 2] = ["--kube-api-qps=10000", "--kube-api-burst=10000"];

#[cfg(test)]
mod tests;
