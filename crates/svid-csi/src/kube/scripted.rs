//! An API server with one object, for tests: it lists, watches and serves the object under every configured path.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::channel::mpsc::{self, UnboundedSender};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The server, which counts its requests.
#[derive(Clone)]
pub(crate) struct Scripted(Arc<Mutex<World>>, watch::Sender<Calls>);

/// The number of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) lists: usize,
    pub(crate) watches: usize,
    pub(crate) gets: usize,
    pub(crate) refused: usize,
}

struct World {
    collection: String,
    name: String,
    object: Option<Value>,
    refuse: Option<StatusCode>,
    history: Vec<(u64, String)>,
    /// Watches from earlier versions are answered with the error that these are too old.
    forgotten: u64,
    watches: Vec<UnboundedSender<Result<Bytes, Infallible>>>,
}

impl Scripted {
    /// Serves the object `name` in the collection, such as `/api/v1/namespaces/shop/configmaps`. It does not exist yet.
    pub(crate) fn new(collection: &str, name: &str) -> Self {
        let world = World {
            collection: collection.to_owned(),
            name: name.to_owned(),
            object: None,
            refuse: None,
            history: Vec::new(),
            forgotten: 0,
            watches: Vec::new(),
        };
        Self(Arc::new(Mutex::new(world)), watch::Sender::default())
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Router::new().fallback(answer).with_state(self.clone()), "default")
    }

    /// Creates, changes or deletes the object. `object` lacks its metadata.
    pub(crate) fn set(&self, object: Option<Value>) {
        let mut world = self.0.lock().unwrap();
        let version = world.version() + 1;
        let kind = match (&world.object, &object) {
            (None, _) => "ADDED",
            (_, Some(_)) => "MODIFIED",
            (_, None) => "DELETED",
        };
        let mut state = object.clone().or_else(|| world.object.clone()).expect("something to delete");
        state["metadata"] = json!({"name": world.name, "namespace": "shop", "resourceVersion": version.to_string()});
        let line = format!("{}\n", json!({"type": kind, "object": state}));
        world.watches.retain(|watch| watch.unbounded_send(Ok(line.clone().into())).is_ok());
        world.history.push((version, line));
        world.object = object.map(|_| state);
    }

    /// Answers every later call with this status and ends the watches; without one, answers again.
    pub(crate) fn refuse(&self, with: Option<StatusCode>) {
        let mut world = self.0.lock().unwrap();
        world.refuse = with;
        world.watches.clear();
    }

    /// Ends the watches and forgets the history, so that they cannot be resumed.
    pub(crate) fn forget(&self) {
        let mut world = self.0.lock().unwrap();
        let version = world.version() + 1;
        world.forgotten = version;
        world.history.push((version, String::new()));
        world.watches.clear();
    }

    /// Waits until that many requests were received.
    pub(crate) async fn until(&self, enough: impl FnMut(&Calls) -> bool) -> Calls {
        *self.1.subscribe().wait_for(enough).await.unwrap()
    }
}

impl World {
    fn version(&self) -> u64 {
        self.history.last().map_or(1, |(version, _)| *version)
    }

    fn list(&self) -> Response {
        let version = self.version().to_string();
        let items: Vec<_> = self.object.iter().collect();
        axum::Json(
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
        )
        .into_response()
    }

    fn watch(&mut self, from: u64) -> Response {
        let (send, events) = mpsc::unbounded();
        if from < self.forgotten {
            let gone = json!({"type": "ERROR", "object": status(StatusCode::GONE)});
            send.unbounded_send(Ok(format!("{gone}\n").into())).unwrap();
            return Body::from_stream(events).into_response();
        }
        for (_, line) in self.history.iter().filter(|(version, _)| *version > from) {
            send.unbounded_send(Ok(line.clone().into())).unwrap();
        }
        self.watches.push(send);
        Body::from_stream(events).into_response()
    }
}

fn status(code: StatusCode) -> Value {
    let reason = match code {
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::GONE => "Expired",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    };
    let (message, code) = (format!("the test says {code}"), code.as_u16());
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message})
}

async fn answer(
    State(Scripted(world, calls)): State<Scripted>,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let mut world = world.lock().unwrap();
    let known = uri.path().strip_prefix(&*world.collection);
    if let Some(code) = world.refuse.or(known.is_none().then_some(StatusCode::NOT_FOUND)) {
        calls.send_modify(|calls| calls.refused += 1);
        return (code, axum::Json(status(code))).into_response();
    }
    if known.is_some_and(|name| !name.is_empty()) {
        assert_eq!(known, Some(&*format!("/{}", world.name)));
        calls.send_modify(|calls| calls.gets += 1);
        return match &world.object {
            Some(object) => axum::Json(object).into_response(),
            None => (StatusCode::NOT_FOUND, axum::Json(status(StatusCode::NOT_FOUND))).into_response(),
        };
    }
    // A role that names the object does not allow any other list.
    assert_eq!(query["fieldSelector"], format!("metadata.name={}", world.name));
    if query.get("watch").is_some_and(|watch| watch == "true") {
        calls.send_modify(|calls| calls.watches += 1);
        return world.watch(query["resourceVersion"].parse().unwrap());
    }
    calls.send_modify(|calls| calls.lists += 1);
    world.list()
}
