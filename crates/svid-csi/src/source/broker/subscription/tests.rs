//! Subscriptions of several pods beside an unreliable agent: soon after everything works again, each pod has what the
//! agent said about it last, and at no time anything of another pod.
//!
//! The connections are streams in memory, so that the paused clock advances only while everything waits. `SVID_CSI_SEED`
//! replays the steps of one seed, and `SVID_CSI_SEEDS` says how many to try from there. The HTTP/2 library orders what
//! happens at the same moment by chance of its own.

mod agent;

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use svid_csi_proto::broker::WorkloadReference;
use svid_csi_proto::workload::{X509svid, X509svidResponse};
use svid_csi_testkit::TestCa;
use tokio::sync::watch;
use tokio::time::sleep;

use self::agent::Agent;
use super::*;
use crate::host::clock;
use crate::host::simulated::{self, Machine, Random};
use crate::source::broker::own_svid::CurrentSvid;
use crate::source::broker::pod_state::{AgentAnswer, PodState};
use crate::source::broker::topic::BrokerClient;
use crate::source::broker::x509_topic::{ProblemReporter, X509Topic};
use crate::tasks::Tasks;
use crate::telemetry::captured_log::CapturedLog;
use crate::telemetry::metrics::Metrics;

const PODS: usize = 4;

/// The longest time until every pod has the agent's last word: the wait for a silent stream, the longest pause with its
/// jitter, and the time over which subscriptions are spread.
fn longest_pause() -> Duration {
    FIRST_MESSAGE + LONGEST.mul_f64(1.2) + SPREAD + SPREAD_AFTER_LOSS + Duration::from_secs(2)
}

fn pod(which: usize) -> PodRef {
    let text = |kind: &str| format!("{kind}-{which}");
    PodRef { namespace: "shop".to_owned(), name: text("pod"), uid: text("uid"), service_account: text("sa") }
}

/// Keeps the SPIFFE IDs of the messages about a pod, or that there is none.
struct Recorder {
    pod: PodRef,
    known: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn know(&self, what: String) {
        self.known.lock().unwrap().push(what);
    }
}

impl Topic for Recorder {
    type Message = X509svidResponse;

    fn pod(&self) -> &PodRef {
        &self.pod
    }

    async fn subscribe(api: BrokerClient, reference: WorkloadReference) -> Result<Streaming<X509svidResponse>, Status> {
        X509Topic::subscribe(api, reference).await
    }

    async fn take(&self, _: &Connection, message: X509svidResponse) -> bool {
        let id = message.svids.first().map_or("nothing".to_owned(), |svid| svid.spiffe_id.clone());
        assert!(id == "nothing" || id.contains(&self.pod.uid), "{id} was sent for {}", self.pod);
        self.know(id);
        true
    }

    fn nothing(&self, _: Nothing) {
        self.know("nothing".to_owned());
    }

    fn not_understood(&self, why: String) {
        panic!("the agent understands every call: {why}");
    }

    fn trouble(&self, _: String) {}
}

struct World {
    agent: Agent,
    tasks: Tasks,
    own: CurrentSvid,
    current: watch::Sender<Option<Connection>>,
    known: Vec<Arc<Mutex<Vec<String>>>>,
    random: Random,
    generation: u64,
    era: u64,
    story: Vec<String>,
}

impl World {
    async fn new(seed: u64, own: &CurrentSvid) -> Self {
        let (current, connections) = watch::channel(None);
        let (tasks, agent) = (Tasks::default(), Agent::default());
        let mut known = Vec::new();
        for which in 0..PODS {
            let about = Arc::<Mutex<Vec<_>>>::default();
            let topic = Recorder { pod: pod(which), known: about.clone() };
            let task = SubscriptionTask { topic, connections: Connections::scripted(connections.clone(), own.clone()) };
            tasks.detached(async move { match task.run().await {} });
            known.push(about);
        }
        let random = Random::new(seed);
        let mut world =
            Self { agent, tasks, own: own.clone(), current, known, random, generation: 0, era: 0, story: Vec::new() };
        world.connect().await;
        world
    }

    /// A new connection, as after a renewal of the driver's own identity.
    async fn connect(&mut self) {
        self.generation += 1;
        let stream = self.agent.accept(&self.tasks);
        let numbers = (self.generation, self.era);
        let connection = Connection::over_stream(stream, self.own.clone(), numbers, &self.tasks).await.unwrap();
        self.current.send_replace(Some(connection));
    }

    async fn step(&mut self) {
        let which = usize::try_from(self.random.below(PODS as u64)).unwrap();
        let what = self.random.below(12);
        match what {
            0..=2 => self.agent.give(&pod(which).uid),
            3 => self.agent.withdraw(&pod(which).uid),
            4 => self.agent.end_streams(&pod(which).uid),
            5 => self.agent.repeat(&pod(which).uid),
            6 => self.agent.disturb(&pod(which).uid, &mut self.random),
            7 => self.connect().await,
            8 => {
                self.era += 1;
                self.current.send_replace(None);
                self.agent.hang_up();
                sleep(self.random.millis(5_000)).await;
                self.connect().await;
            }
            9 => sleep(self.random.millis(60_000)).await,
            _ => sleep(self.random.millis(300)).await,
        }
        self.story.push(format!("{what} {which} -> {:?}", self.known()));
    }

    fn known(&self) -> Vec<String> {
        self.known.iter().map(|known| known.lock().unwrap().last().cloned().unwrap_or_default()).collect()
    }

    /// The numbers of all identities of a pod, in the order in which they came.
    fn taken(&self, which: usize) -> Vec<u64> {
        let known = self.known[which].lock().unwrap();
        known.iter().filter_map(|id| id.rsplit('/').next()?.parse().ok()).collect()
    }
}

async fn run(seed: u64, own: &CurrentSvid) {
    let wall = SystemTime::UNIX_EPOCH;
    let _simulated = simulated::begin(Machine { wall, booted: Duration::ZERO, random: Random::new(seed ^ (1 << 40)) });
    let mut world = World::new(seed, own).await;
    for _ in 0..3 {
        for _ in 0..30 {
            world.step().await;
        }
        world.agent.heal();
        sleep(longest_pause()).await;
        let said: Vec<_> = (0..PODS).map(|which| world.agent.said(&pod(which).uid)).collect();
        let (known, story) = (world.known(), world.story.join("\n"));
        let replay = format!("seed {seed}\n{story}\nreplay: SVID_CSI_SEED={seed} SVID_CSI_SEEDS=1");
        assert_eq!(known, said, "{replay}");
        for taken in (0..PODS).map(|which| world.taken(which)) {
            assert!(taken.is_sorted(), "{taken:?}: an earlier identity replaced a later one, {replay}");
        }
    }
    world.tasks.stop();
}

fn own() -> CurrentSvid {
    CurrentSvid::of(identity("spiffe://example.org/svid-csi"))
}

/// An identity that is valid for an hour.
fn identity(id: &str) -> X509svidResponse {
    let ca = TestCa::new("root");
    let issued = ca.issue(id, Duration::from_secs(3_600), None);
    let svid = X509svid {
        spiffe_id: id.to_owned(),
        x509_svid: issued.chain,
        x509_svid_key: issued.key,
        bundle: ca.bundle_der(),
        hint: String::new(),
    };
    X509svidResponse { svids: vec![svid], ..X509svidResponse::default() }
}

#[tokio::test(start_paused = true)]
async fn soon_after_any_trouble_each_pod_has_the_last_word_of_the_agent() {
    let number = |variable: &str, default| std::env::var(variable).map_or(default, |text| text.parse().unwrap());
    let (first, seeds, own) = (number("SVID_CSI_SEED", 1), number("SVID_CSI_SEEDS", 12), own());
    for seed in first..first + seeds {
        run(seed, &own).await;
    }
    println!("seeds {first} to {}", first + seeds - 1);
}

#[tokio::test(start_paused = true)]
async fn a_move_to_a_newer_connection_brings_no_earlier_identity() {
    let (own, wall) = (own(), SystemTime::UNIX_EPOCH);
    let _simulated = simulated::begin(Machine { wall, booted: Duration::ZERO, random: Random::new(1) });
    let (mut world, uid) = (World::new(1, &own).await, pod(0).uid);
    world.agent.give(&uid);
    sleep(Duration::from_secs(1)).await;
    world.agent.delay(&uid, Duration::from_secs(20));
    // Until the older stream waits for a change again.
    sleep(Duration::from_secs(21)).await;
    world.connect().await;
    // Until the newer stream holds its first message back.
    sleep(SPREAD + Duration::from_secs(1)).await;
    world.agent.heal();
    world.agent.give(&uid);
    sleep(longest_pause()).await;
    assert_eq!(world.known()[0], world.agent.said(&uid));
    assert_eq!(world.taken(0), [1, 2, 2]);
    world.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn a_message_refused_for_a_wrong_clock_is_taken_once_the_clock_is_right() {
    let (log, right, pod, tasks) = (CapturedLog::start(), clock::now(), pod(0), Tasks::default());
    let (own, agent) = (own(), Agent::default());
    agent.answer(&pod.uid, identity("spiffe://example.org/pod"));
    let wall = right - Duration::from_secs(300);
    let _simulated = simulated::begin(Machine { wall, booted: Duration::ZERO, random: Random::new(1) });
    let mut state = follow(pod, &agent, own, &tasks).await;

    sleep(Duration::from_secs(600)).await;
    assert!(matches!(state.borrow().answer, AgentAnswer::Unknown));
    let why = state.borrow().trouble.clone().unwrap();
    assert!(why.contains("the leaf certificate is valid only from"), "{why}");
    assert_eq!(log.lines("an identity that the agent gave for a pod is refused").len(), 1, "it is reported once");

    simulated::change(|machine| machine.wall = right);
    let given = state.wait_for(|state| matches!(state.answer, AgentAnswer::Given(_)));
    assert!(timeout(longest_pause(), given).await.is_ok(), "the agent has nothing new to send");
    tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn a_valid_message_after_refused_ones_is_taken_at_once() {
    let (log, pod, tasks) = (CapturedLog::start(), pod(0), Tasks::default());
    let (own, agent) = (own(), Agent::default());
    agent.answer(&pod.uid, identity("spiffe://other.example/pod"));
    let uid = pod.uid.clone();
    let mut state = follow(pod, &agent, own, &tasks).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(log.lines("an identity that the agent gave for a pod is refused").len(), 1);
    agent.answer(&uid, identity("spiffe://example.org/pod"));
    agent.repeat(&uid);
    let given = state.wait_for(|state| matches!(state.answer, AgentAnswer::Given(_)));
    assert!(timeout(Duration::from_secs(2), given).await.is_ok(), "the pauses are far longer");
    tasks.stop();
}

/// The state of a pod that is followed over one connection.
async fn follow(pod: PodRef, agent: &Agent, own: CurrentSvid, tasks: &Tasks) -> watch::Receiver<PodState> {
    let connection = Connection::over_stream(agent.accept(tasks), own.clone(), (1, 0), tasks).await.unwrap();
    let (current, connections) = watch::channel(Some(connection));
    let (sender, state) = watch::channel(PodState::default());
    let reporter =
        ProblemReporter { metrics: Arc::<Metrics>::default(), events: None, bundle_warnings: Arc::default() };
    let topic = X509Topic { pod, state: sender, reporter };
    let task = SubscriptionTask { topic, connections: Connections::scripted(connections, own) };
    tasks.detached(async move {
        let _current = current;
        match task.run().await {}
    });
    state
}
