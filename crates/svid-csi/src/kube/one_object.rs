//! One object of the API server, followed by its name: one list and one watch, which also is what a role that names the
//! object allows.

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

/// A failure after so long a time without one is the beginning of something new.
const CALM: Duration = Duration::from_secs(120);

/// Why an object cannot be read now.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A role is missing.
    #[error("not allowed to read the {object}: grant this service account the verbs get, list and watch on it")]
    Forbidden {
        /// Its kind and name.
        object: String,
        /// The API server's error.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is no such kind.
    #[error("the {object} cannot be read: the API server does not know this kind of object")]
    NotServed {
        /// Its kind and name.
        object: String,
    },
    /// Anything else, which may pass.
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
    /// The error of a call about the object, which is named by its kind and name.
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

/// One object that is followed.
pub struct OneObject<K> {
    api: Api<K>,
    name: String,
    /// What it is, for people.
    object: String,
    states: Option<BoxStream<'static, watcher::Result<Option<K>>>>,
    backoff: DefaultBackoff,
    pause: bool,
    told: Option<(Instant, String)>,
}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + 'static> OneObject<K> {
    /// To follow the object `name`, which `object` calls by its kind and name.
    pub fn new(api: Api<K>, name: String, object: String) -> Self {
        Self { api, name, object, states: None, backoff: DefaultBackoff::default(), pause: false, told: None }
    }

    /// Waits for the next state of the object, the present one at first; none when there is no such object.
    ///
    /// The same state may come twice. After an error it is read afresh, not before a pause that grows from 0.8 to 30
    /// seconds.
    ///
    /// # Errors
    /// [`ReadError`], which has been logged unless it is one of a series, or `NotServed`. To continue, just ask for the next
    /// state.
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
                // The caller may know another version to ask for.
                Some(error @ ReadError::NotServed { .. }) => return Err(error),
                Some(error) => {
                    self.tell(&error);
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
            // A watch is silent for as long as nothing happens, and ends by itself when its connection is dead.
            Some(states) => Ok(states.next().await),
            None => {
                let states = self.states.insert(watch_object(self.api.clone(), &self.name).boxed());
                timeout(CALL_TIMEOUT, states.next()).await
            }
        }
    }

    fn tell(&mut self, error: &ReadError) {
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
