//! The current issuer: the one in a ConfigMap, which may appear, change and disappear, else the one in the flags.

use std::convert::Infallible;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use svid_csi_core::cert_request::IssuerRef;
use svid_csi_core::runtime_issuer::{self, ConfigMapPlace};
use tokio::sync::watch;
use tracing::{error, info};

use crate::followed_value::FollowedValue;
use crate::kube::call::within;
use crate::kube::client::CALL_TIMEOUT;
use crate::kube::one_object::{OneObject, ReadError};
use crate::tasks::Tasks;
use crate::telemetry::report;

/// The current issuer. While the ConfigMap is broken or cannot be read, the last one is kept.
#[derive(Debug, Clone)]
pub struct RuntimeIssuer {
    config_map: Api<ConfigMap>,
    place: ConfigMapPlace,
    from_flags: Option<IssuerRef>,
    current: watch::Receiver<Option<IssuerRef>>,
    trouble: watch::Receiver<Option<String>>,
    answered: watch::Receiver<bool>,
}

impl RuntimeIssuer {
    /// Follows the ConfigMap. Until it has been read, the issuer of the flags counts, see [`answered`](Self::answered).
    /// `restarts` counts interruptions of the watch.
    pub fn start(
        client: Client,
        place: ConfigMapPlace,
        from_flags: Option<IssuerRef>,
        restarts: Counter,
        tasks: &Tasks,
    ) -> Self {
        let config_map = Api::namespaced(client, &place.namespace);
        let last = FollowedValue::new(from_flags.clone());
        let (has_answered, answered) = watch::channel(false);
        let (current, trouble) = (last.value(), last.trouble());
        let this = Self { config_map, place, from_flags, current, trouble, answered };
        let follower = RuntimeIssuerFollower { issuer: this.clone(), last, has_answered };
        tasks.detached(async move { match follower.follow(restarts).await {} });
        this
    }

    /// The current issuer and its changes. Without an issuer, nothing can be requested.
    pub fn current(&self) -> watch::Receiver<Option<IssuerRef>> {
        self.current.clone()
    }

    /// Why the current issuer may differ from the ConfigMap, if it may.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Waits until the API server has answered for the first time, with the ConfigMap or an error. Right
    /// after startup, requests for the issuer of the flags may be for the wrong one.
    pub async fn answered(&self) {
        // An error means that the process is ending.
        let _ = self.answered.clone().wait_for(|answered| *answered).await;
    }

    /// The current issuer, read from the API server, because a watch may lag. If the ConfigMap is broken, the last good
    /// one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_now(&self) -> Result<Option<IssuerRef>, ReadError> {
        let object = self.object();
        let read = within(CALL_TIMEOUT, self.config_map.get_opt(&self.place.name)).await;
        match read.map_err(|error| ReadError::new(&object, error.into()))? {
            None => Ok(self.from_flags.clone()),
            Some(map) => match runtime_issuer::read(&self.place, &map.data.unwrap_or_default()) {
                Ok(issuer) => Ok(Some(issuer)),
                Err(_incomplete) => Ok(self.current.borrow().clone()),
            },
        }
    }

    fn object(&self) -> String {
        format!("ConfigMap {} (--runtime-issuance-config-map-name)", self.place)
    }
}

struct RuntimeIssuerFollower {
    issuer: RuntimeIssuer,
    last: FollowedValue<Option<IssuerRef>>,
    has_answered: watch::Sender<bool>,
}

impl RuntimeIssuerFollower {
    async fn follow(mut self, restarts: Counter) -> Infallible {
        let RuntimeIssuer { config_map, place, .. } = &self.issuer;
        let mut states = OneObject::new(config_map.clone(), &place.name, self.issuer.object(), restarts);
        loop {
            let state = states.next().await;
            let answered = !matches!(state, Err(ReadError::Failed { .. }));
            match state {
                Ok(Some(map)) => self.present(map),
                Ok(None) => self.absent(),
                Err(error) => self.last.out_of_sight(report::chain(&error)),
            }
            if answered {
                self.has_answered.send_replace(true);
            }
        }
    }

    fn present(&mut self, map: ConfigMap) {
        match runtime_issuer::read(&self.issuer.place, &map.data.unwrap_or_default()) {
            Ok(issuer) => {
                let IssuerRef { name, kind, group } = &issuer;
                let reference = format!("{kind}.{group}/{name}");
                if self.last.good(Some(issuer)) {
                    info!(issuer = reference, config_map = %self.issuer.place, "issuer updated from the ConfigMap");
                }
            }
            Err(incomplete) => {
                if self.last.broken(incomplete.to_string()) {
                    error!(
                        error = report::chain(&incomplete),
                        "the ConfigMap of --runtime-issuance-config-map-name is invalid; using the last issuer"
                    );
                }
            }
        }
    }

    fn absent(&mut self) {
        let changed = self.last.good(self.issuer.from_flags.clone());
        if changed || !*self.has_answered.borrow() {
            let config_map = &self.issuer.place;
            match &self.issuer.from_flags {
                Some(IssuerRef { name, .. }) => {
                    info!(%config_map, name, "the ConfigMap of --runtime-issuance-config-map-name does not exist; using the issuer from the flags");
                }
                None => {
                    error!(%config_map, "no issuer: the ConfigMap of --runtime-issuance-config-map-name does not exist, and --issuer-name is not set")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
