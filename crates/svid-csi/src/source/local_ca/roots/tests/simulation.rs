//! The ConfigMap of all nodes beside an unreliable API server: soon after everything works again, exactly the nodes with
//! an entry are trusted.
//!
//! `SVID_CSI_SEED` replays one seed, and `SVID_CSI_SEEDS` says how many to try from there.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde_json::json;
use svid_csi_testkit::api_server::{ApiServer, User};
use tokio::time::sleep;

use super::*;
use crate::host::simulated::{self, Machine, Random};
use crate::kube::unreliable::{disturb, heal, longest_pause};

const MAPS: &str = "configmaps";
/// This node, others, and a second state of the first other one.
const AUTHORITIES: usize = 6;
/// How long a watch lasts (`one_object`).
const WATCH_LASTS: u64 = 290;

/// What the nodes publish; the keys are different in each run.
struct Nodes(Vec<Authorities>);

impl Nodes {
    fn new(trust_domain: &TrustDomain) -> Self {
        Self((0..AUTHORITIES).map(|_| authorities(trust_domain)).collect())
    }

    fn text(&self, which: usize) -> String {
        String::from_utf8(self.0[which].to_json()).unwrap()
    }
}

/// The entries: which of the authorities each node publishes; none is a broken one.
type Published = BTreeMap<usize, Option<usize>>;

struct World<'a> {
    server: ApiServer,
    random: Random,
    nodes: &'a Nodes,
    published: Published,
    trusted: Arc<Trusted>,
}

impl World<'_> {
    fn put(&self) {
        let text = |which: &Option<usize>| which.map_or("{broken".to_owned(), |which| self.nodes.text(which));
        let data: BTreeMap<_, _> =
            self.published.iter().map(|(node, which)| (format!("n{node}"), text(which))).collect();
        self.server.objects.put(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": "svid", "name": "roots" }, "data": data,
        }));
    }

    async fn step(&mut self) {
        let node = usize::try_from(self.random.below(AUTHORITIES as u64 - 1)).unwrap();
        match self.random.below(12) {
            0..=2 => {
                let second = node == 1 && self.random.once_in(2);
                self.published.insert(node, Some(if second { AUTHORITIES - 1 } else { node }));
                self.put();
            }
            3 => {
                self.published.remove(&node);
                self.put();
            }
            4 if node > 0 => {
                self.published.insert(node, None);
                self.put();
            }
            5 => _ = self.server.objects.remove(MAPS, "svid", "roots"),
            6..=8 => disturb(&self.server, &mut self.random, MAPS),
            9 => sleep(self.random.millis(400_000)).await,
            _ => sleep(self.random.millis(2_000)).await,
        }
    }

    /// No entry is broken, and the ConfigMap exists.
    fn repair(&mut self) {
        self.published.retain(|_, which| which.is_some());
        self.put();
        heal(&self.server);
    }

    /// Soon after that.
    fn check(&self) -> Result<(), String> {
        let own = [0];
        let published = self.published.iter().filter(|(node, _)| **node > 0).filter_map(|(_, which)| *which);
        let expected: BTreeSet<_> = own.into_iter().chain(published).map(|which| self.root(which)).collect();
        let trusted: BTreeSet<_> =
            self.trusted.bundle().borrow().as_ref().unwrap().certificates().iter().map(|root| root.to_vec()).collect();
        let name = |root: &Vec<u8>| (0..AUTHORITIES).find(|which| self.root(*which) == *root);
        let names = |roots: &BTreeSet<Vec<u8>>| roots.iter().map(name).collect::<BTreeSet<_>>();
        if trusted == expected {
            return Ok(());
        }
        Err(format!("trusted {:?}, published {:?}", names(&trusted), names(&expected)))
    }

    fn root(&self, which: usize) -> Vec<u8> {
        let union = Authorities::union([&self.nodes.0[which]].into_iter(), clock::now()).unwrap();
        union.bundle.certificates()[0].to_vec()
    }
}

async fn run(seed: u64, nodes: &Nodes, trust_domain: &TrustDomain) {
    let folder = tempfile::tempdir().unwrap();
    let server = ApiServer::start();
    server.users.accept("token", User::service_account("kube-system", "svid-csi"));
    server.permissions.everything();
    let map: Api<ConfigMap> = Api::namespaced(Client::new(server.service("token"), "default"), "svid");
    let trusted = Arc::new(Trusted::new(nodes.0[0].clone(), trust_domain).unwrap());
    let (states, seen) = watch::channel(SharedMap::Unknown);
    let union = Union {
        entries: Entries::new("n0", trust_domain),
        kept: Kept::new(folder.path().join("roots.json")),
        trusted: trusted.clone(),
        nodes: watch::Sender::new(1),
        troubles: Troubles::default(),
        is_unknown: false,
    };
    let place = ConfigMapPlace { namespace: "svid".to_owned(), name: "roots".to_owned() };
    let follow = shared_map::follow(map, place, states, Troubles::default(), Counter::default());
    let mut world = World { server, random: Random::new(seed), nodes, published: Published::new(), trusted };
    let lives = async {
        for round in 0..3 {
            for _ in 0..25 {
                world.step().await;
            }
            world.repair();
            sleep(longest_pause(WATCH_LASTS) + GRACE * 2).await;
            if let Err(why) = world.check() {
                panic!("seed {seed}, round {round}: {why} (replay: SVID_CSI_SEED={seed} SVID_CSI_SEEDS=1)");
            }
        }
    };
    tokio::select! {
        biased;
        never = follow => match never {},
        never = union.run(seen) => match never {},
        () = lives => {}
    }
}

#[tokio::test(start_paused = true)]
async fn soon_after_any_trouble_exactly_the_published_roots_are_trusted() {
    let number = |variable: &str, default| std::env::var(variable).map_or(default, |text| text.parse().unwrap());
    let (first, seeds) = (number("SVID_CSI_SEED", 1), number("SVID_CSI_SEEDS", 12));
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let _simulated = simulated::begin(Machine { wall, booted: Duration::ZERO, random: Random::new(first) });
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let nodes = Nodes::new(&trust_domain);
    for seed in first..first + seeds {
        run(seed, &nodes, &trust_domain).await;
    }
    println!("seeds {first} to {}", first + seeds - 1);
}
