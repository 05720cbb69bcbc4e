//! Inline CSI volumes of pods, as the kubelet describes them to a driver.

use std::collections::HashMap;

use svid_csi_core::volume_id::VolumeId;
use svid_csi_proto::csi_v1::volume_capability::access_mode::Mode;
use svid_csi_proto::csi_v1::volume_capability::{AccessMode, AccessType, MountVolume};
use svid_csi_proto::csi_v1::{NodePublishVolumeRequest, VolumeCapability};

/// The pod info that the kubelet sends to a driver, and the group of the pod's volumes.
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

/// One `csi:` volume of a pod. It cannot be printed because it may contain tokens.
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
    /// The tokens that the kubelet adds to the volume context if the CSIDriver object requests them: a JSON object
    /// `{"<audience>":{"token":"..","expirationTimestamp":".."}}`.
    pub tokens: Option<String>,
    /// The data of the Secret of `csi.nodePublishSecretRef`.
    pub secrets: HashMap<String, String>,
}

impl InlineVolume {
    /// A read-only volume without attributes.
    pub fn new(pod: &Pod, name: &str) -> Self {
        Self {
            pod: pod.clone(),
            name: name.to_owned(),
            read_only: true,
            attributes: HashMap::new(),
            tokens: None,
            secrets: HashMap::new(),
        }
    }

    /// Adds a volume attribute.
    #[must_use]
    pub fn attribute(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds an entry to the Secret that the kubelet passes on.
    #[must_use]
    pub fn secret(mut self, key: &str, value: &str) -> Self {
        self.secrets.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The volume ID.
    pub fn id(&self) -> VolumeId {
        VolumeId::of_kubelet(&self.pod.uid, &self.name)
    }

    /// The request to mount it at `target`; `takes_group` when the driver has the capability `VOLUME_MOUNT_GROUP`.
    pub fn publish_request(&self, target: &str, takes_group: bool) -> NodePublishVolumeRequest {
        let group = self.pod.fs_group.filter(|_| takes_group);
        let mount = MountVolume {
            volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
            ..Default::default()
        };
        NodePublishVolumeRequest {
            volume_id: self.id().into(),
            target_path: target.to_owned(),
            readonly: self.read_only,
            volume_capability: Some(VolumeCapability {
                access_type: Some(AccessType::Mount(mount)),
                access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
            }),
            volume_context: self.context(),
            secrets: self.secrets.clone(),
            ..Default::default()
        }
    }

    /// The volume attributes, overridden by the pod info of the kubelet (kubelet, `getPodInfoAttrs`).
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

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> InlineVolume {
        let [uid, name, namespace, service_account] = ["u1", "p", "ns", "sa"].map(str::to_owned);
        InlineVolume::new(&Pod { uid, name, namespace, service_account, fs_group: Some(2000) }, "spiffe")
    }

    #[test]
    fn a_pod_author_cannot_override_what_the_kubelet_knows() {
        let posing = volume().attribute("csi.storage.k8s.io/pod.uid", "another").attribute("mine", "kept");
        let context = posing.publish_request("/target", true).volume_context;
        assert_eq!(context["csi.storage.k8s.io/pod.uid"], "u1");
        assert_eq!(context["csi.storage.k8s.io/ephemeral"], "true");
        assert_eq!(context["mine"], "kept");
        assert!(!context.contains_key("csi.storage.k8s.io/serviceAccount.tokens"));
    }

    #[test]
    fn the_group_is_for_drivers_that_can_apply_it() {
        let group = |takes_group| match volume().publish_request("/target", takes_group).volume_capability {
            Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)), .. }) => mount.volume_mount_group,
            other => panic!("{other:?}"),
        };
        assert_eq!((group(true).as_str(), group(false).as_str()), ("2000", ""));
    }
}
