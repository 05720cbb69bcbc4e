//! A publish request of a pod, checked and completed.

mod parse;

use serde::{Deserialize, Serialize};

pub use crate::attributes::PKCS12_PASSWORD;
pub use crate::attributes::secret_names::SecretNames;
pub use crate::attributes::table::{ATTRIBUTES, Attribute, OWN_PREFIX, PREDECESSOR_FS_GROUP};
use crate::files::{self, Extras, FileName, FileNames};
use crate::plan::{Issuer, Plan};
use crate::pod::PodRef;
pub use crate::publish_request::{Access, Capability, PublishRequest, RequestMistakes, Rules};
use crate::spiffe_id::SpiffeId;
use crate::target::TargetPath;
use crate::volume_id::VolumeId;

/// A fully described volume. Contains no secret, so that it can be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// The volume's id.
    pub id: VolumeId,
    /// Where it is mounted.
    pub target: TargetPath,
    /// Whether the mount on the host is read-only too.
    pub read_only: bool,
    /// The pod, if the kubelet sent it.
    pub pod: Option<PodRef>,
    /// The content of the volume.
    pub content: Content,
}

/// The content of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The agent's sockets.
    Passthrough,
    /// An identity as files.
    Files(FilesSpec),
    /// An identity by a Workload API socket.
    WorkloadApi(SocketSpec),
}

/// The identity that a volume delivers to its pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its issuer.
    pub issuer: Issuer,
    /// The SPIFFE ID it must have, unless the issuer determines that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<SpiffeId>,
    /// Selects one of several SVIDs by the hint of its issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// An identity to be written as files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesSpec {
    /// The identity.
    #[serde(flatten)]
    pub subject: Subject,
    /// Names of certificate, key and bundle.
    pub names: FileNames,
    /// Further files.
    #[serde(default)]
    pub extras: Box<Extras>,
    /// The group that may read them; 0 to 4294967294.
    pub fs_group: Option<u32>,
}

/// An identity to be served on a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketSpec {
    /// The identity.
    #[serde(flatten)]
    pub subject: Subject,
    /// The names of the socket in the volume; at least one.
    pub sockets: Vec<FileName>,
    /// The names of Envoy's special secrets on it.
    #[serde(default, skip_serializing_if = "SecretNames::are_usual")]
    pub secrets: Box<SecretNames>,
}

impl VolumeSpec {
    /// The plan of this volume.
    pub fn plan(&self) -> Plan {
        match &self.content {
            Content::Passthrough => Plan::Passthrough,
            Content::Files(files) => Plan::Files(files.subject.issuer),
            Content::WorkloadApi(socket) => Plan::WorkloadApi(socket.subject.issuer),
        }
    }

    /// The identity it delivers, if this driver obtains one.
    pub fn subject(&self) -> Option<&Subject> {
        match &self.content {
            Content::Passthrough => None,
            Content::Files(files) => Some(&files.subject),
            Content::WorkloadApi(socket) => Some(&socket.subject),
        }
    }

    /// Whether its folder may contain an entry with that name.
    pub fn shows(&self, name: &str) -> bool {
        match &self.content {
            Content::Passthrough => false,
            Content::Files(wanted) => files::shows(&wanted.names, &wanted.extras, name),
            Content::WorkloadApi(socket) => socket.sockets.iter().any(|known| known.as_str() == name),
        }
    }

    /// The mode of a target folder that must be created.
    pub fn target_mode(&self) -> u32 {
        match self.content {
            Content::Passthrough | Content::WorkloadApi(_) => 0o750,
            Content::Files(_) => 0o440,
        }
    }

    /// Whether a request for `self` concerns the volume that was published as `other`: the same place and the same pod.
    pub fn same_volume(&self, other: &VolumeSpec) -> bool {
        let uid = |spec: &VolumeSpec| spec.pod.as_ref().map(|pod| pod.uid.clone());
        self.target == other.target && (uid(self) == uid(other) || uid(self).is_none() || uid(other).is_none())
    }
}

#[cfg(test)]
mod tests;
