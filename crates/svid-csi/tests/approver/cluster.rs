//! A scripted cluster, and the objects that tests create in it.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use svid_csi_core::identity::PrivateKey;
use svid_csi_core::request::csr_pem;
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_testkit::api_server::{ApiServer, User};

use crate::process::Approver;

pub(crate) const DRIVER: &str = "system:serviceaccount:cert-manager:csi-driver-spiffe";
const REQUESTS: &str = "certificaterequests";

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    dir: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let server = ApiServer::start();
        server.users.accept("t0ken", User::service_account("cert-manager", "approver"));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kubeconfig"), server.kubeconfig("t0ken")).unwrap();
        Self { server, dir }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// An approver that has listed all requests and decides.
    pub(crate) async fn approver(&self, flags: &[&str]) -> Approver {
        let approver = Approver::start(&self.kubeconfig(), flags);
        approver.ready().await;
        approver.logged(&["decides certificate requests"]).await;
        approver
    }

    /// Creates a good request of a pod, with a change.
    pub(crate) fn request(&self, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = request(namespace, name);
        change(&mut object);
        self.server.objects.put(object);
    }

    /// Creates only a good request.
    pub(crate) fn good(&self, namespace: &str, name: &str) {
        self.request(namespace, name, |_| {});
    }

    /// Waits for the condition with the decision on a request.
    pub(crate) async fn decided(&self, namespace: &str, name: &str) -> Value {
        let what = format!("{namespace}/{name} is decided");
        self.server.pulse.until(&what, || self.decision(namespace, name)).await
    }

    pub(crate) async fn approved(&self, namespace: &str, name: &str) {
        let condition = self.decided(namespace, name).await;
        assert_eq!(condition["type"], "Approved", "{condition}");
        assert_eq!(condition["reason"], "spiffe.csi.cert-manager.io", "{condition}");
    }

    pub(crate) fn decision(&self, namespace: &str, name: &str) -> Option<Value> {
        let request = self.server.objects.get(REQUESTS, namespace, name)?;
        let conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "Approved" || condition["type"] == "Denied")
    }

    /// Waits for an event about that object, and returns its message.
    pub(crate) async fn event(&self, kind: &str, name: &str) -> Value {
        let is_it = |event: &Value| event["involvedObject"]["kind"] == kind && event["involvedObject"]["name"] == name;
        let what = format!("an event about {kind} {name}");
        self.server.pulse.until(&what, || self.server.objects.all("events").into_iter().find(is_it)).await
    }

    /// Waits until a later request is decided, so that all earlier ones have had their turn.
    pub(crate) async fn one_more(&self) {
        self.good("zzz", "last");
        self.approved("zzz", "last").await;
    }

    pub(crate) fn updates(&self) -> usize {
        self.server.calls.count("update", "certificaterequests/status")
    }

    /// The holder of the Lease.
    pub(crate) fn holder(&self) -> Option<String> {
        let lease = self.server.objects.get("leases", "cert-manager", "spiffe.csi.cert-manager.io")?;
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    }
}

/// A pod of the service account `cart` on the node `n1`, with a volume of the driver.
pub(crate) fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "uid": format!("uid-of-{name}") },
        "spec": {
            "serviceAccountName": "cart", "nodeName": "n1",
            "volumes": [
                { "name": "config", "configMap": { "name": "c" } },
                { "name": "spiffe", "csi": { "driver": "spiffe.csi.cert-manager.io", "readOnly": true } },
            ],
        },
        "status": { "phase": "Pending" },
    })
}

/// The driver's pod on the node `n1`.
pub(crate) fn driver_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": "cert-manager", "name": "driver-1", "uid": "uid-of-driver-1" },
        "spec": { "serviceAccountName": "csi-driver-spiffe", "nodeName": "n1" },
        "status": { "phase": "Running" },
    })
}

/// The stamp of the driver on the node `n1`.
pub(crate) fn by_driver(request: &mut Value) {
    request["spec"]["username"] = DRIVER.into();
    request["spec"]["extra"] = json!({
        "authentication.kubernetes.io/pod-name": ["driver-1"],
        "authentication.kubernetes.io/pod-uid": ["uid-of-driver-1"],
        "authentication.kubernetes.io/node-name": ["n1"],
    });
}

/// A request of the pod `cart-0`, as stored by the API server.
fn request(namespace: &str, name: &str) -> Value {
    let id = SpiffeId::parse(&format!("spiffe://example.org/ns/{namespace}/sa/cart")).unwrap();
    let csr = csr_pem(&PrivateKey::generate_p256().unwrap(), &id).unwrap();
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
        "metadata": {
            "namespace": namespace, "name": name,
            "annotations": { "spiffe.csi.cert-manager.io/identity": id.as_str() },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "cart-0", "uid": "uid-of-cart-0" }],
        },
        "spec": {
            "request": STANDARD.encode(csr), "duration": "1h0m0s",
            "issuerRef": { "name": "spiffe-ca", "kind": "ClusterIssuer", "group": "cert-manager.io" },
            "usages": ["digital signature", "key encipherment", "server auth", "client auth"],
            "username": format!("system:serviceaccount:{namespace}:cart"),
            "extra": { "authentication.kubernetes.io/pod-uid": ["uid-of-cart-0"] },
        },
    })
}
