//! A scripted Kubernetes API server in memory.
//!
//! It speaks plain HTTP on a port of its own and behaves like the real one wherever clients can notice: lists in pages,
//! watches with resource versions and bookmarks, conflicts, error messages, and the fields that cert-manager's webhook
//! writes into certificate requests. A test registers tokens ([`Users`]), grants permissions ([`Permissions`]), creates
//! objects ([`Objects`]), acts as cert-manager ([`CertManager`]), injects faults ([`Faults`], [`Watches`],
//! [`ApiServer::stop`]) and counts the calls ([`Calls`]).
//!
//! ```no_run
//! # async fn example() {
//! use std::sync::Arc;
//! use svid_csi_testkit::TestCa;
//! use svid_csi_testkit::api_server::{ApiServer, Issuing, Mode, User};
//!
//! let server = ApiServer::start();
//! server.users.accept("driver-token", User::service_account("cert-manager", "driver"));
//! std::fs::write("kubeconfig", server.kubeconfig("driver-token")).unwrap();
//! server.cert_manager.mode(Mode::Issue(Issuing::by(&Arc::new(TestCa::new("root")))));
//! // ... start a driver with --kubeconfig ...
//! server.pulse.until("a request", || server.cert_manager.requests().pop()).await;
//! # }
//! ```

mod access;
mod admission;
mod calls;
mod cert_manager;
mod failure;
mod faults;
mod handler;
mod kinds;
mod listener;
mod objects;
mod selector;
mod target;
mod users;
mod verbs;
mod watch_stream;
mod watches;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::middleware::map_request;
use svid_csi::demo::kubelet::Pod;

pub use self::access::{Access, Permissions};
pub use self::calls::{Call, Calls};
pub use self::cert_manager::{CertManager, Issuing, Mode};
pub use self::faults::{Fault, Faults};
use self::listener::{Port, Running};
pub use self::objects::{Backup, Objects};
pub use self::users::{User, Users};
pub use self::watches::Watches;
use crate::pod_token::{API_AUDIENCE, pod_token};
pub use crate::pulse::Pulse;

/// The lifetime of tokens of pods.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// The server. It ends when dropped.
pub struct ApiServer {
    world: Arc<World>,
    port: Port,
    running: Mutex<Option<Running>>,
}

/// All objects of the cluster.
#[derive(Debug)]
pub struct World {
    /// Notified of every change and every call.
    pub pulse: Pulse,
    /// The users, by their tokens.
    pub users: Users,
    /// The authorizer.
    pub permissions: Permissions,
    /// The objects.
    pub objects: Arc<Objects>,
    /// cert-manager.
    pub cert_manager: CertManager,
    /// The calls so far.
    pub calls: Calls,
    /// The open watches.
    pub watches: Watches,
    /// The injected faults.
    pub faults: Faults,
    /// The date of responses, if not the true one.
    date: Mutex<Option<String>>,
    /// The minor version of Kubernetes.
    minor: AtomicU32,
}

impl ApiServer {
    /// Starts a server with an empty cluster.
    ///
    /// # Panics
    /// If no port is available.
    pub fn start() -> Self {
        let port = Port::reserve();
        let world = Arc::new(World::new());
        let running = Mutex::new(Some(port.listen(world.clone())));
        ApiServer { world, port, running }
    }

    /// The address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Ends all connections and refuses new ones. The cluster stays as it is.
    pub fn stop(&self) {
        drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Listens again, at the same address.
    pub fn resume(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get_or_insert_with(|| self.port.listen(self.world.clone()));
    }

    /// The same API for a client in this process, which has this token. There is no connection, so a paused clock advances only
    /// while everything waits for timers.
    ///
    /// # Panics
    /// If the token does not fit into a header.
    pub fn service(&self, token: &str) -> Router {
        let bearer = HeaderValue::try_from(format!("Bearer {token}")).expect("a token that fits into a header");
        handler::router(self.world.clone()).layer(map_request(move |mut request: Request| {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
            std::future::ready(request)
        }))
    }

    /// A kubeconfig (JSON, which is YAML) for a client with that token.
    pub fn kubeconfig(&self, token: &str) -> String {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.address())}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {"token": token}}],
        })
        .to_string()
    }

    /// A new token of that pod for the API server, which accepts it from then on.
    pub fn token_of(&self, pod: &Pod, node: &str) -> String {
        let token = pod_token(pod, node, API_AUDIENCE, SystemTime::now() + TOKEN_LIFETIME);
        self.users.accept(&token, User::of_pod(pod, node));
        token
    }
}

impl std::ops::Deref for ApiServer {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl World {
    /// `/version` is answered with this date from now on.
    pub fn pretend_date(&self, date: &str) {
        *self.date.lock().unwrap_or_else(PoisonError::into_inner) = Some(date.to_owned());
    }

    /// From now on it says that it is version 1.`minor` of Kubernetes.
    pub fn pretend_minor_version(&self, minor: u32) {
        self.minor.store(minor, Ordering::Relaxed);
    }

    fn minor(&self) -> u32 {
        self.minor.load(Ordering::Relaxed)
    }

    fn date(&self) -> Option<String> {
        self.date.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn new() -> Self {
        let pulse = Pulse::default();
        let objects = Arc::new(Objects::new(pulse.clone()));
        World {
            users: Users::default(),
            permissions: Permissions::default(),
            cert_manager: CertManager::new(objects.clone()),
            calls: Calls::new(pulse.clone()),
            watches: Watches::new(objects.clone(), pulse.clone()),
            objects,
            faults: Faults::default(),
            date: Mutex::default(),
            minor: AtomicU32::new(37),
            pulse,
        }
    }
}
