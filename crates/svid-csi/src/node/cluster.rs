//! The driver's peers other than the kubelet: the cluster, and an agent.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::plan::Issuer;
use tokio::sync::watch;
use tracing::info;

use super::RunError;
use super::config::Config;
use super::kubelet::config::DriverName;
use crate::kube::client::{self, ClientError, ClientOptions};
use crate::kube::csi_driver::{self, Needs};
use crate::kube::events::{Events, node_reference};
use crate::kube::requester::Requester;
use crate::kube::runtime_issuer::RuntimeIssuer;
use crate::kube::taint::StartupTaint;
use crate::source::broker::Broker;
use crate::source::cert_manager::config::CertManagerConfig;
use crate::source::cert_manager::{CertManager, Followed};
use crate::source::trust_bundle;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;

/// The maximum silence on a connection, which is longer than the watches of single objects, which last 290 s.
const SILENCE: Duration = Duration::from_secs(300);
const COMPONENT: &str = "svid-csi-driver";

/// The sources that call a server, and the sender of events.
#[derive(Default)]
pub(super) struct Clients {
    pub(super) cert_manager: Option<Arc<CertManager>>,
    pub(super) broker: Option<Broker>,
    pub(super) events: Option<Events>,
    /// For uses that need the API server; shared by all, because connections use most of the memory.
    pub(super) api: Option<kube::Client>,
}

/// The source cert-manager and the sender of events.
struct Cluster {
    cert_manager: Arc<CertManager>,
    events: Events,
}

impl Clients {
    /// Creates the clients that are needed. The servers need not be available yet.
    pub(super) async fn open(config: &Config, metrics: &Arc<Metrics>, tasks: &Tasks) -> Result<Self, RunError> {
        let needs_api =
            config.cert_manager.is_some() || config.shares_roots() || config.kubelet.startup_taint.is_some();
        let access = if needs_api { Some(access(&config.client).await?) } else { None };
        let api = access.as_ref().map(client::client).transpose()?;
        check_csi_drivers(config, api.as_ref()).await?;
        let cluster = match (&config.cert_manager, &access, &api) {
            (Some(cert_manager), Some(access), Some(client)) => {
                Some(Cluster::open(config, cert_manager, access, client.clone(), metrics.clone(), tasks).await?)
            }
            _ => None,
        };
        let (cert_manager, events) = cluster.map(|cluster| (cluster.cert_manager, cluster.events)).unzip();
        let Some(broker) = config.broker.clone() else {
            return Ok(Clients { cert_manager, broker: None, events, api });
        };
        let events = match events {
            Some(events) => Some(events),
            None => events_beside_broker(config, tasks).await?,
        };
        let broker = Broker::open(broker, metrics.clone(), events.clone(), tasks);
        if let Some(events) = &events {
            broker.report_absence(events.clone(), node_reference(&config.kubelet.node_id));
        }
        Ok(Clients { cert_manager, broker: Some(broker), events, api })
    }

    /// The taint to remove from this node, if there is one.
    pub(super) fn startup_taint(&self, config: &Config) -> Option<StartupTaint> {
        let (key, client) = (config.kubelet.startup_taint.as_deref()?, self.api.clone()?);
        Some(StartupTaint::new(client, &config.kubelet.node_id, key))
    }
}

impl Cluster {
    /// Follows the configured objects of the source.
    async fn open(
        config: &Config,
        cert_manager: &CertManagerConfig,
        access: &kube::Config,
        client: kube::Client,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<Self, RunError> {
        let requester = Requester::new(client.clone(), access)?;
        let runtime = cert_manager.runtime_issuer.clone().map(|place| {
            let (from_flags, restarts) = (cert_manager.issuer.clone(), metrics.watch_restarts("ConfigMap"));
            RuntimeIssuer::start(client.clone(), place, from_flags, restarts, tasks)
        });
        let issuer = match &runtime {
            Some(runtime) => runtime.current(),
            None => watch::channel(cert_manager.issuer.clone()).1,
        };
        let bundle = match cert_manager.bundle.clone() {
            Some(source) => Some((source.clone(), trust_bundle::start(source, Some(client.clone()), &metrics, tasks)?)),
            None => None,
        };
        let followed = Followed { issuer, runtime, bundle };
        let events = Events::new(client.clone(), COMPONENT, config.kubelet.node_id.clone(), tasks);
        let source =
            CertManager::new(cert_manager.settings.clone(), followed, &client, requester, metrics, tasks.clone());
        source.start(client);
        Ok(Self { cert_manager: Arc::new(source), events })
    }
}

/// The client for watches.
async fn access(options: &ClientOptions) -> Result<kube::Config, ClientError> {
    let mut access = client::config(options).await?;
    // The caller retries failures at its own pace, and does not wait for a dead connection.
    access.default_retry = false;
    access.read_timeout = Some(SILENCE);
    access.reset_reader_on_write = true;
    Ok(access)
}

/// The sender of events when pods get their identities from a broker, which works without a cluster; `None` outside of
/// a cluster.
async fn events_beside_broker(config: &Config, tasks: &Tasks) -> Result<Option<Events>, RunError> {
    match client::config(&config.client).await {
        Ok(access) => Ok(Some(Events::new(client::client(&access)?, COMPONENT, config.kubelet.node_id.clone(), tasks))),
        Err(error @ ClientError::InCluster(_)) => {
            info!(why = report::chain(&error), "events for pods are not sent");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks, if it can read them, that the CSIDriver objects have the fields that the plans with an issuer need: without
/// `podInfoOnMount`, the pod info in a request may come from the pod's author. If the API server is down, existing
/// volumes must be served nevertheless.
async fn check_csi_drivers(config: &Config, api: Option<&kube::Client>) -> Result<(), RunError> {
    let issues = |driver: &&DriverName| driver.allowed_plans.iter().any(|plan| plan.issuer().is_some());
    let drivers: Vec<_> = config.kubelet.drivers.iter().filter(issues).collect();
    if drivers.is_empty() {
        return Ok(());
    }
    let own = match api {
        Some(client) => client.clone(),
        None => match client::config(&config.client).await.and_then(|access| client::client(&access)) {
            Ok(client) => client,
            Err(error) => {
                info!(
                    why = report::chain(&error),
                    "CSIDriver objects cannot be checked; they must have podInfoOnMount: true"
                );
                return Ok(());
            }
        },
    };
    let pods_ask = config.cert_manager.as_ref().is_some_and(|cert_manager| cert_manager.settings.pods_ask);
    for driver in drivers {
        let has_cert_manager = driver.allowed_plans.iter().any(|plan| plan.issuer() == Some(Issuer::CertManager));
        csi_driver::check(&own, &driver.name, Needs { tokens: pods_ask && has_cert_manager }).await?;
    }
    Ok(())
}
