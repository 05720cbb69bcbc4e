//! Service account tokens as the kubelet passes them to drivers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use svid_csi::demo::kubelet::Pod;
use svid_csi::telemetry::report::rfc3339;

/// The audience of the API server.
pub const API_AUDIENCE: &str = "https://kubernetes.default.svc";

static MADE: AtomicU64 = AtomicU64::new(1);

/// A token of that pod on that node, until `expires`. All are different. It is not signed, because the scripted API
/// server knows tokens by their text.
pub fn pod_token(pod: &Pod, node: &str, audience: &str, expires: SystemTime) -> String {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let (namespace, account) = (&pod.namespace, &pod.service_account);
    let header = json!({"alg": "RS256", "kid": "test"});
    let payload = json!({
        "aud": [audience], "iss": API_AUDIENCE, "exp": seconds(expires), "iat": seconds(SystemTime::now()),
        "nbf": seconds(SystemTime::now()), "jti": format!("jti-{}-{number}", std::process::id()),
        "kubernetes.io": {
            "namespace": namespace,
            "node": {"name": node, "uid": format!("uid-of-{node}")},
            "pod": {"name": pod.name, "uid": pod.uid},
            "serviceaccount": {"name": account, "uid": format!("uid-of-sa-{namespace}-{account}")},
        },
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signature = URL_SAFE_NO_PAD.encode(format!("signature number {number} by the test kit"));
    format!("{}.{}.{signature}", part(&header), part(&payload))
}

/// The value of `csi.storage.k8s.io/serviceAccount.tokens` from the kubelet: tokens and their ends, by audience.
pub fn tokens_json(tokens: &[(&str, &str, SystemTime)]) -> String {
    let entry = |(audience, token, expires): &(&str, &str, SystemTime)| {
        ((*audience).to_owned(), json!({"token": token, "expirationTimestamp": rfc3339(*expires)}))
    };
    Value::Object(tokens.iter().map(entry).collect()).to_string()
}
