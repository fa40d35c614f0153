//! A function's own placement and balancing policies, from its registration to where its invocations run.

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Plan},
    wait::{check, wait_for},
};

const SANDBOXES: usize = 8;
const NODES: usize = 4;

/// A cluster with the function `f` of [`SANDBOXES`] sandboxes that stay, all granted to the data plane.
fn start(fields: &Value) -> Cluster {
    let cluster = Cluster::start(Plan { workers: NODES, ..Plan::HOLLOW });
    cluster.register("f", specification(fields));
    wait_for("every sandbox to be granted to the data plane", || {
        let demand = cluster.demand(0, "f");
        check(demand["granted_slots"] == SANDBOXES, &demand)
    });
    cluster
}

fn specification(fields: &Value) -> Value {
    let mut specification = json!({ "image": "builtin:function", "scale": { "min": SANDBOXES, "max": SANDBOXES } });
    specification.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    specification
}

/// The sandboxes that serve `times` invocations, one after the other.
fn served_by(cluster: &Cluster, times: usize) -> Vec<String> {
    (0..times).map(|_| cluster.invoke("f").assert_ok().sandbox().to_owned()).collect()
}

#[test]
fn sandboxes_are_placed_as_their_function_says() {
    let cluster = start(&json!({ "placement": "round-robin" }));
    let shown = cluster.show("f");
    assert_eq!(shown["spec"]["placement"], "round-robin");
    let endpoints = shown["endpoints"].as_array().unwrap();
    let nodes: Vec<_> = endpoints.iter().map(|endpoint| endpoint["node"].as_str().unwrap()).collect();
    // The cluster's default, power-of-two, would give some order; these are turns, whatever the first was.
    let (first, second) = nodes.split_at(NODES);
    let mut different = first.to_vec();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), NODES, "expected each node once before any is taken twice: {nodes:?}");
    assert_eq!(first, second, "expected the same order again");
}

#[test]
fn invocations_are_balanced_as_their_function_says_and_a_change_needs_no_new_sandboxes() {
    let cluster = start(&json!({ "balance": "round-robin" }));
    let before = cluster.show("f");
    let sandboxes = cluster.ready_sandboxes("f");
    let mut turn = served_by(&cluster, SANDBOXES);
    assert_eq!(served_by(&cluster, SANDBOXES), turn, "expected the same turns again");
    turn.sort_unstable();
    turn.dedup();
    assert_eq!(turn.len(), SANDBOXES, "expected every sandbox to have its turn");

    // As soon as the change is acknowledged, the first of the free sandboxes serves; before, each had its turn.
    let change = specification(&json!({ "balance": "knative", "placement": "random" }));
    assert_eq!(cluster.operator("PUT /v1/functions/f", &change.to_string()).status, 200);
    assert_eq!(served_by(&cluster, 5), vec![sandboxes[0].clone(); 5]);
    let after = cluster.show("f");
    assert_eq!(after["spec"]["balance"], "knative");
    assert_eq!(after["revision"], before["revision"], "expected no new revision");
    assert_eq!(cluster.ready_sandboxes("f"), sandboxes, "expected the same sandboxes");
}

#[test]
fn a_policy_that_does_not_exist_is_refused_with_its_field_and_those_that_do() {
    let cluster = Cluster::start(Plan::HOLLOW);
    for (fields, field, known) in [
        (json!({ "placement": "best" }), "placement", "power-of-two, random, round-robin, kubernetes"),
        (json!({ "balance": "best" }), "balance", "least-loaded, round-robin, random, power-of-two, knative"),
        (json!({ "scale": { "policy": "best" } }), "scale.policy", "reactive, kpa, dirigent"),
    ] {
        let response = cluster.operator("PUT /v1/functions/f", &specification(&fields).to_string());
        assert_eq!((response.status, &response.json()["field"]), (400, &json!(field)), "{response:?}");
        let detail = response.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(detail, format!("{field}: expected one of {known}, got text \"best\""));

        let line = json!({ "name": "f", "image": "builtin:function" });
        let mut line = line.as_object().unwrap().clone();
        line.extend(fields.as_object().unwrap().clone());
        let bulk = cluster.operator("POST /v1/functions", &Value::from(line).to_string()).json();
        assert_eq!((&bulk["status"], bulk["error"].as_str()), (&json!(400), Some(detail.as_str())), "line by line");
    }
    cluster.register("f", json!({ "placement": "kubernetes", "balance": "random", "scale": { "policy": "dirigent" } }));
    cluster.invoke("f").assert_ok();
}
