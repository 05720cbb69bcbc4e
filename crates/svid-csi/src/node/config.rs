//! The driver's configuration: the typed form of its flags, free of contradictions.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use svid_csi_core::files::FileNames;
use svid_csi_core::plan::Plan;
use svid_csi_core::runtime_issuer::ConfigMapPlace;
use svid_csi_core::spiffe_id::TrustDomain;

use crate::delivery::socket_dir::AgentDir;
use crate::kube::client::ClientOptions;
use crate::source::broker::config::BrokerConfig;
use crate::source::cert_manager::config::CertManagerConfig;
use crate::source::local_ca::LocalCaConfig;

/// Everything one driver process needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The driver names served, each on a CSI socket of its own; at least one.
    pub drivers: Vec<DriverName>,
    /// The node's name, answered by NodeGetInfo.
    pub node_id: String,
    /// Where volume data and records live; without it only passthrough works.
    pub data_root: Option<PathBuf>,
    /// Upper bound of the volume data on this node, in bytes.
    pub data_size: u64,
    /// The kubelet's root directory. When set, targets must lie in its `pods` folder.
    pub kubelet_dir: Option<PathBuf>,
    /// The kubelet's plugin registration folder. When set, the driver registers itself.
    pub registration_dir: Option<PathBuf>,
    /// The agent's socket directory, for passthrough plans.
    pub agent: Option<AgentDir>,
    /// The trust domain of every identity minted here.
    pub trust_domain: Option<TrustDomain>,
    /// The Broker API of an agent, for `broker` plans.
    pub broker: Option<BrokerConfig>,
    /// How cert-manager is asked, for `cert-manager` plans.
    pub cert_manager: Option<CertManagerConfig>,
    /// The embedded certificate authority, for `local-ca` plans.
    pub local_ca: Option<LocalCaConfig>,
    /// The ConfigMap in which the drivers of all nodes publish their local CAs, by the names of the nodes.
    pub local_ca_roots: Option<ConfigMapPlace>,
    /// The key of the taint to remove from this node once every driver name is registered.
    pub startup_taint: Option<String>,
    /// How the API server is reached, by all that needs it.
    pub client: ClientOptions,
    /// Publish volumes whose pod omits `readOnly: true`, mounting them read-only all the same.
    pub allow_missing_read_only: bool,
    /// Where /metrics, /livez and /readyz are served.
    pub metrics_address: Option<SocketAddr>,
    /// The root-only Unix socket for /status and /renew.
    pub admin_socket: Option<PathBuf>,
}

/// One CSI driver name and how it behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverName {
    /// The name of the CSIDriver object.
    pub name: String,
    /// The CSI socket to listen on; at most 107 bytes (unix(7)).
    pub socket: PathBuf,
    /// The path of that socket as the kubelet sees it; required to register in-process.
    pub registration_path: Option<PathBuf>,
    /// What a volume gets that names no plan.
    pub default_plan: Plan,
    /// What a volume may ask for; holds the default.
    pub allowed_plans: BTreeSet<Plan>,
    /// Names of the files in `files` volumes, unless the volume names its own.
    pub file_names: FileNames,
}

impl DriverName {
    /// The name of its socket in the kubelet's registration folder.
    pub fn registration_socket(&self) -> String {
        format!("{}-reg.sock", self.name)
    }
}
