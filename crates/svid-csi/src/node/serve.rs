//! The sockets of the driver: bound before anything runs, served until the signal to stop, and drained.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::findings::facts::DriverFacts;
use svid_csi_core::plan::Issuer;
use svid_csi_proto::csi_v1::identity_server::IdentityServer;
use svid_csi_proto::csi_v1::node_server::NodeServer;
use svid_csi_proto::pluginregistration_v1::registration_server::RegistrationServer;
use tokio::net::UnixListener;
use tokio_stream::StreamExt;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tracing::{info, warn};

use super::RunError;
use super::config::Config;
use super::kubelet::csi::CsiService;
use super::kubelet::door::{Door, Turn};
use super::kubelet::liveness::Liveness;
use super::kubelet::registrar::Registrar;
use super::volume::Node;
use crate::net::http2_authority::Lenient;
use crate::net::uds::BindError;
use crate::tasks::{Signals, Stopped, Tasks};

/// How long calls in progress may take to end during the shutdown.
const DRAIN: Duration = Duration::from_secs(4);

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signal(#[source] std::io::Error),
}

/// Bound sockets, and the services on them.
#[derive(Debug)]
pub(super) struct Bindings(Vec<Binding>);

#[derive(Debug)]
struct Binding {
    door: Arc<Door>,
    listener: UnixListener,
    router: Router,
    driver: String,
    /// The registration socket of the driver name, if it has one; it may be this one.
    registration: Option<Arc<Door>>,
}

/// Binds the CSI sockets, then the registration sockets, because the kubelet connects at once.
pub(super) fn bind(node: &Arc<Node>, config: &Config, setup: &Arc<DriverFacts>) -> Result<Bindings, ServeError> {
    let mut bindings = Vec::new();
    for driver in &config.kubelet.drivers {
        let (door, listener) = Door::bind(&driver.socket)?;
        let service = CsiService::new(node, driver, &config.kubelet, config.trust_domain().cloned(), setup);
        let router =
            Server::builder().add_service(IdentityServer::new(service.clone())).add_service(NodeServer::new(service));
        bindings.push(Binding { door, listener, router, driver: driver.name.clone(), registration: None });
    }
    for (number, driver) in config.kubelet.drivers.iter().enumerate() {
        let Some(folder) = &config.kubelet.registration_dir else { break };
        let (door, listener) = Door::bind(&folder.join(driver.registration_socket()))?;
        let registration = Some(door.clone());
        bindings[number].registration.clone_from(&registration);
        let registrar = Registrar { node: node.clone(), driver: driver.clone() };
        let router = Server::builder().add_service(RegistrationServer::new(registrar));
        bindings.push(Binding { door, listener, router, driver: driver.name.clone(), registration });
    }
    Ok(Bindings(bindings))
}

impl Bindings {
    /// The sockets that `/livez` checks.
    pub(super) fn liveness(&self, config: &Config) -> Liveness {
        let mut csi: Vec<_> = self.0.iter().map(|binding| binding.door.clone()).collect();
        let registration = csi.split_off(config.kubelet.drivers.len());
        Liveness::new(csi, registration)
    }
}

/// Starts serving, and following the agent's sockets.
pub(super) fn start(node: &Arc<Node>, bindings: Bindings) {
    let tasks = &node.tasks;
    for Binding { door, listener, router, driver, registration } in bindings.0 {
        let (node, stop) = (node.clone(), tasks.stopping());
        tasks.essential("socket server", async move {
            info!(socket = %door.path().display(), "listening");
            let closing = door.clone();
            let stopped = async move {
                stop.cancelled().await;
                closing.close();
            };
            let itself = door.clone();
            // The kubelet forgets a driver whose registration socket is deleted, and connects to a new one.
            let turn = move |turn| match (turn, &registration) {
                (Turn::Lost, Some(_)) => node.set_registered(&driver, false),
                (Turn::Bound, Some(registration)) if !Arc::ptr_eq(registration, &itself) => registration.renew(),
                _ => {}
            };
            let callers = door.callers(listener, turn).map(|caller| caller.map(Lenient::new));
            router.serve_with_incoming_shutdown(callers, stopped).await
        });
    }
    let (jumps, stop) = (node.jumps.clone(), tasks.stopping());
    tasks.essential("clock watch", async move { jumps.watch(stop).await });
    if let Some(bundle) = node.sources.cert_manager.as_ref().and_then(|cert_manager| cert_manager.bundle()) {
        tasks.essential("trust bundle", node.clone().follow_bundle(Issuer::CertManager, bundle, tasks.stopping()));
    }
    if let Some(local_ca) = &node.sources.local_ca {
        let follow = node.clone().follow_bundle(Issuer::LocalCa, local_ca.bundle(), tasks.stopping());
        tasks.essential("trust bundle of the local CA", follow);
    }
    if let Some(socket_dir) = &node.deliveries.socket_dir {
        tasks.essential("socket directory", socket_dir.clone().follow(tasks.stopping()));
    }
}

/// Waits for SIGTERM, SIGINT or the failure of a task.
pub(super) async fn until_stopped(tasks: &Tasks) -> Result<(), RunError> {
    match tasks.until_stopped(Signals::receive().map_err(ServeError::Signal)?).await {
        Stopped::BySignal => Ok(()),
        Stopped::ByFailure => Err(RunError::TaskFailed),
    }
}

/// Lets calls in progress finish. Every volume stays mounted.
pub(super) async fn drain(tasks: &Tasks) {
    info!("stopping; volumes stay mounted");
    tasks.stop();
    if tokio::time::timeout(DRAIN, tasks.ended()).await.is_err() {
        warn!(seconds = DRAIN.as_secs(), "calls were still in progress at the end of the drain time");
    }
}
