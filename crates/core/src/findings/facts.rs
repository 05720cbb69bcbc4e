//! The facts about a node: its driver's own account, and observations from outside.

mod driver;

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

pub use self::driver::{
    AgentFacts, BrokerFacts, CertManagerFacts, DriverFacts, EventFacts, FileFacts, IdentityFacts, IssuerFacts,
    LocalCaFacts, NameFacts, PodDescriptors, RootsFacts, VolumeFacts,
};
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
        /// Sockets to which only their owner and its group may connect.
        closed: Vec<String>,
        /// Links in it that lead nowhere.
        dangling: Vec<String>,
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

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource, .. } = self;
        if group.is_empty() { write!(f, "{verb} {resource}") } else { write!(f, "{verb} {resource}.{group}") }
    }
}

/// An issuer of cert-manager.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IssuerSeen {
    /// Its type, if it can never sign for a pod.
    pub unusable: Option<&'static str>,
    /// Why it is not ready.
    pub not_ready: Option<String>,
}
