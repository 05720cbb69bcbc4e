//! The pod that a request is for, and the proof of it.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::pod_token::{self, PodToken};
use crate::publish_request::{PublishRequest, RequestMistakes};
use crate::target::TargetPath;
use crate::volume_id::VolumeId;

/// The key under which the kubelet sends service account tokens, in `volume_context` or in `secrets` (KEP-5538).
pub const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// The longest name in Kubernetes: a DNS subdomain (RFC 1123).
const LONGEST_NAME: usize = 253;

/// A pod, as the kubelet names it in the volume context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The name of its service account.
    pub service_account: String,
}

impl fmt::Display for PodRef {
    /// `namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl PodRef {
    /// Reads the pod info of a volume context.
    ///
    /// # Errors
    /// A sentence for every key that is missing.
    pub fn read(context: &HashMap<String, String>) -> Result<Self, RequestMistakes> {
        let mut mistakes = RequestMistakes::new();
        let mut read = |key: &str| {
            let key = format!("csi.storage.k8s.io/{key}");
            match context.get(&key) {
                Some(value) if (1..=LONGEST_NAME).contains(&value.len()) => return value.clone(),
                Some(value) if !value.is_empty() => mistakes.add(format!("{key} has over {LONGEST_NAME} bytes")),
                _ => mistakes.add(format!("{key} is missing: set podInfoOnMount: true in the CSIDriver object")),
            }
            String::new()
        };
        let pod = PodRef {
            namespace: read("pod.namespace"),
            name: read("pod.name"),
            uid: read("pod.uid"),
            service_account: read("serviceAccount.name"),
        };
        if mistakes.0.is_empty() { Ok(pod) } else { Err(mistakes) }
    }
}

/// A pod with proof, for which an identity may be issued.
///
/// Pod info alone proves nothing: without `podInfoOnMount` a pod author can write these keys as volume attributes. But
/// no author can choose the UID that the API server gave the pod, which the kubelet puts into the target path and into
/// the volume id. So both must agree with it, and so must every token in the request.
pub(crate) fn prove(
    request: &PublishRequest,
    located: Option<&(VolumeId, TargetPath)>,
    mistakes: &mut RequestMistakes,
) -> Option<PodRef> {
    let pod = PodRef::read(&request.context)
        .map_err(|missing| missing.0.into_iter().for_each(|mistake| mistakes.add(mistake)))
        .ok();
    let (pod, (id, target)) = (pod?, located?);
    check_place(&pod, id, target, mistakes);
    for token in tokens(request, mistakes)? {
        check_token(&pod, &token, mistakes);
    }
    Some(pod)
}

fn check_place(pod: &PodRef, id: &VolumeId, target: &TargetPath, mistakes: &mut RequestMistakes) {
    let Some(place) = target.place() else {
        return mistakes.add(
            "target_path must have the form <pods folder>/<pod uid>/volumes/kubernetes.io~csi/<name>/mount \
             for a volume that holds an identity",
        );
    };
    if place.pod_uid != pod.uid {
        mistakes.add("csi.storage.k8s.io/pod.uid disagrees with the pod UID in target_path: set podInfoOnMount: true in the CSIDriver object");
    }
    if id.is_of_kubelet() && *id != VolumeId::of_kubelet(&pod.uid, place.volume_name) {
        mistakes.add("volume_id is not the kubelet's for this pod and volume name");
    }
}

fn tokens(request: &PublishRequest, mistakes: &mut RequestMistakes) -> Option<Vec<PodToken>> {
    let Some(json) = &request.tokens else { return Some(Vec::new()) };
    let tokens = pod_token::parse(json.expose()).map_err(|error| format!("{TOKENS}: {error}"));
    mistakes.take(tokens).map(|tokens| tokens.into_values().collect())
}

fn check_token(pod: &PodRef, token: &PodToken, mistakes: &mut RequestMistakes) {
    let Some(claims) = mistakes.take(token.claims().map_err(|error| format!("{TOKENS}: {error}"))) else { return };
    let pairs = [
        ("kubernetes.io.namespace", claims.namespace.as_str(), &pod.namespace),
        ("kubernetes.io.pod.name", claims.pod_name.as_str(), &pod.name),
        ("kubernetes.io.pod.uid", claims.pod_uid.as_str(), &pod.uid),
        ("kubernetes.io.serviceaccount.name", claims.service_account.as_str(), &pod.service_account),
    ];
    for (claim, has, expected) in pairs {
        if has != expected {
            mistakes.add(format!("{TOKENS}: the claim {claim} of a token disagrees with the pod info"));
        }
    }
}
