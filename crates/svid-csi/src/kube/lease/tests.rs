//! Candidates and an API server with one Lease, on a clock that is advanced while they sleep.

mod simulation;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::*;

/// The API server: the Lease, the number of calls, and whether it answers.
#[derive(Debug, Clone, Default)]
struct Server(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    lease: Option<Value>,
    version: u64,
    writes: Vec<(Instant, String)>,
    answer: Option<u16>,
    is_silent: bool,
}

impl Server {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn client(&self) -> Client {
        let one = get(read).put(write);
        let routes = Router::new()
            .route("/apis/coordination.k8s.io/v1/namespaces/cert-manager/leases/{name}", one)
            .route("/apis/coordination.k8s.io/v1/namespaces/cert-manager/leases", post(write));
        Client::new(routes.with_state(self.clone()), "default")
    }

    fn candidate(&self, identity: &str) -> (Candidate, Leadership) {
        Candidate::new(
            self.client(),
            "cert-manager",
            "spiffe.csi.cert-manager.io",
            identity.to_owned(),
            Notes::new("svid-csi/notes"),
        )
    }

    /// A running candidate, with handles to see whether it leads and to stop it.
    fn start(&self, identity: &str) -> (tokio::task::JoinHandle<()>, Leadership, CancellationToken) {
        let (candidate, leadership) = self.candidate(identity);
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "a test waits for it itself")]
        let running = tokio::spawn(candidate.run(stop.clone()));
        (running, leadership, stop)
    }

    async fn wait_out(&self) -> Option<Response> {
        if self.lock().is_silent {
            std::future::pending::<()>().await;
        }
        self.lock().answer.map(status)
    }
}

fn status(code: u16) -> Response {
    let reason = [(404, "NotFound"), (409, "Conflict")].into_iter().find(|(known, _)| *known == code);
    let reason = reason.map_or("InternalError", |(_, reason)| reason);
    let body = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "no" });
    (StatusCode::from_u16(code).unwrap(), body.to_string()).into_response()
}

async fn read(State(server): State<Server>) -> Response {
    if let Some(failure) = server.wait_out().await {
        return failure;
    }
    let lease = server.lock().lease.clone();
    lease.map_or_else(|| status(404), |lease| lease.to_string().into_response())
}

/// Creates a missing Lease and replaces an unchanged one, like the API server.
async fn write(State(server): State<Server>, body: String) -> Response {
    if let Some(failure) = server.wait_out().await {
        return failure;
    }
    let mut inner = server.lock();
    let mut lease: Value = serde_json::from_str(&body).unwrap();
    let current = inner.lease.as_ref().map_or(Value::Null, |lease| lease["metadata"]["resourceVersion"].clone());
    if lease["metadata"]["resourceVersion"] != current {
        return status(409);
    }
    inner.version += 1;
    lease["metadata"]["resourceVersion"] = inner.version.to_string().into();
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    inner.writes.push((Instant::now(), holder));
    inner.lease = Some(lease.clone());
    lease.to_string().into_response()
}

async fn at_most(seconds: u64, leadership: &mut Leadership) -> Term {
    tokio::time::timeout(Duration::from_secs(seconds), leadership.begun()).await.expect("leads in time")
}

#[tokio::test(start_paused = true)]
async fn the_first_creates_the_lease_and_keeps_it() {
    let server = Server::default();
    let (_running, mut leadership, _stop) = server.start("a");
    let term = at_most(1, &mut leadership).await;
    {
        let lease = server.lock().lease.clone().unwrap();
        assert_eq!(lease["metadata"]["name"], "spiffe.csi.cert-manager.io");
        let spec = &lease["spec"];
        assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!("a"), &json!(15)));
        assert_eq!((&spec["leaseTransitions"], &spec["acquireTime"]), (&json!(0), &spec["renewTime"]));
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(term.is_valid() && leadership.is_leading());
    let writes = server.lock().writes.len();
    assert!((290..=301).contains(&writes), "renewed every 2 s: {writes}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_when_its_lease_expires_and_not_earlier() {
    let server = Server::default();
    let (running, mut first, _stop) = server.start("a");
    at_most(1, &mut first).await;
    let (_other, mut second, _stop) = server.start("b");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!second.is_leading());
    running.abort();
    at_most(25, &mut second).await;
    let inner = server.lock();
    let last = inner.writes.iter().rev().find(|(_, holder)| holder == "a").unwrap().0;
    let first = inner.writes.iter().find(|(_, holder)| holder == "b").unwrap().0;
    assert!(first - last >= LASTS, "took over after {:?}", first - last);
    assert_eq!(inner.lease.as_ref().unwrap()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_leader_releases_the_lease_at_once() {
    let server = Server::default();
    let (running, mut first, stop) = server.start("a");
    let term = at_most(1, &mut first).await;
    let (_other, mut second, _stop) = server.start("b");
    tokio::time::sleep(Duration::from_secs(10)).await;
    stop.cancel();
    running.await.unwrap();
    assert!(!term.is_valid() && !first.is_leading());
    assert_eq!(server.lock().lease.as_ref().unwrap()["spec"]["holderIdentity"], Value::Null);
    at_most(5, &mut second).await;
}

#[tokio::test(start_paused = true)]
async fn a_stopping_candidate_does_not_touch_the_lease() {
    let server = Server::default();
    let (_running, mut first, _stop) = server.start("a");
    at_most(1, &mut first).await;
    let (other, _, stop) = server.start("b");
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.cancel();
    other.await.unwrap();
    assert_eq!(server.lock().lease.as_ref().unwrap()["spec"]["holderIdentity"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_steps_down_before_another_may_lead() {
    for (answer, is_silent) in [(Some(500), false), (None, true), (Some(403), false)] {
        let server = Server::default();
        let (_running, mut leadership, _stop) = server.start("a");
        let term = at_most(1, &mut leadership).await;
        (server.lock().answer, server.lock().is_silent) = (answer, is_silent);
        let last = server.lock().writes.last().unwrap().0;
        term.ended().await;
        assert!(last.elapsed() <= RENEW_DEADLINE && !leadership.is_leading(), "{answer:?}");
        (server.lock().answer, server.lock().is_silent) = (None, false);
        at_most(10, &mut leadership).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_few_failures_do_not_end_the_term() {
    let server = Server::default();
    let (_running, mut leadership, _stop) = server.start("a");
    let term = at_most(1, &mut leadership).await;
    for answer in [500, 429, 409] {
        server.lock().answer = Some(answer);
        tokio::time::sleep(Duration::from_secs(5)).await;
        server.lock().answer = None;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(term.is_valid());
}

#[tokio::test(start_paused = true)]
async fn a_suspended_process_notices_that_it_no_longer_leads() {
    let server = Server::default();
    let (_running, mut leadership, _stop) = server.start("a");
    let term = at_most(1, &mut leadership).await;
    // No task runs while the time passes, as in a stopped process.
    tokio::time::advance(RENEW_DEADLINE).await;
    assert!(!term.is_valid() && !leadership.is_leading());
}

/// The machine sleeps: the runtime's clock stops, the other one continues.
#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_no_longer_leads() {
    let server = Server::default();
    let (_running, mut leadership, _stop) = server.start("a");
    let term = at_most(1, &mut leadership).await;
    term.extend(Moment::asleep_since(RENEW_DEADLINE));
    assert!(!term.is_valid() && !leadership.is_leading());
    tokio::time::sleep(RETRY * 2).await;
    assert!(leadership.is_leading(), "no other candidate took it in the meantime");
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_by_another_ends_the_term() {
    let server = Server::default();
    let (_running, mut leadership, _stop) = server.start("a");
    let term = at_most(1, &mut leadership).await;
    {
        let mut inner = server.lock();
        inner.version += 1;
        let version = inner.version.to_string();
        let lease = inner.lease.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = "thief".into();
        lease["metadata"]["resourceVersion"] = version.into();
    }
    tokio::time::timeout(Duration::from_secs(5), term.ended()).await.expect("ends");
    assert!(!leadership.is_leading());
    at_most(30, &mut leadership).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_created_again() {
    let server = Server::default();
    let (_running, mut leadership, _stop) = server.start("a");
    let term = at_most(1, &mut leadership).await;
    server.lock().lease = None;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(term.is_valid());
    assert_eq!(server.lock().lease.as_ref().unwrap()["spec"]["holderIdentity"], "a");
}

#[tokio::test(start_paused = true)]
async fn there_are_never_two_leaders() {
    let server = Server::default();
    let candidates: Vec<_> = ["a", "b", "c"].into_iter().map(|identity| server.start(identity)).collect();
    let mut led = [0; 3];
    for second in 0..3_000_u64 {
        let is_down = (second / 40) % 3 == 1;
        (server.lock().is_silent, server.lock().answer) = (is_down && second % 2 == 0, is_down.then_some(503));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let leading: Vec<_> = candidates.iter().map(|(_, leadership, _)| leadership.is_leading()).collect();
        assert!(leading.iter().filter(|leads| **leads).count() <= 1, "second {second}: {leading:?}");
        led.iter_mut().zip(leading).for_each(|(led, leads)| *led += u32::from(leads));
    }
    assert!(led.iter().sum::<u32>() > 1_000, "{led:?}");
}
