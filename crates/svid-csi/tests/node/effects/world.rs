//! A node for one plan with the peers that it needs, its driver under supervision.

use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_core::state::{Issued, Record};
use svid_csi_testkit::TestCa;
use svid_csi_testkit::agent::{Agent, Entry};
use svid_csi_testkit::api_server::ApiServer;
use svid_csi_testkit::effects::{Names, Point, Run, Scope, Watch};

use super::plan::{Plan, Source};
use crate::broker::scene::{self, Scene};
use crate::cert_manager::cluster::{BUNDLE, Cluster, with_tokens};
use crate::endpoints::renew_pod_if_it_runs;
use crate::fixture::{Node, pod, until};
use crate::restart::share_root;
use crate::roots;

/// Which calls of the driver count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Those that change something.
    Effects,
    /// Those that look, too.
    LooksToo,
}

/// Who the driver talks to, besides the kubelet.
enum Peer {
    /// Sockets for passthrough volumes.
    Directory(#[expect(dead_code, reason = "it is only kept open")] UnixListener),
    /// An agent with the Broker API.
    Agent(Agent),
    /// An API server with the roots of other nodes.
    Roots(ApiServer),
    /// An API server with cert-manager.
    Cluster(ApiServer, Arc<TestCa>),
}

/// A node with what a plan needs.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) plan: Plan,
    pub(crate) counted: Counted,
    /// Whether an operation was prepared.
    pub(crate) is_used: bool,
    peer: Option<Peer>,
}

impl World {
    /// One whose driver has never run.
    pub(crate) fn new(plan: Plan, counted: Counted, is_shared: bool) -> Self {
        let args = plan.args();
        let (node, peer) = match plan.source() {
            Source::LocalCa => {
                let node = Node::new(&args);
                let peer = (plan == Plan::Passthrough).then(|| Peer::Directory(node.agent()));
                (node, peer)
            }
            Source::Roots => {
                let (server, node) = (roots::cluster(), Node::new(&args));
                fs::write(node.path("kubeconfig"), server.kubeconfig(roots::TOKEN)).unwrap();
                (node, Some(Peer::Roots(server)))
            }
            Source::Agent => {
                let Scene { agent, node } = Scene::prepared(&args);
                agent.resume();
                (node, Some(Peer::Agent(agent)))
            }
            Source::CertManager => {
                let args: Vec<_> = [BUNDLE].into_iter().chain(args).collect();
                let Cluster { server, ca, node } = Cluster::prepared(&args);
                (node, Some(Peer::Cluster(server, ca)))
            }
        };
        if is_shared {
            share_root(&node);
        }
        World { node, plan, counted, is_used: false, peer }
    }

    /// Starts the driver under supervision.
    pub(crate) async fn start(&mut self) {
        self.spawn(None);
        self.node.answers().await.unwrap_or_else(|ended| panic!("the driver ended: {ended}: {}", self.node.log()));
        if matches!(self.peer, Some(Peer::Roots(_))) {
            until("the node's entry in the roots of all nodes", async || self.has_entry()).await;
        }
    }

    /// The same without waiting for it, to be watched from its first call if `watch` says so.
    pub(crate) fn spawn(&mut self, watch: Option<Option<Point>>) {
        let server = self.server().map(ApiServer::address);
        let looks_too = self.counted == Counted::LooksToo;
        self.node.spawn_watched(watch.map(Watch::from), |scope| {
            let scope = if looks_too { scope.with_reads() } else { scope };
            server.into_iter().fold(scope, Scope::with_requests_to)
        });
    }

    pub(crate) fn watch(&self, point: Option<Point>) {
        self.node.watched().watch(point);
    }

    pub(crate) fn finish(&self) -> Run {
        self.node.watched().finish()
    }

    pub(crate) fn agent(&self) -> &Agent {
        match &self.peer {
            Some(Peer::Agent(agent)) => agent,
            _ => panic!("{:?} has no agent", self.plan),
        }
    }

    pub(crate) fn server(&self) -> Option<&ApiServer> {
        match &self.peer {
            Some(Peer::Cluster(server, _) | Peer::Roots(server)) => Some(server),
            _ => None,
        }
    }

    /// The volume of a pod, which its source knows.
    pub(crate) fn volume(&self, pod_name: &str) -> InlineVolume {
        self.known(pod_name, self.plan.volume(pod_name))
    }

    /// The same volume, as its pod asks for it later.
    pub(crate) fn other(&self, pod_name: &str) -> InlineVolume {
        self.known(pod_name, self.plan.other(pod_name))
    }

    fn known(&self, pod_name: &str, volume: InlineVolume) -> InlineVolume {
        match &self.peer {
            Some(Peer::Cluster(server, _)) => {
                let tokens = with_tokens(pod_name, &[("", &server.token_of(&pod(pod_name), "n1"))]).tokens;
                InlineVolume { tokens, ..volume }
            }
            Some(Peer::Directory(_) | Peer::Agent(_) | Peer::Roots(_)) | None => volume,
        }
    }

    /// Registers the pod of a volume, where that is needed: the second time after a withdrawal.
    pub(crate) fn register(&self, pod_name: &str) {
        if let Some(Peer::Agent(agent)) = &self.peer {
            agent.register(&pod(pod_name), &[Entry::new(&scene::id(pod_name))]);
        }
    }

    /// How many keys sign tokens.
    pub(crate) fn token_keys(&self) -> usize {
        self.agent().jwt_keys()
    }

    /// Adds a CA to the trust bundle, or takes it away again.
    pub(crate) fn trust(&self, other: Option<&TestCa>) {
        match (&self.peer, other) {
            (Some(Peer::Cluster(_, ca)), other) => {
                let (path, new) = (self.node.path("ca.crt"), self.node.path("ca.new"));
                fs::write(&new, ca.bundle_pem() + &other.map(TestCa::bundle_pem).unwrap_or_default()).unwrap();
                fs::rename(new, path).unwrap();
            }
            (Some(Peer::Roots(server)), other) => roots::set(server, "n2", other.map(|_| roots::foreign()).as_deref()),
            (Some(Peer::Agent(agent)), Some(_)) => agent.add_root(),
            (Some(Peer::Agent(agent)), None) => {
                agent.rotate_all();
                agent.drop_old_roots();
            }
            (Some(Peer::Directory(_)) | None, _) => panic!("the bundle of {:?} does not change", self.plan),
        }
    }

    /// Removes the node's entry from the roots of all nodes.
    pub(crate) fn lose_entry(&self) {
        roots::set(self.server().expect("it has the roots"), "n1", None);
    }

    pub(crate) fn has_entry(&self) -> bool {
        self.server().is_some_and(|server| roots::entries(server).get("n1").is_some())
    }

    pub(crate) fn record(&self, volume: &InlineVolume) -> Result<Record, String> {
        self.record_if_any(volume)?.ok_or_else(|| "there is no record".to_owned())
    }

    /// The record, which must be whole.
    pub(crate) fn record_if_any(&self, volume: &InlineVolume) -> Result<Option<Record>, String> {
        let name = format!("{}.json", volume.id());
        let read = ["root/data/records", "root/records"].map(|folder| fs::read(self.node.path(folder).join(&name)));
        let Some(json) = read.into_iter().find_map(Result::ok) else { return Ok(None) };
        Record::from_json(&json).map(Some).map_err(|error| format!("the record: {error}"))
    }

    /// The identity that the record says.
    pub(crate) fn issued(&self, volume: &InlineVolume) -> Option<Issued> {
        self.record(volume).ok()?.issued
    }

    /// Whether the record says that the identity was delivered, not only announced.
    pub(crate) fn is_delivered(&self, volume: &InlineVolume) -> bool {
        self.issued(volume).is_some_and(|issued| issued.digest.is_some())
    }

    /// The serial number that the record says.
    pub(crate) fn recorded_serial(&self, volume: &InlineVolume) -> Option<String> {
        Some(self.issued(volume)?.serial)
    }

    /// Asks for a renewal of a pod's volumes, or has the source renew. The driver may not run.
    pub(crate) async fn renew(&self, volume: &InlineVolume) {
        match &self.peer {
            Some(Peer::Agent(agent)) => agent.rotate(&volume.pod),
            _ => renew_pod_if_it_runs(&self.node, &format!("{}/{}", volume.pod.namespace, volume.pod.name)).await,
        }
    }

    /// What stands for the names that differ from run to run.
    pub(crate) fn names(&self, volume: &InlineVolume) -> Names {
        let target = self.node.kubelet.target(volume);
        let folder = target.parent().unwrap();
        let requests = self.server().map(|server| server.calls.of("delete", crate::cert_manager::cluster::REQUESTS));
        let requests = requests.into_iter().flatten().filter(|call| !call.name.is_empty());
        requests
            .fold(Names::default(), |names, call| names.with(call.name, "<request>"))
            .with(target.to_str().unwrap(), "<target>")
            .with(folder.to_str().unwrap(), "<target's folder>")
            // On a data root that the host sees too, records are on the tmpfs.
            .with(self.node.path("root/data/records").to_str().unwrap(), "<records>")
            .with(self.node.path("root/records").to_str().unwrap(), "<records>")
            .with(self.node.path("root/data/agent-sockets.json").to_str().unwrap(), "<root>/agent-sockets.json")
            .with(self.node.path("root/data/.agent-sockets.json").to_str().unwrap(), "<root>/.agent-sockets.json")
            .with(self.node.path("root/data").to_str().unwrap(), "<data>")
            .with(self.node.path("root").to_str().unwrap(), "<root>")
            .with(format!("{}/", self.node.dir.path().display()), "")
            .with(self.node.dir.path().to_str().unwrap(), "<node>")
            .with(volume.id().as_str(), "<volume>")
            .with(volume.pod.uid.as_str(), "<pod>")
    }
}
