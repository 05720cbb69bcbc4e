//! Envoy's secret discovery service on the same sockets.

use std::path::Path;
use std::time::Duration;

use prost::Message;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use svid_csi::net::unix_channel::connect;
use svid_csi::spiffe::svid::Leaf;
use svid_csi_proto::sds::data_source::Specifier;
use svid_csi_proto::sds::secret::Type;
use svid_csi_proto::sds::secret_discovery_service_client::SecretDiscoveryServiceClient;
use svid_csi_proto::sds::{DataSource, DiscoveryRequest, DiscoveryResponse, SECRET_TYPE, Secret, Status as Rejected};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::node;
use crate::endpoints::renew_all;
use crate::fixture::{Node, test, until, volume};

const LIMIT: Duration = Duration::from_secs(120);
const WEB: &str = "spiffe://example.org/ns/shop/sa/web";
const PAIR: [&str; 2] = ["default", "ROOTCA"];

async fn client(socket: &Path) -> SecretDiscoveryServiceClient<Channel> {
    SecretDiscoveryServiceClient::new(connect(socket).await.unwrap())
}

fn asking(names: &[&str]) -> DiscoveryRequest {
    let resource_names = names.iter().map(|&name| name.to_owned()).collect();
    DiscoveryRequest { resource_names, type_url: SECRET_TYPE.to_owned(), ..Default::default() }
}

/// A stream like Envoy's.
struct Envoy {
    requests: Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Envoy {
    async fn open(socket: &Path, names: &[&str]) -> Result<Self, Status> {
        let (requests, sent) = channel(8);
        requests.send(asking(names)).await.unwrap();
        let responses = client(socket).await.stream_secrets(ReceiverStream::new(sent)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        let message = tokio::time::timeout(LIMIT, self.responses.message()).await.expect("a response in time");
        message.and_then(|message| message.ok_or_else(|| Status::cancelled("the stream ended")))
    }

    /// Acknowledges a response, or rejects it with an error.
    async fn answer(&self, response: &DiscoveryResponse, names: &[&str], error: Option<&str>) {
        let version_info = if error.is_some() { String::new() } else { response.version_info.clone() };
        let error_detail = error.map(|message| Rejected { code: 13, message: message.to_owned() });
        let answer =
            DiscoveryRequest { version_info, response_nonce: response.nonce.clone(), error_detail, ..asking(names) };
        self.requests.send(answer).await.unwrap();
    }
}

fn secrets(response: &DiscoveryResponse) -> Vec<Secret> {
    response.resources.iter().map(|resource| Secret::decode(resource.value.as_slice()).unwrap()).collect()
}

fn text(source: Option<DataSource>) -> String {
    let Some(Specifier::InlineBytes(bytes)) = source.unwrap().specifier else { panic!("nothing inline") };
    String::from_utf8(bytes).unwrap()
}

/// The leaf of the only pair in a response.
fn leaf(response: &DiscoveryResponse) -> Leaf {
    let pairs = secrets(response).into_iter().filter_map(|secret| match secret.r#type {
        Some(Type::TlsCertificate(pair)) => Some(pair),
        _ => None,
    });
    let pairs: Vec<_> = pairs.collect();
    let [pair] = &pairs[..] else { panic!("{} pairs", pairs.len()) };
    assert!(text(pair.private_key.clone()).contains("BEGIN PRIVATE KEY"));
    let leaf = CertificateDer::from_pem_slice(text(pair.certificate_chain.clone()).as_bytes()).unwrap();
    Leaf::read(&leaf).unwrap()
}

async fn socket(node: &Node) -> std::path::PathBuf {
    node.publish(&volume("web")).await.join("spire-agent.sock")
}

#[test]
fn rotations_are_pushed_to_an_envoy() {
    test(async || {
        let node = node().await;
        let mut envoy = Envoy::open(&socket(&node).await, &PAIR).await.unwrap();
        let first = envoy.next().await.unwrap();
        assert_eq!((first.type_url.as_str(), first.resources.len()), (SECRET_TYPE, 2));
        let before = leaf(&first);
        assert_eq!(before.spiffe_id, WEB);
        envoy.answer(&first, &PAIR, None).await;
        renew_all(&node).await;
        let second = envoy.next().await.unwrap();
        assert_ne!(
            (leaf(&second).serial, &second.version_info, &second.nonce),
            (before.serial, &first.version_info, &first.nonce)
        );
        // If one of the two had been answered, the response would have arrived before the one requested now.
        envoy.answer(&first, &[WEB], None).await;
        envoy.answer(&second, &PAIR, Some("I do not like it")).await;
        envoy.answer(&second, &[WEB], None).await;
        let third = envoy.next().await.unwrap();
        assert_eq!((third.version_info, third.resources.len()), (second.version_info, 1));

        node.unpublish(&volume("web")).await;
        envoy.next().await.unwrap_err();
    });
}

#[test]
fn secrets_are_fetched_by_name_and_without_the_header_of_the_workload_api() {
    test(async || {
        let node = node().await;
        let mut api = client(&socket(&node).await).await;
        for (names, expected) in [
            (&["default"][..], &["default"][..]),
            (&[WEB], &[WEB]),
            (&["ROOTCA"], &["ROOTCA"]),
            (&["ALL"], &["ALL"]),
            (&[], &["spiffe://example.org", WEB]),
        ] {
            let response = api.fetch_secrets(asking(names)).await.unwrap().into_inner();
            let found: Vec<_> = secrets(&response).into_iter().map(|secret| secret.name).collect();
            assert_eq!(found, expected);
            assert!(response.version_info.is_empty() && response.nonce.is_empty());
        }
        let other = api.fetch_secrets(asking(&["spiffe://example.org/ns/shop/sa/db"])).await.unwrap_err();
        assert_eq!(other.code(), Code::InvalidArgument, "{other}");
        let mut envoy = Envoy::open(&socket(&node).await, &["spiffe://example.org/ns/shop/sa/db"]).await.unwrap();
        assert_eq!(envoy.next().await.unwrap_err().code(), Code::InvalidArgument);
    });
}

#[test]
fn an_envoy_reconnects_after_a_restart_of_the_driver() {
    test(async || {
        let mut node = node().await;
        let socket = socket(&node).await;
        let mut envoy = Envoy::open(&socket, &PAIR).await.unwrap();
        let first = leaf(&envoy.next().await.unwrap());
        node.kill();
        envoy.next().await.unwrap_err();
        node.start().await;
        let opened = async || Envoy::open(&socket, &PAIR).await.is_ok();
        until("the socket is served again", opened).await;
        let again = Envoy::open(&socket, &PAIR).await.unwrap().next().await.unwrap();
        assert_eq!(leaf(&again).serial, first.serial, "nothing is issued again");
    });
}

#[test]
fn delta_streams_are_not_offered() {
    test(async || {
        let node = node().await;
        let channel = connect(&socket(&node).await).await.unwrap();
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets");
        let codec = tonic_prost::ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
        let refused = grpc.unary(tonic::Request::new(asking(&[])), path, codec).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
    });
}

#[test]
fn a_pod_may_have_a_hundred_streams_of_secrets_on_one_connection() {
    test(async || {
        let node = node().await;
        let mut api = client(&socket(&node).await).await;
        let mut streams = Vec::new();
        for _ in 0..100 {
            let (requests, sent) = channel(8);
            requests.send(asking(&PAIR)).await.unwrap();
            let opening = tokio::time::timeout(LIMIT, api.stream_secrets(ReceiverStream::new(sent))).await;
            streams.push((requests, opening.expect("it is answered").unwrap().into_inner()));
        }
        for (_, responses) in &mut streams {
            assert_eq!(responses.message().await.unwrap().unwrap().resources.len(), 2);
        }
        renew_all(&node).await;
        for (_, responses) in &mut streams {
            assert_eq!(responses.message().await.unwrap().unwrap().resources.len(), 2);
        }
    });
}

/// The request of Istio with federation: `ROOTCA` for all bundles, and a meaningless name for the pod's own.
#[test]
fn a_volume_may_name_its_secrets() {
    test(async || {
        let node = node().await;
        let volume = volume("web")
            .attribute("svid-csi/sds-bundle-name", "null")
            .attribute("svid-csi/sds-all-bundles-name", "ROOTCA");
        let socket = node.publish(&volume.attribute("svid-csi/sds-svid-name", "mine")).await.join("agent.sock");
        let mut api = client(&socket).await;
        for name in ["mine", "null", "ROOTCA"] {
            assert_eq!(api.fetch_secrets(asking(&[name])).await.unwrap().into_inner().resources.len(), 1, "{name}");
        }
        let refused = api.fetch_secrets(asking(&["default"])).await.unwrap_err();
        assert!(refused.message().contains("ask for mine, null, ROOTCA"), "{refused}");
    });
}
