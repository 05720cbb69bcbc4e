//! The driver's configuration: the typed form of its flags, without contradictions. The room that uses a part
//! describes it.

use svid_csi_core::spiffe_id::TrustDomain;

use super::admin::AdminConfig;
use super::kubelet::config::KubeletConfig;
use crate::delivery::socket_dir::AgentDir;
use crate::host::data_root::DataConfig;
use crate::kube::client::ClientOptions;
use crate::source::broker::config::BrokerConfig;
use crate::source::cert_manager::config::CertManagerConfig;
use crate::source::local_ca::LocalCaConfig;

/// The configuration of one driver process.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node, and the drivers that the kubelet finds on it.
    pub kubelet: KubeletConfig,
    /// The folder for volume data and records; without it only passthrough works.
    pub data: Option<DataConfig>,
    /// The agent's socket directory, for passthrough plans.
    pub agent: Option<AgentDir>,
    /// The Broker API of an agent, for `broker` plans.
    pub broker: Option<BrokerConfig>,
    /// The configuration of cert-manager, for `cert-manager` plans.
    pub cert_manager: Option<CertManagerConfig>,
    /// The embedded certificate authority, for `local-ca` plans.
    pub local_ca: Option<LocalCaConfig>,
    /// How to reach the API server.
    pub client: ClientOptions,
    /// The endpoints for monitoring and for administrators.
    pub admin: AdminConfig,
}

impl Config {
    /// Whether the drivers of all nodes publish their local CAs to each other.
    pub(super) fn shares_roots(&self) -> bool {
        self.local_ca.as_ref().is_some_and(|local_ca| local_ca.roots.is_some())
    }

    /// The trust domain of every identity that this driver issues.
    pub(super) fn trust_domain(&self) -> Option<&TrustDomain> {
        let cert_manager = self.cert_manager.as_ref().map(|cert_manager| &cert_manager.trust_domain);
        cert_manager.or(self.local_ca.as_ref().map(|local_ca| &local_ca.trust_domain))
    }
}
