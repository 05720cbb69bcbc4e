//! The flags of `svid-csi driver`. They are combined in [`super::driver`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use svid_csi_core::files::{FileName, Layout};
use svid_csi_core::identity::KeyType;
use svid_csi_core::plan::{Delivery, Plan, Source};
use svid_csi_core::runtime_issuer::ConfigMapPlace;
use svid_csi_core::spiffe_id::TrustDomain;
use tracing::Level;

use super::broker::BrokerFlags;
use super::cert_manager::CertManagerFlags;
use super::profile::AlsoProfile;
use super::profile::Profile;
use super::values::{self, Switch};
use crate::telemetry::log::LogFormat;
use crate::traces::CollectorUrl;

const EXAMPLES: &str = "\
One or two dashes make no difference, and an empty value means the flag is not set.

Every flag can also be set by an environment variable, --trust-domain by SVID_CSI_TRUST_DOMAIN; repeatable flags take \
several values there, separated by spaces. The command line wins.

Called as `spiffe-csi-driver` or `cert-manager-csi-driver-spiffe`, the binary is `svid-csi driver` with that profile.

Examples:
  In place of spiffe-csi, with its own flags:
    svid-csi driver --profile csi.spiffe.io -csi-socket-path /spiffe-csi/csi.sock \\
      -workload-api-socket-dir /spire-agent-socket

  Certificates as files, from the embedded authority:
    svid-csi driver --source local-ca --driver-name demo.svid-csi --node-id n1 \\
      --endpoint unix:///run/svid-csi/csi.sock --data-root /run/svid-csi/data \\
      --trust-domain example.org --certificate-request-duration 1h

  A Workload API socket in each volume, with identities that the driver gets from SPIRE:
    svid-csi driver --source broker --delivery workload-api \\
      --driver-name csi.spiffe.io --node-id n1 \\
      --endpoint unix:///spiffe-csi/csi.sock --data-root /run/svid-csi/data \\
      --broker-socket /run/spire/broker/api.sock --workload-api-socket-dir /run/spire/agent

  Without a registrar sidecar:
    svid-csi driver --profile csi.spiffe.io \\
      -workload-api-socket-dir /spire-agent-socket \\
      --kubelet-registration-dir /registration \\
      --kubelet-registration-path /var/lib/kubelet/plugins/csi.spiffe.io/csi.sock";

/// Serve CSI volumes that give pods their SPIFFE identity.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(super) struct DriverArgs {
    #[command(flatten)]
    pub(super) serve: Serve,
    #[command(flatten)]
    pub(super) data: Data,
    #[command(flatten)]
    pub(super) socket: SocketFlags,
    #[command(flatten)]
    pub(super) broker: BrokerFlags,
    #[command(flatten)]
    pub(super) minted: Minted,
    #[command(flatten)]
    pub(super) kubelet: KubeletFlags,
    #[command(flatten)]
    pub(super) watch: Observability,
    #[command(flatten)]
    pub(super) cert_manager: CertManagerFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Driver")]
pub(super) struct Serve {
    /// The predecessor whose flags and defaults apply: csi.spiffe.io or spiffe.csi.cert-manager.io.
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<Profile>,
    /// The source of identities: `socket` (an agent on this node), `broker` (the same agent, through its Broker API),
    /// `cert-manager` or `local-ca` (the embedded authority).
    #[arg(long)]
    pub(super) source: Option<Source>,
    /// How pods get them: `socket-dir` (the agent's), `files`, or `workload-api` (a socket of this driver). Default:
    /// socket-dir for the source socket, otherwise files.
    #[arg(long)]
    pub(super) delivery: Option<Delivery>,
    /// A plan that volumes may ask for besides the default, such as cert-manager:files. Repeatable.
    #[arg(long, value_name = "SOURCE:DELIVERY")]
    pub(super) allow_plan: Vec<Plan>,
    /// The name of the CSIDriver object. Default: the profile's name.
    #[arg(long, value_name = "NAME", visible_aliases = ["plugin-name", "csi-driver-name"], value_parser = values::driver_name)]
    pub(super) driver_name: Option<String>,
    /// The CSI socket to listen on: a path or unix://path. Default with profile csi.spiffe.io: /spiffe-csi/csi.sock.
    #[arg(long, value_name = "SOCKET", visible_alias = "csi-socket-path", value_parser = values::socket)]
    pub(super) endpoint: Option<PathBuf>,
    /// The name of this node.
    #[arg(long, value_name = "NAME")]
    pub(super) node_id: Option<String>,
    /// The environment variable that holds the name of this node when --node-id is not set. Default: MY_NODE_NAME.
    #[arg(long, value_name = "VARIABLE")]
    pub(super) node_id_env: Option<String>,
    /// Serve a second driver name, csi.spiffe.io or spiffe.csi.cert-manager.io, on a socket of its own. Repeatable.
    #[arg(long, value_name = "NAME:csi-socket=SOCKET[,registration-path=PATH]")]
    pub(super) also_profile: Vec<AlsoProfile>,
    /// Publish volumes whose pod omits `readOnly: true`, but mount them read-only anyway.
    #[arg(long)]
    pub(super) allow_missing_read_only: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Volume data")]
pub(super) struct Data {
    /// The directory for volume data and records. Not needed if socket:socket-dir is the only plan.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    pub(super) data_root: Option<PathBuf>,
    /// The most that all volumes on this node may hold together: bytes, or with Ki, Mi, Gi. An eighth is reserved for
    /// renewals. Default: 128Mi.
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub(super) data_size_limit: Option<u64>,
    /// The layout of the files of volumes that name none with svid-csi/layout: pem, spiffe, pod-certificate, gke, spiffe-helper or
    /// istio. Default: pem.
    #[arg(long)]
    pub(super) layout: Option<Layout>,
    /// The file that holds the certificate chain in layout pem. Default: tls.crt.
    #[arg(long, value_name = "NAME", value_parser = values::file_name)]
    pub(super) file_name_certificate: Option<FileName>,
    /// The file that holds the private key in layout pem. Default: tls.key.
    #[arg(long, value_name = "NAME", value_parser = values::file_name)]
    pub(super) file_name_key: Option<FileName>,
    /// The file that holds the trust bundle in layout pem. Default: ca.crt.
    #[arg(long, value_name = "NAME", value_parser = values::file_name)]
    pub(super) file_name_ca: Option<FileName>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sources socket and broker")]
pub(super) struct SocketFlags {
    /// The directory that holds the agent's Workload API socket; it may not exist yet. With source broker the driver gets
    /// its own identity there.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    pub(super) workload_api_socket_dir: Option<PathBuf>,
    /// The directory mounted into pods in place of the agent's, so that they follow a re-created agent. It belongs beside the
    /// agent's directory, on the same mount. Default: a hidden sibling of the agent's directory.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    pub(super) stable_socket_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sources cert-manager and local-ca")]
pub(super) struct Minted {
    /// The trust domain of every identity. Default with profile spiffe.csi.cert-manager.io, and
    /// with local-ca: cluster.local.
    #[arg(long, value_name = "NAME", value_parser = values::trust_domain)]
    pub(super) trust_domain: Option<TrustDomain>,
    /// The lifetime of certificates, such as 30m or 1h30m. Default: 1h.
    #[arg(long, value_name = "DURATION", value_parser = values::lifetime)]
    pub(super) certificate_request_duration: Option<Duration>,
    /// The type of the keys of pods: ecdsa-p256, ecdsa-p384, ecdsa-p521, rsa-2048 or ed25519. Default: ecdsa-p256.
    #[arg(long, value_name = "TYPE")]
    pub(super) key_type: Option<KeyType>,
    /// The lifetime of the JWT-SVIDs of local-ca. Default: 5m.
    #[arg(long, value_name = "DURATION", value_parser = values::jwt_lifetime)]
    pub(super) jwt_svid_ttl: Option<Duration>,
    /// The directory on disk for the keys of local-ca. Default: keys are only in memory and on the tmpfs of the volume data.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    pub(super) local_ca_dir: Option<PathBuf>,
    /// The ConfigMap in which the drivers of all nodes share the trust bundles of local-ca. Each driver delivers all of them.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = values::config_map)]
    pub(super) local_ca_roots: Option<ConfigMapPlace>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Kubelet")]
pub(super) struct KubeletFlags {
    /// The kubelet's root directory, exactly as in its --root-dir. When set, volumes are only mounted below its pods folder.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    pub(super) kubelet_dir: Option<PathBuf>,
    /// The kubelet's plugin registration folder. When set, the driver registers itself, without a sidecar.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    pub(super) kubelet_registration_dir: Option<PathBuf>,
    /// The path of the CSI socket as the kubelet sees it.
    #[arg(long, value_name = "SOCKET", value_parser = values::socket)]
    pub(super) kubelet_registration_path: Option<PathBuf>,
    /// The key of a taint that new nodes start with. The driver removes it from this node once it is registered.
    #[arg(long, value_name = "KEY", value_parser = values::taint_key)]
    pub(super) startup_taint: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Observability")]
pub(super) struct Observability {
    /// The address that serves /metrics, /livez and /readyz; 0 for off. Default: 127.0.0.1:9809, or off with a profile.
    #[arg(long, value_name = "ADDRESS", value_parser = values::address_or_off)]
    pub(super) metrics_address: Option<Switch<SocketAddr>>,
    /// The root-only socket of /status and /renew; 0 for off. Default: admin.sock in the data root, if there is one.
    #[arg(long, value_name = "SOCKET", value_parser = values::socket_or_off)]
    pub(super) admin_socket: Option<Switch<PathBuf>>,
    /// The collector that gets a trace of each publish and unpublish, over OTLP with HTTP and JSON. Default: none.
    #[arg(long, value_name = "URL", value_parser = CollectorUrl::parse)]
    pub(super) otlp_endpoint: Option<CollectorUrl>,
    /// The log level: 1 to 3 for information, 4 for debugging, 5 for everything. Default: 1.
    #[arg(long, short = 'v', value_name = "1..5", value_parser = values::log_level)]
    pub(super) log_level: Option<Level>,
    /// The log format: text or json. Default: text.
    #[arg(long, value_name = "FORMAT", value_parser = values::log_format)]
    pub(super) log_format: Option<LogFormat>,
}
