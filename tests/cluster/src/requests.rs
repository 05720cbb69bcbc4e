//! Certificate requests made without a driver: created, approved and awaited by the test.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_lc_rs::rand;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use svid_csi::kube::cert_request::CertificateRequest;
use svid_csi_core::cert_request::{Ask, Condition, IssuerRef};
use svid_csi_core::go_duration;
use svid_csi_core::identity::PrivateKey;
use svid_csi_core::pod::PodRef;
use svid_csi_core::request;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};

use crate::eventually::SOON;

/// The parameters of a request for a pod's identity.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The name of a ClusterIssuer.
    pub issuer: String,
    /// The trust domain.
    pub trust_domain: String,
    /// The lifetime of the certificate.
    pub duration: Duration,
}

impl Terms {
    /// The request that a driver would create for this pod.
    pub fn request(&self, pod: &PodRef) -> Result<Value> {
        self.request_on("by-hand", pod)
    }

    /// The request that the driver of that node would create for this pod.
    pub fn request_on(&self, node: &str, pod: &PodRef) -> Result<Value> {
        let key = PrivateKey::generate_p256()?;
        let id = self.identity(&pod.namespace, &pod.service_account)?;
        let issuer = IssuerRef {
            name: self.issuer.clone(),
            kind: "ClusterIssuer".to_owned(),
            group: "cert-manager.io".to_owned(),
        };
        let mut random = [0; 16];
        rand::fill(&mut random)?;
        let ask = Ask {
            pod,
            id: &id,
            node_id: node,
            volume_id: "by-hand",
            issuer: &issuer,
            duration: self.duration,
            attempt: 1,
            annotations: &BTreeMap::new(),
            csr_pem: &request::csr_pem(&key, &id)?,
        };
        Ok(serde_json::to_value(ask.object(random))?)
    }

    /// The identity of a service account.
    pub fn identity(&self, namespace: &str, account: &str) -> Result<SpiffeId> {
        Ok(SpiffeId::for_service_account(&TrustDomain::parse(&self.trust_domain)?, namespace, account)?)
    }

    /// The duration, in the form of flags.
    #[must_use]
    pub fn duration(&self) -> String {
        go_duration::format(self.duration)
    }
}

/// Creates a request with the account of `client`, and returns its name.
pub async fn create(client: &Client, object: &Value) -> Result<String> {
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    let namespace = object.metadata.namespace.as_deref().context("a request without a namespace")?;
    let resource = ApiResource::erase::<CertificateRequest>(&());
    let requests: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let created = requests.create(&PostParams::default(), &object).await?;
    created.metadata.name.context("a request without a name")
}

/// Approves a request like `cmctl approve`.
pub async fn approve(requests: &Api<CertificateRequest>, name: &str) -> Result<()> {
    let condition = json!({
        "type": "Approved",
        "status": "True",
        "reason": "e2e",
        "message": "approved by hand",
        "lastTransitionTime": Timestamp::from_second(Timestamp::now().as_second())?,
    });
    let change = json!({"status": {"conditions": [condition]}});
    requests.patch_status(name, &PatchParams::default(), &Patch::Merge(change)).await?;
    Ok(())
}

/// Waits until a request has a condition of that type, and returns the condition.
pub async fn wait_condition(requests: &Api<CertificateRequest>, name: &str, kind: &'static str) -> Result<Condition> {
    let holds = move |request: Option<&CertificateRequest>| request.is_some_and(|one| condition(one, kind).is_some());
    let waited = tokio::time::timeout(SOON, await_condition(requests.clone(), name, holds)).await;
    let request = match waited {
        Ok(request) => request?.context("the request is gone")?,
        Err(_) => {
            let now = requests.get(name).await.map(|request| request.status);
            anyhow::bail!("request {name} is not {kind} after {} s: {now:?}", SOON.as_secs())
        }
    };
    condition(&request, kind).context("the condition is gone again")
}

/// Whether, and how, a request has a condition of that type.
#[must_use]
pub fn condition(request: &CertificateRequest, kind: &str) -> Option<Condition> {
    request.status.as_ref()?.when_true(kind).cloned()
}
