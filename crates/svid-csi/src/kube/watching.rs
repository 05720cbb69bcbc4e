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
use tokio::time::{Instant, timeout};

use super::call::within;
use super::client::CALL_TIMEOUT;
use super::error;
use crate::telemetry::report;

/// The API server's code for a version that it no longer remembers.
pub const GONE: u16 = 410;

/// After its planned duration and this grace period, a silent watch counts as dead. One that ends that much too early was
/// interrupted.
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
/// It differs from the watcher of kube in three ways. It reports when the watch starts (again), because on a quiet node
/// no event may arrive for hours. And it also lists again if the API server answers the attempt to watch with 410 Gone,
/// not only if an event says so; the other would request the same version forever. And it lists again if an older state
/// of the cluster was restored: a watch from a version of the future is accepted, but never has an event.
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
    Listing {
        next: Option<String>,
    },
    Listed {
        version: String,
    },
    /// In the meantime an older state may have been restored.
    Interrupted {
        version: String,
    },
    Watched {
        version: String,
        since: Instant,
        events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    },
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
                WatchState::Interrupted { version } => {
                    let version = version.clone();
                    let is_older = is_older(&self.current_version().await?, &version);
                    self.state = if is_older { WatchState::Unlisted } else { WatchState::Listed { version } };
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

    /// The version of a list of one object. Not of a list from the server's memory, which ignores limits: others may have
    /// created any number of objects of any size.
    async fn current_version(&mut self) -> Result<String> {
        let mut params = ListParams::default().limit(1);
        params.field_selector.clone_from(&self.selection.fields);
        params.label_selector.clone_from(&self.selection.labels);
        let listed = within(CALL_TIMEOUT, self.api.list(&params)).await;
        let list = listed.map_err(|error| Error::InitialListFailed(error.into()))?;
        list.metadata.resource_version.ok_or(Error::NoResourceVersion)
    }

    async fn watch(&mut self, version: String) -> Result<WatchItem<K>> {
        let mut params = WatchParams::default().timeout(self.selection.lasts);
        params.label_selector.clone_from(&self.selection.labels);
        params.field_selector.clone_from(&self.selection.fields);
        match within(CALL_TIMEOUT, self.api.watch(&params, &version)).await.map_err(kube::Error::from) {
            Ok(events) => {
                self.state = WatchState::Watched { version, since: Instant::now(), events: events.boxed() };
                if std::mem::replace(&mut self.health, WatchHealth::Up) == WatchHealth::Broken {
                    self.restarts.inc();
                }
                Ok(WatchItem::Watched)
            }
            Err(kube::Error::Api(status)) if status.code == GONE => {
                self.state = WatchState::Unlisted;
                Err(Error::WatchError(status))
            }
            Err(error) => {
                self.state = WatchState::Interrupted { version };
                Err(Error::WatchStartFailed(error))
            }
        }
    }

    /// Processes one event of the watch. If the watch ends, it is resumed.
    async fn follow(&mut self) -> Result<()> {
        let WatchState::Watched { version, since, events } = &mut self.state else { return Ok(()) };
        let lasts = Duration::from_secs(u64::from(self.selection.lasts));
        let event = timeout(lasts + GRACE, events.next()).await;
        let is_dead = event.is_err();
        let is_planned_end = !is_dead && since.elapsed() + GRACE >= lasts;
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
                return self.ended(version, ended, is_planned_end);
            }
        };
        *version = object.resource_version().ok_or(Error::NoResourceVersion)?;
        self.pending.push_back(WatchItem::Event(event(object)));
        Ok(())
    }

    fn ended(
        &mut self,
        version: String,
        ended: Option<kube::Result<WatchEvent<K>>>,
        is_planned_end: bool,
    ) -> Result<()> {
        let (state, ended) = match ended {
            Some(Ok(WatchEvent::Error(status))) if status.code == GONE => {
                (WatchState::Unlisted, Err(Error::WatchError(status)))
            }
            Some(Ok(WatchEvent::Error(status))) => {
                (WatchState::Interrupted { version }, Err(Error::WatchError(status)))
            }
            Some(Err(error)) => (WatchState::Interrupted { version }, Err(Error::WatchFailed(error))),
            _ if is_planned_end => (WatchState::Listed { version }, Ok(())),
            _ => (WatchState::Interrupted { version }, Ok(())),
        };
        self.state = state;
        ended
    }
}

/// Whether a resource version is older than another. They are numbers (Kubernetes, KEP-5504); of others nothing is known.
fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(version), Ok(than)) if version < than)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Client;
    use serde_json::json;
    use svid_csi_testkit::api_server::{ApiServer, User};
    use tokio::time::sleep;

    use super::*;

    fn put(server: &ApiServer, name: &str) {
        let metadata = json!({"name": name, "namespace": "shop", "labels": {"app": "web"}});
        server.objects.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}));
    }

    /// The names of the objects that are known after a minute of quiet.
    async fn known(watching: &mut Watching<ConfigMap>, known: &mut BTreeSet<String>) {
        let follow = async {
            loop {
                match watching.next().await {
                    Ok(WatchItem::Event(Event::Init)) => known.clear(),
                    Ok(WatchItem::Event(Event::InitApply(map) | Event::Apply(map))) => _ = known.insert(map.name_any()),
                    Ok(WatchItem::Event(Event::Delete(map))) => _ = known.remove(&map.name_any()),
                    Ok(WatchItem::Event(Event::InitDone) | WatchItem::Watched) => {}
                    Err(_) => sleep(Duration::from_secs(1)).await,
                }
            }
        };
        assert!(timeout(Duration::from_secs(60), follow).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_older_state_was_restored_everything_is_listed_again() {
        for (labels, ends) in [(None, false), (Some("app=web"), false), (None, true)] {
            let server = ApiServer::start();
            server.users.accept("token", User::service_account("shop", "svid-csi"));
            server.permissions.everything();
            let api = Api::all(Client::new(server.service("token"), "default"));
            let selection = Selection { labels: labels.map(str::to_owned), fields: None, page: 10, lasts: 300 };
            let (mut watching, mut names) = (Watching::new(api, selection, Counter::default()), BTreeSet::new());
            put(&server, "before");
            let backup = server.objects.backup();
            for number in 0..30 {
                put(&server, &format!("lost-{number}"));
            }
            known(&mut watching, &mut names).await;
            assert_eq!(names.len(), 31);
            server.objects.restore(backup);
            if ends {
                server.watches.end_all()
            } else {
                server.watches.break_all()
            }
            put(&server, "after");
            known(&mut watching, &mut names).await;
            assert_eq!(names, BTreeSet::from(["before", "after"].map(str::to_owned)), "{labels:?}");
            put(&server, "later");
            known(&mut watching, &mut names).await;
            assert!(names.contains("later"));
        }
    }
}
