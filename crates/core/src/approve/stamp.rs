//! The stamp of the API server on a request: the pod, and the node, of the token the request was created with.
//!
//! A token that is bound to a pod carries both; the API server puts them into the user info, and cert-manager's webhook
//! copies that into `spec.extra`, where no one can change it (Kubernetes, "Managing Service Accounts", bound tokens).

use super::fault::StampFault;
use super::request::Request;

/// The UID of the pod.
pub(super) const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The name of the pod.
pub(super) const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// The node of the pod.
pub(super) const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// The stamp, if there is one.
pub(super) fn find<'a>(request: &'a Request, key: &'static str) -> Result<Option<&'a str>, StampFault> {
    match request.extra.get(key).map(Vec::as_slice) {
        None => Ok(None),
        Some([value]) => Ok(Some(value)),
        Some(values) => Err(StampFault::Values { key, found: values.len() }),
    }
}

/// The stamp, which must be there.
pub(super) fn require<'a>(request: &'a Request, key: &'static str) -> Result<&'a str, StampFault> {
    find(request, key)?.filter(|value| !value.is_empty()).ok_or(StampFault::Missing { key })
}
