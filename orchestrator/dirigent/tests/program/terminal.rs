//! The live view of `dirigent top` on a terminal of its own: what it shows, and that the terminal is as it was when the
//! view has ended, whichever way.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{self, Signal},
        termios::{Termios, tcgetattr},
    },
    unistd::Pid,
};

use crate::cluster::{Cluster, dirigent, wait_for};

/// Puts a terminal's own screen away, and takes it back.
const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

const CURSOR_SHOWN: &str = "\u{1b}[?25h";

/// A live view and the terminal it runs on.
struct Live {
    child: Child,
    keys: File,
    /// The other side, kept so that the terminal outlives the program.
    side: File,
    before: Termios,
    written: Arc<Mutex<String>>,
}

impl Live {
    fn start(control_plane: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 140, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).unwrap();
        let (keys, side) = (File::from(pair.master), File::from(pair.slave));
        let before = tcgetattr(&side).unwrap();
        let written = Arc::new(Mutex::new(String::new()));
        let (mut screen, copy) = (keys.try_clone().unwrap(), written.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends when both sides are closed, with the test.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                copy.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let mut command = dirigent();
        command.args(["top", "--interval", "100ms", "--control-plane", control_plane]);
        let (input, output) = (side.try_clone().unwrap(), side.try_clone().unwrap());
        let child = command.stdin(input).stdout(output).stderr(Stdio::inherit()).spawn().unwrap();
        Self { child, keys, side, before, written }
    }

    fn wait_for(&self, expected: &str) {
        wait_for(&format!("{expected:?} on the terminal"), || {
            let written = self.written.lock().unwrap();
            if written.contains(expected) { Ok(()) } else { Err(written.clone()) }
        });
    }

    /// Waits for the end, which must be a good one that leaves the terminal as it was.
    fn ended(mut self) {
        let status = wait_for("the end", || self.child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
        assert_eq!(status.code(), Some(0), "{status}");
        self.wait_for(LEFT);
        self.wait_for(CURSOR_SHOWN);
        let after = tcgetattr(&self.side).unwrap();
        assert_eq!(after.local_flags, self.before.local_flags, "echo and lines are back");
        assert_eq!(after.input_flags, self.before.input_flags);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_live_view_shows_functions_and_q_gives_the_terminal_back() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    cluster.operator_ok(&["function", "register", "hello", "--image", "any"]);
    let mut live = Live::start(&cluster.address("http"));
    // Words one by one: blanks that are blank already are not written.
    for expected in [ENTERED, "leader,", "hello", "net_dataplane"] {
        live.wait_for(expected);
    }
    live.keys.write_all(b"q").unwrap();
    live.ended();
}

#[test]
fn without_a_response_it_goes_on_and_control_c_ends_it() {
    let mut live = Live::start("127.0.0.1:1");
    live.wait_for("trying");
    assert!(live.child.try_wait().unwrap().is_none(), "it goes on trying");
    live.keys.write_all(b"\x03").unwrap();
    live.ended();
}

#[test]
fn a_signal_from_elsewhere_gives_the_terminal_back_too() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let live = Live::start("127.0.0.1:1");
        live.wait_for("trying");
        signal::kill(Pid::from_raw(live.child.id().try_into().unwrap()), signal).unwrap();
        live.ended();
    }
}
