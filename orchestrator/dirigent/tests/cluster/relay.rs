//! A link between two parts that a test can cut: a relay of TCP connections on loopback. Cut, its connections are reset
//! and new ones are too; silent, it takes bytes and connections and passes nothing on until it is healed.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt::Linger},
};

/// State of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Whole,
    /// Nothing arrives, and no error is reported.
    Silent,
    /// Every connection is reset.
    Cut,
}

/// A running relay. Dropped, it cuts the link for good.
pub(crate) struct Relay {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    link: Link,
    connections: Vec<TcpStream>,
    ended: bool,
}

impl Relay {
    /// A relay to `target`, whole at first.
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State { link: Link::Whole, connections: Vec::new(), ended: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (target, accepting) = (target.to_owned(), shared.clone());
        thread::spawn(move || accepting.accept(&listener, &target));
        Self { address, shared }
    }

    /// Its address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// From now on the link is so.
    pub(crate) fn set(&self, link: Link) {
        let mut state = self.shared.state.lock().unwrap();
        state.link = link;
        if link == Link::Cut {
            state.connections.drain(..).for_each(reset);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().ended = true;
        self.set(Link::Cut);
        // Wakes the one that accepts.
        drop(TcpStream::connect(&self.address));
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener, target: &str) {
        while let Ok((near, _)) = listener.accept() {
            self.wait_while_silent();
            if self.state.lock().unwrap().ended {
                return;
            }
            let Ok(far) = TcpStream::connect(target) else { continue };
            let mut state = self.state.lock().unwrap();
            if state.link == Link::Cut {
                [near, far].into_iter().for_each(reset);
                continue;
            }
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let shared = self.clone();
                thread::spawn(move || shared.pass_on(from, to));
            }
            state.connections.extend([near, far]);
        }
    }

    /// Passes bytes on until either side is gone.
    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let count = from.read(&mut bytes).unwrap_or(0);
            self.wait_while_silent();
            if count == 0 || to.write_all(&bytes[..count]).is_err() {
                // Both ends: a part that lost half of a connection closes the other half as well.
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    fn wait_while_silent(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| state.link == Link::Silent).unwrap());
    }
}

/// Ends a connection so that its other side learns of it as an error.
fn reset(stream: TcpStream) {
    // What has ended already needs no reset.
    let _ = setsockopt(&stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
    let _ = stream.shutdown(Shutdown::Both);
}
