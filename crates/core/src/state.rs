//! The record of a volume, and the decision about it after a restart.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::files::FileNames;
use crate::identity::Validity;
use crate::spiffe_id::SpiffeId;
use crate::volume::{Content, VolumeSpec};

/// The version that this build writes. Records of this version and the previous one can be read.
pub const VERSION: u32 = 1;

/// The record of one volume. Contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format, [`VERSION`].
    pub version: u32,
    /// The driver name that published the volume.
    pub driver: String,
    /// The volume. Shared, because many parts of the driver use it and a node has many volumes.
    pub spec: Arc<VolumeSpec>,
    /// The step that it has reached.
    pub phase: Phase,
    /// The folder mounted at the target, once there is one.
    pub root: Option<FileId>,
    /// The kubelet's pods folder, so that another folder at the same path is not mistaken for it.
    pub pods_dir: Option<FileId>,
    /// The folder that was mounted there before, until it is certainly gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formerly: Option<FileId>,
    /// Whether this driver filled that earlier mount.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub formerly_filled: bool,
    /// Since the last publish that succeeded, another one has begun with another spec: what the volume contains may
    /// not be what is recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsettled: bool,
    /// The identity that was last installed, or if there was none, the one that is about to be.
    pub issued: Option<Issued>,
    /// Its source has withdrawn the identity; the remaining files must be removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// How many bytes it uses on the tmpfs, including its record; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// The properties of the volume when it was taken over from csi-driver-spiffe, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Box<Adopted>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// A volume that csi-driver-spiffe has mounted: its pod knows these file names, and has this group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The names of its files.
    pub names: FileNames,
    /// The group that may read them.
    pub fs_group: Option<u32>,
}

impl Adopted {
    /// The requested volume, with the file names and the group that its pod knows. A requested group takes precedence,
    /// because every publish requests it again.
    pub fn shape(&self, asked: &VolumeSpec) -> VolumeSpec {
        let mut spec = asked.clone();
        if let Content::Files(files) = &mut spec.content {
            files.names = self.names.clone();
            files.fs_group = files.fs_group.or(self.fs_group);
        }
        spec
    }
}

/// The step that a volume has reached. Recorded before the step begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Publishing has begun, and has not succeeded yet.
    Intended,
    /// Published: the pod may be using it.
    Ready,
    /// Unpublishing has begun.
    Removing,
}

impl Phase {
    /// Its name in statuses and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Intended => "intended",
            Phase::Ready => "ready",
            Phase::Removing => "removing",
        }
    }
}

/// The identity of a file or folder on this node: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// The device number.
    pub device: u64,
    /// The inode number.
    pub inode: u64,
}

/// The record of an installed identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The certificate's serial number, lower-case hexadecimal.
    pub serial: String,
    /// When it is valid.
    pub validity: Validity,
    /// Its SPIFFE ID, if the source determines it and not the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<Box<SpiffeId>>,
    /// SHA-256 of the trust bundle (the DER certificates, one after the other), lower-case hexadecimal.
    pub bundle_digest: String,
    /// SHA-256 of the text as which its files hold the trust bundle (`TrustBundle::text_digest`), if they hold it as the text
    /// that the administrator wrote. Records of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_text: Option<Box<str>>,
    /// SHA-256 of all of it (`X509Context::digest`), to recognise an identity that is delivered again. Records of earlier
    /// versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why its chain does not lead to the volume's trust bundle, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<Box<str>>,
    /// The tokens and JWT bundles in the volume's files, if it holds any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<IssuedJwt>,
}

/// The record of the tokens and JWT bundles in a volume's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedJwt {
    /// The time in which the tokens can be used on this node, until the first of them expires; `None` if there are
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Validity>,
    /// SHA-256 of the JWT bundles (`jwt::bundles_digest`).
    pub bundles_digest: String,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not a record, or cut short.
    #[error("the record cannot be read")]
    Garbled(#[source] serde_json::Error),
    /// Written by a later version.
    #[error("the record has version {0}; this driver reads versions up to {VERSION}")]
    Newer(u32),
}

/// The observed state of a recorded volume on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// The state of the target path.
    pub target: Target,
    /// Whether the pod still exists on this node.
    pub pod: Pod,
    /// Whether the volume's folder exists in the data root.
    pub data: bool,
}

/// The state of a target path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Nothing.
    Missing,
    /// A folder that is not mounted.
    Folder,
    /// The recorded mount.
    Ours,
    /// Something else.
    Foreign,
}

/// Whether a pod exists on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pod {
    /// Its folder exists.
    Present,
    /// The recorded pods folder exists, and does not contain a folder for the pod.
    Gone,
    /// The pods folder is not the recorded one, or the path does not name a pod.
    Unknown,
}

/// The action of recovery for a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is published: continue to serve it.
    Serve,
    /// It was published and its data exists, but it is not mounted: mount it again, then serve it.
    Mount,
    /// Wait for the kubelet to publish it again; drop it if that never happens.
    AwaitPublish,
    /// Finish removing it.
    Remove,
    /// Another file system is mounted there, or the pods folder is not: report it and change nothing.
    LeaveAlone,
}

impl Record {
    /// The record of a volume at the beginning of its publishing.
    pub fn intended(driver: &str, spec: Arc<VolumeSpec>, pods_dir: Option<FileId>) -> Self {
        Record {
            version: VERSION,
            driver: driver.to_owned(),
            spec,
            phase: Phase::Intended,
            root: None,
            pods_dir,
            formerly: None,
            formerly_filled: false,
            unsettled: false,
            issued: None,
            withdrawn: false,
            bytes: 0,
            adopted: None,
        }
    }

    /// The identity that the pod was given, unless it was withdrawn since.
    pub fn give(&mut self, issued: Option<Issued>) {
        (self.issued, self.withdrawn) = (issued, false);
    }

    /// Announces an identity, before the pod can read it, to a volume that will be published with `spec`: a withdrawal
    /// or a restart then knows of it, whatever fails. The validity of an earlier identity stays: that comes first.
    pub fn announce(&mut self, spec: &VolumeSpec, issued: Issued) {
        self.unsettled |= *self.spec != *spec;
        let issued = self.issued.take().unwrap_or(issued);
        self.give(Some(Issued { digest: None, ..issued }));
    }

    /// Whether the volume contains only what is recorded: no other publish has begun, and a volume that became a
    /// passthrough has no data left.
    pub fn is_settled(&self) -> bool {
        !self.unsettled && (self.spec.content != Content::Passthrough || self.filled().is_none())
    }

    /// The folder mounted at the target, if this driver writes its files; for a passthrough volume, the earlier mount
    /// that must still be emptied. The recorded content determines which.
    pub fn filled(&self) -> Option<FileId> {
        if self.spec.content == Content::Passthrough {
            self.formerly.filter(|_| self.formerly_filled)
        } else {
            self.root
        }
    }

    /// Changes the volume to `spec`, before `root` is mounted. The former mount stays recorded until
    /// [`settle`](Self::settle), so that the driver recognises it after a restart. `mounted` is at the target: if that
    /// is `formerly`, the recorded root was never mounted. A former root with files of this driver stays recorded until
    /// it is empty.
    pub fn show(&mut self, root: Option<FileId>, spec: Arc<VolumeSpec>, mounted: Option<FileId>) {
        let is_needed = self.formerly == mounted || (self.formerly_filled && self.root != mounted);
        let is_kept = self.formerly.is_some() && is_needed;
        if let Some(before) = self.root.filter(|_| self.root != root && !is_kept) {
            self.formerly = Some(before);
            self.formerly_filled = self.spec.content != Content::Passthrough;
        }
        (self.root, self.spec) = (root, spec);
    }

    /// Forgets the former mount, which is certainly gone.
    pub fn settle(&mut self) {
        (self.formerly, self.formerly_filled, self.unsettled) = (None, false, false);
    }

    /// Forgets the identity that a volume had before it became a passthrough: it is certainly gone.
    pub fn end_identity(&mut self) {
        self.settle();
        self.give(None);
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] if it is cut short or from a later version.
    pub fn from_json(json: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(json).map_err(RecordError::Garbled)?;
        if version > VERSION {
            return Err(RecordError::Newer(version));
        }
        serde_json::from_slice(json).map_err(RecordError::Garbled)
    }

    /// Writes a record.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The action for a recorded volume after a restart of the driver.
///
/// A volume is removed only if its pod is certainly gone or its removal had begun. Otherwise its data is never given
/// up, because a published volume may be in use through mounts that are not visible here. Mounts that the record does
/// not know are left alone.
pub fn recover(record: &Record, observed: Observed) -> Step {
    let has_data = observed.data || record.spec.content == Content::Passthrough;
    match (record.phase, observed.pod, observed.target) {
        (Phase::Removing, _, Target::Ours | Target::Folder | Target::Missing) => Step::Remove,
        (_, Pod::Gone, Target::Missing) => Step::Remove,
        (_, _, Target::Foreign) => Step::LeaveAlone,
        (Phase::Ready, _, Target::Ours) => Step::Serve,
        (Phase::Ready, Pod::Unknown, Target::Missing) => Step::LeaveAlone,
        (Phase::Ready, _, Target::Folder | Target::Missing) if has_data => Step::Mount,
        _ => Step::AwaitPublish,
    }
}

#[cfg(test)]
mod tests;
