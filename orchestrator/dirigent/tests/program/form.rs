//! Requests of a client of the published system to a cluster as `dirigent up --form` starts it.

use crate::cluster::Cluster;

/// The image that published load generators name, in registrations and in the header of invocations.
const PUBLISHED: &str = "docker.io/cvetkovic/dirigent_trace_function:latest";

/// Registers a function with a form, with what its container's program gets, and gives the response.
fn register(cluster: &Cluster, name: &str, image: &str) -> (u16, String) {
    let image = image.replace('/', "%2F").replace(':', "%3A");
    let body = format!(
        "name={name}&image={image}&port_forwarding=80&port_forwarding=tcp&scaling_upper_bound=10&scaling_lower_bound=0\
         &requested_cpu=10&requested_memory=16&env_vars=MODEL%3Dsmall&program_args=--model&program_args=small"
    );
    let url = format!("http://{}/registerService", cluster.address("http"));
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let request = agent.post(&url).header("content-type", "application/x-www-form-urlencoded");
    let mut response = request.send(body).unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

#[test]
fn a_published_client_registers_its_container_image_and_invokes_it() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_with(&["--form"], dir.path());
    assert_eq!(register(&cluster, "p2", PUBLISHED), (200, cluster.address("invoke")));
    assert_eq!(register(&cluster, "p2", PUBLISHED).0, 200, "the same again is no conflict");
    let shown = cluster.operator_ok(&["function", "show", "p2", "--format", "json"]);
    assert!(shown.contains("\"image\": \"builtin:function\""), "{shown}");
    let workload = format!("workload: {PUBLISHED}");
    let invoked = cluster.invoke("p2", &["--header", &workload, "--header", "requested_cpu: 1"]);
    assert!(invoked.status.success() && String::from_utf8_lossy(&invoked.stdout).contains("OK"), "{invoked:?}");

    // What is written as one of ours and is none is a mistake there too, and so is what is no reference to an image.
    for image in ["builtin:nope", "builtin", "fille:/bin/x", "/bin/x", "./x"] {
        let (status, said) = register(&cluster, "p3", image);
        assert!(
            status == 400 && said.contains("builtin:function or file:/path/to/program") && said.contains(image),
            "{image}: {status}: {said}"
        );
    }
}
