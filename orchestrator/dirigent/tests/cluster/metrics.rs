//! The page on observing a cluster lists exactly the metrics that the components export.

use std::{collections::BTreeSet, fs};

use crate::{
    cluster::{Cluster, Plan},
    http,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/watching.md");

/// Metrics in the table of the page that are of a component. A row without a component continues the one above.
fn documented(page: &str, component: &str) -> BTreeSet<String> {
    let table = page.lines().skip_while(|line| *line != "| component | metric | meaning |").skip(2);
    let mut current = "";
    let mut names = BTreeSet::new();
    for row in table.take_while(|line| line.starts_with('|')) {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let (of, metrics) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        if !of.is_empty() {
            current = of;
        }
        if current == component {
            let quoted = metrics.split('`').skip(1).step_by(2);
            names.extend(quoted.map(|name| name.split('{').next().unwrap_or(name).to_owned()));
        }
    }
    names
}

fn exported(page: &str, prefix: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_prefix(prefix));
    types.filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let page = fs::read_to_string(PAGE).unwrap();
    let cluster = Cluster::start(Plan { workers: 1, ..Plan::HOLLOW });
    let admin = |address| http::request(address, "GET /metrics", "").body;
    for (component, prefix, metrics) in [
        ("control plane", "dirigent_control_plane_", cluster.operator("GET /metrics", "").body),
        ("data plane", "dirigent_data_plane_", admin(cluster.data_planes[0].address("admin"))),
        ("worker", "dirigent_worker_", admin(cluster.workers[0].address("admin"))),
    ] {
        let (exported, documented) = (exported(&metrics, prefix), documented(&page, component));
        let missing: Vec<_> = exported.difference(&documented).collect();
        assert!(missing.is_empty(), "{component}: exported, but not in {PAGE}: {missing:?}");
        let extra: Vec<_> = documented.difference(&exported).collect();
        assert!(extra.is_empty(), "{component}: in {PAGE}, but not exported: {extra:?}");
    }
}
