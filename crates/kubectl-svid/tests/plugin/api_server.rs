//! An API server with pods, in which commands can be executed: each pod answers as its script says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::SinkExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Pods in a page of a list.
const PAGE: usize = 200;

/// What happens to a command in a pod.
#[derive(Debug, Clone)]
pub enum Script {
    /// It prints to stdout and stderr, and ends with this code.
    Ends(String, String, u8),
    /// It prints these bytes to stdout, and succeeds.
    Prints(Vec<u8>),
    /// It prints, and the connection is lost.
    Breaks(String),
    /// The container has no such program.
    NoProgram,
    /// Nothing comes.
    Hangs,
    /// The API server refuses so many requests, all without a number, with this status.
    Refuses(StatusCode, Option<usize>, Box<Script>),
}

/// A command that was executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    pub pod: String,
    pub container: String,
    pub words: Vec<String>,
}

/// How many commands there are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub started: usize,
    pub running: usize,
    pub most: usize,
}

#[derive(Default)]
struct World {
    pods: Vec<Value>,
    scripts: HashMap<String, Script>,
    /// The logs of pods, now and before their restart.
    logs: HashMap<String, [Option<String>; 2]>,
    executed: Vec<Executed>,
    /// Every list is answered with this.
    lists: Option<Script>,
}

struct Shared {
    world: Mutex<World>,
    counts: watch::Sender<Counts>,
    /// Commands continue when so many have run at once, or when so many have started.
    gather: Mutex<Option<(usize, usize)>>,
}

/// The server.
pub struct ApiServer {
    shared: Arc<Shared>,
    folder: TempDir,
}

impl ApiServer {
    pub async fn start() -> Self {
        let (world, gather) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { world, counts: watch::Sender::default(), gather });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "shop"}}],
        });
        std::fs::write(config_in(folder.path()), kubeconfig.to_string()).unwrap();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { shared, folder }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        config_in(self.folder.path())
    }

    pub fn put(&self, pod: Value) {
        self.shared.world.lock().unwrap().pods.push(pod);
    }

    pub fn script(&self, pod: &str, script: Script) {
        self.shared.world.lock().unwrap().scripts.insert(pod.to_owned(), script);
    }

    /// A driver on a node, whose commands end so.
    pub fn driver(&self, node: &str, script: Script) {
        self.put(crate::driver_pod(node));
        self.script(&format!("driver-{node}"), script);
    }

    /// The log of a pod, and that before its restart.
    pub fn log(&self, pod: &str, now: &str, before: Option<&str>) {
        let logs = [Some(now.to_owned()), before.map(str::to_owned)];
        self.shared.world.lock().unwrap().logs.insert(pod.to_owned(), logs);
    }

    pub fn lists(&self, script: Script) {
        self.shared.world.lock().unwrap().lists = Some(script);
    }

    pub fn executed(&self) -> Vec<Executed> {
        std::mem::take(&mut self.shared.world.lock().unwrap().executed)
    }

    /// Lets commands wait until `running` of them have run at once, or `all` have started.
    pub fn gather(&self, running: usize, all: usize) {
        *self.shared.gather.lock().unwrap() = Some((running, all));
    }

    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }
}

fn config_in(folder: &Path) -> PathBuf {
    folder.join("config")
}

fn status(code: StatusCode, message: &str) -> Response {
    let reason = if code == StatusCode::NOT_FOUND { "NotFound" } else { "Test" };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    (code, axum::Json(body)).into_response()
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Vec<(String, String)>>,
    mut request: Request,
) -> Response {
    let path = request.uri().path().to_owned();
    let parts: Vec<_> = path.trim_start_matches("/api/v1/").split('/').collect();
    match parts[..] {
        ["pods"] => list(&shared, None, &query).await,
        ["namespaces", namespace, "pods"] => list(&shared, Some(namespace), &query).await,
        ["namespaces", namespace, "pods", name] => {
            let world = shared.world.lock().unwrap();
            let is_it = |pod: &&Value| pod["metadata"]["namespace"] == namespace && pod["metadata"]["name"] == name;
            match world.pods.iter().find(is_it) {
                Some(pod) => axum::Json(pod).into_response(),
                None => status(StatusCode::NOT_FOUND, &format!("pods {name:?} not found")),
            }
        }
        ["namespaces", _, "pods", name, "log"] => {
            let is_previous = query.contains(&("previous".to_owned(), "true".to_owned()));
            let logs = shared.world.lock().unwrap().logs.get(name).cloned().unwrap_or_default();
            match logs[usize::from(is_previous)].clone() {
                Some(log) => log.into_response(),
                None if is_previous => {
                    status(StatusCode::BAD_REQUEST, "previous terminated container \"main\" in pod not found")
                }
                None => status(StatusCode::FORBIDDEN, "pods/log is forbidden: the test says so"),
            }
        }
        ["namespaces", _, "pods", name, "exec"] => {
            let upgrade = request.extensions_mut().remove::<OnUpgrade>().unwrap();
            execute(shared, name, &query, request.headers(), upgrade)
        }
        _ => status(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

async fn list(shared: &Shared, namespace: Option<&str>, query: &[(String, String)]) -> Response {
    let of_query = |name: &str| query.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
    let script = shared.world.lock().unwrap().lists.clone();
    match script {
        Some(Script::Refuses(code, ..)) => return status(code, "pods is forbidden: the test says so"),
        Some(_) => std::future::pending().await,
        None => {}
    }
    let (key, value) = of_query("labelSelector").unwrap().split_once('=').unwrap();
    let node = of_query("fieldSelector").map(|field| field.strip_prefix("spec.nodeName=").unwrap());
    let from: usize = of_query("continue").map_or(0, |token| token.parse().unwrap());
    let world = shared.world.lock().unwrap();
    let is_in = |pod: &&Value| {
        pod["metadata"]["labels"][key] == value
            && namespace.is_none_or(|namespace| pod["metadata"]["namespace"] == namespace)
            && node.is_none_or(|node| pod["spec"]["nodeName"] == node)
    };
    let all: Vec<_> = world.pods.iter().filter(is_in).collect();
    let end = all.len().min(from + PAGE);
    let next = if end < all.len() { end.to_string() } else { String::new() };
    let metadata = json!({"resourceVersion": "1", "continue": next});
    axum::Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": all[from..end]}))
        .into_response()
}

fn execute(
    shared: Arc<Shared>,
    pod: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    upgrade: OnUpgrade,
) -> Response {
    let words = query.iter().filter(|(name, _)| name == "command").map(|(_, word)| word.clone()).collect();
    let container = query.iter().find(|(name, _)| name == "container").unwrap().1.clone();
    let script = {
        let mut world = shared.world.lock().unwrap();
        world.executed.push(Executed { pod: pod.to_owned(), container, words });
        let Some(script) = world.scripts.get_mut(pod) else { return status(StatusCode::NOT_FOUND, "no such pod") };
        match script {
            Script::Refuses(code, left, _) if *left != Some(0) => {
                *left = left.map(|left| left - 1);
                return status(*code, &format!("pods {pod:?}: the test refuses"));
            }
            Script::Refuses(_, _, then) => (**then).clone(),
            script => script.clone(),
        }
    };
    let offered = headers[header::SEC_WEBSOCKET_PROTOCOL].to_str().unwrap();
    let protocol = PROTOCOLS.iter().find(|protocol| offered.contains(*protocol)).unwrap();
    let accept = derive_accept_key(headers[header::SEC_WEBSOCKET_KEY].as_bytes());
    tokio::spawn(async move {
        let socket = TokioIo::new(upgrade.await.unwrap());
        play(&shared, script, WebSocketStream::from_raw_socket(socket, Role::Server, None).await).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .header(header::SEC_WEBSOCKET_PROTOCOL, *protocol)
        .body(Body::empty())
        .unwrap()
}

async fn play(shared: &Shared, script: Script, mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) {
    shared.counts.send_modify(|counts| {
        counts.started += 1;
        counts.running += 1;
        counts.most = counts.most.max(counts.running);
    });
    let gather = *shared.gather.lock().unwrap();
    if let Some((running, all)) = gather {
        let mut counts = shared.counts.subscribe();
        counts.wait_for(|counts| counts.most >= running || counts.started >= all).await.unwrap();
    }
    let frames = match script {
        Script::Ends(stdout, stderr, code) => {
            vec![(1, stdout.into_bytes()), (2, stderr.into_bytes()), (3, ended(code).to_string().into_bytes())]
        }
        Script::Prints(stdout) => vec![(1, stdout), (3, ended(0).to_string().into_bytes())],
        Script::Breaks(stdout) => vec![(1, stdout.into_bytes())],
        Script::NoProgram => {
            let message = "exec: \"/bin/svid-csi\": stat /bin/svid-csi: no such file or directory";
            let failure = json!({"status": "Failure", "message": message, "reason": "InternalError"});
            vec![(3, failure.to_string().into_bytes())]
        }
        Script::Hangs | Script::Refuses(..) => std::future::pending().await,
    };
    // Before the last frame, after which the plugin may already ask the next node.
    shared.counts.send_modify(|counts| counts.running -= 1);
    for (channel, bytes) in frames {
        for chunk in bytes.chunks(1_000) {
            let frame = [&[channel], chunk].concat();
            // The plugin may have gone.
            if socket.send(Message::binary(frame)).await.is_err() {
                return;
            }
        }
    }
}

fn ended(code: u8) -> Value {
    match code {
        0 => json!({"metadata": {}, "status": "Success"}),
        code => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
    }
}
