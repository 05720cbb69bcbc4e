//! The sockets of the agent, and the thread that serves them.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use svid_csi_proto::broker::api_server::ApiServer;
use svid_csi_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Server;

use super::broker::BrokerApi;
use super::connection::{Connection, Raw, accept};
use super::workload::WorkloadApi;
use super::world::World;

/// Where the agent listens.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) workload_api: PathBuf,
    pub(super) broker: PathBuf,
    pub(super) broker_address: Option<SocketAddr>,
}

/// A listening agent. When it is dropped, its connections end and its sockets stay, as after a crash.
#[derive(Debug)]
pub(super) struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Listens, on a thread of its own, because tests block theirs. When this returns, connections are accepted.
    pub(super) fn start(places: Places, world: Arc<World>) -> (Self, Option<SocketAddr>) {
        let (stop, stopped) = oneshot::channel();
        let (listens, listening) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let tcp = match places.broker_address {
                    Some(address) => Some(bind(address).await),
                    None => None,
                };
                let (workload_api, broker) = (listen(&places.workload_api), listen(&places.broker));
                let bound = tcp.as_ref().map(|tcp| tcp.local_addr().expect("a bound socket"));
                listens.send(bound).expect("the test waits for it");
                tokio::select! {
                    () = serve(world, workload_api, broker, tcp) => {}
                    _ = stopped => {}
                }
            });
            // Dropping the runtime ends every connection.
        });
        let address = listening.recv().expect("the agent listens");
        (Running { stop: Some(stop), thread: Some(thread) }, address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // If it panicked, the test has seen failed calls.
            let _ = thread.join();
        }
    }
}

fn listen(socket: &Path) -> UnixListener {
    fs::create_dir_all(socket.parent().expect("a folder")).expect("a folder");
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).expect("a socket");
    fs::set_permissions(socket, Permissions::from_mode(0o777)).expect("a socket of ours");
    listener
}

async fn serve(world: Arc<World>, workload_api: UnixListener, broker: UnixListener, tcp: Option<TcpListener>) {
    let (connections, brokers) = mpsc::channel(16);
    tokio::spawn(accept_unix(world.clone(), broker, connections.clone()));
    if let Some(tcp) = tcp {
        tokio::spawn(accept_tcp(world.clone(), tcp, connections));
    }
    let workload_api = Server::builder()
        .add_service(SpiffeWorkloadApiServer::new(WorkloadApi(world.clone())))
        .serve_with_incoming(UnixListenerStream::new(workload_api));
    // An unlimited number of streams per client, as with SPIRE's agent.
    let broker = Server::builder()
        .max_concurrent_streams(u32::MAX)
        .add_service(ApiServer::new(BrokerApi(world)))
        .serve_with_incoming(ReceiverStream::new(brokers));
    let (one, other) = tokio::join!(workload_api, broker);
    one.and(other).expect("a server");
}

type Accepted = mpsc::Sender<std::io::Result<Connection>>;

async fn accept_unix(world: Arc<World>, listener: UnixListener, accepted: Accepted) {
    while let Ok((stream, _)) = listener.accept().await {
        shake_hands(&world, Box::new(stream), &accepted);
    }
}

async fn accept_tcp(world: Arc<World>, listener: TcpListener, accepted: Accepted) {
    while let Ok((stream, _)) = listener.accept().await {
        shake_hands(&world, Box::new(stream), &accepted);
    }
}

/// Concurrently, so that a slow connection does not delay the others.
fn shake_hands(world: &Arc<World>, raw: Box<dyn Raw>, accepted: &Accepted) {
    let (world, accepted) = (world.clone(), accepted.clone());
    tokio::spawn(async move {
        if let Some(connection) = accept(world, raw).await {
            let _ = accepted.send(Ok(connection)).await;
        }
    });
}

/// Binds the address, which after a restart is that of the former socket: a process that another test starts at this moment
/// has a copy of it until it executes its program.
async fn bind(address: SocketAddr) -> TcpListener {
    for _ in 0..1_000 {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => sleep(Duration::from_millis(10)).await,
            bound => return bound.expect("an address of this machine"),
        }
    }
    panic!("{address} stays in use")
}
