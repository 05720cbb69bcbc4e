//! `CertificateRequest` objects, as they are read and watched.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Serialize};
use svid_csi_core::cert_request::{self, API_VERSION, CertificateRequestSpec, CertificateRequestStatus, KIND};

/// A `CertificateRequest` of cert-manager.io/v1.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// Name, labels and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The request itself.
    #[serde(default)]
    pub spec: CertificateRequestSpec,
    /// Its progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<CertificateRequestStatus>,
}

impl Resource for CertificateRequest {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        API_VERSION.split_once('/').map_or("", |(group, _)| group).into()
    }

    fn version((): &()) -> Cow<'_, str> {
        API_VERSION.split_once('/').map_or(API_VERSION, |(_, version)| version).into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "certificaterequests".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl From<&CertificateRequest> for cert_request::CertificateRequest {
    fn from(object: &CertificateRequest) -> Self {
        let ObjectMeta { name, namespace, labels, annotations, owner_references, creation_timestamp, .. } =
            object.metadata.clone();
        let owner =
            |owner: k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| cert_request::OwnerReference {
                api_version: owner.api_version,
                kind: owner.kind,
                name: owner.name,
                uid: owner.uid,
            };
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: cert_request::Metadata {
                name: name.unwrap_or_default(),
                namespace: namespace.unwrap_or_default(),
                labels: labels.unwrap_or_default(),
                annotations: annotations.unwrap_or_default(),
                owner_references: owner_references.unwrap_or_default().into_iter().map(owner).collect(),
                creation_timestamp: creation_timestamp.map(|time| time.0.to_string()),
            },
            spec: object.spec.clone(),
            status: object.status.clone(),
        }
    }
}
