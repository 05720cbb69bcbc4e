//! The record of a volume, and what to do with it after a restart.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::files::FileNames;
use crate::identity::Validity;
use crate::spiffe_id::SpiffeId;
use crate::volume::{Content, VolumeSpec};

/// The version this build writes. Records of this version and the previous one are read.
pub const VERSION: u32 = 1;

/// The record of one volume. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format, [`VERSION`].
    pub version: u32,
    /// The driver name that published the volume.
    pub driver: String,
    /// The volume. Shared, because many parts of the driver use it and a node has many volumes.
    pub spec: Arc<VolumeSpec>,
    /// How far it has come.
    pub phase: Phase,
    /// What is mounted at the target, once something is.
    pub root: Option<FileId>,
    /// The kubelet's pods folder, so that another folder in its place is not mistaken for it.
    pub pods_dir: Option<FileId>,
    /// What was mounted there before, until that is certainly gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formerly: Option<FileId>,
    /// Whether this driver filled that earlier mount.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub formerly_filled: bool,
    /// The identity that was last installed.
    pub issued: Option<Issued>,
    /// Its source has withdrawn the identity: its leftovers have to be removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// How many bytes it holds on the tmpfs, its record included; 0 if that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// What the volume was like when it was taken over from csi-driver-spiffe, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Box<Adopted>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// A volume that csi-driver-spiffe has mounted: its pod knows these names and has this group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The names of its files.
    pub names: FileNames,
    /// The group that may read them.
    pub fs_group: Option<u32>,
}

impl Adopted {
    /// The requested volume, with the file names and the group that its pod knows. A requested group takes precedence,
    /// because it is requested again with every publish.
    pub fn shape(&self, asked: &VolumeSpec) -> VolumeSpec {
        let mut spec = asked.clone();
        if let Content::Files(files) = &mut spec.content {
            files.names = self.names.clone();
            files.fs_group = files.fs_group.or(self.fs_group);
        }
        spec
    }
}

/// How far a volume has come. Written before the step it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Publishing has begun and was not yet answered with success.
    Intended,
    /// Published: the pod may be using it.
    Ready,
    /// Unpublishing has begun.
    Removing,
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
    /// Its SPIFFE ID, if the source decides it and not the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<Box<SpiffeId>>,
    /// SHA-256 of the trust bundle (the DER certificates, one after the other), lower-case hexadecimal.
    pub bundle_digest: String,
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
    /// When the tokens can be used here, until the first of them expires; nothing if there are none.
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

/// What was observed on the node about a recorded volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// What is at the target path.
    pub target: Target,
    /// Whether the pod still exists on this node.
    pub pod: Pod,
    /// Whether the volume's folder in the data root is there.
    pub data: bool,
}

/// What is at a target path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Nothing.
    Missing,
    /// A folder that is not mounted.
    Folder,
    /// What the record says was mounted.
    Ours,
    /// Something else.
    Foreign,
}

/// Whether a pod exists on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pod {
    /// Its folder is there.
    Present,
    /// The recorded pods folder is there, and holds no folder for the pod.
    Gone,
    /// The pods folder is not the recorded one, or the path has no pod in it.
    Unknown,
}

/// What recovery does with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is published: continue to serve it.
    Serve,
    /// It was published and its data is there, but not mounted: mount it again, then serve it.
    Mount,
    /// Wait for the kubelet to publish it again; drop it if that never happens.
    AwaitPublish,
    /// Finish removing it.
    Remove,
    /// Something else is mounted there, or the pods folder is not: report it, touch nothing.
    LeaveAlone,
}

impl Record {
    /// The record of a volume whose publishing begins.
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

    /// What is mounted at the target, if this driver fills it; of a passthrough volume, the earlier mount that is still to be
    /// emptied. The recorded content decides which.
    pub fn filled(&self) -> Option<FileId> {
        if self.spec.content == Content::Passthrough {
            self.formerly.filter(|_| self.formerly_filled)
        } else {
            self.root
        }
    }

    /// Changes the volume to `spec`, before `root` is mounted. What was mounted before stays recorded until
    /// [`settle`](Self::settle): after a restart, the driver must know what it finds. `mounted` is at the target now: if that
    /// is `formerly`, the recorded root was never mounted. A former root that this driver filled stays until it is empty.
    pub fn show(&mut self, root: Option<FileId>, spec: Arc<VolumeSpec>, mounted: Option<FileId>) {
        let is_needed = self.formerly == mounted || (self.formerly_filled && self.root != mounted);
        let is_kept = self.formerly.is_some() && is_needed;
        if let Some(before) = self.root.filter(|_| self.root != root && !is_kept) {
            self.formerly = Some(before);
            self.formerly_filled = self.spec.content != Content::Passthrough;
        }
        (self.root, self.spec) = (root, spec);
    }

    /// Forgets what was mounted before, which is certainly gone.
    pub fn settle(&mut self) {
        (self.formerly, self.formerly_filled) = (None, false);
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] when it is cut short or from a later version.
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

/// What to do with a recorded volume after a restart of the driver.
///
/// A volume is removed only if its pod is certainly gone or its removal had begun. A published volume may be in use
/// through mounts that cannot be seen from here, so its data is never given up otherwise. Mounts that the
/// record does not know are left alone.
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
mod tests {
    use super::*;
    use crate::plan::Issuer;
    use crate::target::TargetPath;
    use crate::volume::{SocketSpec, Subject};
    use crate::volume_id::VolumeId;

    fn record(phase: Phase) -> Record {
        let spec = VolumeSpec {
            id: VolumeId::parse("csi-1").unwrap(),
            target: TargetPath::parse("/pods/u/volumes/kubernetes.io~csi/v/mount").unwrap(),
            read_only: false,
            pod: None,
            content: Content::Passthrough,
        };
        Record { phase, ..Record::intended("csi.spiffe.io", spec.into(), None) }
    }

    #[test]
    fn every_state_of_the_node_has_its_step() {
        use self::{Phase::*, Pod::*, Target::*};
        let table = [
            (Ready, Ours, Present, Step::Serve),
            (Ready, Ours, Unknown, Step::Serve),
            (Ready, Folder, Present, Step::Mount),
            (Ready, Missing, Present, Step::Mount),
            (Ready, Missing, Unknown, Step::LeaveAlone),
            (Ready, Missing, Gone, Step::Remove),
            (Ready, Foreign, Present, Step::LeaveAlone),
            (Intended, Ours, Present, Step::AwaitPublish),
            (Intended, Folder, Present, Step::AwaitPublish),
            (Intended, Missing, Gone, Step::Remove),
            (Intended, Foreign, Present, Step::LeaveAlone),
            (Removing, Ours, Present, Step::Remove),
            (Removing, Folder, Unknown, Step::Remove),
            (Removing, Missing, Gone, Step::Remove),
            (Removing, Foreign, Present, Step::LeaveAlone),
        ];
        for (phase, target, pod, step) in table {
            let observed = Observed { target, pod, data: false };
            assert_eq!(recover(&record(phase), observed), step, "{phase:?} {target:?} {pod:?}");
        }
    }

    #[test]
    fn a_passthrough_volume_knows_what_it_has_left_to_be_emptied() {
        let id = |inode| Some(FileId { device: 1, inode });
        let mut record = record(Phase::Ready);
        let passthrough = record.spec.clone();
        record.show(id(1), passthrough.clone(), None);
        record.show(id(2), passthrough.clone(), id(1));
        assert_eq!((record.formerly, record.filled()), (id(1), None), "both are the agent's");
        let sockets = SocketSpec {
            subject: Subject { issuer: Issuer::LocalCa, identity: None, hint: None },
            sockets: Vec::new(),
            secrets: Box::default(),
        };
        let filled = VolumeSpec { content: Content::WorkloadApi(sockets), ..VolumeSpec::clone(&passthrough) };
        record.show(id(3), filled.into(), id(2));
        assert_eq!((record.formerly, record.filled()), (id(2), id(3)));
        // The agent may make its directory again and again while what is mounted stays, or nothing is.
        for mounted in [id(3), id(3), None] {
            for root in [2, 4, 5] {
                record.show(id(root), passthrough.clone(), mounted);
                assert_eq!((record.root, record.formerly, record.filled()), (id(root), id(3), id(3)), "{mounted:?}");
            }
        }
        assert_eq!(Record::from_json(&record.to_json()).unwrap(), record);
        record.settle();
        assert_eq!((record.formerly, record.filled()), (None, None));
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let record = record(Phase::Ready);
        assert_eq!(Record::from_json(&record.to_json()).unwrap(), record);
    }

    #[test]
    fn a_record_cut_anywhere_is_garbled_and_never_a_panic() {
        let json = record(Phase::Ready).to_json();
        for length in 0..json.len() {
            assert!(matches!(Record::from_json(&json[..length]), Err(RecordError::Garbled(_))), "{length}");
        }
    }

    #[test]
    fn a_record_of_a_later_version_says_so() {
        let newer = br#"{"version":2,"shape":"unknown"}"#;
        assert!(matches!(Record::from_json(newer), Err(RecordError::Newer(2))));
    }
}
