//! Kubeconfigs with client certificates or tokens (JSON, which is YAML).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::files;
use crate::pki::{Authority, Credentials};

/// Writes the kubeconfig of the owner of `user` for the API server on `port`.
pub fn write(path: &Path, port: u16, authority: &Authority, user: &Credentials) -> Result<()> {
    let credentials = json!({
        "client-certificate-data": base64(&user.certificate),
        "client-key-data": base64(&user.key),
    });
    write_user(path, port, authority.pem(), &credentials)
}

/// Writes the kubeconfig of the owner of a token; `authority` is the file with the API server's.
pub fn write_with_token(path: &Path, port: u16, authority: &Path, token: &str) -> Result<()> {
    let pem = fs::read_to_string(authority).with_context(|| format!("cannot read {}", authority.display()))?;
    write_user(path, port, &pem, &json!({"token": token}))
}

fn write_user(path: &Path, port: u16, authority: &str, credentials: &Value) -> Result<()> {
    let cluster = json!({
        "server": format!("https://127.0.0.1:{port}"),
        "certificate-authority-data": base64(authority),
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
