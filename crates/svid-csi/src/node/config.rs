//! The driver's configuration: the typed form of its flags, without contradictions.

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

/// The configuration of one driver process.
#[derive(Debug, Clone)]
pub struct Config {
    /// The driver names, each on a CSI socket of its own; at least one.
    pub drivers: Vec<DriverName>,
    /// The node's name, answered by NodeGetInfo.
    pub node_id: String,
    /// The folder for volume data and records; without it only passthrough works.
    pub data_root: Option<PathBuf>,
    /// The limit of the volume data on this node, in bytes.
    pub data_size: u64,
    /// The kubelet's root directory. If set, targets must be in its `pods` folder.
    pub kubelet_dir: Option<PathBuf>,
    /// The kubelet's plugin registration folder. If set, the driver registers itself.
    pub registration_dir: Option<PathBuf>,
    /// The agent's socket directory, for passthrough plans.
    pub agent: Option<AgentDir>,
    /// The trust domain of every issued identity.
    pub trust_domain: Option<TrustDomain>,
    /// The Broker API of an agent, for `broker` plans.
    pub broker: Option<BrokerConfig>,
    /// The configuration of cert-manager, for `cert-manager` plans.
    pub cert_manager: Option<CertManagerConfig>,
    /// The embedded certificate authority, for `local-ca` plans.
    pub local_ca: Option<LocalCaConfig>,
    /// The ConfigMap in which the drivers of all nodes publish their local CAs, by the names of the nodes.
    pub local_ca_roots: Option<ConfigMapPlace>,
    /// The key of the taint to remove from this node once every driver name is registered.
    pub startup_taint: Option<String>,
    /// How to reach the API server.
    pub client: ClientOptions,
    /// Whether to publish volumes whose pod omits `readOnly: true`; they are mounted read-only anyway.
    pub allow_missing_read_only: bool,
    /// The address of /metrics, /livez and /readyz.
    pub metrics_address: Option<SocketAddr>,
    /// The root-only Unix socket for /status and /renew.
    pub admin_socket: Option<PathBuf>,
}

/// One CSI driver name and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverName {
    /// The name of the CSIDriver object.
    pub name: String,
    /// The CSI socket to listen on; at most 107 bytes (unix(7)).
    pub socket: PathBuf,
    /// The path of that socket as the kubelet sees it; required to register in-process.
    pub registration_path: Option<PathBuf>,
    /// The plan of a volume that does not name one.
    pub default_plan: Plan,
    /// The plans that a volume may request; includes the default.
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
