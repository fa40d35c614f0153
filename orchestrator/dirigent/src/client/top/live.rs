//! The live view on a terminal: snapshots, keys and signals come together here, and each is followed by a redraw.
//!
//! Owns the terminal: whichever way the view ends, also by a panic, the terminal is as it was before.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEvent},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    SnapshotSource, pause, screen,
    snapshot::Snapshot,
    view::{View, Wish},
};

/// Events that may be queued; a sender of more waits until they are drawn, so that memory is bounded.
const MAX_QUEUED_EVENTS: usize = 64;

/// An event that the view reacts to.
enum ViewEvent {
    Snapshot(anyhow::Result<Snapshot>),
    Pressed(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// SIGINT or SIGTERM: Ctrl-C is a key here, these come from elsewhere.
    Ended,
    /// The terminal cannot be read.
    Broke(io::Error),
}

/// The terminal while it is ours.
struct Screen(DefaultTerminal);

impl Screen {
    fn enter() -> io::Result<Self> {
        // It also sees to it that a panic gives the terminal back before it speaks.
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows snapshots until the user or a signal ends it.
///
/// # Errors
/// If the terminal cannot be used.
pub(super) fn run(source: SnapshotSource, interval: Duration) -> io::Result<()> {
    let (sender, receiver) = sync_channel(MAX_QUEUED_EVENTS);
    let control_plane = source.control_plane.describe();
    spawn_signals(sender.clone())?;
    let mut screen = Screen::enter()?;
    let keys = sender.clone();
    thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(&keys))?;
    thread::Builder::new().name("snapshots".to_owned()).spawn(move || poll_snapshots(&source, interval, &sender))?;
    show(&mut screen.0, &receiver, &control_plane)
}

fn show(terminal: &mut DefaultTerminal, receiver: &Receiver<ViewEvent>, control_plane: &str) -> io::Result<()> {
    let mut view = View::new();
    loop {
        terminal.draw(|frame| screen::draw(frame, &view, control_plane))?;
        match receiver.recv() {
            Ok(ViewEvent::Snapshot(snapshot)) => view.on_snapshot(snapshot),
            Ok(ViewEvent::Pressed(key)) => {
                if view.press(key) == Wish::Quit {
                    return Ok(());
                }
            }
            Ok(ViewEvent::Resized) => {}
            Ok(ViewEvent::Broke(error)) => return Err(error),
            Ok(ViewEvent::Ended) | Err(_) => return Ok(()),
        }
    }
}

/// Takes snapshots again and again, also when nothing responds: the control plane may come back.
fn poll_snapshots(source: &SnapshotSource, interval: Duration, sender: &SyncSender<ViewEvent>) {
    while sender.send(ViewEvent::Snapshot(source.snapshot())).is_ok() {
        pause(interval);
    }
}

fn read_keys(sender: &SyncSender<ViewEvent>) {
    loop {
        let found = match event::read() {
            Ok(Event::Key(key)) => ViewEvent::Pressed(key),
            Ok(Event::Resize(..)) => ViewEvent::Resized,
            Ok(_) => continue,
            Err(error) => ViewEvent::Broke(error),
        };
        let is_over = matches!(found, ViewEvent::Broke(_));
        if sender.send(found).is_err() || is_over {
            return;
        }
    }
}

/// Signals are listened for from here on, so that none finds the terminal changed and nobody to restore it.
fn spawn_signals(sender: SyncSender<ViewEvent>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        // Nobody listens any more: the view has ended already.
        drop(sender.send(ViewEvent::Ended));
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}
