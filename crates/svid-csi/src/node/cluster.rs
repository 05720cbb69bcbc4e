//! What the driver needs of the cluster, where pods get their identities from there.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::plan::{Issuer, Plan};
use tokio::sync::watch;

use super::RunError;
use super::config::{CertManagerConfig, Config};
use crate::kube::client;
use crate::kube::csi_driver::{self, Needs};
use crate::kube::events::Events;
use crate::kube::requester::Requester;
use crate::kube::runtime_issuer::RuntimeIssuer;
use crate::metrics::Metrics;
use crate::source::cert_manager::{CertManager, Followed};
use crate::source::trust_bundle;
use crate::tasks::Tasks;

/// How long a connection may be silent: longer than the watches of single objects, which last 290 s.
const SILENCE: Duration = Duration::from_secs(300);
const COMPONENT: &str = "svid-csi-driver";

/// The source cert-manager and where events go to.
pub(super) struct Cluster {
    pub(super) cert_manager: Arc<CertManager>,
    pub(super) events: Events,
}

impl Cluster {
    /// Makes the clients and follows what the source goes by. Only credentials and the CSIDriver object are checked: an
    /// API server that is away must not keep volumes that are there from being served.
    pub(super) async fn open(
        config: &Config,
        cert_manager: &CertManagerConfig,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<Self, RunError> {
        let mut access = client::config(&cert_manager.client).await?;
        // What fails is tried again here, at our own pace; and a connection that has died is not waited for.
        access.default_retry = false;
        access.read_timeout = Some(SILENCE);
        access.reset_reader_on_write = true;
        let client = client::client(access.clone())?;
        let requester = Requester::new(client.clone(), &access)?;
        check_csi_drivers(config, cert_manager, &client).await?;
        let runtime = cert_manager
            .runtime_issuer
            .clone()
            .map(|place| RuntimeIssuer::start(client.clone(), place, cert_manager.issuer.clone(), tasks));
        let issuer = match &runtime {
            Some(runtime) => runtime.current(),
            None => watch::channel(cert_manager.issuer.clone()).1,
        };
        let bundle = match cert_manager.bundle.clone() {
            Some(source) => Some((source.clone(), trust_bundle::start(source, Some(client.clone()), tasks)?)),
            None => None,
        };
        let followed = Followed { issuer, runtime, bundle };
        let events = Events::new(client.clone(), COMPONENT, config.node_id.clone(), tasks);
        let source =
            CertManager::new(cert_manager.settings.clone(), followed, &client, requester, metrics, tasks.clone());
        source.start(client);
        Ok(Self { cert_manager: Arc::new(source), events })
    }
}

async fn check_csi_drivers(
    config: &Config,
    cert_manager: &CertManagerConfig,
    client: &kube::Client,
) -> Result<(), RunError> {
    let needs = Needs { tokens: cert_manager.settings.pods_ask };
    let asks = |plan: &Plan| plan.issuer() == Some(Issuer::CertManager);
    for driver in config.drivers.iter().filter(|driver| driver.allowed_plans.iter().any(asks)) {
        csi_driver::check(client, &driver.name, needs).await?;
    }
    Ok(())
}
