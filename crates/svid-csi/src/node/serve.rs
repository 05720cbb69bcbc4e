//! The sockets of the driver: bound before anything runs, served until the sign to stop, drained.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::plan::Issuer;
use svid_csi_proto::csi_v1::identity_server::IdentityServer;
use svid_csi_proto::csi_v1::node_server::NodeServer;
use svid_csi_proto::pluginregistration_v1::registration_server::RegistrationServer;
use tokio::net::UnixListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tracing::{info, warn};

use super::config::Config;
use super::csi::Service;
use super::registrar::Registrar;
use super::{Node, RunError};
use crate::authority::Lenient;
use crate::tasks::{Signals, Stopped, Tasks};
use crate::uds::{self, BindError, Bound};

/// How long calls in flight may take to end once the driver is told to stop.
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

/// A socket that is bound and what will be served on it.
#[derive(Debug)]
pub(super) struct Bindings(Vec<(UnixListener, Bound, Router)>);

/// Binds the CSI sockets, then the registration sockets: the kubelet comes at once.
pub(super) fn bind(node: &Arc<Node>, config: &Config) -> Result<Bindings, ServeError> {
    let mut bindings = Vec::new();
    for driver in &config.drivers {
        let (listener, bound) = uds::bind_private(&driver.socket)?;
        let service = Service::new(node, driver, config);
        let router =
            Server::builder().add_service(IdentityServer::new(service.clone())).add_service(NodeServer::new(service));
        bindings.push((listener, bound, router));
    }
    for (driver, folder) in
        config.registration_dir.iter().flat_map(|folder| config.drivers.iter().map(move |driver| (driver, folder)))
    {
        let (listener, bound) = uds::bind_private(&folder.join(driver.registration_socket()))?;
        let registrar = Registrar { node: node.clone(), driver: driver.clone() };
        bindings.push((listener, bound, Server::builder().add_service(RegistrationServer::new(registrar))));
    }
    Ok(Bindings(bindings))
}

/// Starts serving, and following the agent's sockets.
pub(super) fn start(node: &Arc<Node>, bindings: Bindings) {
    let tasks = &node.tasks;
    for (listener, bound, router) in bindings.0 {
        let stop = tasks.stopping();
        tasks.essential("socket server", async move {
            info!(socket = %bound.path.display(), "listening");
            let stopped = async move {
                stop.cancelled().await;
                drop(bound);
            };
            let callers = UnixListenerStream::new(listener).map(|caller| caller.map(Lenient::new));
            router.serve_with_incoming_shutdown(callers, stopped).await
        });
    }
    let (jumps, stop) = (node.jumps.clone(), tasks.stopping());
    tasks.essential("clock watch", async move { jumps.watch(stop).await });
    if let Some(bundle) = node.sources.cert_manager.as_ref().and_then(|cert_manager| cert_manager.bundle()) {
        tasks.essential("trust bundle", node.clone().follow_bundle(Issuer::CertManager, bundle, tasks.stopping()));
    }
    if let Some(local_ca) = node.sources.local_ca.as_ref().filter(|local_ca| local_ca.roots().is_some()) {
        let follow = node.clone().follow_bundle(Issuer::LocalCa, local_ca.bundle(), tasks.stopping());
        tasks.essential("roots of all nodes", follow);
    }
    if let Some(socket_dir) = &node.socket_dir {
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

/// Lets calls in flight end. Every volume stays mounted.
pub(super) async fn drain(tasks: &Tasks) {
    info!("stopping; volumes stay mounted");
    tasks.stop();
    if tokio::time::timeout(DRAIN, tasks.ended()).await.is_err() {
        warn!(seconds = DRAIN.as_secs(), "calls were still in flight when the time to drain was over");
    }
}
