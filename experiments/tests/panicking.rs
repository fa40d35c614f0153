//! A panic of the runner: what it had started is stopped on the way out. Alone in its program, because stopping ends
//! every child of the program.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use experiments::{
    console::Console,
    definition::template::Values,
    interrupt::Interrupt,
    session::Session,
    system::{Systems, cluster::Cluster, launch::Launcher, orphans},
};
use record::RunDir;

const SYSTEMS: &str = r#"
[toy]
about = "a toy that starts a child"
version = ["true"]
register = { command = ["true"] }
invoke = { target = "toy", address = "nowhere" }
[[toy.start]]
name = "toy"
command = ["sh", "-c", "sleep 1000 & echo $$ $! > pids.tmp; mv pids.tmp pids; trap 'exit 0' TERM; wait"]
ready = [{ file = "{dir}/pids" }]
"#;

#[test]
fn a_panic_leaves_no_process_behind() {
    orphans::adopt().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let session = Session {
        launcher: Launcher::at(Path::new(env!("CARGO_BIN_EXE_repro"))),
        interrupt: Interrupt::default(),
        console: Console::of_process(),
        process: std::process::id(),
    };
    let systems = Systems::parse(SYSTEMS).unwrap();
    let point = RunDir(folder.path().to_owned()).point("toy", "replay", 1);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let cluster = Cluster::start(&session, systems.get("toy").unwrap(), &point, Values::default()).unwrap();
        assert_eq!(cluster.processes().unwrap().len(), 1);
        panic!("something is wrong in the runner");
    }));
    assert!(panicked.is_err());
    let pids = fs::read_to_string(point.path.join("data/toy/pids")).unwrap();
    let left: Vec<&str> = pids.split_whitespace().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
    assert!(pids.split_whitespace().count() == 2 && left.is_empty(), "of {pids:?} these are left: {left:?}");
}
