//! One object of the API server, followed by its name: by one list and one watch, which a role that names the object
//! also allows.

use std::error::Error;
use std::fmt::Debug;

use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use prometheus_client::metrics::counter::Counter;
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::backoff::Backoff;
use crate::kube::watching::{GONE, Selection, WatchItem, Watching};
use crate::telemetry::report;
use crate::telemetry::reported::Reported;

/// More than one object never matches, but a server may still answer in pages.
const PAGE: u32 = 500;
/// How long a watch lasts before it is resumed, in seconds, as with kube's watcher.
const LASTS: u32 = 290;

/// Why an object cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A permission is missing.
    #[error("not allowed to read the {object}: grant this service account the verbs get, list and watch on it")]
    Forbidden {
        /// Its kind and name.
        object: String,
        /// The API server's error.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The kind does not exist.
    #[error("the {object} cannot be read: the API server does not know this kind of object")]
    NotServed {
        /// Its kind and name.
        object: String,
    },
    /// Any other error, which may be temporary.
    #[error("the {object} cannot be read at the moment")]
    Failed {
        /// Its kind and name.
        object: String,
        /// The error.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ReadError {
    /// The error of a call about the object with that kind and name.
    pub fn new(object: &str, error: kube::Error) -> Self {
        let object = object.to_owned();
        match error {
            kube::Error::Api(status) if status.is_forbidden() => Self::Forbidden { object, source: status },
            kube::Error::Api(status) if status.is_not_found() => Self::NotServed { object },
            kube::Error::Api(status) => Self::Failed { object, source: status },
            kube::Error::Service(source) => Self::Failed { object, source },
            error => Self::Failed { object, source: error.into() },
        }
    }

    fn watching(object: &str, error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::new(object, error),
            watcher::Error::WatchError(status) => Self::new(object, kube::Error::Api(status)),
            error => Self::Failed { object: object.to_owned(), source: error.into() },
        }
    }
}

/// One followed object.
pub struct OneObject<K> {
    watching: Watching<K>,
    /// Its description, for people.
    object: String,
    /// The object of the list that is being read.
    listed: Option<K>,
    backoff: Backoff,
    pause: bool,
    reported: Reported,
}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + 'static> OneObject<K> {
    /// Follows the object `name`; `object` is its kind and name. `restarts` counts interruptions of the watch.
    pub fn new(api: Api<K>, name: &str, object: String, restarts: Counter) -> Self {
        let selection =
            Selection { labels: None, fields: Some(format!("metadata.name={name}")), page: PAGE, lasts: LASTS };
        let (watching, backoff) = (Watching::new(api, selection, restarts), Backoff::for_watches());
        Self { watching, object, listed: None, backoff, pause: false, reported: Reported::default() }
    }

    /// Waits for the next state of the object, which is first the current one; `None` if the object does not exist.
    ///
    /// The same state may occur twice. After an error it is read again, after a pause that grows from 0.8 to 30
    /// seconds.
    ///
    /// # Errors
    /// [`ReadError`], which has been logged unless it is one of a series, or `NotServed`. To continue, wait for the
    /// next state.
    pub async fn next(&mut self) -> Result<Option<K>, ReadError> {
        loop {
            if std::mem::take(&mut self.pause) {
                sleep(self.backoff.delay()).await;
            }
            let error = match self.watching.next().await {
                Ok(WatchItem::Watched) => continue,
                Ok(WatchItem::Event(event)) => match event {
                    Event::Init => continue,
                    Event::InitApply(object) => {
                        self.listed = Some(object);
                        continue;
                    }
                    Event::InitDone => return Ok(self.listed.take()),
                    Event::Apply(object) => return Ok(Some(object)),
                    Event::Delete(_) => return Ok(None),
                },
                Err(error) => error,
            };
            self.watching.restart();
            self.listed = None;
            self.pause = true;
            if self.backoff.failed() {
                self.reported.ends();
            }
            match error {
                watcher::Error::WatchError(status) if status.code == GONE => {}
                error => {
                    let error = ReadError::watching(&self.object, error);
                    // Of these the caller may know another version to read.
                    if !matches!(error, ReadError::NotServed { .. }) {
                        self.log_failure(&error);
                    }
                    return Err(error);
                }
            }
        }
    }

    fn log_failure(&mut self, error: &ReadError) {
        let is_new = self.reported.is_new(error.to_string());
        let error = report::chain(error);
        if is_new {
            warn!(error, "cannot read the {}; using the last known value", self.object);
        } else {
            debug!(error, "still cannot read the {}", self.object);
        }
    }
}
