//! The watch of requests beside an unreliable API server: whatever happens, soon after everything works again it knows
//! exactly the requests that exist, and each volume only its own.
//!
//! `SVID_CSI_SEED` replays one seed, and `SVID_CSI_SEEDS` says how many to try from there.

use std::time::SystemTime;

use serde_json::{Value, json};
use svid_csi_core::cert_request::{NODE_LABEL, Progress, VOLUME_LABEL, hash_identifier};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::host::simulated::{self, Machine, Random};
use crate::kube::unreliable::{disturb, heal, longest_pause};
use crate::source::cert_manager::list_watch;
use crate::source::cert_manager::requests::{AwaitedRequest, Link, Requests, WatchedRequest};

const PODS: u64 = 3;
const VOLUMES: u64 = 2;
/// How long a watch lasts (`list_watch`).
const WATCH_LASTS: u64 = 60;

/// A volume of a pod.
type Owner = (u64, u64);

struct World {
    server: ApiServer,
    requests: Arc<Requests>,
    random: Random,
    made: u64,
    /// The existing requests, each with its state.
    existing: BTreeMap<String, (Owner, &'static str)>,
    awaited: BTreeMap<String, AwaitedRequest>,
    story: Vec<String>,
}

fn pod(pod: u64) -> PodRef {
    PodRef {
        namespace: format!("ns-{}", pod % 2),
        name: format!("pod-{pod}"),
        uid: format!("uid-{pod}"),
        service_account: "default".to_owned(),
    }
}

fn status(state: &str) -> Value {
    let condition = |kind: &str, status: &str, reason: &str| json!({ "type": kind, "status": status, "reason": reason, "lastTransitionTime": "2026-01-31T12:00:00Z" });
    match state {
        "waiting" => json!({}),
        "approved" => json!({ "conditions": [condition("Approved", "True", "yes")] }),
        "denied" => json!({ "conditions": [condition("Denied", "True", "no")] }),
        _ => json!({ "conditions": [condition("Approved", "True", "yes"), condition("Ready", "False", "Failed")] }),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let server = ApiServer::start();
        server.users.accept("token", User::service_account("cert-manager", "svid-csi"));
        server.permissions.everything();
        let (requests, client) = (Arc::<Requests>::default(), Client::new(server.service("token"), "default"));
        let follow = list_watch::follow(
            requests.clone(),
            client,
            "n1".to_owned(),
            prometheus_client::metrics::counter::Counter::default(),
            CancellationToken::new(),
        );
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(follow);
        let random = Random::new(seed);
        let (existing, awaited, story) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { server, requests, random, made: 0, existing, awaited, story }
    }

    fn key(&self, name: &str, owner: Owner) -> (String, String) {
        (pod(owner.0).namespace, name.to_owned())
    }

    fn put(&mut self, name: &str, owner: Owner, state: &'static str) {
        let PodRef { namespace, name: pod, uid, .. } = pod(owner.0);
        let labels = json!({ NODE_LABEL: hash_identifier("n1"), VOLUME_LABEL: format!("volume-{}", owner.1) });
        let owners = json!([{ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid }]);
        self.server.objects.put(json!({
            "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
            "metadata": { "namespace": namespace, "name": name, "labels": labels, "ownerReferences": owners },
            "spec": { "request": "", "issuerRef": { "name": "ca" } },
            "status": status(state),
        }));
        self.existing.insert(name.to_owned(), (owner, state));
    }

    fn one(&mut self) -> Option<(String, Owner)> {
        let which = usize::try_from(self.random.below(self.existing.len().max(1) as u64)).unwrap();
        self.existing.iter().nth(which).map(|(name, (owner, _))| (name.clone(), *owner))
    }

    async fn step(&mut self) {
        let what = self.random.below(12);
        match what {
            0..=2 => self.create(),
            3 | 4 => {
                if let Some((name, owner)) = self.one() {
                    let state = ["approved", "denied", "failed"][usize::try_from(self.random.below(3)).unwrap()];
                    self.put(&name, owner, state);
                }
            }
            5 => {
                if let Some((name, owner)) = self.one() {
                    self.server.objects.remove(REQUESTS, &pod(owner.0).namespace, &name);
                    self.existing.remove(&name);
                }
            }
            6..=8 => disturb(&self.server, &mut self.random, REQUESTS),
            9 => sleep(self.random.millis(90_000)).await,
            _ => sleep(self.random.millis(500)).await,
        }
        self.story.push(format!("{what} -> {:?} {:?}", self.known(), *self.requests.link().borrow()));
    }

    fn create(&mut self) {
        self.made += 1;
        let (name, owner) = (format!("r{}", self.made), (self.random.below(PODS), self.random.below(VOLUMES)));
        let awaited = self.requests.expect(self.key(&name, owner));
        self.put(&name, owner, "waiting");
        awaited.made();
        self.awaited.insert(name, awaited);
    }

    /// What each volume knows of its requests.
    fn known(&self) -> BTreeMap<Owner, Vec<String>> {
        let owners = (0..PODS).flat_map(|pod| (0..VOLUMES).map(move |volume| (pod, volume)));
        owners
            .map(|owner| {
                let known = self.requests.of_volume(&format!("volume-{}", owner.1), &pod(owner.0));
                let mut names: Vec<_> = known.into_iter().map(|((_, name), _)| name).collect();
                names.sort();
                (owner, names)
            })
            .filter(|(_, names)| !names.is_empty())
            .collect()
    }

    /// Soon after everything works again.
    fn check(&self) -> Result<(), String> {
        let link = self.requests.link().borrow().clone();
        let mut existing = BTreeMap::<Owner, Vec<String>>::new();
        for (name, (owner, _)) in &self.existing {
            existing.entry(*owner).or_default().push(name.clone());
        }
        existing.values_mut().for_each(|names| names.sort());
        if link != Link::Up || self.known() != existing {
            return Err(format!("{link:?}: known {:?}, existing {existing:?}", self.known()));
        }
        for (name, awaited) in &self.awaited {
            let seen = match &*awaited.seen().borrow() {
                WatchedRequest::Nothing => "nothing",
                WatchedRequest::Deleted => "deleted",
                WatchedRequest::Progress(Ok(Progress::AwaitsApproval)) => "waiting",
                WatchedRequest::Progress(Ok(Progress::AwaitsIssuer { .. })) => "approved",
                WatchedRequest::Progress(Ok(Progress::Denied { .. })) => "denied",
                WatchedRequest::Progress(Ok(Progress::Failed { .. })) => "failed",
                WatchedRequest::Progress(_) => "another",
            };
            let expected = self.existing.get(name).map_or("deleted", |(_, state)| *state);
            // One that was created and deleted during a list is in neither the list nor the watch that continues it.
            let never_seen = (seen, expected) == ("nothing", "deleted");
            if seen != expected && !never_seen {
                return Err(format!("the waiter for {name} sees that it is {seen}, and it is {expected}"));
            }
        }
        Ok(())
    }
}

/// The story of that seed.
async fn run(seed: u64) -> Vec<String> {
    let machine = Machine {
        wall: SystemTime::UNIX_EPOCH,
        booted: Duration::ZERO,
        random: Random::new(seed.wrapping_add(1 << 32)),
    };
    let _simulated = simulated::begin(machine);
    let mut world = World::new(seed);
    for _ in 0..3 {
        for _ in 0..30 {
            world.step().await;
        }
        heal(&world.server);
        sleep(longest_pause(WATCH_LASTS)).await;
        if let Err(why) = world.check() {
            let story = world.story.join("\n");
            panic!("seed {seed}: {why}\n{story}\nreplay: SVID_CSI_SEED={seed} SVID_CSI_SEEDS=1");
        }
    }
    world.story
}

#[tokio::test(start_paused = true)]
async fn soon_after_any_trouble_exactly_the_existing_requests_are_known() {
    let number = |variable: &str, default| std::env::var(variable).map_or(default, |text| text.parse().unwrap());
    let (first, seeds) = (number("SVID_CSI_SEED", 1), number("SVID_CSI_SEEDS", 12));
    for seed in first..first + seeds {
        run(seed).await;
    }
    println!("seeds {first} to {}", first + seeds - 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_a_function_of_its_seed() {
    assert_eq!(run(5).await, run(5).await);
}
