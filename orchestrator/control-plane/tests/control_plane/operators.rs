//! What operators see: registration, the published form, listing, errors, and what survives a restart.

use control_plane::Config;
use serde_json::Value;
use sim::DataPlane;

use super::Running;

#[tokio::test]
async fn a_function_is_new_once_unchanged_twice_updated_later_and_gone_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    assert_eq!(running.put("hello", r#"{"image":"any"}"#).await, 201);
    assert_eq!(running.put("hello", r#"{"image":"any"}"#).await, 200);
    let first = running.json("/v1/functions/hello").await;
    assert_eq!(running.put("hello", r#"{"image":"other","concurrency":3}"#).await, 200);
    let second = running.json("/v1/functions/hello").await;
    assert_eq!(second["id"], first["id"], "it is still the same registration");
    assert!(second["revision"].as_u64() > first["revision"].as_u64(), "with a new revision");
    assert_eq!(second["spec"]["concurrency"], 3);
    assert_eq!(running.request("DELETE", "/v1/functions/hello", "").await.0, 202);
    assert_eq!(running.request("DELETE", "/v1/functions/hello", "").await.0, 404);
    assert_eq!(running.request("GET", "/v1/functions/hello", "").await.0, 404);
    running.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    for index in 0..20 {
        assert_eq!(running.put(&format!("f{index}"), r#"{"image":"any","memory":64}"#).await, 201);
    }
    running.request("DELETE", "/v1/functions/f3", "").await;
    running.stop().await;
    let running = Running::start(dir.path()).await;
    let list = running.json("/v1/functions?limit=100").await;
    let names: Vec<_> = list["functions"].as_array().unwrap().iter().map(|f| f["spec"]["name"].clone()).collect();
    assert_eq!(names.len(), 19);
    assert!(!names.contains(&Value::from("f3")));
    assert_eq!(running.json("/v1/status").await["epoch"], 2, "a new term began");
    running.stop().await;
}

#[tokio::test]
async fn bad_specifications_are_refused_with_the_field() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    for (body, said) in [
        (r#"{"image":"any","concurrency":0}"#, "concurrency"),
        (r#"{"image":"any","colour":1}"#, "colour"),
        (r#"{"image":"any","scale":{"policy":"magic"}}"#, "scale.policy: expected one of reactive, kpa"),
        (r#"{"image":"any","placement":"best"}"#, "placement: expected one of power-of-two, random, round-robin"),
        (r#"{"image":"any","balance":"best"}"#, "balance: expected one of least-loaded, round-robin"),
        (r#"{"image":"any","name":"other"}"#, "other"),
        (r#"{"image":"#, "EOF"),
    ] {
        let (status, answer) = running.request("PUT", "/v1/functions/f", body).await;
        assert_eq!(status, 400, "{body}");
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        assert!(answer.contains(said), "{body} is answered {answer}");
    }
    assert_eq!(running.put("Not_A_Name", r#"{"image":"any"}"#).await, 400);
    assert_eq!(running.request("GET", "/v2", "").await.0, 404);
    running.stop().await;
}

#[tokio::test]
async fn a_large_body_is_refused_unless_it_has_many_lines() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let name = |index: usize| format!("f{index}");
    let line = |index| format!("{{\"name\":\"{}\",\"image\":\"any\"{}}}\n", name(index), " ".repeat(3000));
    let lines: String = (0..500).map(line).collect();
    assert!(lines.len() > 1024 * 1024, "{} bytes", lines.len());
    let (status, answer) = running.request("PUT", "/v1/functions/f", lines.clone()).await;
    assert_eq!(status, 413, "{}", String::from_utf8_lossy(&answer));
    let (status, answer) = running.request("POST", "/v1/functions", format!("{lines}{}", "x".repeat(600_000))).await;
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    let results: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(status == 200 && results.len() == 501, "{status}: {} results", results.len());
    assert!(results[..500].iter().all(|result| result["status"] == 201), "{answer}");
    assert_eq!((&results[500]["status"], &results[500]["line"]), (&413.into(), &501.into()), "an endless line");
    running.stop().await;
}

#[tokio::test]
async fn a_refusal_names_the_field_the_expectation_and_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let running =
        Running::start_with(Config { data_dir: dir.path().to_owned(), form: true, ..Config::default() }).await;
    let put = ("PUT", "/v1/functions/f");
    let form = ("POST", "/registerService");
    for ((method, path), body, field, detail) in [
        (
            put,
            "{\"image\":\"i\",\n \"memory\":\"128Mi\"}",
            "memory",
            "memory: expected MiB as a whole number or a size like 128MiB, got text \"128Mi\"",
        ),
        (
            put,
            r#"{"image":"i","scale":{"max":0}}"#,
            "scale.max",
            "expected at least 1 and not below scale.min (0), got 0",
        ),
        (("PUT", "/v1/functions/F_"), r#"{"image":"i"}"#, "name", "this one has 'F', in the address"),
        (("PUT", "/v1/functions/%ff"), r#"{"image":"i"}"#, "name", "name: expected UTF-8, in the address"),
        (("GET", "/v1/functions/%ff"), "", "name", "name: expected UTF-8, in the address"),
        (("DELETE", "/v1/functions/a%ffb"), "", "name", "name: expected UTF-8, in the address"),
        (("POST", "/v1/nodes/%c3/drain"), "", "name", "name: expected UTF-8, in the address"),
        (put, r#"{"image":"i","retry":1}"#, "retry", "retry: expected \"idempotent\" or \"any\", got number 1"),
        (put, r#"{"image":"i","balance":"best"}"#, "balance", "balance: expected one of least-loaded"),
        (
            form,
            "name=f&image=i&requested_cpu=much",
            "requested_cpu",
            "expected millicores as a whole number, got \"much\"",
        ),
        (form, "name=f&image=i&scaling_upper_bound=0", "scaling_upper_bound", "expected at least 1"),
        (form, "name=f&image=i&env_vars=A", "env_vars", "env_vars: expected NAME=VALUE, got \"A\""),
        (form, "name=f&image=", "image", "image: expected what to run, like builtin:function, got nothing"),
        (("GET", "/check"), "", "name", "name: expected the name of a function"),
        (
            put,
            r#"{"image":"i","scale":{"policy":"kpa","keep_alive":"5s"}}"#,
            "scale.keep_alive",
            "scale.keep_alive: expected none with the policy \"kpa\"",
        ),
        (("GET", "/v1/functions?limt=5"), "", "limt", "parameter \"limt\": expected limit or after"),
        (("GET", "/v1/status?verbose"), "", "verbose", "parameter \"verbose\": expected no parameter"),
        (("GET", "/v1/functions?limit=many"), "", "limit", "limit: expected a whole number, 1 to 10000, got \"many\""),
        (("GET", "/v1/functions?limit=0"), "", "limit", "limit: expected a whole number, 1 to 10000, got \"0\""),
        (("GET", "/v1/top?limit=1001"), "", "limit", "limit: expected a whole number, 0 to 1000, got \"1001\""),
        (("GET", "/v1/top?limit=-1"), "", "limit", "limit: expected a whole number, 0 to 1000, got \"-1\""),
    ] {
        let (status, answer) = running.request(method, path, body).await;
        let problem: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let kind = "urn:dirigent:problem:invalid-field";
        let seen = (status, &problem["type"], &problem["field"]);
        assert_eq!(seen, (400, &kind.into(), &field.into()), "{method} {path} {body}: {problem}");
        let found = problem["detail"].as_str().unwrap();
        assert!(found.contains(detail), "{method} {path} {body}: expected {detail:?}, found {found:?}");
        if path.ends_with("F_") {
            assert_eq!(problem.get("line"), None, "the body does not hold it: {problem}");
        }
        if body.contains("128Mi") {
            assert_eq!((&problem["line"], &problem["column"]), (&2.into(), &2.into()), "{problem}");
        }
    }
    assert_eq!(running.put("f", r#"{"image":"any","memory":"2GiB"}"#).await, 201);
    assert_eq!(running.json("/v1/functions/f").await["spec"]["memory"], 2048);
    running.stop().await;
}

#[tokio::test]
async fn the_page_about_http_shows_what_is_answered() {
    let page = include_str!("../../../../docs/http.md");
    let mut blocks = page.split("```json\n").skip(1).map(|block| block.split("```").next().unwrap());
    let (spec, shown) = (blocks.next().unwrap(), blocks.next().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    assert_eq!(running.put("hello", spec).await, 201, "{spec}");
    let wrong = r#"{"name": "hello", "image": "builtin:function", "memory": "128Mi"}"#;
    let (_, answer) = running.request("PUT", "/v1/functions/hello", wrong).await;
    let answered: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answered, serde_json::from_str::<Value>(shown).unwrap());
    running.stop().await;
}

#[tokio::test]
async fn a_bulk_request_that_is_not_one_function_a_line_is_refused_with_the_format() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    for (body, detail) in [
        ("\u{feff}{\"name\":\"f\",\"image\":\"i\"}\r\n", "begins with a byte order mark"),
        ("{\n\"name\": \"f\",\n\"image\": \"i\"\n}\n", "expected each function on one line, not over several"),
        ("[{\"name\":\"f\",\"image\":\"i\"}]", "write each function on a line of its own"),
    ] {
        let (status, answer) = running.request("POST", "/v1/functions", body).await;
        let first = answer.split(|byte| *byte == b'\n').next().unwrap();
        let result: Value = serde_json::from_slice(first).unwrap();
        assert_eq!((status, &result["line"], &result["status"]), (200, &1.into(), &400.into()), "{result}");
        assert!(result["error"].as_str().unwrap().contains(detail), "expected {detail:?} in {result}");
    }
    let twice = "{\"name\":\"t\",\"image\":\"first\"}\n\n{\"name\":\"t\",\"image\":\"second\"}\n";
    let (_, answer) = running.request("POST", "/v1/functions", twice).await;
    let second: Value = serde_json::from_slice(answer.split(|byte| *byte == b'\n').nth(1).unwrap()).unwrap();
    assert_eq!((&second["line"], &second["status"], &second["field"]), (&3.into(), &400.into(), &"name".into()));
    assert_eq!(second["error"], "name: expected each function once, \"t\" is on line 1 too");
    assert_eq!(running.json("/v1/functions/t").await["spec"]["image"], "first");
    let bad = "{\"name\":\"f\",\"image\":\"i\"}\n{\"name\":\"g\",\"image\":\"i\",\"cpu\":\"0.5\"}\n";
    let (_, answer) = running.request("POST", "/v1/functions", bad).await;
    let second: Value = serde_json::from_slice(answer.split(|byte| *byte == b'\n').nth(1).unwrap()).unwrap();
    let place = (&second["line"], &second["column"], &second["field"]);
    assert_eq!(place, (&2.into(), &25.into(), &"cpu".into()), "{second}");
    running.stop().await;
}

#[tokio::test]
async fn many_functions_are_registered_with_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let mut lines: String = (0..500).map(|index| format!("{{\"name\":\"f{index}\",\"image\":\"any\"}}\n")).collect();
    lines.push_str("{\"name\":\"g\"}\n");
    let (status, answer) = running.request("POST", "/v1/functions", lines).await;
    assert_eq!(status, 200);
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    let results: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), 501);
    assert_eq!(results.iter().filter(|r| r["status"] == 201 && r["result"] == "created").count(), 500);
    assert_eq!((&results[500]["line"], &results[500]["status"]), (&501.into(), &400.into()));
    let page = running.json("/v1/functions?limit=200").await;
    assert_eq!(page["functions"].as_array().unwrap().len(), 200);
    let rest = running.json(&format!("/v1/functions?limit=1000&after={}", page["next"].as_str().unwrap())).await;
    assert_eq!(rest["functions"].as_array().unwrap().len(), 300);
    assert_eq!(rest["next"], Value::Null);
    running.stop().await;
}

#[tokio::test]
async fn the_published_form_is_answered_as_existing_clients_expect() {
    let dir = tempfile::tempdir().unwrap();
    let running =
        Running::start_with(Config { data_dir: dir.path().to_owned(), form: true, ..Config::default() }).await;
    let data_plane = DataPlane::connect(&running.stream, DataPlane::hello("d")).await.unwrap().acknowledge_all();
    running.wait_for("/v1/status", |status| status["data_planes"][0] == "127.0.0.1:8080").await;
    let form = "name=trace-0&image=docker.io%2Fany&port_forwarding=8080&port_forwarding=tcp&requested_cpu=100\
        &requested_memory=256&scaling_upper_bound=9&scaling_lower_bound=0&env_vars=A%3D1&program_args=x&new=1";
    for path in ["/", "/registerService"] {
        let (status, answer) = running.request("POST", path, form).await;
        assert_eq!((status, &answer[..]), (200, &b"127.0.0.1:8080"[..]), "{path}");
    }
    let spec = running.json("/v1/functions/trace-0").await["spec"].clone();
    assert_eq!((&spec["port"], &spec["memory"], &spec["scale"]["max"]), (&8080.into(), &256.into(), &9.into()));
    let nothing = (serde_json::json!({}), serde_json::json!([]));
    assert_eq!((&spec["image"], &spec["env"], &spec["args"]), (&"builtin:function".into(), &nothing.0, &nothing.1));
    let ours = form.replace("trace-0", "ours").replace("docker.io%2Fany", "file:%2Fany");
    assert_eq!(running.request("POST", "/", ours).await.0, 200);
    let spec = running.json("/v1/functions/ours").await["spec"].clone();
    assert_eq!((&spec["env"]["A"], &spec["args"][0]), (&"1".into(), &"x".into()), "a program of ours gets them");
    let other = form.replace("memory=256", "memory=512").replace("bound=9", "bound=8").replace("=tcp", "=h2c");
    let (status, answer) = running.request("POST", "/", other).await;
    let problem: Value = serde_json::from_slice(&answer).unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert_eq!((status, &problem["field"]), (409, &"requested_memory".into()), "{detail}");
    let fields = [
        "requested_memory is 256, this one asks for 512",
        "port_forwarding is \"http1\", this one asks for \"h2c\"",
        "scaling_upper_bound is 9, this one asks for 8",
    ];
    let expected = "\"trace-0\" is registered with another specification: ".to_owned() + &fields.join("; ");
    assert_eq!(detail, expected, "the fields that its sender wrote");
    let other = form.replace("trace-0", "ours").replace("docker.io%2Fany", "file:%2Fany").replace("A%3D1", "A%3D2");
    let (status, answer) = running.request("POST", "/", other).await;
    let problem: Value = serde_json::from_slice(&answer).unwrap();
    let detail = "\"ours\" is registered with another specification: env_vars.A differs";
    assert_eq!((status, &problem["field"], &problem["detail"]), (409, &"env_vars.A".into(), &detail.into()));
    let empty = "name=trace-2&image=file:%2Fany&env_vars=&program_args=&scaling_upper_bound=";
    let (status, answer) = running.request("POST", "/", empty).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    let spec = running.json("/v1/functions/trace-2").await["spec"].clone();
    assert_eq!((&spec["env"], &spec["args"]), (&nothing.0, &nothing.1));
    assert_eq!(running.request("POST", "/", "name=trace-1&image=any&requested_cpu=much").await.0, 400);
    assert_eq!(running.request("POST", "/", "name=sweep&image=any&cold_start_sweep=true").await.0, 200);
    let scale = running.json("/v1/functions/sweep").await["spec"]["scale"].clone();
    assert_eq!(
        (&scale["max"], &scale["stable_window"], &scale["panic_window"]),
        (&1.into(), &"6s".into(), &"2s".into())
    );
    // Existing clients divide small needs down to nothing.
    let nothing = "name=little&image=any&requested_cpu=0&requested_memory=0";
    assert_eq!(running.request("POST", "/", nothing).await.0, 200);
    let spec = running.json("/v1/functions/little").await["spec"].clone();
    assert_eq!((&spec["cpu"], &spec["memory"]), (&1.into(), &1.into()));
    assert_eq!(running.request("GET", "/check?name=trace-0", "").await.0, 200);
    assert_eq!(running.request("GET", "/check?name=nothing", "").await.0, 404);
    running.stop().await;
    data_plane.await.unwrap();
}

#[tokio::test]
async fn a_form_that_a_version_before_registered_otherwise_is_repeated_without_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let running =
        Running::start_with(Config { data_dir: dir.path().to_owned(), form: true, ..Config::default() }).await;
    let data_plane = DataPlane::connect(&running.stream, DataPlane::hello("d")).await.unwrap().acknowledge_all();
    running.wait_for("/v1/status", |status| status["data_planes"][0] == "127.0.0.1:8080").await;
    let form = "name=f&image=docker.io%2Fany&requested_memory=256&env_vars=A%3D1&program_args=x";
    for image in ["builtin:function", "docker.io/any"] {
        let before = serde_json::json!({"image": image, "memory": 256, "env": {"A": "1"}, "args": ["x"]}).to_string();
        assert!(running.put("f", &before).await < 300, "{image}");
        let other = running.request("POST", "/", form.replace("A%3D1", "A%3D2")).await.0;
        assert_eq!(other, 409, "{image}: that is another form");
        for _ in 0..2 {
            let (status, answer) = running.request("POST", "/", form).await;
            assert_eq!(status, 200, "{image}: {}", String::from_utf8_lossy(&answer));
        }
        let spec = running.json("/v1/functions/f").await["spec"].clone();
        let expected = (&Value::from("builtin:function"), &serde_json::json!({}), &serde_json::json!([]));
        assert_eq!((&spec["image"], &spec["env"], &spec["args"]), expected, "{image}: it can run");
    }
    running.stop().await;
    data_plane.await.unwrap();
}

#[tokio::test]
async fn what_data_planes_have_not_acknowledged_is_not_called_known() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let unavailable = async |name: &str| {
        let (status, answer) = running.request("GET", &format!("/check?name={name}"), "").await;
        assert_eq!(status, 503, "{}", String::from_utf8_lossy(&answer));
        let problem: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(problem["type"], "urn:dirigent:problem:unavailable");
    };
    let registered = |line: &[u8]| {
        let result: Value = serde_json::from_slice(line).unwrap();
        (result["result"].as_str().unwrap_or_default().to_owned(), result["known"].as_bool())
    };
    let put = async || registered(&running.request("PUT", "/v1/functions/f", r#"{"image":"any"}"#).await.1);
    assert_eq!(put().await, ("created".to_owned(), Some(false)), "no data plane is connected");
    unavailable("f").await;

    let mut data_plane = DataPlane::connect(&running.stream, DataPlane::hello("d")).await.unwrap();
    data_plane.read_until(|message| message.snapshot_end.then_some(())).await;
    let lines = "{\"name\":\"g\",\"image\":\"any\"}\n{\"name\":\"h\",\"image\":\"any\"}\n";
    let (status, answer) = running.request("POST", "/v1/functions", lines).await;
    let results: Vec<_> = answer.trim_ascii_end().split(|byte| *byte == b'\n').map(registered).collect();
    assert_eq!((status, results), (200, vec![("created".to_owned(), Some(false)); 2]), "it has not acknowledged them");
    unavailable("g").await;

    let obedient = data_plane.acknowledge_all();
    let deadline = tokio::time::Instant::now() + sim::WAIT_TIMEOUT;
    while running.request("GET", "/check?name=h", "").await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline, "it is not called known");
    }
    assert_eq!(put().await, ("unchanged".to_owned(), None));
    running.stop().await;
    obedient.await.unwrap();
}

#[tokio::test]
async fn health_and_metrics_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    assert_eq!(running.request("GET", "/healthz", "").await.0, 200);
    assert_eq!(running.request("GET", "/readyz", "").await.0, 200);
    running.put("f", r#"{"image":"any"}"#).await;
    let (status, text) = running.request("GET", "/metrics", "").await;
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert_eq!(status, 200);
    assert!(text.contains("dirigent_control_plane_functions 1"), "{text}");
    assert!(text.contains("dirigent_control_plane_commands_total 1"), "{text}");
    running.stop().await;
}
