//! A publish request as received, and the rules for reading it.

mod mistakes;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

pub use self::mistakes::RequestMistakes;
use crate::files::{FileNames, Layout};
use crate::plan::Plan;
use crate::secret::Secret;
use crate::spiffe_id::TrustDomain;
use crate::target::TargetPath;
use crate::volume_id::VolumeId;

/// NodePublishVolume as received, before anything in it is trusted.
#[derive(Debug, Clone, Default)]
pub struct PublishRequest {
    /// `volume_id`.
    pub volume_id: String,
    /// `target_path`.
    pub target_path: String,
    /// `volume_capability`, if one was sent.
    pub capability: Option<Capability>,
    /// `readonly`.
    pub read_only: bool,
    /// `volume_context` without the tokens: pod info and the volume's attributes.
    pub context: HashMap<String, String>,
    /// The service account tokens (a JSON object), removed from `secrets` or else from `volume_context`.
    pub tokens: Option<Secret>,
    /// The password of PKCS#12 files, removed from `secrets`.
    pub pkcs12_password: Option<Secret>,
}

/// The parts of a CSI VolumeCapability that matter to an ephemeral volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capability {
    /// How the volume is accessed.
    pub access: Access,
    /// Whether `access_mode` was sent at all.
    pub has_mode: bool,
    /// Whether `access_mode` is SINGLE_NODE_READER_ONLY.
    pub reader_only: bool,
}

/// The access type of a VolumeCapability.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// No access type was sent.
    #[default]
    Missing,
    /// A block device.
    Block,
    /// A mounted folder.
    Mount {
        /// Whether `fs_type` or `mount_flags` ask for a particular file system.
        particular: bool,
        /// `volume_mount_group`, empty when the pod has no fsGroup.
        group: String,
    },
}

/// The rules and defaults of one driver name.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The plan of a volume that does not name one.
    pub default_plan: Plan,
    /// The plans that a volume may request.
    pub allowed_plans: BTreeSet<Plan>,
    /// The layout of a volume that names none.
    pub layout: Layout,
    /// Names of the files of layout `pem`, unless the volume names its own.
    pub file_names: FileNames,
    /// The trust domain of issued identities.
    pub trust_domain: Option<TrustDomain>,
    /// Whether volumes are accepted whose pod omits `readOnly: true`.
    pub allow_missing_read_only: bool,
    /// The kubelet's pods folder, if targets must be in it.
    pub pods_dir: Option<PathBuf>,
}

impl PublishRequest {
    /// The group that the pod's fsGroup asks for; empty if it has none.
    pub(crate) fn mount_group(&self) -> &str {
        match self.capability.as_ref().map(|capability| &capability.access) {
            Some(Access::Mount { group, .. }) => group,
            _ => "",
        }
    }
}

impl Rules {
    /// The names of certificate, key and bundle in a layout.
    pub(crate) fn names_in(&self, layout: Layout) -> FileNames {
        if layout == Layout::Pem { self.file_names.clone() } else { layout.names() }
    }

    /// Reads the volume id and target path of a Node call.
    ///
    /// # Errors
    /// All mistakes in them.
    pub fn locate(&self, volume_id: &str, target_path: &str) -> Result<(VolumeId, TargetPath), RequestMistakes> {
        let mut mistakes = RequestMistakes::new();
        let id = mistakes.take(VolumeId::parse(volume_id));
        let target = mistakes.take(TargetPath::parse(target_path));
        if let (Some(target), Some(pods_dir)) = (&target, &self.pods_dir)
            && target.place().is_none_or(|place| place.pods_dir != pods_dir)
        {
            mistakes.add(must_be_in(pods_dir));
        }
        match (id, target) {
            (Some(id), Some(target)) if mistakes.0.is_empty() => Ok((id, target)),
            _ => Err(mistakes),
        }
    }
}

fn must_be_in(pods_dir: &Path) -> String {
    format!(
        "target_path must have the form {}/<pod uid>/volumes/kubernetes.io~csi/<name>/mount (--kubelet-dir)",
        pods_dir.display()
    )
}
