//! The live view on a terminal: looks, keys and signals come together here, and each is followed by a drawing.
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
    Asked,
    look::Look,
    pause, screen,
    view::{View, Wish},
};

/// Happenings that may wait; whoever brings more waits until they are drawn.
const MOST_WAITING: usize = 64;

/// What the view reacts to.
enum Happening {
    Looked(anyhow::Result<Look>),
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

/// Shows looks until the user or a signal ends it.
///
/// # Errors
/// When the terminal cannot be used.
pub(super) fn run(asked: Asked, interval: Duration) -> io::Result<()> {
    let (happens, happenings) = sync_channel(MOST_WAITING);
    let control_plane = asked.control_plane.describe();
    spawn_signals(happens.clone())?;
    let mut screen = Screen::enter()?;
    let keys = happens.clone();
    thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(&keys))?;
    thread::Builder::new().name("looks".to_owned()).spawn(move || keep_looking(&asked, interval, &happens))?;
    show(&mut screen.0, &happenings, &control_plane)
}

fn show(terminal: &mut DefaultTerminal, happenings: &Receiver<Happening>, control_plane: &str) -> io::Result<()> {
    let mut view = View::new();
    loop {
        terminal.draw(|frame| screen::draw(frame, &view, control_plane))?;
        match happenings.recv() {
            Ok(Happening::Looked(looked)) => view.take(looked),
            Ok(Happening::Pressed(key)) => {
                if view.press(key) == Wish::Quit {
                    return Ok(());
                }
            }
            Ok(Happening::Resized) => {}
            Ok(Happening::Broke(error)) => return Err(error),
            Ok(Happening::Ended) | Err(_) => return Ok(()),
        }
    }
}

/// Looks again and again, also when nothing answers: the control plane may come back.
fn keep_looking(asked: &Asked, interval: Duration, happens: &SyncSender<Happening>) {
    while happens.send(Happening::Looked(asked.look())).is_ok() {
        pause(interval);
    }
}

fn read_keys(happens: &SyncSender<Happening>) {
    loop {
        let happening = match event::read() {
            Ok(Event::Key(key)) => Happening::Pressed(key),
            Ok(Event::Resize(..)) => Happening::Resized,
            Ok(_) => continue,
            Err(error) => Happening::Broke(error),
        };
        let is_over = matches!(happening, Happening::Broke(_));
        if happens.send(happening).is_err() || is_over {
            return;
        }
    }
}

/// Signals are listened for from here on, so that none finds the terminal changed and nobody to restore it.
fn spawn_signals(happens: SyncSender<Happening>) -> io::Result<()> {
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
        drop(happens.send(Happening::Ended));
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}
