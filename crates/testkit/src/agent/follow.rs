//! Streams that send a message whenever its content changes.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::Status;

use super::entry::{Answer, CurrentAnswer};
use super::world::{World, WorldState};

pub(super) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A subscription, counted as long as it is open.
struct Open(Arc<World>);

impl Open {
    fn new(world: Arc<World>) -> Self {
        world.change(|state| {
            state.subscriptions.now += 1;
            state.subscriptions.ever += 1;
        });
        Open(world)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.change(|state| state.subscriptions.now -= 1);
    }
}

struct Following<F> {
    open: Open,
    beats: watch::Receiver<u64>,
    sent: Option<u64>,
    look: F,
    over: bool,
}

/// A message, made by `message`, whenever the result of `current` changes. An error ends the stream.
pub(super) fn follow<T: Send + 'static>(
    world: &Arc<World>,
    current: impl Fn(&WorldState) -> Option<&CurrentAnswer> + Send + 'static,
    message: impl Fn(&WorldState, &CurrentAnswer) -> Option<T> + Send + 'static,
) -> Messages<T> {
    each(world, move |state, sent| {
        let current = current(state)?;
        match &current.answer {
            _ if sent == Some(current.version) => None,
            Answer::Refused(status) => Some((current.version, Err(status.clone()))),
            Answer::Silence => None,
            Answer::Svids(_) => message(state, current).map(|message| (current.version, Ok(message))),
        }
    })
}

/// A message whenever the version of the data for everyone changes.
pub(super) fn follow_state<T: Send + 'static>(
    world: &Arc<World>,
    look: impl Fn(&WorldState) -> (u64, T) + Send + 'static,
) -> Messages<T> {
    each(world, move |state, sent| {
        let (version, message) = look(state);
        (sent != Some(version)).then_some((version, Ok(message)))
    })
}

fn each<T: Send + 'static>(
    world: &Arc<World>,
    look: impl Fn(&WorldState, Option<u64>) -> Option<(u64, Result<T, Status>)> + Send + 'static,
) -> Messages<T> {
    let beats = world.pulse.listen();
    let following = Following { open: Open::new(world.clone()), beats, sent: None, look, over: false };
    Box::pin(futures::stream::unfold(following, |mut following| async move {
        while !following.over {
            following.beats.mark_unchanged();
            let found = following.open.0.look(|state| (following.look)(state, following.sent));
            if let Some((version, message)) = found {
                following.sent = Some(version);
                following.over = message.is_err();
                return Some((message, following));
            }
            following.beats.changed().await.ok()?;
        }
        None
    }))
}
