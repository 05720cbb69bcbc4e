//! Accounts at the API server: the administrator, or a service account with its own token.

use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::kubeconfig;
use crate::layout::Layout;
use crate::session::Session;

const EXPIRES: i64 = 3600;

/// The pod that a token is bound to.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
}

/// A client of the administrator.
pub async fn administrator(layout: &Layout) -> Result<Client> {
    Ok(Client::try_from(config(layout).await?)?)
}

/// A client with the account of a token.
pub async fn bearer(layout: &Layout, token: &str) -> Result<Client> {
    let mut config = config(layout).await?;
    // A client certificate would take precedence over the token.
    config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
    Ok(Client::try_from(config)?)
}

/// A token of a service account for the API server, optionally bound to one of its pods.
pub async fn token(client: &Client, namespace: &str, account: &str, pod: Option<Pod<'_>>) -> Result<String> {
    Ok(request(client, namespace, account, pod, None).await?.0)
}

/// A token for another audience than the API server.
pub async fn token_for(
    client: &Client,
    namespace: &str,
    account: &str,
    pod: Pod<'_>,
    audience: &str,
) -> Result<String> {
    Ok(request(client, namespace, account, Some(pod), Some(audience)).await?.0)
}

/// The value of `csi.storage.k8s.io/serviceAccount.tokens` from the kubelet, for a driver that requests the audience
/// "".
pub async fn csi_tokens(client: &Client, namespace: &str, account: &str, pod: Pod<'_>) -> Result<String> {
    let (token, expires) = request(client, namespace, account, Some(pod), None).await?;
    Ok(json!({"": {"token": token, "expirationTimestamp": expires}}).to_string())
}

/// Writes a kubeconfig with a token of that service account.
pub async fn write_kubeconfig(
    path: &Path,
    layout: &Layout,
    client: &Client,
    (namespace, account): (&str, &str),
    pod: Option<Pod<'_>>,
) -> Result<()> {
    let token = token(client, namespace, account, pod).await?;
    kubeconfig::write_with_token(path, Session::load(layout)?.apiserver, &layout.pki().join("ca.crt"), &token)
}

async fn request(
    client: &Client,
    namespace: &str,
    account: &str,
    pod: Option<Pod<'_>>,
    audience: Option<&str>,
) -> Result<(String, String)> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let bound = pod.map(|pod| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name.to_owned()),
        uid: Some(pod.uid.to_owned()),
    });
    let audiences = audience.map(|audience| vec![audience.to_owned()]);
    let spec = TokenRequestSpec {
        audiences,
        bound_object_ref: bound,
        expiration_seconds: Some(EXPIRES),
        ..Default::default()
    };
    let request = TokenRequest { spec: Some(spec), ..Default::default() };
    let given = accounts.create_token_request(account, &PostParams::default(), &request).await;
    let given = given.with_context(|| format!("no token for {namespace}/{account}"))?;
    let status = given.status.context("a token request without an answer")?;
    let token = status.token.context("a token request without a token")?;
    let expires = status.expiration_timestamp.context("a token that never expires")?;
    Ok((token, expires.0.to_string()))
}

async fn config(layout: &Layout) -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(layout.kubeconfig()).context("no cluster is up: run `just cluster-up`")?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}
