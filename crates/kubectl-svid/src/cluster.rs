//! The API server, and how long it may take.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config, Error};
use svid_csi_core::quoted::one_line;
use tokio::time::{Instant, sleep, timeout_at};

use crate::arguments::ClusterArguments;

/// The first pause before a retry; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A connection to the API server.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The namespace of pods that are given without one.
    pub(crate) namespace: String,
    /// The namespace of the drivers, if they are not searched in all.
    pub(crate) driver_namespace: Option<String>,
    pub(crate) driver_selector: String,
    node_timeout: Duration,
    end: Instant,
}

impl Cluster {
    /// Reads the kubeconfig as kubectl does.
    pub(crate) async fn connect(arguments: &ClusterArguments) -> Result<Self> {
        let mut config = config(arguments).await?;
        // Retries end at this program's own deadlines.
        config.default_retry = false;
        let namespace = arguments.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
        Ok(Self {
            client,
            namespace,
            driver_namespace: arguments.driver_namespace.clone(),
            driver_selector: arguments.driver_selector.clone(),
            node_timeout: arguments.node_timeout,
            end: Instant::now() + arguments.timeout,
        })
    }

    /// Calls the API server, again as long as it is busy.
    pub(crate) async fn call<T>(&self, call: impl AsyncFn() -> kube::Result<T>) -> Result<T> {
        patiently(self.end, call).await.map_err(anyhow::Error::msg)
    }

    /// When a node must have answered that is asked now.
    pub(crate) fn node_deadline(&self) -> Instant {
        self.end.min(Instant::now() + self.node_timeout)
    }
}

async fn config(arguments: &ClusterArguments) -> Result<Config> {
    let ClusterArguments { context, cluster, user, .. } = arguments;
    let choice = KubeConfigOptions { context: context.clone(), cluster: cluster.clone(), user: user.clone() };
    let kubeconfig = match &arguments.kubeconfig {
        Some(path) => Kubeconfig::read_from(path).with_context(|| format!("--kubeconfig {}", path.display()))?,
        None => match Kubeconfig::read() {
            Err(error) if is_missing(&error) && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
                return Config::incluster().context("the pod's service account cannot be used");
            }
            read => read.context("there is no kubeconfig; give --kubeconfig or KUBECONFIG")?,
        },
    };
    Config::from_custom_kubeconfig(kubeconfig, &choice).await.context("the kubeconfig cannot be used")
}

/// Whether there is no kubeconfig, as in a pod. One that cannot be read must not lead to another cluster.
fn is_missing(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(error, _) => {
            error.kind() == ErrorKind::NotFound && std::env::var_os("KUBECONFIG").is_none()
        }
        _ => false,
    }
}

/// Calls the API server until it is not busy any more.
///
/// # Errors
/// Why it does not answer, on one line.
pub(crate) async fn patiently<T>(deadline: Instant, call: impl AsyncFn() -> kube::Result<T>) -> Result<T, String> {
    let (mut pause, mut refusal) = (FIRST_PAUSE, None);
    loop {
        let slow = || refusal.clone().unwrap_or_else(|| "the API server did not answer in time".to_owned());
        let error = match timeout_at(deadline, call()).await {
            Err(_) => return Err(slow()),
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
        };
        let reason = reason(&error);
        let Error::Api(status) = &error else { return Err(reason) };
        if !matches!(status.code, 429 | 503) {
            return Err(reason);
        }
        let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let wait = pause.max(Duration::from_secs(asked.into()));
        if Instant::now() + wait >= deadline {
            return Err(reason);
        }
        sleep(wait).await;
        (pause, refusal) = ((pause * 2).min(LONGEST_PAUSE), Some(reason));
    }
}

/// The error on one line.
fn reason(error: &Error) -> String {
    match error {
        Error::Api(status) => format!("the API server answers {}: {}", status.code, one_line(&status.message)),
        Error::Auth(error) => format!("no credentials for the API server: {}", one_line(&error.to_string())),
        // Its own text repeats that of its cause.
        Error::Service(error) => format!("the API server cannot be reached: {}", one_line(&chain(&**error))),
        error => one_line(&error.to_string()),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes: Vec<_> = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    causes.join(": ")
}
