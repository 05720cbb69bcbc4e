//! `CertificateRequest` objects as the approver reads and updates them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;
use serde_json::{Value, json};
use svid_csi_core::approve::Request;
use svid_csi_core::cert_request::{
    API_VERSION, CertificateRequestSpec, CertificateRequestStatus, Condition, IDENTITY_ANNOTATION, IssuerRef, KIND,
};

use crate::kube::cert_request::CertificateRequest;

/// Which request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RequestKey {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

/// A request as it was listed or watched. Only the relevant part of its metadata is kept: the rest, mainly managed
/// fields, is most of its size. Its status is kept unchanged, because it is written back.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Wire")]
pub(super) struct Listed {
    metadata: ObjectMeta,
    spec: CertificateRequestSpec,
    status: Value,
}

#[derive(Deserialize)]
struct Wire {
    metadata: WireMetadata,
    #[serde(default)]
    spec: CertificateRequestSpec,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

impl From<Wire> for Listed {
    fn from(Wire { metadata, spec, status }: Wire) -> Self {
        let mut annotations = metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| key == IDENTITY_ANNOTATION);
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            creation_timestamp: metadata.creation_timestamp,
            annotations: Some(annotations),
            owner_references: metadata.owner_references,
            ..ObjectMeta::default()
        };
        Self { metadata, spec, status }
    }
}

impl Listed {
    pub(super) fn key(&self) -> RequestKey {
        let word = |word: &Option<String>| word.as_deref().unwrap_or_default().into();
        RequestKey { namespace: word(&self.metadata.namespace), name: word(&self.metadata.name) }
    }

    pub(super) fn version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }

    pub(super) fn owners(&self) -> &[OwnerReference] {
        self.metadata.owner_references.as_deref().unwrap_or_default()
    }

    pub(super) fn issuer(&self) -> &IssuerRef {
        &self.spec.issuer_ref
    }

    /// Its approximate size in memory, in bytes.
    pub(super) fn weight(&self) -> usize {
        let mut count = Count(size_of::<Self>());
        // Counting cannot fail.
        let _ = serde_json::to_writer(&mut count, &(&self.metadata, &self.spec, &self.status));
        count.0
    }

    /// The request to judge.
    pub(super) fn request(&self) -> Request {
        // A status that does not match the schema contains no decision.
        let status = CertificateRequestStatus::deserialize(&self.status).ok();
        let object = CertificateRequest { metadata: self.metadata.clone(), spec: self.spec.clone(), status };
        Request::from(&(&object).into())
    }

    /// The object for an update of its status, with one condition added. Everything else is as it was read, and the
    /// resource version ensures that it has not changed.
    pub(super) fn with(&self, condition: &Condition) -> Result<Vec<u8>, serde_json::Error> {
        let mut status = self.status.clone();
        if !status.is_object() {
            status = json!({});
        }
        let new = serde_json::to_value(condition)?;
        match status.get_mut("conditions") {
            Some(Value::Array(conditions)) => {
                conditions.retain(|old| old["type"] != new["type"]);
                conditions.push(new);
            }
            _ => status["conditions"] = json!([new]),
        }
        let Self { metadata: ObjectMeta { name, namespace, uid, resource_version, .. }, spec, .. } = self;
        serde_json::to_vec(&json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": { "name": name, "namespace": namespace, "uid": uid, "resourceVersion": resource_version },
            "spec": spec,
            "status": status,
        }))
    }
}

struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Resource for Listed {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        CertificateRequest::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        CertificateRequest::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        CertificateRequest::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        CertificateRequest::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use svid_csi_core::approve::Decision;

    use super::*;

    fn listed(change: impl FnOnce(&mut Value)) -> Listed {
        let mut object = json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "7",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": { "a": "b" },
                "annotations": { IDENTITY_ANNOTATION: "spiffe://cluster.local/ns/shop/sa/web", "other": "x".repeat(9_000) },
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "p-1" }],
                "managedFields": [{ "manager": "m", "operation": "Update", "fieldsV1": { "f:spec": {} } }],
            },
            "spec": { "request": "QQ==", "duration": "1h0m0s", "issuerRef": { "name": "ca" }, "username": "u" },
        });
        change(&mut object);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_relevant_fields_are_read() {
        let listed = listed(|_| {});
        let request = listed.request();
        assert_eq!((&*request.namespace, &*request.name, &*request.username), ("shop", "web", "u"));
        assert_eq!(request.identity.as_deref(), Some("spiffe://cluster.local/ns/shop/sa/web"));
        assert_eq!((&request.csr[..], request.owners[0].uid.as_str()), (&b"A"[..], "p-1"));
        assert!(request.created.is_some() && request.decision.is_none());
        assert!(listed.weight() < 3_000, "no labels, managed fields, annotations of others: {}", listed.weight());
    }

    #[test]
    fn only_the_condition_is_changed() {
        let status = json!({
            "conditions": [{ "type": "Ready", "status": "False", "reason": "Pending", "newField": [1] }],
            "failureTime": "2026-01-01T00:00:00Z",
            "unheardOf": { "a": null },
        });
        let condition = Condition { kind: "Approved".to_owned(), status: "True".to_owned(), ..Condition::default() };
        let listed = listed(|object| object["status"] = status.clone());
        let written: Value = serde_json::from_slice(&listed.with(&condition).unwrap()).unwrap();
        let mut expected = status;
        expected["conditions"].as_array_mut().unwrap().push(json!({ "type": "Approved", "status": "True" }));
        assert_eq!(written["status"], expected);
        let metadata = json!({ "name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "7" });
        assert_eq!(written["metadata"], metadata);
        assert_eq!((&written["apiVersion"], &written["kind"]), (&json!(API_VERSION), &json!(KIND)));
        assert_eq!(written["spec"]["request"], "QQ==");
    }

    #[test]
    fn a_condition_never_exists_twice() {
        let old = json!({ "conditions": [{ "type": "Approved", "status": "False" }] });
        let condition = Condition { kind: "Approved".to_owned(), status: "True".to_owned(), ..Condition::default() };
        for status in [old, json!(null), json!({ "conditions": null })] {
            let listed = listed(|object| object["status"] = status);
            let written: Value = serde_json::from_slice(&listed.with(&condition).unwrap()).unwrap();
            assert_eq!(written["status"], json!({ "conditions": [{ "type": "Approved", "status": "True" }] }));
        }
    }

    #[test]
    fn a_decision_is_seen() {
        let conditions = json!([{ "type": "Approved", "status": "True", "reason": "cert-manager.io" }]);
        let request = listed(|object| object["status"] = json!({ "conditions": conditions })).request();
        assert_eq!(request.decision, Some(Decision { approved: true, reason: "cert-manager.io".to_owned() }));
        assert!(request.is_approved_by_another());
    }
}
