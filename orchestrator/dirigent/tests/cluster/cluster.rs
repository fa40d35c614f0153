//! A cluster of real processes on loopback: one control plane, data planes, workers. Ended, every process of it, when it
//! is dropped.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    daemon::Daemon,
    http::{self, HttpResponse},
    invocation::Invocation,
    process,
    wait::{check, wait_for},
};

/// Configuration of a cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) runtime: &'static str,
    pub(crate) workers: usize,
    pub(crate) data_planes: usize,
    /// Cores of each node.
    pub(crate) cpu: &'static str,
    /// Mode of the trace function.
    pub(crate) mode: &'static str,
    /// Creation delay of a modelled sandbox.
    pub(crate) delay: &'static str,
    /// Keys of the control plane's table `health`.
    pub(crate) health: &'static str,
    /// Further keys of a worker's table `process`.
    pub(crate) process: &'static str,
    /// Further keys of its table `hollow`.
    pub(crate) hollow: &'static str,
    /// True if a worker's heartbeats may be datagrams.
    pub(crate) datagrams: bool,
}

impl Plan {
    /// Modelled sandboxes on two workers, behind one data plane.
    pub(crate) const HOLLOW: Self = Self {
        runtime: "hollow",
        workers: 2,
        data_planes: 1,
        cpu: "64",
        mode: "sleep",
        delay: "5ms",
        health: "",
        process: "",
        hollow: "",
        datagrams: true,
    };
    /// Child processes on two workers, behind one data plane.
    pub(crate) const PROCESS: Self = Self { runtime: "process", ..Self::HOLLOW };
}

/// A running cluster.
pub(crate) struct Cluster {
    // Before the directory, so that nothing runs in it any more when it is removed.
    pub(crate) control_plane: Daemon,
    pub(crate) data_planes: Vec<Daemon>,
    pub(crate) workers: Vec<Daemon>,
    directory: TempDir,
}

impl Cluster {
    /// Starts it, and waits until every part knows of the others.
    pub(crate) fn start(plan: Plan) -> Self {
        if plan.runtime == "process" {
            programs::path("trace-function").unwrap_or_else(|error| panic!("{error}"));
        }
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        // Who may do what is tested elsewhere; here only what comes of it.
        let configuration = format!("auth = false\n[health]\n{}\n", plan.health);
        let control_plane = Daemon::start("control-plane", "control-plane", at, &["http", "stream"], &configuration);
        let stream = control_plane.address("stream").to_owned();
        let mut cluster = Self { control_plane, data_planes: Vec::new(), workers: Vec::new(), directory };
        (0..plan.data_planes).for_each(|_| cluster.add_data_plane(&stream));
        (0..plan.workers).for_each(|_| cluster.add_worker(plan, &stream));
        cluster.wait_until_whole();
        cluster
    }

    /// Adds a data plane that finds the control plane at `stream`.
    pub(crate) fn add_data_plane(&mut self, stream: &str) {
        let name = format!("data-plane-{}", self.data_planes.len());
        self.data_planes.push(start_data_plane_in(self.directory.path(), &name, &name, stream));
    }

    /// Starts a data plane with the name of the first one and a folder of its own.
    pub(crate) fn start_data_plane_namesake(&self) -> Daemon {
        let stream = self.control_plane.address("stream");
        start_data_plane_in(self.directory.path(), "namesake", "data-plane-0", stream)
    }

    /// Adds a worker that finds the control plane at `stream`.
    pub(crate) fn add_worker(&mut self, plan: Plan, stream: &str) {
        self.workers.push(start_worker(self.directory.path(), self.workers.len(), stream, plan));
    }

    /// Starts a worker with the name of the first one and a folder of its own.
    pub(crate) fn start_namesake(&self, plan: Plan) -> Daemon {
        let stream = self.control_plane.address("stream");
        start_worker_in(self.directory.path(), "namesake", &worker_configuration("worker-0", stream, plan))
    }

    /// Waits until every part that runs is ready and known.
    pub(crate) fn wait_until_whole(&self) {
        let running = |daemons: &[Daemon]| daemons.iter().filter(|daemon| daemon.is_running()).count();
        let expected = (running(&self.workers), running(&self.data_planes));
        wait_for("a cluster whose parts know each other", || {
            let status = self.status();
            let data_planes = status["data_planes"].as_array().map_or(0, Vec::len);
            let found = (number(&status["nodes_ready"]), data_planes);
            check(found == expected && status["recovered"] == true, &status)
        });
        for data_plane in self.data_planes.iter().filter(|daemon| daemon.is_running()) {
            wait_for("a ready data plane", || {
                let ready = http::request(data_plane.address("admin"), "GET /readyz", "");
                check(ready.status == 200, ready.body)
            });
        }
    }

    /// Directory of this test's own files.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Address for invocations of the first data plane.
    pub(crate) fn invoke_address(&self) -> &str {
        self.data_planes[0].address("invoke")
    }

    /// A request to the control plane.
    pub(crate) fn operator(&self, start: &str, body: &str) -> HttpResponse {
        http::request(self.control_plane.address("http"), start, body)
    }

    /// Registers a function of which nothing is known yet; `fields` come over an image.
    pub(crate) fn register(&self, name: &str, fields: Value) {
        let response = self.put(name, fields);
        assert_eq!(response.status, 201, "expected {name} to be registered: {response:?}");
    }

    /// A function as operators see it.
    pub(crate) fn show(&self, name: &str) -> Value {
        let response = self.operator(&format!("GET /v1/functions/{name}"), "");
        assert_eq!(response.status, 200, "expected {name} to be registered: {response:?}");
        response.json()
    }

    /// Ids of a function's sandboxes in service.
    pub(crate) fn ready_sandboxes(&self, name: &str) -> Vec<String> {
        let shown = self.show(name);
        let endpoints = shown["endpoints"].as_array().unwrap().iter();
        let ready = endpoints.filter(|endpoint| endpoint["state"] == "ready");
        ready.map(|endpoint| endpoint["sandbox"].as_str().unwrap().to_owned()).collect()
    }

    /// The cluster in numbers.
    pub(crate) fn status(&self) -> Value {
        self.operator("GET /v1/status", "").json()
    }

    /// The state of a worker's node.
    pub(crate) fn node_state(&self, worker: &str) -> String {
        let nodes = self.operator("GET /v1/nodes", "").json();
        let node = nodes["nodes"].as_array().unwrap().iter().find(|node| node["worker"] == worker);
        node.and_then(|node| node["state"].as_str()).unwrap_or("unknown").to_owned()
    }

    /// The sandboxes that running workers report.
    pub(crate) fn held(&self) -> Vec<Value> {
        let pages = self.workers.iter().filter(|worker| worker.is_running());
        let pages = pages.map(|worker| http::request(worker.address("admin"), "GET /v1/sandboxes", "").json());
        pages.flat_map(|page| page.as_array().unwrap().clone()).collect()
    }

    /// The demand for a function that a data plane reports.
    pub(crate) fn demand(&self, data_plane: usize, function: &str) -> Value {
        let all = http::request(self.data_planes[data_plane].address("admin"), "GET /v1/functions", "").json();
        all.as_array().unwrap().iter().find(|demand| demand["name"] == function).cloned().unwrap_or(Value::Null)
    }

    /// Waits until a data plane has this many invocations of a function waiting and running.
    pub(crate) fn wait_for_demand(&self, data_plane: usize, function: &str, waiting: u64, running: u64) {
        wait_for(&format!("{waiting} waiting and {running} running of {function}"), || {
            let demand = self.demand(data_plane, function);
            check(demand["waiting"] == waiting && demand["running"] == running, &demand)
        });
    }

    /// Waits until what exists on the workers is what the control plane believes, sandbox by sandbox.
    pub(crate) fn wait_for_rest(&self) {
        wait_for("the control plane and the workers to agree on what exists", || {
            let status = self.status();
            let believed = number(&status["sandboxes_ready"]);
            let quiescent = number(&status["sandboxes_starting"]) + number(&status["sandboxes_leaving"]) == 0;
            let held = self.held();
            check(quiescent && believed == held.len(), format!("{status} and {held:?}"))?;
            let mut held: Vec<_> = held.iter().map(|held| held["sandbox"].as_str().unwrap().to_owned()).collect();
            let mut believed: Vec<_> = self.functions().iter().flat_map(|name| self.ready_sandboxes(name)).collect();
            held.sort_unstable();
            believed.sort_unstable();
            check(believed == held, format!("{believed:?} believed and {held:?} held"))
        });
    }

    /// Names of the functions that are registered.
    fn functions(&self) -> Vec<String> {
        let listed = self.operator("GET /v1/functions?limit=1000", "").json();
        assert!(listed["next"].is_null(), "expected fewer functions than a page holds");
        let listed = listed["functions"].as_array().unwrap().iter();
        listed.map(|function| function["spec"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Changes a function; `fields` come over an image, and what they leave out is as it was at first.
    pub(crate) fn update(&self, name: &str, fields: Value) {
        let response = self.put(name, fields);
        assert_eq!(response.status, 200, "expected {name} to be changed: {response:?}");
    }

    fn put(&self, name: &str, fields: Value) -> HttpResponse {
        let mut specification = json!({ "image": "builtin:function" });
        specification.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.operator(&format!("PUT /v1/functions/{name}"), &specification.to_string())
    }

    /// Deregisters a function.
    pub(crate) fn delete(&self, name: &str) {
        let response = self.operator(&format!("DELETE /v1/functions/{name}"), "");
        assert_eq!(response.status, 202, "expected {name} to be deregistered: {response:?}");
    }

    /// Waits until the node of a worker is in a state.
    pub(crate) fn wait_for_node(&self, worker: &str, expected: &str) {
        wait_for(&format!("the node of {worker} to be {expected}"), || {
            let state = self.node_state(worker);
            check(state == expected, state)
        });
    }

    /// Child processes of all workers that run: their sandboxes.
    pub(crate) fn sandbox_processes(&self) -> Vec<u32> {
        let running = self.workers.iter().filter(|worker| worker.is_running());
        running.flat_map(|worker| process::children(worker.pid())).collect()
    }

    /// Invokes a function through the first data plane.
    pub(crate) fn invoke(&self, name: &str) -> HttpResponse {
        Invocation::of(name).at(self.invoke_address())
    }
}

/// A count in a JSON document.
pub(crate) fn number(value: &Value) -> usize {
    value.as_u64().and_then(|count| count.try_into().ok()).unwrap_or_else(|| panic!("expected a count, found {value}"))
}

fn start_data_plane_in(at: &Path, folder: &str, name: &str, stream: &str) -> Daemon {
    let configuration = format!("name = '{name}'\ncontrol_planes = ['{stream}']\n");
    Daemon::start("data-plane", folder, at, &["invoke", "admin"], &configuration)
}

fn start_worker(at: &Path, number: usize, stream: &str, plan: Plan) -> Daemon {
    let name = format!("worker-{number}");
    start_worker_in(at, &name, &worker_configuration(&name, stream, plan))
}

fn start_worker_in(at: &Path, folder: &str, configuration: &str) -> Daemon {
    Daemon::start("worker", folder, at, &["admin"], configuration)
}

fn worker_configuration(name: &str, stream: &str, plan: Plan) -> String {
    let Plan { runtime, cpu, mode, delay, process, hollow, datagrams, .. } = plan;
    format!(
        "name = '{name}'\n\
         runtime = '{runtime}'\n\
         control_planes = ['{stream}']\n\
         datagrams = {datagrams}\n\
         node = {{ cpu = '{cpu}', memory = '64GiB' }}\n\
         process = {{ mode = '{mode}', images = ['builtin:', 'file:'], {process} }}\n\
         [hollow]\n\
         cpu = '{cpu}'\n\
         memory = '64GiB'\n\
         mode = '{mode}'\n\
         delay = {{ model = 'constant', value = '{delay}' }}\n\
         {hollow}\n"
    )
}
