//! An API server with one Lease, behind links that delay and lose what passes over them.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::LATENCY;
use crate::host::simulated;

/// What all candidates share.
#[derive(Debug, Clone, Default)]
pub(super) struct Cluster(Arc<Mutex<Stored>>);

#[derive(Debug, Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
}

/// The network of one candidate.
#[derive(Debug, Clone, Default)]
pub(super) struct Link(Arc<Mutex<Network>>);

#[derive(Debug, Clone, Copy, Default)]
struct Network {
    is_cut: bool,
    /// Whether calls fail rather than hang.
    refuses: bool,
}

impl Link {
    pub(super) fn cut(&self, refuses: bool) {
        *self.lock() = Network { is_cut: true, refuses };
    }

    pub(super) fn restore(&self) {
        self.lock().is_cut = false;
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap()
    }

    /// One way: takes a while, and does not arrive over a link that is cut.
    async fn pass(&self) -> Result<(), Response> {
        let longest = if self.lock().is_cut { Duration::from_secs(8) } else { LATENCY };
        let longest = u64::try_from(longest.as_millis()).unwrap();
        tokio::time::sleep(simulated::change(|machine| machine.random.millis(longest)).unwrap()).await;
        let Network { is_cut, refuses } = *self.lock();
        match (is_cut, refuses) {
            (false, _) => Ok(()),
            (true, true) => Err(status(503)),
            // Some of what is sent arrives nevertheless.
            (true, false) if simulated::change(|machine| machine.random.once_in(4)).unwrap() => Ok(()),
            (true, false) => std::future::pending().await,
        }
    }
}

impl Cluster {
    pub(super) fn client(&self, link: Link) -> Client {
        let routes = Router::new().fallback(call).with_state((self.clone(), link));
        Client::new(routes, "default")
    }

    fn write(&self, body: &[u8]) -> Response {
        let mut stored = self.0.lock().unwrap();
        let mut lease: Value = serde_json::from_slice(body).unwrap();
        let current = stored.lease.as_ref().map_or(Value::Null, |lease| lease["metadata"]["resourceVersion"].clone());
        if lease["metadata"]["resourceVersion"] != current {
            return status(409);
        }
        stored.version += 1;
        lease["metadata"]["resourceVersion"] = stored.version.to_string().into();
        stored.lease = Some(lease.clone());
        lease.to_string().into_response()
    }

    fn read(&self) -> Response {
        let lease = self.0.lock().unwrap().lease.clone();
        lease.map_or_else(|| status(404), |lease| lease.to_string().into_response())
    }
}

/// A call that was sent takes effect, whether or not its caller still waits.
async fn call(State((cluster, link)): State<(Cluster, Link)>, request: Request) -> Response {
    let (sender, answer) = oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its machine")]
    tokio::spawn(async move {
        let _ = sender.send(passed(cluster, link, request).await);
    });
    match answer.await {
        Ok(response) => response,
        Err(_) => std::future::pending().await,
    }
}

async fn passed(cluster: Cluster, link: Link, request: Request) -> Response {
    if let Err(failure) = link.pass().await {
        return failure;
    }
    let response = if request.method() == Method::GET {
        cluster.read()
    } else {
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        cluster.write(&body)
    };
    link.pass().await.err().unwrap_or(response)
}

fn status(code: u16) -> Response {
    let reason = [(404, "NotFound"), (409, "Conflict")].into_iter().find(|(known, _)| *known == code);
    let reason = reason.map_or("InternalError", |(_, reason)| reason);
    let body = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "no" });
    (StatusCode::from_u16(code).unwrap(), body.to_string()).into_response()
}
