//! Clients of the server.

use std::io::Write;
use std::time::Duration;

use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use svid_csi::demo::kubelet::Pod;
use svid_csi::kube::cert_request::CertificateRequest;
use svid_csi::kube::client::{ClientOptions, client, config};
use svid_csi_core::identity::PrivateKey;
use svid_csi_core::request::csr_pem;
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_testkit::api_server::{ApiServer, User};

pub(crate) const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

/// A server, and a client for a user known to it.
pub(crate) async fn server() -> (ApiServer, Client) {
    let server = ApiServer::start();
    server.users.accept("t0ken", User::service_account("shop", "cart"));
    let client = client_of(&server, "t0ken").await;
    (server, client)
}

/// A client as the driver makes it, from a kubeconfig.
pub(crate) async fn client_of(server: &ApiServer, token: &str) -> Client {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(server.kubeconfig(token).as_bytes()).unwrap();
    let options = ClientOptions { kubeconfig: Some(file.path().to_owned()), ..Default::default() };
    let mut config = config(&options).await.unwrap();
    config.connect_timeout = Some(Duration::from_secs(10));
    client(&config).unwrap()
}

pub(crate) fn pod(name: &str) -> Pod {
    Pod {
        uid: format!("uid-of-{name}"),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        service_account: "cart".to_owned(),
        fs_group: None,
    }
}

pub(crate) fn requests(client: &Client) -> Api<CertificateRequest> {
    Api::namespaced(client.clone(), "shop")
}

/// A request as a driver writes it, with one label.
pub(crate) fn request(name: &str, node: &str) -> CertificateRequest {
    let csr = csr_pem(&PrivateKey::generate_p256().unwrap(), &SpiffeId::parse(ID).unwrap()).unwrap();
    let csr = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, csr);
    let object = json!({
        "metadata": {"name": name, "labels": {"node": node}},
        "spec": {"request": csr, "duration": "1h0m0s", "issuerRef": {"name": "ca", "kind": "ClusterIssuer"}},
    });
    serde_json::from_value(object).unwrap()
}

pub(crate) async fn create(client: &Client, name: &str) -> CertificateRequest {
    requests(client).create(&PostParams::default(), &request(name, "n1")).await.unwrap()
}

pub(crate) fn version(request: &CertificateRequest) -> u64 {
    request.metadata.resource_version.as_ref().unwrap().parse().unwrap()
}
