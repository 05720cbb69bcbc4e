//! Events on requests, and on their pods, for the owners of the pods.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use svid_csi_core::approve::Reasons;
use svid_csi_core::finding;

use super::object::Listed;
use super::text::{is_plain, shown};
use crate::kube::events::Events;

/// The longest list of reasons in an event, in bytes.
const REASONS: usize = 800;

const DENIED: &str = "Denied";
const APPROVED_BY_ANOTHER: &str = "ApprovedByAnother";
const TURN_OFF: &str = "this request was approved by another approver, so the rules for SPIFFE identities were not \
                        applied: turn cert-manager's own approver off with --controllers=*,-certificaterequests-approver";

#[derive(Debug)]
pub(super) struct Notices(Events);

impl Notices {
    pub(super) fn new(events: Events) -> Self {
        Self(events)
    }

    /// Reports a denial.
    pub(super) fn denied(&self, object: &Listed, reasons: &Reasons) {
        let reasons = reasons.message(REASONS);
        let finding = Some(finding!("request-failed"));
        self.0.warn(object.reference(), DENIED, format!("denied: {reasons}"), finding);
        if let Some(pod) = object.pod() {
            let name = shown(&object.key().name);
            self.0.warn(pod, DENIED, format!("the pod's CertificateRequest {name} was denied: {reasons}"), finding);
        }
    }

    /// Reports that another approver approved a request that this one judges.
    pub(super) fn approved_by_another(&self, object: &Listed) {
        self.0.warn(object.reference(), APPROVED_BY_ANOTHER, TURN_OFF, None);
    }
}

impl Listed {
    fn reference(&self) -> ObjectReference {
        let meta = self.meta();
        ObjectReference {
            api_version: Some(Self::api_version(&()).into_owned()),
            kind: Some(Self::kind(&()).into_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            ..ObjectReference::default()
        }
    }

    /// The pod that the request names. `None` if it is not a valid pod, because a requester can write anything there.
    fn pod(&self) -> Option<ObjectReference> {
        let mut pods = self.owners().iter().filter(|owner| owner.api_version == "v1" && owner.kind == "Pod");
        let (pod, None) = (pods.next()?, pods.next()) else { return None };
        let is_possible = is_plain(&pod.name) && pod.uid.len() <= 64;
        is_possible.then(|| ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: self.meta().namespace.clone(),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        })
    }
}
