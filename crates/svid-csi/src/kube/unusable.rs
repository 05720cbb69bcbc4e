//! Issuers that can never sign for a pod.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use svid_csi_core::cert_request::IssuerRef;
use tracing::debug;

const SELF_SIGNED: &str = "it is of type SelfSigned, which signs with the requester's own key and so cannot form a trust domain; \
                           use one of type CA, Vault or the like";
const ACME: &str =
    "it is of type ACME, which certifies domain names, not SPIFFE IDs; use one of type CA, Vault or the like";

/// How long reading the issuer may take; afterwards the request continues without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Remembers issuers that were read. If the driver may not read issuers, none counts as unusable.
pub struct Unusable {
    client: Client,
    fine: Mutex<HashSet<(String, String, String)>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IssuerObject {
    spec: IssuerSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct IssuerSpec {
    self_signed: Option<serde::de::IgnoredAny>,
    acme: Option<serde::de::IgnoredAny>,
}

impl std::fmt::Debug for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unusable")
    }
}

/// Why an issuer can never sign for a pod, if its message about a request shows that.
pub fn from_message(message: &str) -> Option<&'static str> {
    // What cert-manager's SelfSigned issuer reports as missing in every request that does not come from a Certificate.
    message.contains("cert-manager.io/private-key-secret-name").then_some(SELF_SIGNED)
}

impl Unusable {
    /// Creates an empty cache.
    pub fn new(client: Client) -> Self {
        Self { client, fine: Mutex::default() }
    }

    /// Why one of cert-manager's own issuers can never sign for pods of that namespace, if it cannot. A usable issuer
    /// is not checked again.
    pub async fn why(&self, issuer: &IssuerRef, namespace: &str) -> Option<&'static str> {
        let path = match issuer.kind() {
            _ if issuer.group() != "cert-manager.io" => return None,
            "ClusterIssuer" => "clusterissuers".to_owned(),
            "Issuer" => format!("namespaces/{namespace}/issuers"),
            _ => return None,
        };
        let known = (issuer.kind().to_owned(), issuer.name.clone(), path.clone());
        if self.fine.lock().unwrap_or_else(PoisonError::into_inner).contains(&known) {
            return None;
        }
        match self.look(&format!("/apis/cert-manager.io/v1/{path}/{}", issuer.name)).await? {
            IssuerObject { spec: IssuerSpec { self_signed: Some(_), .. } } => Some(SELF_SIGNED),
            IssuerObject { spec: IssuerSpec { acme: Some(_), .. } } => Some(ACME),
            _ => {
                self.fine.lock().unwrap_or_else(PoisonError::into_inner).insert(known);
                None
            }
        }
    }

    /// The issuer; an empty one if the driver may not read issuers, so that it does not ask again.
    async fn look(&self, path: &str) -> Option<IssuerObject> {
        let call = http::Request::get(path).body(Vec::new()).ok()?;
        match tokio::time::timeout(PATIENCE, self.client.request::<IssuerObject>(call)).await.ok()? {
            Err(kube::Error::Api(status)) if status.code == 403 => Some(IssuerObject::default()),
            read => read.inspect_err(|error| debug!(path, %error, "cannot read the issuer")).ok(),
        }
    }
}
