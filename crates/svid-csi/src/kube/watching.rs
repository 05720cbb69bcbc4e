//! All objects of a kind, by one list and one watch.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::api::{ListParams, WatchParams};
use kube::core::WatchEvent;
use kube::runtime::watcher::{Error, Event, Result};
use kube::{Api, Resource, ResourceExt};
use prometheus_client::metrics::counter::Counter;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::call::within;
use super::client::CALL_TIMEOUT;
use super::error;
use crate::telemetry::report;

/// The API server's code for a version that it no longer remembers.
pub const GONE: u16 = 410;

/// After its planned duration and this grace period, a silent watch counts as dead.
const GRACE: Duration = Duration::from_secs(5);

/// A report about the objects.
#[derive(Debug)]
pub enum WatchItem<K> {
    /// The API server has accepted the watch; changes arrive from now on.
    Watched,
    /// An object, or the beginning or end of a list.
    Event(Event<K>),
}

/// The objects to follow, and how.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Their labels; empty for all objects.
    pub labels: Option<String>,
    /// A selector of their fields; empty for all objects.
    pub fields: Option<String>,
    /// The number of objects per page of a list.
    pub page: u32,
    /// How long a watch lasts before it is resumed, in seconds. Then a dead connection is noticed.
    pub lasts: u32,
}

/// The followed objects.
///
/// It differs from the watcher of kube in two ways. It reports when the watch starts (again), because on a quiet node
/// no event may arrive for hours. And it also lists again if the API server answers the attempt to watch with 410 Gone,
/// not only if an event says so; the other would request the same version forever.
pub struct Watching<K> {
    api: Api<K>,
    selection: Selection,
    pending: VecDeque<WatchItem<K>>,
    state: WatchState<K>,
    health: WatchHealth,
    restarts: Counter,
}

/// Whether the watch has been interrupted. Its planned end does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchHealth {
    Never,
    Up,
    Broken,
}

enum WatchState<K> {
    Unlisted,
    Listing { next: Option<String> },
    Listed { version: String },
    Watched { version: String, events: BoxStream<'static, kube::Result<WatchEvent<K>>> },
}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + 'static> Watching<K> {
    /// Prepares to follow objects; nothing is requested yet. `restarts` counts how often the watch is established again after
    /// an interruption.
    pub fn new(api: Api<K>, selection: Selection, restarts: Counter) -> Self {
        Self {
            api,
            selection,
            pending: VecDeque::new(),
            state: WatchState::Unlisted,
            health: WatchHealth::Never,
            restarts,
        }
    }

    /// Lists all objects again.
    pub fn restart(&mut self) {
        self.pending.clear();
        self.state = WatchState::Unlisted;
    }

    /// The next report. Cancel-safe.
    ///
    /// # Errors
    /// The current failure. The next call retries at once, so the caller must pause.
    pub async fn next(&mut self) -> Result<WatchItem<K>> {
        let next = self.advance().await;
        if next.is_err() {
            self.broken();
        }
        next
    }

    fn broken(&mut self) {
        if self.health == WatchHealth::Up {
            self.health = WatchHealth::Broken;
        }
    }

    async fn advance(&mut self) -> Result<WatchItem<K>> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Ok(item);
            }
            match &mut self.state {
                WatchState::Unlisted => {
                    self.state = WatchState::Listing { next: None };
                    return Ok(WatchItem::Event(Event::Init));
                }
                WatchState::Listing { next } => {
                    let next = next.clone();
                    self.list(next).await?;
                }
                WatchState::Listed { version } => {
                    let version = version.clone();
                    return self.watch(version).await;
                }
                WatchState::Watched { .. } => self.follow().await?,
            }
        }
    }

    async fn list(&mut self, next: Option<String>) -> Result<()> {
        let mut params = ListParams::default().limit(self.selection.page);
        params.label_selector.clone_from(&self.selection.labels);
        params.continue_token = next;
        params.field_selector.clone_from(&self.selection.fields);
        let listed = within(CALL_TIMEOUT, self.api.list(&params)).await;
        self.state = WatchState::Unlisted;
        let list = listed.map_err(|error| Error::InitialListFailed(error.into()))?;
        self.pending.extend(list.items.into_iter().map(|object| WatchItem::Event(Event::InitApply(object))));
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        self.state = match (given(list.metadata.continue_), given(list.metadata.resource_version)) {
            (Some(next), _) => WatchState::Listing { next: Some(next) },
            (None, Some(version)) => {
                self.pending.push_back(WatchItem::Event(Event::InitDone));
                WatchState::Listed { version }
            }
            (None, None) => return Err(Error::NoResourceVersion),
        };
        Ok(())
    }

    async fn watch(&mut self, version: String) -> Result<WatchItem<K>> {
        let mut params = WatchParams::default().timeout(self.selection.lasts);
        params.label_selector.clone_from(&self.selection.labels);
        params.field_selector.clone_from(&self.selection.fields);
        match within(CALL_TIMEOUT, self.api.watch(&params, &version)).await.map_err(kube::Error::from) {
            Ok(events) => {
                self.state = WatchState::Watched { version, events: events.boxed() };
                if std::mem::replace(&mut self.health, WatchHealth::Up) == WatchHealth::Broken {
                    self.restarts.inc();
                }
                Ok(WatchItem::Watched)
            }
            Err(kube::Error::Api(status)) if status.code == GONE => {
                self.state = WatchState::Unlisted;
                Err(Error::WatchError(status))
            }
            Err(error) => Err(Error::WatchStartFailed(error)),
        }
    }

    /// Processes one event of the watch. If the watch ends, it is resumed.
    async fn follow(&mut self) -> Result<()> {
        let WatchState::Watched { version, events } = &mut self.state else { return Ok(()) };
        let silence = Duration::from_secs(u64::from(self.selection.lasts)) + GRACE;
        let event = timeout(silence, events.next()).await;
        let is_dead = event.is_err();
        let event = event.unwrap_or_default();
        let (object, event): (_, fn(K) -> Event<K>) = match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => (object, Event::Apply),
            Some(Ok(WatchEvent::Deleted(object))) => (object, Event::Delete),
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                *version = bookmark.metadata.resource_version;
                return Ok(());
            }
            ended => {
                let version = std::mem::take(version);
                if is_dead {
                    self.broken();
                }
                return self.ended(version, ended);
            }
        };
        *version = object.resource_version().ok_or(Error::NoResourceVersion)?;
        self.pending.push_back(WatchItem::Event(event(object)));
        Ok(())
    }

    fn ended(&mut self, version: String, ended: Option<kube::Result<WatchEvent<K>>>) -> Result<()> {
        self.state = WatchState::Listed { version };
        match ended {
            Some(Ok(WatchEvent::Error(status))) => {
                if status.code == GONE {
                    self.state = WatchState::Unlisted;
                }
                Err(Error::WatchError(status))
            }
            Some(Err(error)) => Err(Error::WatchFailed(error)),
            _ => Ok(()),
        }
    }
}

/// The error, with the API server's own message if there is one.
pub fn describe(error: &Error) -> String {
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => {
            error::describe(error)
        }
        Error::WatchError(status) => report::one_line(&status.message),
        Error::NoResourceVersion => error.to_string(),
    }
}
