//! Kubeconfigs with client certificates (JSON, which is YAML).

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::files;
use crate::pki::{Authority, Credentials};

/// Writes the kubeconfig of the owner of `user` for the API server on `port`.
pub fn write(path: &Path, port: u16, authority: &Authority, user: &Credentials) -> Result<()> {
    let cluster = json!({
        "server": format!("https://127.0.0.1:{port}"),
        "certificate-authority-data": base64(authority.pem()),
    });
    let credentials = json!({
        "client-certificate-data": base64(&user.certificate),
        "client-key-data": base64(&user.key),
    });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "svid-csi", "cluster": cluster}],
        "users": [{"name": "owner", "user": credentials}],
        "contexts": [{"name": "svid-csi", "context": {"cluster": "svid-csi", "user": "owner"}}],
        "current-context": "svid-csi",
    });
    files::write(path, serde_json::to_vec_pretty(&config)?)
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
