use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustls::NamedGroup;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;
use svid_csi_core::ca::{CertificateAuthority, SvidRequest};
use svid_csi_core::identity::{PrivateKey, to_pem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

const OWN: &str = "spiffe://example.org/client";
const PEER: &str = "spiffe://example.org/server";

struct World(CertificateAuthority);

impl World {
    fn new() -> Self {
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        Self(CertificateAuthority::create(&trust_domain, clock::now(), Duration::from_secs(3600)).unwrap())
    }

    fn svid(&self, id: &str) -> (Vec<CertificateDer<'static>>, PrivateKey) {
        let key = PrivateKey::generate_p256().unwrap();
        let request = SvidRequest::for_key(&key, SpiffeId::parse(id).unwrap(), Duration::from_secs(600));
        (vec![self.0.sign(&request, clock::now(), [7; 16]).unwrap()], key)
    }

    fn presented(&self, id: &str) -> PresentedSvid {
        let (chain, key) = self.svid(id);
        PresentedSvid { chain, key: PrivatePkcs8KeyDer::from(key.der().to_vec()).into() }
    }

    fn bundles(&self) -> Bundles {
        Bundles::from([(TrustDomain::parse("example.org").unwrap(), vec![self.0.certificate_der().clone()])])
    }

    fn client(&self) -> TlsConnector {
        let peer = ExpectedPeer::Exactly(SpiffeId::parse(PEER).unwrap());
        TlsConnector::from(Arc::new(client(self.presented(OWN), self.bundles(), peer).unwrap()))
    }

    fn server(&self) -> ServerConfig {
        let peer = ExpectedPeer::Exactly(SpiffeId::parse(OWN).unwrap());
        server(self.presented(PEER), self.bundles(), peer).unwrap()
    }

    /// The exchange of keys that the client and this server agree on.
    async fn agreed(&self, server: ServerConfig) -> NamedGroup {
        let (near, far) = UnixStream::pair().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (client, server) = tokio::join!(self.client().connect(no_name(), near), acceptor.accept(far));
        server.unwrap();
        client.unwrap().get_ref().1.negotiated_key_exchange_group().unwrap().name()
    }
}

#[tokio::test]
async fn keys_are_exchanged_safely_from_quantum_computers_if_the_peer_can() {
    let world = World::new();
    assert_eq!(world.agreed(world.server()).await, NamedGroup::X25519MLKEM768);

    let classical = CryptoProvider { kx_groups: vec![kx_group::X25519], ..aws_lc_rs::default_provider() };
    let PresentedSvid { chain, key } = world.presented(PEER);
    let peer = ExpectedPeer::Exactly(SpiffeId::parse(OWN).unwrap());
    let server = ServerConfig::builder_with_provider(Arc::new(classical))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Peer::new(world.bundles(), peer))
        .with_single_cert(chain, key)
        .unwrap();
    assert_eq!(world.agreed(server).await, NamedGroup::X25519);
}

#[tokio::test]
#[ignore = "needs Go: just post-quantum"]
async fn a_go_server_that_only_knows_x25519mlkem768_is_connected_to() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let (chain, key) = world.svid(PEER);
    let file = |name: &str, contents: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    };
    let bundle = to_pem(std::slice::from_ref(world.0.certificate_der()));
    let files = [file("chain", &to_pem(&chain)), file("key", &key.to_pem()), file("bundle", &bundle)];

    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cluster/tools/gospiffe");
    let program = folder.path().join("gospiffe");
    let built = Command::new("go").args(["-C", source, "build", "-o"]).args([&program, Path::new(".")]).status();
    assert!(built.unwrap().success());
    let mut process =
        Command::new(program).arg("postquantum").args(files).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut says = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();

    let address = says()["address"].as_str().unwrap().to_owned();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = world.client().connect(no_name(), stream).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let connected = says();
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!((&*answer, connected["exchange"].as_str()), ("hello", Some("X25519MLKEM768")), "{connected}");
    assert_eq!(connected["peer"], OWN);
}

fn expects(expected: &ExpectedPeer, id: &str) -> bool {
    expected.is(&SpiffeId::parse(id).unwrap())
}

#[test]
fn an_agent_is_recognised_by_trust_domain_and_path() {
    let agent = ExpectedPeer::Below(TrustDomain::parse("example.org").unwrap(), "/spire/agent/");
    assert!(expects(&agent, "spiffe://example.org/spire/agent/k8s_psat/c1/9f1"));
    for stranger in [
        "spiffe://other.org/spire/agent/k8s_psat/c1/9f1",
        "spiffe://example.org/ns/shop/sa/cart",
        "spiffe://example.org/spire/agent",
        "spiffe://example.org/spire/agents/x",
        "spiffe://example.org/x/spire/agent/y",
    ] {
        assert!(!expects(&agent, stranger), "{stranger}");
    }
    let one = ExpectedPeer::Exactly(SpiffeId::parse("spiffe://example.org/broker").unwrap());
    assert!(expects(&one, "spiffe://example.org/broker") && !expects(&one, "spiffe://example.org/broker/2"));
}
