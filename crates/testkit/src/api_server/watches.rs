//! The open watches, and the ways in which a test ends them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::objects::Objects;
use crate::pulse::Pulse;

/// The open watches.
#[derive(Debug)]
pub struct Watches {
    state: Mutex<OpenWatches>,
    objects: Arc<Objects>,
    pulse: Pulse,
}

#[derive(Debug, Default)]
struct OpenWatches {
    open: Vec<Open>,
    opened: u64,
}

#[derive(Debug)]
struct Open {
    id: u64,
    plural: &'static str,
    commands: mpsc::UnboundedSender<Command>,
}

/// A command to a watch, executed after it has sent all changes up to a version and before later ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    pub(super) after: u64,
    pub(super) action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// The connection breaks.
    Break,
    /// The server ends the stream regularly.
    End,
    /// The server reports that its resource version is too old, and ends the stream.
    Gone,
    /// The server sends a bookmark.
    Bookmark,
    /// The server sends the last change again.
    Repeat,
    /// Nothing arrives any more, and the connection does not end either.
    Silence,
}

/// An open watch, until it is dropped.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    watches: &'a Watches,
    id: u64,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
}

impl Watches {
    pub(super) fn new(objects: Arc<Objects>, pulse: Pulse) -> Self {
        Self { objects, pulse, state: Mutex::default() }
    }

    /// The number of open watches of a resource.
    pub fn count(&self, plural: &str) -> usize {
        self.state().open.iter().filter(|open| open.plural == plural).count()
    }

    /// Breaks the connections of all watches.
    pub fn break_all(&self) {
        self.command(Action::Break);
    }

    /// Ends all watches regularly, as the server does after some minutes.
    pub fn end_all(&self) {
        self.command(Action::End);
    }

    /// Ends all watches with an ERROR event of 410 Gone.
    pub fn gone_all(&self) {
        self.command(Action::Gone);
    }

    /// Sends a bookmark to all watches that asked for them.
    pub fn bookmark_all(&self) {
        self.command(Action::Bookmark);
    }

    /// Sends the last change again to all watches.
    pub fn repeat_all(&self) {
        self.command(Action::Repeat);
    }

    /// All open watches stop without an end, as when the network drops every packet.
    pub fn silence_all(&self) {
        self.command(Action::Silence);
    }

    pub(super) fn open(&self, plural: &'static str) -> Opened<'_> {
        let (sender, commands) = mpsc::unbounded_channel();
        let mut state = self.state();
        state.opened += 1;
        let id = state.opened;
        state.open.push(Open { id, plural, commands: sender });
        drop(state);
        self.pulse.beat();
        Opened { watches: self, id, commands }
    }

    fn command(&self, action: Action) {
        let command = Command { after: self.objects.version(), action };
        for open in &self.state().open {
            // A watch that is just ending needs no command.
            let _ = open.commands.send(command);
        }
    }

    fn state(&self) -> MutexGuard<'_, OpenWatches> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.watches.state().open.retain(|open| open.id != self.id);
        self.watches.pulse.beat();
    }
}
