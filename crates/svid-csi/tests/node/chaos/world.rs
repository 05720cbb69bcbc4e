//! A node with every plan, its peers, and the kubelet's beliefs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use svid_csi::demo::kubelet::{InlineVolume, Plugin};
use svid_csi_testkit::TestCa;
use svid_csi_testkit::agent::{Agent, Entry};
use svid_csi_testkit::api_server::{ApiServer, Issuing, Mode, TOKEN_LIFETIME, User};
use svid_csi_testkit::effects::Effect;
use svid_csi_testkit::tokens_json;

use super::beliefs::{Beliefs, agents_id};
use super::calm::Calm;
use super::plan::{Fault, Header, Shape};
use super::swarm::Driver;
use crate::cert_manager::cluster::{DRIVER_TOKEN, driver_pod};
use crate::fixture::Node;
use crate::restart::share_root;

const ARGS: &[&str] = &[
    "--source=local-ca",
    "--delivery=files",
    "--driver-name=demo.svid-csi",
    "--trust-domain=example.org",
    "--data-root={dir}/root",
    "--data-size-limit=32Mi",
    "--admin-socket={dir}/admin.sock",
    "--metrics-address=127.0.0.1:0",
    "--allow-plan=local-ca:workload-api",
    "--allow-plan=socket:socket-dir",
    "--allow-plan=broker:files",
    "--allow-plan=broker:workload-api",
    "--allow-plan=cert-manager:files",
    "--allow-plan=cert-manager:workload-api",
    "--workload-api-socket-dir={dir}/run/agent",
    "--broker-socket={dir}/run/broker/api.sock",
    "--kubeconfig={dir}/kubeconfig",
    "--issuer-name=spiffe-ca",
    "--source-ca-bundle={dir}/ca.crt",
];

/// What the reader of the volumes knows too.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) beliefs: Beliefs,
    pub(crate) calm: Calm,
    pub(crate) targets: Vec<PathBuf>,
    /// The driver's process.
    pub(crate) process: Option<u32>,
}

/// The world of one run.
pub(crate) struct World {
    pub(crate) header: Header,
    pub(crate) node: Node,
    pub(crate) agent: Arc<Agent>,
    pub(crate) server: ApiServer,
    pub(crate) cas: RefCell<Vec<Arc<TestCa>>>,
    pub(crate) driver: Driver,
    /// The process of the driver that is compared with itself.
    pub(crate) first: Option<u32>,
    pub(crate) plugin: Option<Plugin>,
    pub(crate) shared: Arc<Mutex<Shared>>,
    /// How long the faults until the next heal have lasted.
    pub(crate) troubled_since: Option<Instant>,
    /// A startup under faults may have left volumes alone, which it takes up later.
    pub(crate) left_alone: bool,
    /// Since the last heal, a fault has let all mounts of a volume fail.
    pub(crate) attaching_failed: bool,
    /// How much of the driver's log has been read.
    pub(crate) log_read: Cell<usize>,
    pub(crate) agent_runs: bool,
    pub(crate) api_fails: Cell<bool>,
    /// Faults that last, with the number of lines.
    pub(crate) active: Vec<(Fault, usize)>,
    /// How far the clock of a supervised driver is ahead, in seconds.
    pub(crate) ahead: Cell<i64>,
    /// The effects of the last line.
    pub(crate) trace: Vec<Effect>,
    /// How often each shape was published.
    pub(crate) published: RefCell<BTreeMap<Shape, usize>>,
    /// The last error of a call, by volume.
    pub(crate) errors: RefCell<HashMap<usize, String>>,
}

impl World {
    pub(crate) fn new(header: Header) -> Self {
        let lifetime = format!("--certificate-request-duration={}s", header.lifetime);
        let node = Node::new(&[ARGS, &[&lifetime]]);
        if header.survives {
            share_root(&node);
        }
        let server = ApiServer::start();
        server.users.accept(DRIVER_TOKEN, User::of_pod(&driver_pod(), "n1"));
        let ca = Arc::new(TestCa::new("root"));
        server.cert_manager.mode(Mode::Issue(Issuing::by(&ca)));
        fs::write(node.path("kubeconfig"), server.kubeconfig(DRIVER_TOKEN)).unwrap();
        fs::write(node.path("ca.crt"), ca.bundle_pem()).unwrap();
        let agent = Arc::new(Agent::start(&node.path("run")));
        let span = Duration::from_secs(header.lifetime);
        agent.register_everyone(Arc::new(move |reference| {
            let number = reference.uid.trim_start_matches("uid-of-p").split('-').next();
            let number = number.and_then(|number| number.parse().ok()).unwrap_or_default();
            vec![Entry::new(&agents_id(number)).lifetime(span)]
        }));
        let beliefs = Beliefs::of(header.pods);
        let targets = targets(&node, &beliefs);
        let shared = Shared { beliefs, calm: Calm::default(), targets, process: None };
        World {
            header,
            node,
            agent,
            server,
            cas: RefCell::new(vec![ca]),
            driver: Driver::Down,
            first: None,
            plugin: None,
            shared: Arc::new(Mutex::new(shared)),
            troubled_since: None,
            left_alone: false,
            attaching_failed: false,
            log_read: Cell::new(0),
            agent_runs: true,
            api_fails: Cell::new(false),
            active: Vec::new(),
            ahead: Cell::new(0),
            trace: Vec::new(),
            published: RefCell::default(),
            errors: RefCell::default(),
        }
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A volume as the kubelet sends it now, with new tokens if it needs them.
    pub(crate) fn volume(&self, index: usize, shape: Shape) -> InlineVolume {
        let mut volume = self.shared().beliefs.volume(index, shape);
        if shape.needs_token() {
            let expires = std::time::SystemTime::now() + TOKEN_LIFETIME;
            let token = self.server.token_of(&volume.pod, "n1");
            volume.tokens = Some(tokens_json(&[("", &token, expires)]));
        }
        volume
    }

    /// A volume without regard to what it is.
    pub(crate) fn any(&self, index: usize) -> InlineVolume {
        self.shared().beliefs.volume(index, Shape::Files)
    }

    /// The pods have other UIDs now.
    pub(crate) fn retarget(&self) {
        let mut shared = self.shared();
        shared.targets = targets(&self.node, &shared.beliefs);
    }

    /// The folder of the records.
    pub(crate) fn records(&self) -> PathBuf {
        let inside = self.node.path("root/data/records");
        if inside.exists() { inside } else { self.node.path("root/records") }
    }

    /// The mounts of this node, by mount point.
    pub(crate) fn mounts() -> HashMap<PathBuf, usize> {
        let mut mounts = HashMap::new();
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        for point in mountinfo.lines().filter_map(|line| line.split(' ').nth(4)) {
            *mounts.entry(point.into()).or_default() += 1;
        }
        mounts
    }
}

fn targets(node: &Node, beliefs: &Beliefs) -> Vec<PathBuf> {
    let target = |index| node.kubelet.target(&beliefs.volume(index, Shape::Files));
    (0..beliefs.slots.len()).map(target).collect()
}
