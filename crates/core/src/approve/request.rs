//! A request as the approver sees it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cert_request::{CertificateRequest, IDENTITY_ANNOTATION, IssuerRef, OwnerReference};
use crate::unix_time;

/// The reason of the condition, which marks our decisions. The predecessor uses it under
/// every driver name.
pub const CONDITION_REASON: &str = "spiffe.csi.cert-manager.io";

/// What an approver knows about a `CertificateRequest`. The requester chose all of it, except for what the API server
/// (namespace and creation) and cert-manager's webhook set: user name, UID, groups and extra.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The annotation [`IDENTITY_ANNOTATION`].
    pub identity: Option<String>,
    /// `spec.request`: PEM, or anything else.
    pub csr: Vec<u8>,
    /// `spec.duration`, as it is written.
    pub duration: Option<String>,
    /// `spec.isCA`.
    pub is_ca: bool,
    /// `spec.usages`.
    pub usages: Vec<String>,
    /// `spec.issuerRef`.
    pub issuer: IssuerRef,
    /// `spec.username`.
    pub username: String,
    /// `spec.uid`.
    pub uid: String,
    /// `spec.groups`.
    pub groups: Vec<String>,
    /// `spec.extra`.
    pub extra: BTreeMap<String, Vec<String>>,
    /// The owners.
    pub owners: Vec<OwnerReference>,
    /// The decision, if an approver has already made one.
    pub decision: Option<Decision>,
    /// When it was created.
    pub created: Option<SystemTime>,
}

/// A decision in the status of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Approved, or denied.
    pub approved: bool,
    /// The reason of the condition, which names the approver.
    pub reason: String,
}

impl Request {
    /// Whether another approver approved a request that is ours to judge: with a second approver running, no rule here holds.
    pub fn is_approved_by_another(&self) -> bool {
        let decision = self.decision.as_ref().filter(|decision| decision.approved);
        self.identity.is_some() && decision.is_some_and(|decision| decision.reason != CONDITION_REASON)
    }
}

impl From<&CertificateRequest> for Request {
    /// Converts an object as it is. A CSR that is not base64 becomes an empty one, which no rule accepts.
    fn from(object: &CertificateRequest) -> Self {
        let CertificateRequest { metadata, spec, status, .. } = object;
        let decision = |kind, approved| {
            let condition = status.as_ref()?.when_true(kind)?;
            Some(Decision { approved, reason: condition.reason.clone() })
        };
        Self {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            identity: metadata.annotations.get(IDENTITY_ANNOTATION).cloned(),
            csr: STANDARD.decode(&spec.request).unwrap_or_default(),
            duration: spec.duration.clone(),
            is_ca: spec.is_ca,
            usages: spec.usages.clone(),
            issuer: spec.issuer_ref.clone(),
            username: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
            owners: metadata.owner_references.clone(),
            decision: decision("Denied", false).or_else(|| decision("Approved", true)),
            created: metadata.creation_timestamp.as_deref().and_then(unix_time::parse_rfc3339),
        }
    }
}
