//! The node driver: builds everything, runs it, and shuts it down.

pub(crate) mod admin;
mod cluster;
pub mod config;
pub(crate) mod kubelet;
mod serve;
mod setup;
mod volume;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::{Resource, getrlimit, setrlimit};
use svid_csi_core::plan::Plan;
use tokio::sync::watch;
use tracing::{info, warn};

use self::admin::AdminError;
use self::volume::deliver::Deliveries;
use self::volume::later::Later;
use self::volume::recent::RecentEvents;
use self::volume::reports::Reports;
use self::volume::room::Room;
use self::volume::store::Store;
use self::volume::{Node, Volumes};
use crate::delivery::folders::VolumeFolders;
use crate::delivery::passwords::Passwords;
use crate::delivery::socket_dir::{SocketDir, SocketDirError};
use crate::delivery::workload_api::WorkloadApi;
use crate::host::data_root::{self, DataRoot, DataRootError};
use crate::host::fsx::{self, FsError};
use crate::host::mount::{self, MountError, Propagation};
use crate::host::service_manager::ServiceManager;
use crate::kube::client::ClientError;
use crate::kube::csi_driver::Lacking;
use crate::source::local_ca::{LocalCa, LocalCaError, Sharing};
use crate::source::trust_bundle::TrustBundleError;
use crate::source::{IssueWaits, Sources};
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;
use crate::traces::Traces;
use cluster::Clients;
use config::Config;
pub use serve::ServeError;
#[cfg(feature = "fuzzing")]
pub use volume::names_volume;

/// Why the driver could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data root cannot be used.
    #[error(transparent)]
    DataRoot(#[from] DataRootError),
    /// The local CA cannot be used.
    #[error(transparent)]
    LocalCa(#[from] LocalCaError),
    /// The API server cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The CSIDriver object lacks a field that a plan needs.
    #[error(transparent)]
    CsiDriver(#[from] Lacking),
    /// The trust bundle cannot be followed.
    #[error(transparent)]
    TrustBundle(#[from] TrustBundleError),
    /// The agent's sockets cannot be delivered.
    #[error(transparent)]
    SocketDir(#[from] SocketDirError),
    /// A view cannot be mounted.
    #[error("the driver's mounts cannot be prepared")]
    Mount(#[from] MountError),
    /// The records cannot be read.
    #[error("the records of the volumes cannot be read")]
    Records(#[from] FsError),
    /// /proc cannot be read.
    #[error("cannot read /proc/self/mountinfo")]
    MountInfo(#[source] std::io::Error),
    /// A socket cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The admin endpoints cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// An essential task has ended; the log names it.
    #[error("the driver cannot continue; see the log above")]
    TaskFailed,
}

/// Runs the driver until it is stopped (SIGTERM, SIGINT), leaving every volume mounted.
///
/// # Errors
/// [`RunError`] if it could not start or cannot continue.
pub async fn run(config: Config, traces: Option<Traces>) -> Result<(), RunError> {
    // Modes of files and folders are always given in full.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    allow_descriptors();
    let (metrics, tasks) = (Arc::<Metrics>::default(), Tasks::default());
    if let Some(traces) = traces {
        traces.start(&config.kubelet.node_id, metrics.clone(), &tasks);
    }
    let clients = Clients::open(&config, &metrics, &tasks).await?;
    let taint = clients.startup_taint(&config);
    let node = tokio::task::block_in_place(|| Node::build(&config, clients, metrics, tasks))?;
    let setup = Arc::new(setup::facts(&config));
    let servers = serve::bind(&node, &config, &setup)?;
    let readiness = admin::start(&node, &config.admin, setup, servers.liveness(&config))?;
    serve::start(&node, servers);
    if let Some(taint) = taint {
        node.tasks.detached(kubelet::registrar::remove_taint(node.clone(), taint, config.kubelet.drivers.len()));
    }
    readiness.serves();
    info!(node = config.kubelet.node_id, "the driver is ready");
    ServiceManager::find(|name| std::env::var_os(name)).ready(&serving(&config), &node.tasks);
    let ended = serve::until_stopped(&node.tasks).await;
    serve::drain(&node.tasks).await;
    ended
}

impl Node {
    /// Prepares everything and recovers the volumes of the previous run. Blocks; needs a tokio runtime around it.
    fn build(config: &Config, clients: Clients, metrics: Arc<Metrics>, tasks: Tasks) -> Result<Arc<Self>, RunError> {
        // The driver cannot run on a kernel that does not report mount points.
        mount::is_mount_root(Path::new("/"))?;
        let data = open_data_root(config)?;
        let (store, lock) = open_store(config, data.as_ref())?;
        let Clients { cert_manager, broker, events, api } = clients;
        let local_ca = open_local_ca(config, data.as_ref(), api, &metrics, &tasks)?;
        let sources = Arc::new(Sources { broker, cert_manager, local_ca, waits: IssueWaits::new(metrics.clone()) });
        let data_of_issued = data.as_ref().filter(|_| config.kubelet.allows(Plan::mints));
        let folders = data_of_issued.map(VolumeFolders::open).transpose()?;
        // Even if no volume may request it any more, because earlier volumes still exist.
        let open = |data| WorkloadApi::open(data, sources.clone(), metrics.clone(), tasks.clone());
        let workload_api = data_of_issued.map(open).transpose()?;
        let open = |agent| SocketDir::open(agent, data.as_ref(), store.beside("agent-sockets.json"), metrics.clone());
        let socket_dir = config.agent.as_ref().map(open).transpose()?;
        let reports = Arc::new(Reports { metrics, events, recent: RecentEvents::default() });
        let later = Arc::<Later>::default();
        let deliveries = Deliveries {
            folders,
            workload_api,
            passwords: data.as_ref().map(Passwords::of),
            socket_dir,
            room: data.as_ref().map(Room::of),
            sources: sources.clone(),
            reports: reports.clone(),
            later: later.clone(),
        };
        let node = Arc::new(Node {
            volumes: Volumes::default(),
            store,
            sources,
            deliveries,
            reports,
            tasks,
            registered: watch::Sender::default(),
            jumps: Arc::default(),
            later,
            _lock: lock,
            data,
        });
        node.recover()?;
        node.tasks.detached(node.clone().run_later());
        Ok(node)
    }
}

fn open_data_root(config: &Config) -> Result<Option<DataRoot>, RunError> {
    let propagation = Propagation::read().map_err(RunError::MountInfo)?;
    let pods = config.kubelet.pods_dir().unwrap_or_else(|| "/var/lib/kubelet/pods".into());
    warn_if_unseen(&pods, &propagation);
    let open = |data| DataRoot::open(data, |root| propagation.reaches_host(root, &pods));
    Ok(config.data.as_ref().map(open).transpose()?)
}

/// The records, and the lock of their folder, if they are not in the data root.
fn open_store(config: &Config, data: Option<&DataRoot>) -> Result<(Store, Option<File>), RunError> {
    let Some(data) = data else {
        let (records, lock) = records_beside_socket(config)?.unzip();
        return Ok((Store::new(records), lock));
    };
    let store = Store::new(Some(data.records()));
    store.take_over(&data.other_records())?;
    Ok((store, None))
}

/// A summary of the configuration, for the status of a service.
fn serving(config: &Config) -> String {
    let names: Vec<_> = config.kubelet.drivers.iter().map(|driver| driver.name.as_str()).collect();
    format!("serving {} on node {}", names.join(" and "), config.kubelet.node_id)
}

/// Raises the limit of descriptors to the maximum: every volume with a socket has one, and every connection to it.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(errno) = setrlimit(Resource::Nofile, limit) {
        warn!(error = %errno, "cannot raise the limit of open files");
    }
}

fn open_local_ca(
    config: &Config,
    data: Option<&DataRoot>,
    api: Option<kube::Client>,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<Option<LocalCa>, LocalCaError> {
    let Some(local_ca) = &config.local_ca else { return Ok(None) };
    let in_tmpfs = data.map(|data| data.tmpfs().join("ca").join(local_ca.trust_domain.as_str()));
    let Some(folder) = local_ca.dir.clone().or(in_tmpfs) else { return Ok(None) };
    let sharing = local_ca.roots.clone().zip(api).map(|(place, client)| Sharing {
        client,
        place,
        node: config.kubelet.node_id.clone(),
        restarts: metrics.watch_restarts("ConfigMap"),
    });
    LocalCa::start(local_ca, folder, sharing, tasks).map(Some)
}

/// Without a data root, records are stored beside the CSI socket, which is on the host. They contain no secrets.
fn records_beside_socket(config: &Config) -> Result<Option<(PathBuf, File)>, DataRootError> {
    let Some(folder) = config.kubelet.drivers.first().and_then(|driver| driver.socket.parent()) else {
        return Ok(None);
    };
    let folder = folder.join(".svid-csi");
    let records = folder.join("records");
    let made = fsx::ensure_dir(&folder, 0o700).and_then(|()| fsx::ensure_dir(&records, 0o700));
    if let Err(error) = made {
        warn!(
            error = report::chain(&error),
            "volume records cannot be stored: after a restart, the driver knows a volume only when the kubelet asks for it again"
        );
        return Ok(None);
    }
    let lock = data_root::lock(&folder)?;
    Ok(Some((records, lock)))
}

/// Mounts that no other process can see would be lost silently.
fn warn_if_unseen(pods: &Path, propagation: &Propagation) {
    if !matches!(fsx::exists(pods), Ok(false)) && !propagation.reaches_host(pods, pods) {
        warn!(
            path = %pods.display(),
            "the pods folder is not on a shared mount: pods will not see their volumes; mount it into the driver with mountPropagation: Bidirectional"
        );
    }
}

#[cfg(test)]
mod tests;
