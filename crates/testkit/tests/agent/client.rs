//! A broker with the bindings of the crate `spiffe`, which accepts any server as the agent.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use spiffe::broker_api::SecurityHeader;
use spiffe::broker_api::pb::spiffe::broker::api_client::ApiClient;
use spiffe::broker_api::pb::spiffe::broker::{
    KubernetesObjectKey, KubernetesObjectReference, KubernetesObjectType, WorkloadReference,
};
use svid_csi::demo::kubelet::Pod;
use svid_csi_proto::workload::X509svid;
use svid_csi_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
pub(crate) use svid_csi_testkit::pod;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

pub(crate) type Broker = ApiClient<InterceptedService<Channel, SecurityHeader>>;

pub(crate) fn reference(pod: &Pod) -> Option<WorkloadReference> {
    Some(WorkloadReference::from(object(pod)))
}

pub(crate) fn object(pod: &Pod) -> KubernetesObjectReference {
    KubernetesObjectReference {
        r#type: Some(KubernetesObjectType { plural: "pods".into(), group: "core".into() }),
        key: Some(KubernetesObjectKey { namespace: pod.namespace.clone(), name: pod.name.clone() }),
        uid: pod.uid.clone(),
    }
}

pub(crate) async fn workload(folder: &Path) -> SpiffeWorkloadApiClient<Channel> {
    let socket = folder.join("agent/agent.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    SpiffeWorkloadApiClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

/// Connects as the workload with that SVID.
pub(crate) async fn channel(folder: &Path, own: &X509svid) -> Result<Channel, tonic::transport::Error> {
    let key = PrivatePkcs8KeyDer::from(own.x509_svid_key.clone());
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(vec![CertificateDer::from(own.x509_svid.clone())], key.into())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, socket) = (TlsConnector::from(Arc::new(config)), folder.join("broker/api.sock"));
    let connect = tower::service_fn(move |_| {
        let (connector, socket) = (connector.clone(), socket.clone());
        async move {
            let stream = UnixStream::connect(socket).await?;
            connector.connect(ServerName::try_from("agent").unwrap(), stream).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connect).await
}

pub(crate) async fn broker(folder: &Path, own: &X509svid) -> Broker {
    ApiClient::with_interceptor(channel(folder, own).await.unwrap(), SecurityHeader::new())
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
