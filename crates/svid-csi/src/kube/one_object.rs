//! One object of the API server, followed by its name: by one list and one watch, which a role that names the object
//! also allows.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::watcher::{self, DefaultBackoff, watch_object};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use crate::kube::client::CALL_TIMEOUT;
use crate::kube::watching::GONE;
use crate::telemetry::report;

/// After that long without a failure, the next failure counts as the first of a new series.
const CALM: Duration = Duration::from_secs(120);

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
            error => Self::Failed { object, source: error.into() },
        }
    }

    /// The API server did not answer in time.
    pub fn slow(object: &str) -> Self {
        let source = format!("no answer within {} seconds", CALL_TIMEOUT.as_secs());
        Self::Failed { object: object.to_owned(), source: source.into() }
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
    api: Api<K>,
    name: String,
    /// Its description, for people.
    object: String,
    states: Option<BoxStream<'static, watcher::Result<Option<K>>>>,
    backoff: DefaultBackoff,
    pause: bool,
    told: Option<(Instant, String)>,
}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + 'static> OneObject<K> {
    /// Follows the object `name`; `object` is its kind and name.
    pub fn new(api: Api<K>, name: String, object: String) -> Self {
        Self { api, name, object, states: None, backoff: DefaultBackoff::default(), pause: false, told: None }
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
            let error = match self.step().await {
                Ok(Some(Ok(state))) => return Ok(state),
                Ok(Some(Err(watcher::Error::WatchError(status)))) if status.code == GONE => None,
                Ok(Some(Err(error))) => Some(ReadError::watching(&self.object, error)),
                Ok(None) => None,
                Err(_elapsed) => Some(ReadError::slow(&self.object)),
            };
            self.states = None;
            self.pause = true;
            match error {
                None => {}
                // The caller may know another version to read.
                Some(error @ ReadError::NotServed { .. }) => return Err(error),
                Some(error) => {
                    self.log_failure(&error);
                    return Err(error);
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<watcher::Result<Option<K>>>, Elapsed> {
        if std::mem::take(&mut self.pause) {
            sleep(self.backoff.next().unwrap_or(CALM)).await;
        }
        match &mut self.states {
            // A watch is silent as long as nothing happens, and ends by itself when its connection is dead.
            Some(states) => Ok(states.next().await),
            None => {
                let states = self.states.insert(watch_object(self.api.clone(), &self.name).boxed());
                timeout(CALL_TIMEOUT, states.next()).await
            }
        }
    }

    fn log_failure(&mut self, error: &ReadError) {
        let (now, text) = (Instant::now(), error.to_string());
        let of_a_series = self.told.as_ref().is_some_and(|(at, known)| now - *at < CALM && *known == text);
        self.told = Some((now, text));
        let error = report::chain(error);
        if of_a_series {
            debug!(error, "still cannot read the {}", self.object);
        } else {
            warn!(error, "cannot read the {}; using the last known value", self.object);
        }
    }
}
