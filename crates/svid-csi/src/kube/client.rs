//! How the API server is reached.

use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long a call may take. A watch is not a call: it may be silent for as long as nothing happens.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the API server is and who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// A kubeconfig; without it, what Kubernetes gives every pod.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig, unless its current one.
    pub context: Option<String>,
    /// The cluster in the kubeconfig, unless the context's.
    pub cluster: Option<String>,
    /// The user in the kubeconfig, unless the context's.
    pub user: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not in a pod, or not with a service account.
    #[error("this process has no service account of a cluster; outside of a pod, give --kubeconfig")]
    InCluster(#[source] kube::config::InClusterError),
    /// The kubeconfig.
    #[error("--kubeconfig {}", .path.display())]
    Kubeconfig {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// What is in it cannot be used.
    #[error("the client of the API server cannot be made")]
    Client(#[source] kube::Error),
}

/// Finds the API server and the credentials.
///
/// # Errors
/// [`ClientError`].
pub async fn config(options: &ClientOptions) -> Result<Config, ClientError> {
    let mut config = match &options.kubeconfig {
        None => Config::incluster().map_err(ClientError::InCluster)?,
        Some(path) => {
            let failed = |source| ClientError::Kubeconfig { path: path.clone(), source };
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            let ClientOptions { context, cluster, user, .. } = options.clone();
            let choice = KubeConfigOptions { context, cluster, user };
            Config::from_custom_kubeconfig(kubeconfig, &choice).await.map_err(failed)?
        }
    };
    let agent = concat!("svid-csi/", env!("CARGO_PKG_VERSION"));
    config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
    Ok(config)
}

/// A client with the credentials of `config`.
///
/// # Errors
/// [`ClientError::Client`].
pub fn client(config: Config) -> Result<Client, ClientError> {
    Client::try_from(config).map_err(ClientError::Client)
}
