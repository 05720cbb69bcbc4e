//! A node with taints, on a clock that is advanced while the remover sleeps.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::*;
use crate::telemetry::captured_log::CapturedLog;

const KEY: &str = "svid-csi/not-ready";

/// The API server: one node, and the responses to the next calls.
#[derive(Clone)]
struct Server(Arc<Mutex<World>>);

struct World {
    node: Value,
    /// Changes the taints between the next read and the next write.
    meanwhile: Option<Value>,
    refuse: Vec<(&'static str, u16)>,
    patches: usize,
}

impl Server {
    fn new(taints: Value) -> Self {
        let node = json!({"metadata": {"name": "n1"}, "spec": {"taints": taints}});
        Self(Arc::new(Mutex::new(World { node, meanwhile: None, refuse: Vec::new(), patches: 0 })))
    }

    fn refuse(self, call: &'static str, code: u16, times: usize) -> Self {
        self.0.lock().unwrap().refuse.extend(std::iter::repeat_n((call, code), times));
        self
    }

    async fn remove(&self) {
        let routes = Router::new().route("/api/v1/nodes/n1", get(read).patch(write)).with_state(self.clone());
        StartupTaint::new(Client::new(routes, "default"), "n1", KEY).remove().await;
    }

    fn taints(&self) -> Value {
        self.0.lock().unwrap().node["spec"]["taints"].clone()
    }

    fn refused(&self, call: &str) -> Option<Response> {
        let mut world = self.0.lock().unwrap();
        let next = world.refuse.iter().position(|(refused, _)| *refused == call)?;
        Some(status(world.refuse.remove(next).1))
    }
}

fn status(code: u16) -> Response {
    let body = json!({"kind": "Status", "status": "Failure", "code": code, "message": "cannot get resource \"nodes\""});
    (StatusCode::from_u16(code).unwrap(), body.to_string()).into_response()
}

async fn read(State(server): State<Server>) -> Response {
    if let Some(refused) = server.refused("get") {
        return refused;
    }
    let mut world = server.0.lock().unwrap();
    let node = world.node.to_string();
    if let Some(taints) = world.meanwhile.take() {
        world.node["spec"]["taints"] = taints;
    }
    node.into_response()
}

/// A JSON patch, which is not applied if one of its tests fails (RFC 6902, section 5).
async fn write(State(server): State<Server>, headers: HeaderMap, body: String) -> Response {
    assert_eq!(headers["content-type"], "application/json-patch+json");
    if let Some(refused) = server.refused("patch") {
        return refused;
    }
    let mut world = server.0.lock().unwrap();
    world.patches += 1;
    let patch: json_patch::Patch = serde_json::from_str(&body).unwrap();
    let mut node = world.node.clone();
    match json_patch::patch(&mut node, &patch) {
        Ok(()) => {
            world.node = node.clone();
            node.to_string().into_response()
        }
        Err(_) => status(422),
    }
}

fn taint(key: &str, effect: &str) -> Value {
    json!({"key": key, "effect": effect})
}

#[tokio::test(start_paused = true)]
async fn only_the_taints_with_the_key_are_removed() {
    let log = CapturedLog::start();
    let full = json!({"key": KEY, "value": "true", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"});
    let others = [taint("other/not-ready", "NoSchedule"), taint("svid-csi/not", "NoSchedule")];
    let [first, last] = others.clone();
    let server = Server::new(json!([taint(KEY, "NoSchedule"), first, full, last]));
    server.remove().await;
    assert_eq!(server.taints(), json!(others));
    assert_eq!(log.lines("startup taint removed").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_taint_nothing_is_written_or_logged() {
    for taints in [json!([]), Value::Null, json!([taint("other", "NoSchedule")])] {
        let log = CapturedLog::start();
        let server = Server::new(taints.clone()).refuse("patch", 500, 1);
        server.remove().await;
        assert_eq!((server.taints(), log.lines("").len()), (taints, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_in_between_is_not_overwritten() {
    let log = CapturedLog::start();
    let server = Server::new(json!([taint("a", "NoSchedule"), taint(KEY, "NoSchedule")]));
    let now = json!([taint(KEY, "NoSchedule"), taint("b", "NoExecute")]);
    server.0.lock().unwrap().meanwhile = Some(now);
    server.remove().await;
    assert_eq!(server.taints(), json!([taint("b", "NoExecute")]));
    assert_eq!(server.0.lock().unwrap().patches, 2, "the first one was refused as a whole");
    assert_eq!(log.lines("WARN").len(), 0, "that is not a problem");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_once_and_retried() {
    for (call, code, warning) in [
        ("get", 403, "grant this service account the verbs get and patch on nodes"),
        ("patch", 403, "grant this service account the verbs get and patch on nodes"),
        ("get", 404, "there is no node n1: --startup-taint needs the node's own name as --node-id"),
        ("get", 500, "(500)"),
    ] {
        let log = CapturedLog::start();
        let server = Server::new(json!([taint(KEY, "NoSchedule")])).refuse(call, code, 9);
        let started = tokio::time::Instant::now();
        server.remove().await;
        assert_eq!((server.taints(), log.lines("WARN").len()), (json!([]), 1), "{call} {code}");
        assert_eq!(log.lines(warning).len(), 1, "{call} {code}: {:?}", log.lines("WARN"));
        let took = started.elapsed();
        assert!(took > Duration::from_secs(60) && took < Duration::from_secs(240), "the pauses grow: {took:?}");
    }
}
