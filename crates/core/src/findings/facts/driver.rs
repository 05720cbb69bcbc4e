//! A driver's own account, as `/facts` on its admin socket gives it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Source};
use crate::state::FileId;

/// A driver's account of itself; `/facts` on the admin socket. Fields that a driver of another version lacks are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DriverFacts {
    /// Its version.
    pub version: String,
    /// The name of the node.
    pub node: String,
    /// Its process.
    pub pid: u32,
    /// Its driver names.
    pub names: Vec<NameFacts>,
    /// The kubelet's folder of pods.
    pub pods_dir: String,
    /// Whether mounts there reach the host; none if that cannot be determined.
    pub pods_reach_host: Option<bool>,
    /// Where the data of volumes is.
    pub data_root: Option<String>,
    /// Whether that outlives the driver's container.
    pub data_survives: bool,
    /// The agent's directory.
    pub agent: Option<AgentFacts>,
    /// The source `broker`.
    pub broker: Option<BrokerFacts>,
    /// The source `cert-manager`.
    pub cert_manager: Option<CertManagerFacts>,
    /// The source `local-ca`.
    pub local_ca: Option<LocalCaFacts>,
    /// The roots of all nodes.
    pub roots: Option<RootsFacts>,
    /// The kubeconfig by which it reaches the API server, if not by its pod's service account.
    pub kubeconfig: Option<String>,
    /// The descriptors that pods may take up; none if the driver serves no sockets in volumes.
    pub pod_descriptors: Option<PodDescriptors>,
    /// Its volumes, by id.
    pub volumes: BTreeMap<String, VolumeFacts>,
    /// Volumes whose records could not be read at startup.
    pub unread: Vec<String>,
    /// How many further volumes are busy.
    pub busy: usize,
    /// The last identities and failures, the newest first.
    pub recent: Vec<EventFacts>,
}

impl DriverFacts {
    /// The facts that concern one driver name: its volumes and its sources.
    #[must_use]
    pub fn of_name(mut self, name: &str) -> Self {
        self.names.retain(|known| known.name == name);
        self.volumes.retain(|_, volume| volume.driver == name);
        self.of_its_plans()
    }

    /// The facts that concern one pod (`namespace/name`): its volumes, their driver names, and the sources of their plans.
    /// All of them if it has no volume.
    #[must_use]
    pub fn of_pod(mut self, pod: &str) -> Self {
        let is_pods = |volume: &VolumeFacts| volume.pod.as_deref() == Some(pod);
        if !self.volumes.values().any(is_pods) {
            return self;
        }
        self.volumes.retain(|_, volume| is_pods(volume));
        // Records of other volumes.
        self.unread.clear();
        let used = |name: &str, plan: Option<&str>| {
            let is_it = |volume: &VolumeFacts| volume.driver == name && plan.is_none_or(|plan| volume.plan == plan);
            self.volumes.values().any(is_it)
        };
        self.names.retain(|name| used(&name.name, None));
        self.names.iter_mut().for_each(|name| name.plans.retain(|plan| used(&name.name, Some(plan))));
        self.of_its_plans()
    }

    fn of_its_plans(self) -> Self {
        let plans: Vec<Plan> =
            self.names.iter().flat_map(|name| &name.plans).filter_map(|plan| plan.parse().ok()).collect();
        let has = |source: Source| plans.iter().any(|plan| plan.source() == source);
        Self {
            agent: self.agent.filter(|_| has(Source::Socket)),
            broker: self.broker.filter(|_| has(Source::Broker)),
            cert_manager: self.cert_manager.filter(|_| has(Source::CertManager)),
            local_ca: self.local_ca.filter(|_| has(Source::LocalCa)),
            roots: self.roots.filter(|_| has(Source::LocalCa)),
            ..self
        }
    }
}

/// A driver name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NameFacts {
    /// The name of the CSIDriver object.
    pub name: String,
    /// The CSI socket.
    pub csi_socket: String,
    /// The same socket as the kubelet sees it.
    pub registration_path: Option<String>,
    /// The socket in the kubelet's registration folder; none if another program registers the driver.
    pub registration_socket: Option<String>,
    /// Whether the kubelet has accepted it.
    pub registered: bool,
    /// What volumes may ask for.
    pub plans: Vec<String>,
}

/// The agent's directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentFacts {
    /// Its path; the target, if the configured path is a link of root.
    pub path: String,
    /// The directory that pods get in its place.
    pub stable: Option<String>,
    /// Whether pods' sockets follow the agent's when it is created again.
    pub heals: bool,
}

/// The source `broker`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerFacts {
    /// The Broker API.
    pub endpoint: String,
    /// Whether the driver is connected to it.
    pub up: bool,
}

/// The source `cert-manager`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CertManagerFacts {
    /// Whether certificate requests are watched.
    pub up: bool,
    /// Whether pods make their requests by their own tokens.
    pub pods_ask: bool,
    /// The configured issuer; none if a ConfigMap names it.
    pub issuer: Option<IssuerFacts>,
}

/// The source `local-ca`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalCaFacts {
    /// Why its files cannot be used for now.
    pub trouble: Option<String>,
}

/// An issuer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IssuerFacts {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its API group.
    pub group: String,
}

impl IssuerFacts {
    /// Whether it is one of cert-manager's own, for the whole cluster.
    pub fn is_cluster_issuer(&self) -> bool {
        self.kind == "ClusterIssuer" && self.group == "cert-manager.io"
    }
}

/// The driver's file descriptors that pods may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodDescriptors {
    /// How many their sockets may have, and how many their connections.
    pub most: u64,
    /// How many their sockets have.
    pub sockets: u64,
    /// How many their connections have.
    pub connections: u64,
}

/// The roots of all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RootsFacts {
    /// How many nodes are trusted.
    pub nodes: usize,
    /// Why nodes possibly do not trust each other.
    pub trouble: Option<String>,
}

/// An identity was issued, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventFacts {
    /// When, in seconds since 1970; the last time if it happened repeatedly.
    pub at: i64,
    /// `namespace/name` of the pod, or the id of the volume.
    pub about: String,
    /// `issued`, or what failed.
    pub what: String,
    /// Why it failed, the last time.
    pub why: Option<String>,
    /// How often it has failed.
    pub times: u32,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeFacts {
    /// The driver name.
    pub driver: String,
    /// `source:delivery`.
    pub plan: String,
    /// `intended`, `ready` or `removing`.
    pub phase: String,
    /// `namespace/name` of its pod.
    pub pod: Option<String>,
    /// Where it is mounted.
    pub target: String,
    /// The root of its mount.
    pub root: Option<FileId>,
    /// The requested SPIFFE ID, or the one that the source has chosen.
    pub spiffe_id: Option<String>,
    /// The identity that it holds.
    pub identity: Option<IdentityFacts>,
    /// The reason why it waits.
    pub waiting: Option<String>,
    /// Why its last renewal failed.
    pub failed: Option<String>,
    /// Whether its recovery at startup failed, and is retried.
    pub unfinished: bool,
    /// Whether its source withdrew the identity.
    pub withdrawn: bool,
    /// Whether it was taken over from csi-driver-spiffe.
    pub adopted: bool,
    /// Its files, if certificate and key have files of their own.
    pub files: Option<FileFacts>,
    /// The names of its Workload API sockets.
    pub sockets: Vec<String>,
    /// Open connections to them.
    pub connections: Option<usize>,
}

/// The names of a volume's files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileFacts {
    /// The certificate chain.
    pub certificate: String,
    /// The private key.
    pub key: String,
    /// The trust bundle, if requested.
    pub bundle: Option<String>,
}

/// An identity. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityFacts {
    /// The certificate's serial number.
    pub serial: String,
    /// When it arrived.
    pub not_before: i64,
    /// When it ends.
    pub not_after: i64,
    /// About when it is renewed.
    pub renewal: i64,
    /// Why its chain does not lead to the volume's trust bundle.
    pub untrusted: Option<String>,
}

impl VolumeFacts {
    /// Its name for people: that of its pod.
    pub fn about<'a>(&'a self, id: &'a str) -> &'a str {
        self.pod.as_deref().unwrap_or(id)
    }

    /// Whether the driver obtains identities for it.
    pub fn is_issued(&self) -> bool {
        !self.plan.starts_with("socket:")
    }

    /// Whether it is published.
    pub fn is_ready(&self) -> bool {
        self.phase == "ready"
    }
}
