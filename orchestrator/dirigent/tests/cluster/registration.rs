//! From when on, and until when, a function's name means something.

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    invocation::Invocation,
};

/// Registrations in a row; a race between response and publication would show in one of them.
const REGISTRATIONS: usize = 25;

#[test]
fn a_name_is_unknown_before_its_registration_and_known_everywhere_right_after() {
    let cluster = Cluster::start(Plan { data_planes: 2, ..Plan::HOLLOW });
    cluster.invoke("nobody").assert_refused(404, "unknown-function");
    for number in 0..REGISTRATIONS {
        let name = format!("f{number}");
        cluster.register(&name, json!({}));
        for data_plane in &cluster.data_planes {
            let response = Invocation::of(&name).at(data_plane.address("invoke"));
            assert_eq!(response.status, 200, "{name}, at once after its registration was answered: {response:?}");
        }
    }
    cluster.invoke("nobody").assert_refused(404, "unknown-function");
}

#[test]
fn the_same_registration_twice_changes_nothing_and_keeps_the_sandbox() {
    let cluster = Cluster::start(Plan::HOLLOW);
    cluster.register("f", json!({ "memory": 64 }));
    let before = cluster.invoke("f").assert_ok().sandbox().to_owned();
    let again = cluster.operator("PUT /v1/functions/f", r#"{"image":"builtin:function","memory":64}"#);
    assert_eq!(again.status, 200, "expected no new function: {again:?}");
    assert_eq!(cluster.invoke("f").sandbox(), before, "expected the sandbox to be kept");
}
