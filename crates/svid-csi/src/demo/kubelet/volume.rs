//! Inline CSI volumes of pods, as the kubelet describes them to a driver.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use svid_csi_proto::csi_v1::{
    NodePublishVolumeRequest, VolumeCapability,
    volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode},
};

/// What the kubelet tells a driver about a pod, and the group its volumes shall belong to.
#[derive(Debug, Clone)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// `spec.securityContext.fsGroup`.
    pub fs_group: Option<u32>,
}

/// One `csi:` volume of a pod. It cannot be printed because it may hold tokens.
#[derive(Clone)]
pub struct InlineVolume {
    /// The pod.
    pub pod: Pod,
    /// The volume's name in the pod's spec.
    pub name: String,
    /// `csi.readOnly`.
    pub read_only: bool,
    /// `csi.volumeAttributes`.
    pub attributes: HashMap<String, String>,
    /// What the kubelet adds to the volume context when the CSIDriver object asks for tokens: a JSON object
    /// `{"<audience>":{"token":"..","expirationTimestamp":".."}}`.
    pub tokens: Option<String>,
}

impl InlineVolume {
    /// A read-only volume without attributes.
    pub fn new(pod: &Pod, name: &str) -> Self {
        Self { pod: pod.clone(), name: name.to_owned(), read_only: true, attributes: HashMap::new(), tokens: None }
    }

    /// With one more volume attribute.
    #[must_use]
    pub fn attribute(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The volume ID: `csi-<sha256 of pod UID and volume name>` (kubelet, `makeVolumeHandle`).
    pub fn id(&self) -> String {
        let hash = digest(&SHA256, format!("{}{}", self.pod.uid, self.name).as_bytes());
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("csi-{hex}")
    }

    /// The request to mount it at `target`; `takes_group` when the driver has the capability `VOLUME_MOUNT_GROUP`.
    pub fn publish_request(&self, target: &str, takes_group: bool) -> NodePublishVolumeRequest {
        let group = self.pod.fs_group.filter(|_| takes_group);
        let mount = MountVolume {
            volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
            ..Default::default()
        };
        NodePublishVolumeRequest {
            volume_id: self.id(),
            target_path: target.to_owned(),
            readonly: self.read_only,
            volume_capability: Some(VolumeCapability {
                access_type: Some(AccessType::Mount(mount)),
                access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
            }),
            volume_context: self.context(),
            ..Default::default()
        }
    }

    /// The volume attributes, and over them what the kubelet knows for certain (kubelet, `getPodInfoAttrs`).
    fn context(&self) -> HashMap<String, String> {
        let facts = [
            ("ephemeral", Some("true")),
            ("pod.name", Some(self.pod.name.as_str())),
            ("pod.namespace", Some(self.pod.namespace.as_str())),
            ("pod.uid", Some(self.pod.uid.as_str())),
            ("serviceAccount.name", Some(self.pod.service_account.as_str())),
            ("serviceAccount.tokens", self.tokens.as_deref()),
        ];
        let mut context = self.attributes.clone();
        let known = facts.into_iter().filter_map(|(key, value)| Some((key, value?)));
        context.extend(known.map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.to_owned())));
        context
    }
}
