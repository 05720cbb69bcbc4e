//! A node in a cluster.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use svid_csi::demo::kubelet::{InlineVolume, Pod};
use svid_csi_core::cert_request::CertificateRequest;
use svid_csi_testkit::api_server::{Access, ApiServer, Issuing, Mode, TOKEN_LIFETIME, User};
use svid_csi_testkit::{TestCa, tokens_json};

use crate::endpoints::{status, sum_of_metric};
use crate::fixture::{Node, TestName, named_test, pod, volume};

pub(crate) const REQUESTS: &str = "certificaterequests";
pub(crate) const DRIVER_TOKEN: &str = "t0ken-0f-the-driver";
pub(crate) const DRIVER: &str = "system:serviceaccount:cert-manager:svid-csi";

const ARGS: &[&str] = &[
    "--profile=spiffe.csi.cert-manager.io",
    "--kubeconfig={dir}/kubeconfig",
    "--issuer-name=spiffe-ca",
    "--trust-domain=example.org",
    "--data-root={dir}/root",
    "--admin-socket={dir}/admin.sock",
    "--metrics-address=127.0.0.1:0",
];
pub(crate) const BUNDLE: &[&str] = &["--source-ca-bundle={dir}/ca.crt"];

/// A cluster with one node, in which everyone has exactly the permissions of the predecessor's charts and examples.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) ca: Arc<TestCa>,
    pub(crate) node: Node,
}

/// Runs a test in a cluster whose driver is running and delivers a bundle.
pub(crate) fn cluster_test(more: &[&str], body: impl AsyncFnOnce(Cluster)) {
    named_test(&TestName::of(&body), async || body(Cluster::started(&[BUNDLE, more]).await).await);
}

/// Runs a test in a cluster whose driver is not started yet.
pub(crate) fn prepared_test(more: &[&str], body: impl AsyncFnOnce(Cluster)) {
    named_test(&TestName::of(&body), async || body(Cluster::prepared(&[BUNDLE, more])).await);
}

impl Cluster {
    pub(crate) fn prepared(more: &[&[&str]]) -> Self {
        let server = ApiServer::start();
        server.users.accept(DRIVER_TOKEN, User::of_pod(&driver_pod(), "n1"));
        server.permissions.only(predecessors_rbac);
        let ca = Arc::new(TestCa::new("root"));
        server.cert_manager.mode(Mode::Issue(Issuing::by(&ca)));
        let args: Vec<&[&str]> = [ARGS].into_iter().chain(more.iter().copied()).collect();
        let node = Node::new(&args);
        fs::write(node.path("kubeconfig"), server.kubeconfig(DRIVER_TOKEN)).unwrap();
        fs::write(node.path("ca.crt"), ca.bundle_pem()).unwrap();
        Cluster { server, ca, node }
    }

    pub(crate) async fn started(more: &[&[&str]]) -> Self {
        let mut cluster = Self::prepared(more);
        cluster.start().await;
        cluster
    }

    /// Starts the driver and waits until it watches.
    pub(crate) async fn start(&mut self) {
        self.node.start().await;
        self.is_watching().await;
    }

    pub(crate) async fn is_watching(&self) {
        self.until("the driver watches", || (self.server.watches.count(REQUESTS) == 1).then_some(())).await;
    }

    /// Waits until `probe` returns something; it is called after every change and call.
    pub(crate) async fn until<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        let found = self.server.pulse.until(what, probe);
        tokio::select! {
            biased;
            found = found => found,
            () = self.complain_later(what) => unreachable!("the test has panicked"),
        }
    }

    async fn complain_later(&self, what: &str) {
        tokio::time::sleep(std::time::Duration::from_secs(115)).await;
        panic!("still waiting: {what}\n{}\n{}", self.server.calls.log(), self.node.log());
    }

    /// A volume of a pod, with a token that is valid for an hour.
    pub(crate) fn volume(&self, pod_name: &str) -> InlineVolume {
        let token = self.server.token_of(&pod(pod_name), "n1");
        with_tokens(pod_name, &[("", &token)])
    }

    /// Waits for the pod's request without a final state. Returns its name and the request.
    pub(crate) async fn pending(&self, pod_name: &str) -> (String, CertificateRequest) {
        let of_pod =
            |request: &CertificateRequest| request.metadata.owner_references.iter().any(|owner| owner.name == pod_name);
        let found = || self.server.cert_manager.pending().into_iter().find(of_pod);
        let request = self.until(&format!("a request of {pod_name}"), found).await;
        (request.metadata.name.clone(), request)
    }

    /// Valid certificates.
    pub(crate) fn issuing(&self) -> Issuing {
        Issuing::by(&self.ca)
    }

    pub(crate) fn creates(&self) -> usize {
        self.server.calls.count("create", REQUESTS)
    }

    pub(crate) async fn status(&self) -> serde_json::Value {
        status(&self.node).await
    }

    pub(crate) async fn metric(&self, name: &str) -> f64 {
        sum_of_metric(&self.node, name).await
    }
}

/// A volume of a pod with these tokens, by audience.
pub(crate) fn with_tokens(pod_name: &str, tokens: &[(&str, &str)]) -> InlineVolume {
    let expires = SystemTime::now() + TOKEN_LIFETIME;
    let tokens: Vec<_> = tokens.iter().map(|(audience, token)| (*audience, *token, expires)).collect();
    let mut volume = volume(pod_name);
    volume.tokens = Some(tokens_json(&tokens));
    volume
}

pub(crate) fn driver_pod() -> Pod {
    Pod {
        uid: "uid-of-the-driver".to_owned(),
        name: "svid-csi-x7k2p".to_owned(),
        namespace: "cert-manager".to_owned(),
        service_account: "svid-csi".to_owned(),
        fs_group: None,
    }
}

/// The cluster role and the role of the driver in the predecessor's chart, and the role of pods in its example.
pub(crate) fn predecessors_rbac(access: &Access) -> bool {
    let action = access.action();
    let of_requests = ["list", "watch", "create", "delete"].iter().any(|verb| action == format!("{verb} {REQUESTS}"));
    let of_maps = ["get", "list", "watch"].iter().any(|verb| action == format!("{verb} configmaps"));
    match &*access.user.name {
        DRIVER => of_requests || (of_maps && access.namespace == "cert-manager" && access.name == "issuance"),
        _ => action == format!("create {REQUESTS}") && access.namespace == "shop",
    }
}
