//! The driver's requests to cert-manager: `CertificateRequest` objects, exactly as cert-manager/csi-driver-spiffe and
//! cert-manager/csi-lib write them, so that either's approver can judge them and either's driver find them again.

mod label;
mod object;
mod progress;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use self::label::{NODE_LABEL, VOLUME_LABEL, hash_identifier, labels};
pub use self::object::{
    CertificateRequest, CertificateRequestSpec, CertificateRequestStatus, Condition, IssuerRef, Metadata,
    OwnerReference,
};
pub use self::progress::{Issued, Progress, StatusError, ended};
use crate::go_duration;
use crate::pod::PodRef;
use crate::spiffe_id::SpiffeId;

/// The API group and version of the objects.
pub const API_VERSION: &str = "cert-manager.io/v1";

/// The kind of the objects.
pub const KIND: &str = "CertificateRequest";

/// The prefix of the driver's own annotations. The predecessor uses it under every driver name, and so does this
/// driver, because the two may run side by side during an upgrade.
pub const ANNOTATION_PREFIX: &str = "spiffe.csi.cert-manager.io";

/// The annotation that holds the SPIFFE ID a request is for, and marks the request as one for the approver to judge.
pub const IDENTITY_ANNOTATION: &str = "spiffe.csi.cert-manager.io/identity";

/// The annotation that counts the attempts in a row, from the second attempt. After a restart, the driver determines
/// from it how long to wait before the next attempt.
pub const ATTEMPT_ANNOTATION: &str = "svid-csi/attempt";

/// The usages a request asks for, in the order in which the predecessor writes them.
pub const USAGES: [&str; 4] = ["digital signature", "key encipherment", "server auth", "client auth"];

/// The input of one request.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The pod the identity is for. It owns the request, which is deleted with it.
    pub pod: &'a PodRef,
    /// The ID.
    pub id: &'a SpiffeId,
    /// The node's name, as configured.
    pub node_id: &'a str,
    /// The CSI volume id.
    pub volume_id: &'a str,
    /// The issuer.
    pub issuer: &'a IssuerRef,
    /// How long the certificate is to be valid.
    pub duration: Duration,
    /// Annotations that the administrator adds to every request. Those under [`ANNOTATION_PREFIX`] are left out.
    pub annotations: &'a BTreeMap<String, String>,
    /// The number of consecutive attempts, this one included; 1 unless earlier requests failed.
    pub attempt: u32,
    /// The CSR, created by [`request::csr_pem`](crate::request::csr_pem).
    pub csr_pem: &'a str,
}

impl Ask<'_> {
    /// The object to create, named by 16 random bytes.
    pub fn object(&self, random: [u8; 16]) -> CertificateRequest {
        CertificateRequest {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: Metadata {
                name: uuid(random),
                namespace: self.pod.namespace.clone(),
                labels: labels(self.node_id, self.volume_id),
                annotations: self.annotations(),
                owner_references: vec![OwnerReference::pod(&self.pod.name, &self.pod.uid)],
                ..Metadata::default()
            },
            spec: CertificateRequestSpec {
                request: STANDARD.encode(self.csr_pem),
                duration: Some(go_duration::format(self.duration)),
                issuer_ref: self.issuer.clone(),
                usages: USAGES.map(str::to_owned).to_vec(),
                ..CertificateRequestSpec::default()
            },
            status: None,
        }
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let others = self.annotations.iter().filter(|(key, _)| !key.starts_with(ANNOTATION_PREFIX));
        let mut annotations: BTreeMap<_, _> = others.map(|(key, value)| (key.clone(), value.clone())).collect();
        annotations.insert(IDENTITY_ANNOTATION.to_owned(), self.id.as_str().to_owned());
        if self.attempt > 1 {
            annotations.insert(ATTEMPT_ANNOTATION.to_owned(), self.attempt.to_string());
        }
        annotations
    }
}

/// A random UUID (RFC 9562, version 4) as text.
fn uuid(random: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(random);
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
