//! What waits, and for how long: with an API server in the same process and a paused clock, which advances while all tasks sleep.

mod simulation;

use std::collections::BTreeMap;

use svid_csi_core::cert_request::ATTEMPT_ANNOTATION;
use svid_csi_core::error::Class;
use svid_csi_core::identity::{Candidate, KeyType};
use svid_csi_core::pod::PodRef;
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_core::target::TargetPath;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::api_server::{ApiServer, Fault, Issuing, Mode, User};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

const REQUESTS: &str = "certificaterequests";
const TOKEN: &str = "t0ken-0f-the-driver";
const RENEWAL: Patience = Patience::Renewal { remaining: Duration::from_secs(3_600) };

type Asked = JoinHandle<Result<Candidate, CertManagerError>>;

/// A driver that renews one identity at a time, in a cluster.
struct Scene {
    server: ApiServer,
    issuing: Issuing,
    source: Arc<CertManager>,
}

impl Scene {
    /// The driver does not watch yet.
    fn new() -> (Self, Client) {
        let server = ApiServer::start();
        server.users.accept(TOKEN, User::service_account("cert-manager", "svid-csi"));
        server.permissions.everything();
        let client = Client::new(server.service(TOKEN), "default");
        let unused = kube::Config::new("http://localhost".parse().unwrap());
        let requester = Requester::new(client.clone(), &unused).unwrap();
        let issuer = IssuerRef { name: "spiffe-ca".to_owned(), ..IssuerRef::default() };
        let followed = Followed { issuer: value::channel(Some(issuer)).1, runtime: None, bundle: None };
        let settings = RequestSettings {
            node_id: "n1".to_owned(),
            lifetime: Duration::from_secs(3_600),
            key_type: KeyType::default(),
            pods_ask: false,
            annotations: BTreeMap::default(),
            requires_chain: false,
            renewals: 1,
        };
        let source = CertManager::new(settings, followed, &client, requester, Arc::default(), Tasks::default());
        let issuing = Issuing::by(&Arc::new(TestCa::new("root")));
        (Self { server, issuing, source: Arc::new(source) }, client)
    }

    /// The driver watches.
    fn watching() -> Self {
        let (scene, client) = Self::new();
        scene.source.start(client);
        scene
    }

    fn asks(&self, pod: &str, patience: Patience) -> Asked {
        let (source, spec) = (self.source.clone(), spec(pod));
        let id = SpiffeId::parse(&format!("spiffe://example.org/ns/shop/sa/{pod}")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test waits for it itself")]
        let asked = tokio::spawn(async move { source.next(&spec, &id, patience).await });
        asked
    }

    /// The error for a pod that starts.
    async fn is_refused(&self, pod: &str) -> CertManagerError {
        self.asks(pod, Patience::First).await.unwrap().expect_err("there is none")
    }

    /// Waits for a pending request of the pod, and returns its name.
    async fn pending(&self, pod: &str) -> String {
        let of_pod = || {
            let mut pending = self.server.cert_manager.pending().into_iter();
            pending.find(|request| request.metadata.owner_references[0].name == pod)
        };
        self.server.pulse.until("a request", of_pod).await.metadata.name
    }

    async fn waits_for_its_turn(&self, pod: &str) {
        let id = spec(pod).id;
        while !self.source.waiting_of(&id).is_some_and(|waiting| waiting.contains("renewal-concurrency")) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn sign(&self, request: &str) {
        assert!(self.server.cert_manager.sign(request, &self.issuing));
    }

    fn creates(&self) -> usize {
        self.server.calls.count("create", REQUESTS)
    }
}

fn spec(pod: &str) -> VolumeSpec {
    let target = format!("/var/lib/kubelet/pods/uid-of-{pod}/volumes/kubernetes.io~csi/spiffe/mount");
    VolumeSpec {
        id: VolumeId::of_kubelet(&format!("uid-of-{pod}"), "spiffe"),
        target: TargetPath::parse(&target).unwrap(),
        read_only: true,
        pod: Some(PodRef {
            namespace: "shop".to_owned(),
            name: pod.to_owned(),
            uid: format!("uid-of-{pod}"),
            service_account: pod.to_owned(),
        }),
        content: Content::Passthrough,
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_renewal_delays_others_for_one_turn_only() {
    let scene = Scene::watching();
    let a = scene.asks("a", RENEWAL);
    let of_a = scene.pending("a").await;
    let begun = Instant::now();
    let b = scene.asks("b", RENEWAL);
    scene.waits_for_its_turn("b").await;
    let of_b = scene.pending("b").await;
    assert!((29..=31).contains(&begun.elapsed().as_secs()), "a turn lasts half a minute: {:?}", begun.elapsed());
    scene.sign(&of_b);
    b.await.unwrap().unwrap();
    assert!(!a.is_finished());
    assert_eq!((scene.pending("a").await, scene.creates()), (of_a.clone(), 2), "{}", scene.server.calls.log());
    scene.sign(&of_a);
    a.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_the_back_off_a_new_request_is_created() {
    let scene = Scene::watching();
    let manager = &scene.server.cert_manager;
    manager.mode(Mode::Deny("not yet".to_owned()));
    assert!(matches!(scene.is_refused("web").await, CertManagerError::FailedRequest(_)));
    let denied = manager.of_pod("web")[0].metadata.name.clone();
    let CertManagerError::TooEarly { seconds, .. } = scene.is_refused("web").await else { panic!("too early") };
    assert!((24..=36).contains(&seconds), "30 s with a fifth of jitter: {seconds}");
    tokio::time::sleep(Duration::from_secs(seconds - 1)).await;
    assert!(matches!(scene.is_refused("web").await, CertManagerError::TooEarly { seconds: 1, .. }));
    assert_eq!(scene.creates(), 1, "{}", scene.server.calls.log());
    tokio::time::sleep(Duration::from_secs(1)).await;
    manager.mode(Mode::Issue(scene.issuing.clone()));
    scene.asks("web", Patience::First).await.unwrap().unwrap();
    scene.source.conclude(&spec("web"), None, Patience::First).await;
    let only_the_second = || {
        let requests = manager.of_pod("web");
        (requests.len() == 1 && requests[0].metadata.name != denied).then(|| requests[0].clone())
    };
    let second = scene.server.pulse.until("the denied one is removed", only_the_second).await;
    assert_eq!(second.metadata.annotations.get(ATTEMPT_ANNOTATION).map(String::as_str), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_create_without_a_response_ends_and_takes_effect_once() {
    let scene = Scene::watching();
    scene.server.faults.always("create", REQUESTS, Fault::Hang);
    let begun = Instant::now();
    let error = scene.is_refused("web").await;
    assert_eq!((error.class(), begun.elapsed().as_secs()), (Class::NotYet, 30), "{error}");
    scene.server.faults.clear();
    scene.server.cert_manager.mode(Mode::Issue(scene.issuing.clone()));
    scene.asks("web", Patience::First).await.unwrap().unwrap();
    assert_eq!(scene.server.cert_manager.requests().len(), 1, "{}", scene.server.calls.log());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_blocks_renewals_but_no_publish() {
    let (scene, client) = Scene::new();
    scene.server.faults.always("*", "*", Fault::Hang);
    scene.source.start(client);
    let renewal = scene.asks("running", RENEWAL);
    let begun = Instant::now();
    let error = scene.is_refused("web").await;
    assert_eq!((error.class(), begun.elapsed().as_secs()), (Class::NotYet, 10), "{error}");
    assert!(error.to_string().contains("cannot be watched"), "{error}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!renewal.is_finished());
    scene.server.faults.clear();
    scene.server.cert_manager.mode(Mode::Issue(scene.issuing.clone()));
    renewal.await.unwrap().unwrap();
    scene.asks("web", Patience::First).await.unwrap().unwrap();
    assert_eq!(scene.server.cert_manager.requests().len(), 2, "{}", scene.server.calls.log());
}
