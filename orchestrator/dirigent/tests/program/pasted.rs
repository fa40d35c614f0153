//! The README's cluster to play with as it is pasted: the client may well be there before the cluster listens.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::cluster::{DEADLINE, dirigent, wait_for};

/// Ports that were free a moment ago.
fn ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Ended as a user ends it, so that its sandboxes end too.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        let _ = signal::kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// The commands after `dirigent up` in the README's block.
fn block() -> Vec<Vec<String>> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(readme).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with("dirigent up ")).skip(1);
    let commands: Vec<&str> = lines.take_while(|line| !line.starts_with("```")).collect();
    assert!(commands.len() >= 5, "expected the block of the cluster to play with, found {commands:?}");
    let words = |line: &str| {
        let quoted = line.split('\'').enumerate();
        let words = quoted.flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        });
        words.skip(1).collect()
    };
    commands.into_iter().map(words).collect()
}

fn command(words: &[String], [http, invoke]: [u16; 2], directory: &Path) -> Command {
    let mut command = dirigent();
    command.args(words).current_dir(directory);
    match words[0].as_str() {
        "invoke" => command.args(["--data-plane", &format!("127.0.0.1:{invoke}")]),
        _ => command.args(["--control-plane", &format!("127.0.0.1:{http}")]),
    };
    command
}

#[test]
fn the_pasted_block_works_though_its_client_is_there_first() {
    let directory = tempfile::tempdir().unwrap();
    let [http, invoke, stream] = ports();
    let mut block = block().into_iter();
    let mut first = command(&block.next().unwrap(), [http, invoke], directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so once it has waited for a second: only then does the cluster begin.
    let mut said = String::new();
    BufReader::new(first.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("nothing listens there: waiting for it"), "expected it to wait, found {said:?}");
    let mut up = dirigent();
    up.args(["up", "--workers", "2", "--runtime", "hollow", "--data-dir", "cluster"]);
    for (option, port) in
        [("--http", http), ("--invoke", invoke), ("--stream", stream), ("--admin", 0), ("--worker", 0)]
    {
        up.args([format!("{option}-port"), port.to_string()]);
    }
    let up = up.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _up = Up(up.spawn().unwrap());
    let status =
        wait_for("the end of the first command", || first.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
    assert!(status.success(), "expected the registration to succeed within {DEADLINE:?}: {status}");
    for words in block {
        let output = command(&words, [http, invoke], directory.path()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = dirigent().args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn an_option_in_a_wrong_position_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for (arguments, code, expected) in [
        (&["invoke", "f", "--path", "foo"][..], 2, "'--path <PATH>': expected a path that begins with `/`"),
        (&["invoke", "f", "--path", "@127.0.0.1:9/"], 2, "begins with `/`"),
        (&["invoke", "f", "--data-plane", "https://h:1"], 2, "'--data-plane <URL>': only http is spoken"),
        (&["invoke", "f", "--header", "Host: x"], 2, "the host is the function's name"),
        (&["status", "--control-plane", "foo"], 2, "'--control-plane <URL>': expected HOST:PORT"),
        (&["status", "--control-plane", "no.such.host.invalid:1"], 1, "; --control-plane names another address"),
        (&["invoke", "f", "--timeout", "200ms", "--data-plane", &address], 1, "within 200ms; --timeout allows more"),
    ] {
        let (found_code, said) = refused(arguments);
        assert_eq!(found_code, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: expected {expected:?} in {said:?}");
    }
}
