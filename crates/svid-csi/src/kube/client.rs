//! How to reach the API server.

mod connect;
mod proxy;
mod socks;
mod verifier;

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::header::{HeaderValue, USER_AGENT};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tracing::info;

pub use self::proxy::ProxyError;

/// How long a call may take. This excludes watches, which may be silent as long as nothing happens.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The address of the API server and the client's credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// A kubeconfig; without it, the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig, if not its current one.
    pub context: Option<String>,
    /// The cluster in the kubeconfig, if not the context's.
    pub cluster: Option<String>,
    /// The user in the kubeconfig, if not the context's.
    pub user: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It is not running in a pod, or not with a service account.
    #[error("this process has no service account of a cluster; outside of a pod, give --kubeconfig")]
    InCluster(#[source] kube::config::InClusterError),
    /// The kubeconfig.
    #[error("--kubeconfig {}", .path.display())]
    Kubeconfig {
        /// Which one.
        path: PathBuf,
        /// The problem.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The CA certificates are invalid.
    #[error("the CA certificates of the API server cannot be used")]
    Roots(#[source] rustls::Error),
    /// The required name in the API server's certificate is invalid.
    #[error("tls-server-name in the kubeconfig is not a name a server can have")]
    ServerName {
        /// The problem.
        #[source]
        source: rustls::pki_types::InvalidDnsNameError,
    },
    /// The configuration cannot be used.
    #[error("the client of the API server cannot be made")]
    Client(#[source] kube::Error),
}

/// Finds the API server, the credentials and the proxy.
///
/// # Errors
/// [`ClientError`].
pub async fn config(options: &ClientOptions) -> Result<Config, ClientError> {
    let (mut config, given) = match &options.kubeconfig {
        None => (Config::incluster().map_err(ClientError::InCluster)?, None),
        Some(path) => {
            let failed = |source| ClientError::Kubeconfig { path: path.clone(), source };
            let mut kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            let ClientOptions { context, cluster, user, .. } = options.clone();
            let choice = KubeConfigOptions { context, cluster, user };
            let given = take_proxy(&mut kubeconfig, &choice)?;
            (Config::from_custom_kubeconfig(kubeconfig, &choice).await.map_err(failed)?, given)
        }
    };
    config.proxy_url = match given {
        Some(given) => Some(given),
        None => {
            let environment = proxy::ProxyEnvironment::read(|name| std::env::var(name).ok());
            environment.proxy_for(&config.cluster_url)?
        }
    };
    if let Some(host) = config.proxy_url.as_ref().and_then(Uri::host) {
        info!(host, "the API server is reached through a proxy");
    }
    let agent = concat!("svid-csi/", env!("CARGO_PKG_VERSION"));
    config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
    Ok(config)
}

/// Means "none given" in a kubeconfig, so that kube does not read the environment, in which it refuses more than curl.
const NO_PROXY_GIVEN: &str = "none://given";

/// Takes the proxy of the chosen cluster, so that kube does not apply rules of its own to it: as in kubectl, `NO_PROXY`
/// does not matter for a proxy in the kubeconfig.
fn take_proxy(kubeconfig: &mut Kubeconfig, choice: &KubeConfigOptions) -> Result<Option<Uri>, ProxyError> {
    let context = choice.context.as_ref().or(kubeconfig.current_context.as_ref());
    let context = kubeconfig.contexts.iter().find(|named| Some(&named.name) == context);
    let of_context = context.and_then(|named| Some(named.context.as_ref()?.cluster.clone()));
    let chosen = choice.cluster.clone().or(of_context);
    let cluster = kubeconfig.clusters.iter_mut().find(|named| Some(&named.name) == chosen.as_ref());
    let given = cluster.and_then(|named| named.cluster.as_mut()?.proxy_url.replace(NO_PROXY_GIVEN.to_owned()));
    given.filter(|given| !given.is_empty()).map(|given| proxy::parse(&given, "proxy-url")).transpose()
}

/// A client with the credentials of `config`.
///
/// # Errors
/// [`ClientError`].
pub fn client(config: &Config) -> Result<Client, ClientError> {
    connect::client(config)
}
