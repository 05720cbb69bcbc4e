//! References to workloads in the form of the Broker API.

use prost::Message;
use prost_types::Any;

use crate::broker::{KubernetesObjectKey, KubernetesObjectReference, KubernetesObjectType, WorkloadReference};

/// The type URL of a [`KubernetesObjectReference`] in a [`WorkloadReference`].
pub const KUBERNETES_OBJECT_REFERENCE: &str = "type.googleapis.com/spiffe.broker.KubernetesObjectReference";

impl WorkloadReference {
    /// Exactly the pod with that name and that UID: the server checks that both belong to the same pod.
    pub fn to_pod(namespace: &str, name: &str, uid: &str) -> Self {
        let pod = KubernetesObjectReference {
            r#type: Some(KubernetesObjectType { plural: "pods".to_owned(), group: "core".to_owned() }),
            key: Some(KubernetesObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }),
            uid: uid.to_owned(),
        };
        let reference = Any { type_url: KUBERNETES_OBJECT_REFERENCE.to_owned(), value: pod.encode_to_vec() };
        WorkloadReference { reference: Some(reference) }
    }
}
