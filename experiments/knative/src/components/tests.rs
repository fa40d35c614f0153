//! Command lines, environments and addresses of both variants.

use super::*;
use crate::cache::Cache;

fn all(variant: Variant) -> Vec<Component> {
    with_workers(variant, None)
}

fn with_workers(variant: Variant, workers: Option<u32>) -> Vec<Component> {
    of(variant, workers, |parts| parts.all())
}

fn of<T>(variant: Variant, workers: Option<u32>, what: impl FnOnce(&ComponentBuilder<'_>) -> T) -> T {
    audited(variant, workers, false, what)
}

fn audited<T>(variant: Variant, workers: Option<u32>, audit: bool, what: impl FnOnce(&ComponentBuilder<'_>) -> T) -> T {
    let built = Cache::new(Some("/cache".into())).unwrap().built();
    let credentials = Credentials::in_folder(Path::new("/credentials"));
    let parts = ComponentBuilder {
        built: &built,
        credentials: &credentials,
        data: Path::new("/data"),
        variant,
        workers,
        audit,
    };
    what(&parts)
}

/// Values of GOGC.
fn collector(component: &Component) -> impl Iterator<Item = &str> {
    component.environment.iter().filter(|(name, _)| name == "GOGC").map(|(_, value)| value.as_str())
}

#[test]
fn the_stock_variant_sets_no_limit_at_all() {
    for component in all(Variant::Stock) {
        let text = format!("{component:?}").to_lowercase();
        for word in ["qps", "burst", "inflight", "concurrent-", "threads", "tuned"] {
            assert!(!text.contains(word), "{}: {word} in {text}", component.name);
        }
        let collector: Vec<&str> = collector(&component).collect();
        let released: &[&str] = if component.name == "activator" { &["500"] } else { &[] };
        assert_eq!(collector, released, "{}", component.name);
    }
}

#[test]
fn the_tuned_variant_lifts_every_client_of_a_controller() {
    let lifted = |component: &Component| {
        let flags = component.command.iter().any(|part| part == "--kube-api-qps=10000");
        flags || component.environment.iter().any(|(name, _)| name == "KUBE_API_QPS")
    };
    let names: Vec<&str> = all(Variant::Tuned).iter().filter(|c| lifted(c)).map(|c| c.name).collect();
    let expected = ["kube-controller-manager", "kube-scheduler", "webhook", "controller", "autoscaler", "activator"];
    assert_eq!(names, expected);
    let autoscaler = &all(Variant::Tuned)[6];
    assert!(autoscaler.command[0].ends_with("/bin/autoscaler-tuned"), "{autoscaler:?}");
    for component in all(Variant::Tuned) {
        assert_eq!(collector(&component).count(), 1, "{}", component.name);
    }
}

#[test]
fn controllers_have_the_released_workers_unless_they_are_asked_for() {
    let settings = |workers: Option<u32>| {
        let has = |component: &Component| {
            let flags = component.command.iter().any(|part| part == "--concurrent-replicaset-syncs=20");
            flags || component.environment.iter().any(|(name, _)| name == "K_THREADS_PER_CONTROLLER")
        };
        with_workers(Variant::Tuned, workers).into_iter().filter(has).count()
    };
    assert_eq!((settings(None), settings(Some(20))), (0, 5), "the controller manager and Knative's four parts");
}

#[test]
fn what_is_set_otherwise_than_released_is_listed() {
    let listed = |variant: Variant, workers: Option<u32>| {
        let settings = of(variant, workers, |parts| parts.settings());
        settings.into_iter().map(|one| (one.part, one.key, one.value)).collect::<Vec<_>>()
    };
    let of_etcd = |variant| listed(variant, None).into_iter().filter(|(part, ..)| part == "etcd").count();
    assert_eq!((listed(Variant::Stock, None).len(), of_etcd(Variant::Stock)), (1, 1), "its room");
    assert_eq!(of_etcd(Variant::Tuned), 2, "its room, and its garbage");
    let tuned = listed(Variant::Tuned, Some(20));
    for (part, key, value) in [
        ("kube-apiserver", "--max-requests-inflight", "4000"),
        ("kube-scheduler", "--kube-api-qps", "10000"),
        ("controller", "K_THREADS_PER_CONTROLLER", "20"),
        ("autoscaler", LIMITS[0].0.trim(), LIMITS[0].1.trim()),
    ] {
        assert!(tuned.contains(&(part.to_owned(), key.to_owned(), value.to_owned())), "{part}, {key}: {tuned:#?}");
    }
}

#[test]
fn nothing_makes_etcd_less_durable() {
    for variant in [Variant::Stock, Variant::Tuned] {
        assert!(!all(variant)[0].command.iter().any(|part| part.contains("fsync")));
    }
}

/// Value of a flag.
fn flag<'a>(component: &'a Component, name: &str) -> Option<&'a str> {
    let flags = component.command.iter().skip(1).filter_map(|part| part.split_once('='));
    flags.filter(|(flag, _)| *flag == name).map(|(_, value)| value).next()
}

/// Value of an environment variable.
fn variable<'a>(component: &'a Component, name: &str) -> Option<&'a str> {
    component.environment.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.as_str())
}

#[test]
fn components_start_after_what_they_depend_on_and_each_runs_its_own_program() {
    let names: Vec<&str> = all(Variant::Stock).iter().map(|component| component.name).collect();
    let expected = [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "webhook",
        "controller",
        "autoscaler",
        "activator",
        "kwok",
    ];
    assert_eq!(names, expected);
    for component in all(Variant::Stock) {
        let program = &component.command[0];
        assert!(program.starts_with("/cache/") && program.ends_with(&format!("/bin/{}", component.name)), "{program}");
    }
}

#[test]
fn only_components_of_knative_have_a_namespace_of_their_own_and_know_its_address() {
    for component in all(Variant::Tuned) {
        let address = component.address.map(|address| address.to_string());
        assert_eq!(variable(&component, "POD_IP"), address.as_deref(), "{}", component.name);
        assert_eq!(variable(&component, "POD_NAME"), address.map(|_| component.name));
    }
    let addresses: Vec<_> = all(Variant::Stock).iter().filter_map(|component| component.address).collect();
    assert_eq!(addresses, [WEBHOOK, CONTROLLER, AUTOSCALER, ACTIVATOR]);
}

#[test]
fn components_find_the_store_and_the_api_server_where_these_listen() {
    let all = all(Variant::Stock);
    let [etcd, api_server] = [&all[0], &all[1]];
    assert_eq!(flag(api_server, "--etcd-servers"), flag(etcd, "--listen-client-urls"));
    assert_eq!(flag(api_server, "--bind-address"), Some("10.99.0.1"));
    assert_eq!(flag(api_server, "--secure-port"), Some("6443"));
    assert_eq!(flag(&all[8], "--cidr"), Some("10.200.0.0/16"), "the pods' addresses are routed to the hollow nodes");
    assert_eq!(flag(&all[8], "--config"), Some("/data/stages.yaml"));
}

#[test]
fn each_component_has_the_credentials_of_its_own_identity() {
    let all = all(Variant::Stock);
    let of = |index: usize| flag(&all[index], "--kubeconfig").or_else(|| variable(&all[index], "KUBECONFIG"));
    assert_eq!(of(2), Some("/credentials/controller-manager.kubeconfig"));
    assert_eq!(flag(&all[2], "--authorization-kubeconfig"), of(2));
    assert_eq!(of(3), Some("/credentials/scheduler.kubeconfig"));
    assert_eq!([of(4), of(5), of(6)], [Some("/credentials/controller.kubeconfig"); 3], "as the release has it");
    assert_eq!(of(7), Some("/credentials/activator.kubeconfig"));
    assert_eq!(of(8), Some("/credentials/nodes.kubeconfig"));
    assert_eq!([of(0), of(1)], [None; 2]);
}

#[test]
fn requests_are_logged_only_where_they_are_asked_for_and_into_one_file() {
    let api_server = |audit| audited(Variant::Stock, None, audit, |parts| parts.api_server());
    assert_eq!(api_server(false).command.iter().filter(|part| part.contains("audit")).count(), 0);
    let audited = api_server(true);
    assert_eq!(flag(&audited, "--audit-log-path"), Some(&*format!("/data/{}", anatomy::LOG)));
    assert_eq!(flag(&audited, "--audit-policy-file"), Some(&*format!("/data/{}", anatomy::POLICY)));
    assert_eq!(flag(&audited, "--audit-log-maxsize"), Some("1048576"));
}
