//! `CertificateRequest` objects as JSON.
//!
//! Reading is deliberately lenient: everything that the schema allows is read, and checked afterwards. One object with
//! unexpected content must not make its whole list unreadable.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// A `CertificateRequest` of cert-manager.io/v1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateRequest {
    /// `cert-manager.io/v1`.
    pub api_version: String,
    /// `CertificateRequest`.
    pub kind: String,
    /// Name, labels and so on.
    pub metadata: Metadata,
    /// The request itself.
    pub spec: CertificateRequestSpec,
    /// Its status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<CertificateRequestStatus>,
}

/// The part of an object's metadata that is used here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The labels.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The owners.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// When it was created, in RFC 3339; set by the API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
}

/// An owner of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Its API group and version; `v1` for pods.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl OwnerReference {
    /// A pod as the owner.
    pub fn pod(name: &str, uid: &str) -> Self {
        let (api_version, kind) = ("v1".to_owned(), "Pod".to_owned());
        Self { api_version, kind, name: name.to_owned(), uid: uid.to_owned() }
    }

    /// Whether the owner is a pod.
    pub fn is_pod(&self) -> bool {
        self.api_version == "v1" && self.kind == "Pod"
    }
}

/// The request itself, and the requester.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateRequestSpec {
    /// The CSR: base64 of PEM.
    #[serde(deserialize_with = "or_default")]
    pub request: String,
    /// How long the certificate is to be valid, as Go writes durations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// The issuer.
    pub issuer_ref: IssuerRef,
    /// Whether a CA certificate is wanted.
    #[serde(rename = "isCA", deserialize_with = "or_default", skip_serializing_if = "is_false")]
    pub is_ca: bool,
    /// The requested usages.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub usages: Vec<String>,
    /// Who created the object; set by cert-manager's webhook.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The UID of the creator; set by the webhook.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The groups of the creator; set by the webhook.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Other attributes of the creator that the API server knows; set by the webhook.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The issuer of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IssuerRef {
    /// The issuer's name.
    pub name: String,
    /// Its kind; if missing, `Issuer`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its API group; if missing, `cert-manager.io`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub group: String,
}

impl IssuerRef {
    /// The kind, with the default filled in.
    pub fn kind(&self) -> &str {
        if self.kind.is_empty() { "Issuer" } else { &self.kind }
    }

    /// The group, with the default filled in.
    pub fn group(&self) -> &str {
        if self.group.is_empty() { "cert-manager.io" } else { &self.group }
    }

    /// Whether both mean the same issuer. Comparing the fields is not enough: cert-manager replaces an empty kind or
    /// group by its default.
    pub fn is_same_as(&self, other: &IssuerRef) -> bool {
        (&*self.name, self.kind(), self.group()) == (&*other.name, other.kind(), other.group())
    }
}

/// The status of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateRequestStatus {
    /// Approved, Denied, Ready, InvalidRequest.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The certificate chain: base64 of PEM, the leaf first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The CA as the issuer knows it: base64 of PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// When it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_time: Option<String>,
}

impl CertificateRequestStatus {
    /// The condition of that type, if it is true.
    pub fn when_true(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind && condition.status == "True")
    }
}

/// One condition of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `Approved`, `Denied`, `Ready` or `InvalidRequest`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When it last changed, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// The reason, in one word.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The reason, in one sentence.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Reads `null` as the default.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
