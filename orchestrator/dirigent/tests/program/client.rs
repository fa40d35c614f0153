//! The operator's subcommands against a cluster of modelled sandboxes.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use serde_json::Value;

use crate::{
    cluster::{Cluster, dirigent, wait_for},
    lifecycle::start,
};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("expected JSON ({error}): {text}"))
}

/// The data rows of a CSV response.
fn rows(csv: &str) -> Vec<&str> {
    csv.lines().skip(1).collect()
}

#[test]
fn a_function_lives_from_registration_to_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    let policies = ["--policy", "dirigent", "--placement", "kubernetes", "--balance", "power-of-two"];
    let register = ["function", "register", "hello", "--image", "any", "--max", "3"];
    let registered = cluster.operator_ok(&[&register[..], &policies, &["--format", "json"]].concat());
    let registered = &json(&registered)[0];
    assert_eq!((&registered["name"], &registered["result"]), (&"hello".into(), &"created".into()));
    let refused = cluster.operator(&[&register[..], &["--balance", "best"]].concat());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("balance: expected one of least-loaded"), "{said}");

    let invoked = cluster.invoke("hello", &[]);
    assert!(invoked.status.success(), "{invoked:?}");
    let response = json(&String::from_utf8(invoked.stdout).unwrap());
    assert!(response.get("Status").is_some(), "expected the trace function's answer, found {response}");
    let timeline = String::from_utf8(invoked.stderr).unwrap();
    assert!(timeline.contains("200 OK, cold start") && timeline.contains("total"), "{timeline}");
    let again = cluster.invoke("hello", &["--format", "json"]);
    let again = json(&String::from_utf8(again.stdout).unwrap());
    assert_eq!(again["timeline"]["cold"], false, "expected the sandbox to be used again: {again}");

    let listed = cluster.operator_ok(&["function", "list", "--format", "csv"]);
    assert!(rows(&listed).len() == 1 && listed.contains("hello"), "{listed}");
    let shown = json(&cluster.operator_ok(&["function", "show", "hello", "--format", "json"]));
    assert_eq!(shown.pointer("/spec/scale/max"), Some(&Value::from(3)), "{shown}");
    let chosen = ["/spec/scale/policy", "/spec/placement", "/spec/balance"].map(|path| shown.pointer(path).cloned());
    assert_eq!(chosen.map(Option::unwrap), ["dirigent", "kubernetes", "power-of-two"], "{shown}");

    let deleted = cluster.operator_ok(&["function", "delete", "hello", "--format", "csv"]);
    assert_eq!(deleted, "name,result\nhello,deleted\n");
    wait_for("404 after the deletion", || {
        let gone = cluster.invoke("hello", &["--format", "json"]);
        let status = json(&String::from_utf8_lossy(&gone.stdout))["timeline"]["status"].clone();
        if status == 404 { Ok(()) } else { Err(status.to_string()) }
    });
    let refused = cluster.operator(&["function", "delete", "hello"]);
    assert_eq!(refused.status.code(), Some(1), "a second deletion is a failure: {refused:?}");
}

#[test]
fn the_port_of_another_purpose_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    let worker = fs::read_to_string(dir.path().join("worker-1/ports.json")).unwrap();
    let worker = json(&worker)["admin"].as_str().unwrap().to_owned();
    let ports = [
        (cluster.address("stream"), "like a control plane's port for data planes and workers"),
        (cluster.address("http"), "a control plane's port for operators answers there"),
        (cluster.address("invoke"), "a data plane answers there"),
        (cluster.address("admin"), "a data plane's admin port answers there"),
        (worker, "a worker's admin port answers there"),
    ];
    fs::write(dir.path().join("f.ndjson"), "{\"name\":\"f\",\"image\":\"any\"}\n").unwrap();
    let calls: [(&[&str], &str, &str); 7] = [
        (&["function", "list"], "http", "--control-plane"),
        (&["function", "register", "f", "--image", "any"], "http", "--control-plane"),
        (&["function", "register", "--from", "f.ndjson"], "http", "--control-plane"),
        (&["node", "list"], "http", "--control-plane"),
        (&["status"], "http", "--control-plane"),
        (&["top", "--once"], "http", "--control-plane"),
        (&["invoke", "f"], "invoke", "--data-plane"),
    ];
    for (call, right, option) in calls {
        for (port, answers) in ports.iter().filter(|(port, _)| *port != cluster.address(right)) {
            let output = dirigent().args(call).args([option, port]).current_dir(dir.path()).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            let wants = format!("{answers}; {option} wants a ");
            assert!(output.status.code() == Some(1) && said.contains(&wants), "{call:?} at {port}: {said}");
        }
    }
}

#[test]
fn many_functions_are_registered_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    let file = dir.path().join("functions.ndjson");
    let lines: Vec<String> = (0..450).map(|n| format!(r#"{{"name":"f{n}","image":"any"}}"#)).collect();
    fs::write(&file, lines.join("\n")).unwrap();
    let from = ["function", "register", "--from", file.to_str().unwrap()];
    assert_eq!(cluster.operator_ok(&from), "450 of 450 functions registered\n");
    let again = json(&cluster.operator_ok(&[&from[..], &["--format", "json"]].concat()));
    assert_eq!(again.as_array().unwrap().len(), 450, "a row for each function");
    assert_eq!(
        (&again[449]["line"], &again[449]["name"], &again[449]["result"]),
        (&450.into(), &"f449".into(), &"unchanged".into())
    );
    let listed = cluster.operator_ok(&["function", "list", "--format", "csv"]);
    assert_eq!(rows(&listed).len(), 450);
}

#[test]
fn a_line_that_is_wrong_costs_no_other_its_registration() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    let file = dir.path().join("functions.ndjson");
    let from = ["function", "register", "--from", file.to_str().unwrap()];
    let good = |name: &str| format!("{{\"name\":\"{name}\",\"image\":\"any\"}}\n");
    let wrong = "{\"name\":\"wrong\",\"image\":\"\"}\n";
    // The second is found here, the third by the control plane alone.
    let refused = "{\"name\":\"refused\",\"image\":\"any\",\"placement\":\"nowhere\"}\n";
    fs::write(&file, format!("\u{feff}{}{wrong}{refused}{}", good("early"), good("late"))).unwrap();
    let output = cluster.operator(&from);
    let [printed, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!((output.status.code(), printed.as_str()), (Some(1), "2 of 4 functions registered\n"), "{said}");
    for expected in [
        "functions.ndjson:2:17: image: expected a text that is not empty",
        "functions.ndjson:3:1: refused: placement: expected one of ",
        "error: 2 of 4 functions were refused",
    ] {
        assert!(said.contains(expected), "expected {expected:?}: {said}");
    }
    let again = cluster.operator(&[&from[..], &["--format", "json"]].concat());
    let again = json(&String::from_utf8(again.stdout).unwrap());
    let rows: Vec<_> = again.as_array().unwrap().iter().map(|row| (&row["line"], &row["result"])).collect();
    let [unchanged, none] = [Value::from("unchanged"), Value::Null];
    let [one, two, three, four] = [1, 2, 3, 4].map(Value::from);
    assert_eq!(rows, [(&one, &unchanged), (&two, &none), (&three, &none), (&four, &unchanged)]);
    let listed = cluster.operator_ok(&["function", "list", "--format", "csv"]);
    assert_eq!(rows_of(&listed), ["early", "late"], "{listed}");

    fs::write(&file, wrong.repeat(3)).unwrap();
    let nothing = cluster.operator(&from);
    let said = String::from_utf8(nothing.stderr).unwrap();
    assert!(nothing.status.code() == Some(2) && said.contains(":1:17: image: expected"), "{said}");
}

/// The first cells of the data rows of a CSV response.
fn rows_of(csv: &str) -> Vec<&str> {
    rows(csv).into_iter().map(|row| row.split(',').next().unwrap()).collect()
}

#[test]
fn status_and_nodes_show_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    let status = json(&cluster.operator_ok(&["status", "--format", "json"]));
    assert!(status["epoch"].as_u64().is_some_and(|epoch| epoch >= 1), "expected an epoch: {status}");
    let table = cluster.operator_ok(&["status"]);
    assert!(table.contains("epoch"), "{table}");

    let nodes = json(&cluster.operator_ok(&["node", "list", "--format", "json"]));
    let name = nodes[0]["name"].as_str().unwrap().to_owned();
    cluster.operator_ok(&["node", "drain", &name]);
    let drained = json(&cluster.operator_ok(&["node", "list", "--format", "json"]));
    assert_eq!(drained[0]["drained"], true, "{drained}");
    cluster.operator_ok(&["node", "drain", &name, "--undo"]);
    let back = json(&cluster.operator_ok(&["node", "list", "--format", "json"]));
    assert_eq!(back[0]["drained"], false, "{back}");
    let serving = cluster.operator(&["node", "remove", &name]);
    assert_eq!(serving.status.code(), Some(1), "a node that is served cannot be removed: {serving:?}");
}

#[test]
fn a_control_plane_that_is_not_there_is_named() {
    // Port 1 is privileged and unused: connecting is refused at once.
    let output = dirigent().args(["status", "--control-plane", "127.0.0.1:1"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = "error: control plane at http://127.0.0.1:1: connection refused, nothing listens there: \
                    `dirigent up` or `dirigent control-plane` starts one; --control-plane names another address\n";
    assert!(said.ends_with(expected), "{said}");
}

#[test]
fn a_token_file_that_is_named_is_read_for_every_call() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    for command in [&["status"][..], &["top", "--once"], &["function", "list"], &["node", "list"]] {
        let output = cluster.operator(&[command, &["--token-file", "nosuch"]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
        assert!(said.contains("--token-file") && said.contains("nosuch"), "{command:?}: {said}");
        cluster.operator_ok(&[command, &["--token-file", "control-plane/token"]].concat());
    }
}

#[test]
fn functions_are_registered_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    let mut command = dirigent();
    command.args(["function", "register", "--from", "-", "--control-plane", &cluster.address("http")]);
    let file = dir.path().join("piped");
    fs::write(&file, "{\"name\":\"piped\",\"image\":\"any\"}\n").unwrap();
    let output = command.current_dir(dir.path()).stdin(fs::File::open(&file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(cluster.operator_ok(&["function", "list", "--format", "csv"]).contains("piped"));
}

/// A data plane that writes this text to its first client and closes.
fn answering(text: String) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let data_plane = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        connection.write_all(text.as_bytes()).unwrap();
    });
    (address, data_plane)
}

#[test]
fn a_head_as_large_as_a_data_plane_passes_on_is_read() {
    // A function's 100 fields of 64 KiB together, and the data plane's own.
    let fields: String = (0..100).map(|n| format!("x-more-{n:02}: {}\r\n", "x".repeat(646))).collect();
    let own = "x-dirigent-cold: 0\r\nserver-timing: queue;dur=1, cold;dur=0, exec;dur=2\r\n";
    let head = format!("HTTP/1.1 200 OK\r\n{own}{fields}content-length: 2\r\n\r\n");
    assert!(head.len() > 64 * 1024, "{}", head.len());
    let (address, data_plane) = answering(format!("{head}ok"));
    let output = dirigent().args(["invoke", "f", "--data-plane", &address]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"ok\n"[..]), "{said}");
    data_plane.join().unwrap();
}

#[test]
fn a_data_plane_that_goes_away_during_a_call_is_no_wrong_address() {
    for begun in ["", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"] {
        let (address, data_plane) = answering(begun.to_owned());
        let output = dirigent().args(["invoke", "f", "--data-plane", &address]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = format!(
            "error: data plane at http://{address} closed the connection before its response was complete; the invocation \
             may have been carried out\n"
        );
        assert_eq!((output.status.code(), said), (Some(1), expected), "after {begun:?}");
        data_plane.join().unwrap();
    }
}

#[test]
fn a_registration_that_no_data_plane_knows_of_yet_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0";
    let (_control_plane, ports) =
        start(dir.path(), "alone", &["control-plane", "--stream", any, "--http", any, "--no-auth"]);
    let operator = |arguments: &[&str]| {
        let to = ["--control-plane", ports["http"].as_str().unwrap()];
        dirigent().args(arguments).args(to).current_dir(dir.path()).output().unwrap()
    };
    let lines = ["a", "b"].map(|name| format!("{{\"name\":\"{name}\",\"image\":\"any\"}}\n"));
    fs::write(dir.path().join("f.ndjson"), lines.concat()).unwrap();
    let one: &[&str] = &["function", "register", "hello", "--image", "any", "--format", "csv"];
    let many: &[&str] = &["function", "register", "--from", "f.ndjson"];
    for (register, printed, functions) in
        [(one, "name,result\nhello,created\n", "1 function"), (many, "2 of 2 functions registered\n", "2 functions")]
    {
        let output = operator(register);
        let (stdout, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((output.status.code(), &*stdout), (Some(0), printed), "{said}");
        let expected = format!(
            "not known to every data plane yet, or none is connected: {functions}; until it is, an invocation may find \
             no function, or the revision before\n"
        );
        assert_eq!(said, expected, "{register:?}");
    }
}
