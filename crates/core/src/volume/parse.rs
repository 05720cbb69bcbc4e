//! From a request and the rules of its driver name to a volume, or all mistakes of the request.

use super::{
    Access, Content, FilesSpec, PKCS12_PASSWORD, PublishRequest, RequestMistakes, Rules, SocketSpec, Subject,
    VolumeSpec,
};
use crate::attributes::{self, Attributes};
use crate::files::{Extras, FileNames, Layout};
use crate::pkcs12::Password;
use crate::plan::{Issuer, Plan};
use crate::pod::{self, PodRef};
use crate::spiffe_id::SpiffeId;
use crate::target::TargetPath;
use crate::volume_id::VolumeId;

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
