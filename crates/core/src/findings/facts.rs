//! The facts about a node: its driver's own account, and observations from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Source};
use crate::state::FileId;

/// Everything that the checks are applied to.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The time.
    pub now: SystemTime,
    /// The version of the program that checks.
    pub program: String,
    /// The driver's admin socket.
    pub admin_socket: String,
    /// The driver's own account, or why there is none.
    pub driver: Result<DriverFacts, NoDriver>,
    /// What answers on the driver's CSI sockets, by driver name.
    pub csi_sockets: BTreeMap<String, Answer>,
    /// What answers on the path that the kubelet was given, by driver name.
    pub registration_paths: BTreeMap<String, Answer>,
    /// Every socket in the kubelet's registration folder, by path.
    pub registrations: BTreeMap<String, Answer>,
    /// The agent's directory.
    pub agent: Option<AgentSeen>,
    /// The tmpfs with the data of all volumes.
    pub data: Option<Look<DataSeen>>,
    /// The observations of each volume, by its id.
    pub volumes: BTreeMap<String, VolumeSeen>,
    /// Folders with data of volumes that the driver does not know.
    pub left_over: Look<Vec<String>>,
    /// The node's kernel.
    pub kernel: KernelSeen,
    /// The API server.
    pub cluster: Reach,
}

impl Facts {
    /// The driver's own account, with nothing that was seen beside it.
    pub fn new(driver: Result<DriverFacts, NoDriver>, now: SystemTime) -> Self {
        Self {
            now,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            admin_socket: String::new(),
            driver,
            csi_sockets: BTreeMap::new(),
            registration_paths: BTreeMap::new(),
            registrations: BTreeMap::new(),
            agent: None,
            data: None,
            volumes: BTreeMap::new(),
            left_over: Ok(Vec::new()),
            kernel: KernelSeen::default(),
            cluster: Reach::NotNeeded,
        }
    }
}

/// An observation, or why there is none.
pub type Look<T> = Result<T, String>;

/// Why a driver says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoDriver {
    /// It cannot be reached.
    Unreachable(String),
    /// It is another version, which does not answer such questions.
    OtherVersion(String),
}

/// What answers on a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A driver of this name.
    Driver(String),
    /// Nothing exists at this path.
    Missing,
    /// No process is listening.
    Refused,
    /// Something that does not answer as a driver does.
    Wrong(String),
    /// It could not be asked.
    Unknown(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Missing => f.write_str("the socket does not exist"),
            Answer::Refused => f.write_str("no process is listening on it"),
            Answer::Wrong(why) | Answer::Unknown(why) => f.write_str(why),
            Answer::Driver(name) => write!(f, "the driver {name} answers"),
        }
    }
}

/// The agent's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSeen {
    /// It does not exist.
    Missing,
    /// It exists, with these sockets, each with whether a process is listening.
    Directory {
        /// The directory that pods get, and the agent's own.
        ids: Vec<FileId>,
        /// The sockets.
        sockets: BTreeMap<String, bool>,
    },
    /// It cannot be read.
    Unknown(String),
}

/// The tmpfs with the data of all volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DataSeen {
    /// Whether it is a tmpfs.
    pub is_tmpfs: bool,
    /// Whether it can only be read.
    pub read_only: bool,
    /// Its size in bytes; 0 without a limit.
    pub bytes: u64,
    /// Bytes in use.
    pub used: u64,
    /// How many files it may hold; 0 without a limit.
    pub inodes: u64,
    /// How many it holds.
    pub inodes_used: u64,
    /// Whether its pages may be written to a swap device that is in use.
    pub swaps: bool,
}

/// The state of a volume's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetSeen {
    /// A mount whose root is this folder.
    Mounted(FileId),
    /// A folder that is not a mount.
    Folder,
    /// Nothing.
    Missing,
    /// It could not be looked at.
    Unknown(String),
}

/// The observations of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSeen {
    /// Its target.
    pub target: TargetSeen,
    /// Whether its pod has a folder on this node.
    pub pod: Look<bool>,
    /// Its identity; absent for volumes that hold the agent's sockets.
    pub delivered: Option<Look<Delivered>>,
}

/// An identity as the pod finds it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivered {
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// The certificate's serial number, lower-case hexadecimal.
    pub serial: String,
    /// Why the key is not that of the certificate.
    pub key: Option<String>,
    /// The end of each certificate of the bundle, in seconds since 1970.
    pub bundle: Vec<i64>,
    /// Files with a key that every user on the node may read.
    pub open_to_all: Vec<String>,
}

/// The node's kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelSeen {
    /// Why another file cannot be watched, if so.
    pub inotify: Option<String>,
    /// Open files of the driver, and how many it may have.
    pub descriptors: Option<Look<(u64, u64)>>,
}

/// Whether the API server could be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// This driver does without.
    NotNeeded,
    /// This program has no access to it.
    NotPossible(String),
    /// It does not answer.
    Unreachable(String),
    /// It was asked.
    Seen(ClusterSeen),
}

/// Objects and permissions in the API server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterSeen {
    /// By how many seconds the clock here is ahead of the API server's.
    pub ahead: Option<i64>,
    /// The CSIDriver object of each driver name.
    pub csi_drivers: BTreeMap<String, Look<Option<CsiDriverSeen>>>,
    /// The permissions that the driver needs.
    pub rights: Vec<Right>,
    /// The configured issuer, if it is one of cert-manager's own for the whole cluster.
    pub issuer: Option<Look<Option<IssuerSeen>>>,
}

/// A CSIDriver object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the object")]
pub struct CsiDriverSeen {
    /// Whether it permits inline volumes.
    pub ephemeral: bool,
    /// Whether the kubelet tells the driver about the pod.
    pub pod_info: bool,
    /// Whether the kubelet brings tokens for the API server.
    pub tokens: bool,
    /// Whether the kubelet publishes again and again.
    pub republish: bool,
}

/// A permission in all namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// The verb.
    pub verb: &'static str,
    /// The API group.
    pub group: &'static str,
    /// The resource.
    pub resource: &'static str,
    /// Whether it is granted.
    pub allowed: Look<bool>,
}

/// An issuer of cert-manager.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IssuerSeen {
    /// Its type, if it can never sign for a pod.
    pub unusable: Option<&'static str>,
    /// Why it is not ready.
    pub not_ready: Option<String>,
}

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
    /// The roots of all nodes.
    pub roots: Option<RootsFacts>,
    /// The kubeconfig by which it reaches the API server, if not by its pod's service account.
    pub kubeconfig: Option<String>,
    /// Its volumes, by id.
    pub volumes: BTreeMap<String, VolumeFacts>,
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
        let plans: Vec<Plan> =
            self.names.iter().flat_map(|name| &name.plans).filter_map(|plan| plan.parse().ok()).collect();
        let has = |source: Source| plans.iter().any(|plan| plan.source() == source);
        Self {
            agent: self.agent.filter(|_| has(Source::Socket)),
            broker: self.broker.filter(|_| has(Source::Broker)),
            cert_manager: self.cert_manager.filter(|_| has(Source::CertManager)),
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
