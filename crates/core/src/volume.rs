//! A publish request of a pod, checked and completed.

use serde::{Deserialize, Serialize};

pub use crate::attributes::PKCS12_PASSWORD;
pub use crate::attributes::secret_names::SecretNames;
pub use crate::attributes::table::{ATTRIBUTES, Attribute, OWN_PREFIX, PREDECESSOR_FS_GROUP};
use crate::attributes::{self, Attributes};
use crate::files::{self, Extras, FileName, FileNames, Layout};
use crate::pkcs12::Password;
use crate::plan::{Issuer, Plan};
use crate::pod::{self, PodRef};
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
    /// Checks a request against the rules of its driver name and completes it with their defaults.
    ///
    /// # Errors
    /// All mistakes of the request together.
    pub fn parse(request: &PublishRequest, rules: &Rules) -> Result<Self, RequestMistakes> {
        let mut mistakes = RequestMistakes::new();
        let located = rules.locate(&request.volume_id, &request.target_path);
        let located = located.map_err(|wrong| wrong.0.into_iter().for_each(|mistake| mistakes.add(mistake))).ok();
        let attributes = attributes::read(&request.context, &mut mistakes);
        let plan = attributes.plan(rules, &mut mistakes);
        check_access(request, plan, &mut mistakes);
        if request.context.get("csi.storage.k8s.io/ephemeral").map(String::as_str) != Some("true") {
            mistakes.add(
                "only ephemeral volumes are supported: declare the volume inline in the pod (pod.spec.volumes[].csi), \
                 and set podInfoOnMount: true in the CSIDriver object",
            );
        }
        if !request.read_only && !rules.allow_missing_read_only {
            mistakes.add(
                "pod.spec.volumes[].csi.readOnly must be set to 'true' (or start the driver with --allow-missing-read-only)",
            );
        }
        let content = plan.and_then(|plan| content(request, rules, plan, &attributes, located.as_ref(), &mut mistakes));
        match (located, content, plan) {
            (Some((id, target)), Some(content), Some(plan)) if mistakes.0.is_empty() => Ok(VolumeSpec {
                id,
                target,
                read_only: plan.mints() || !request.read_only,
                pod: PodRef::read(&request.context).ok(),
                content,
            }),
            _ => Err(mistakes),
        }
    }

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

fn check_access(request: &PublishRequest, plan: Option<Plan>, mistakes: &mut RequestMistakes) {
    let Some(capability) = &request.capability else {
        return mistakes.add("volume_capability is missing");
    };
    match &capability.access {
        Access::Missing => mistakes.add("volume_capability has no access type; it must be a mount"),
        Access::Block => {
            mistakes.add("block access is not supported: the volume must be a mount (volumeMounts, not volumeDevices)")
        }
        Access::Mount { particular: true, .. } if plan == Some(Plan::Passthrough) => {
            mistakes.add(
                "volume_capability must be a simple mount: leave out pod.spec.volumes[].csi.fsType and mount flags",
            );
        }
        Access::Mount { .. } => {}
    }
    if plan == Some(Plan::Passthrough) {
        if !capability.has_mode {
            mistakes.add("volume_capability has no access mode");
        }
        if capability.reader_only {
            mistakes.add("volume_capability access mode SINGLE_NODE_READER_ONLY is not valid for this volume");
        }
    }
}

fn content(
    request: &PublishRequest,
    rules: &Rules,
    plan: Plan,
    attributes: &Attributes,
    located: Option<&(VolumeId, TargetPath)>,
    mistakes: &mut RequestMistakes,
) -> Option<Content> {
    attributes.refuse_what_is_not_of(plan.delivery(), mistakes);
    match plan {
        Plan::Passthrough => Some(Content::Passthrough),
        Plan::Files(issuer) => {
            let layout = attributes.layout(rules.layout, mistakes);
            let names = attributes.file_names(rules.names_in(layout), mistakes);
            let extras = extras(request, attributes, layout, &names, issuer, mistakes);
            let fs_group = attributes.fs_group(request.mount_group(), mistakes);
            let subject = subject(request, rules, issuer, attributes, located, mistakes)?;
            Some(Content::Files(FilesSpec { subject, names, extras: Box::new(extras), fs_group }))
        }
        Plan::WorkloadApi(issuer) => {
            let sockets = attributes.sockets(mistakes);
            let secrets = Box::new(attributes.secret_names(mistakes));
            let subject = subject(request, rules, issuer, attributes, located, mistakes)?;
            Some(Content::WorkloadApi(SocketSpec { subject, sockets: sockets?, secrets }))
        }
    }
}

fn extras(
    request: &PublishRequest,
    attributes: &Attributes,
    layout: Layout,
    names: &FileNames,
    issuer: Issuer,
    mistakes: &mut RequestMistakes,
) -> Extras {
    let extras = attributes.extras(layout, names, issuer, mistakes);
    let Some(password) = request.pkcs12_password.clone().filter(|_| extras.need_password()) else { return extras };
    let password = Password::new(password);
    mistakes
        .take(password.map_err(|error| format!("`{PKCS12_PASSWORD}` in the Secret of nodePublishSecretRef: {error}")));
    Extras { own_password: true, ..extras }
}

fn subject(
    request: &PublishRequest,
    rules: &Rules,
    issuer: Issuer,
    attributes: &Attributes,
    located: Option<&(VolumeId, TargetPath)>,
    mistakes: &mut RequestMistakes,
) -> Option<Subject> {
    let hint = attributes.hint(issuer, mistakes);
    let pod = pod::prove(request, located, mistakes)?;
    if !issuer.names_identity() {
        return Some(Subject { issuer, identity: None, hint });
    }
    let Some(trust_domain) = &rules.trust_domain else {
        mistakes.add("this driver has no trust domain: start it with --trust-domain");
        return None;
    };
    let identity = SpiffeId::for_service_account(trust_domain, &pod.namespace, &pod.service_account);
    Some(Subject { issuer, identity: Some(mistakes.take(identity)?), hint })
}

#[cfg(test)]
mod tests;
