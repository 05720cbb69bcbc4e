//! Sockets in this process, whose pods have identities that no source here issues.

mod health;
mod patience;
mod rules;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::files::FileName;
use svid_csi_core::identity::{Candidate, KeyType, PrivateKey};
use svid_csi_core::plan::Issuer;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::{Content, SocketSpec, Subject, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_core::x509_context::{ContextCandidate, SvidCandidate, X509Context, accept, split};
use svid_csi_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use svid_csi_testkit::TestCa;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::connection::Server;
use super::endpoint::Endpoint;
use super::share::Shares;
use super::{service, socket};
use crate::host::clock;
use crate::net::unix_channel::connect;
use crate::source::Sources;
use crate::source::local_ca::{LocalCa, LocalCaConfig};
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

const HOUR: Duration = Duration::from_secs(3600);

/// One volume's socket, which is being served.
struct Socket {
    endpoint: Arc<Endpoint>,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    folder: TempDir,
}

impl Socket {
    /// For a pod whose source does not exist.
    fn serve() -> Self {
        Self::serve_from(Issuer::Broker, Sources::default())
    }

    /// For a pod of the local CA, which issues tokens.
    fn serve_with_tokens() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = LocalCaConfig {
            trust_domain: domain("example.org"),
            lifetime: HOUR,
            key_type: KeyType::EcdsaP256,
            jwt_lifetime: HOUR,
            dir: None,
            roots: None,
        };
        let local_ca = Some(LocalCa::open(&config, folder.path()).unwrap());
        Self::serve_from(Issuer::LocalCa, Sources { local_ca, ..Sources::default() })
    }

    fn serve_from(issuer: Issuer, sources: Sources) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(issuer);
        let Content::WorkloadApi(SocketSpec { sockets, .. }) = &spec.content else { unreachable!() };
        let opened = crate::host::beneath::Folder::open(folder.path(), false).unwrap();
        let (listener, inode) = socket::listen(&opened, sockets).unwrap();
        let (shares, spec) = (Shares::default(), Arc::new(spec));
        let endpoint = Arc::new(Endpoint::new(&spec, shares.of(&spec)));
        let (tasks, metrics) = (Tasks::default(), Arc::<Metrics>::default());
        let api = service::api(Arc::new(sources), metrics.clone(), &tasks);
        let server = Server::new(api, metrics.clone(), tasks.clone(), &shares);
        endpoint.listening(server.accept(endpoint.clone(), listener, inode, shares.place_of_socket().ok()));
        Socket { endpoint, tasks, metrics, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    async fn channel(&self) -> Channel {
        connect(&self.path()).await.unwrap()
    }

    async fn api(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.channel().await)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn spec(issuer: Issuer) -> VolumeSpec {
    let identity = (issuer == Issuer::LocalCa).then(|| id("spiffe://example.org/web"));
    let subject = Subject { issuer, identity, hint: None };
    let sockets = ["agent.sock", "spire-agent.sock"].map(|name| FileName::parse(name).unwrap()).into();
    VolumeSpec {
        id: VolumeId::parse("csi-web").unwrap(),
        target: TargetPath::parse("/pods/uid/volumes/kubernetes.io~csi/spiffe/mount").unwrap(),
        read_only: true,
        pod: None,
        content: Content::WorkloadApi(SocketSpec { subject, sockets, secrets: Box::default() }),
    }
}

fn id(id: &str) -> SpiffeId {
    SpiffeId::parse(id).unwrap()
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

/// An SVID of that CA for `spiffe://example.org/<name>`, with that hint.
fn svid(ca: &TestCa, name: &str, hint: &str) -> SvidCandidate {
    let id = id(&format!("spiffe://example.org/{name}"));
    let issued = ca.issue(id.as_str(), HOUR, None);
    let candidate = Candidate {
        chain: split(&issued.chain).unwrap(),
        key: PrivateKey::from_pkcs8_der(&issued.key).unwrap(),
        bundle: Some(split(&ca.bundle_der()).unwrap()),
    };
    SvidCandidate { id, candidate, hint: hint.to_owned() }
}

fn context(svids: Vec<SvidCandidate>, federated: &[(&str, &TestCa)], crls: &[&[u8]]) -> Arc<X509Context> {
    let federated = federated.iter().map(|(name, ca)| (domain(name), split(&ca.bundle_der()).unwrap()));
    let crls = crls.iter().map(|crl| crl.to_vec()).collect();
    let candidate = ContextCandidate { svids, federated: federated.collect(), crls, ..ContextCandidate::default() };
    Arc::new(accept(candidate, &domain("example.org"), clock::now()).unwrap())
}
