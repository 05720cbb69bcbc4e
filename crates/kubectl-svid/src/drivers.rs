//! The driver's pods.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{Api, ListParams};
use svid_csi_core::quoted::one_line;

use crate::cluster::Cluster;
use crate::container_flags::ContainerFlags;

/// How many pods the API server is asked for at a time.
const PAGE: u32 = 500;
pub(crate) const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A driver on a node.
#[derive(Debug, Clone)]
pub(crate) struct DriverPod {
    pub(crate) node: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) container: String,
    /// Its admin socket, or why it cannot be asked.
    pub(crate) socket: Result<String, String>,
    /// Whether it has ended permanently.
    has_ended: bool,
    /// The driver names that it serves, if its flags name them.
    pub(crate) names: BTreeSet<String>,
}

/// The drivers of all nodes, or of one, by node.
pub(crate) async fn find(cluster: &Cluster, node: Option<&str>) -> Result<Vec<DriverPod>> {
    let Cluster { driver_namespace, driver_selector, .. } = cluster;
    let api: Api<Pod> = match driver_namespace {
        Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
        None => Api::all(cluster.client.clone()),
    };
    let mut params = ListParams::default().labels(driver_selector).limit(PAGE);
    if let Some(node) = node {
        params = params.fields(&format!("spec.nodeName={node}"));
    }
    let mut found = Vec::new();
    loop {
        let page = cluster.call(async || api.list(&params).await).await;
        let page = page.context("cannot list driver pods; --driver-namespace looks in one namespace only")?;
        found.extend(page.items.iter().filter_map(DriverPod::of));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    let (place, namespaces) = (
        node.map_or_else(String::new, |node| format!(" on node {}", one_line(node))),
        driver_namespace.as_ref().map_or_else(|| "any namespace".to_owned(), |name| format!("namespace {name}")),
    );
    ensure!(
        !found.is_empty(),
        "there is no driver pod{place}: no privileged pod in {} has the labels {} (--driver-namespace, --driver-selector)",
        one_line(&namespaces),
        one_line(driver_selector)
    );
    let running: BTreeSet<_> = found
        .iter()
        .filter(|driver| driver.socket.is_ok())
        .map(|driver| (driver.node.clone(), driver.namespace.clone()))
        .collect();
    // Pods that have ended stay until someone deletes them.
    found.retain(|driver| !(driver.has_ended && running.contains(&(driver.node.clone(), driver.namespace.clone()))));
    found.sort_by(|one, other| {
        (&one.node, &one.namespace, &one.name).cmp(&(&other.node, &other.namespace, &other.name))
    });
    Ok(found)
}

impl DriverPod {
    /// A pod that may be a driver. One that is not privileged cannot mount anything into pods, so it only has the labels.
    fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let (namespace, name) = (pod.metadata.namespace.clone()?, pod.metadata.name.clone()?);
        let default = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DEFAULT_CONTAINER));
        let privileged: Vec<_> = spec.containers.iter().filter(|container| is_privileged(container)).collect();
        let container = *privileged
            .iter()
            .find(|container| ContainerFlags::of(container).has("driver"))
            .or_else(|| privileged.iter().find(|container| Some(&container.name) == default))
            .or(privileged.first())?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown");
        let flags = ContainerFlags::of(container);
        let socket = match phase {
            "Running" => socket(&flags),
            phase => {
                Err(format!("its driver pod {}/{} is {}, not Running", namespace, one_line(&name), one_line(phase)))
            }
        };
        Some(Self {
            node: spec.node_name.clone().unwrap_or_else(|| "(not scheduled)".to_owned()),
            namespace,
            name,
            container: container.name.clone(),
            socket,
            has_ended: matches!(phase, "Succeeded" | "Failed"),
            names: names(&flags),
        })
    }

    /// Whether it serves one of these driver names, as far as its flags say.
    pub(crate) fn serves(&self, names: &BTreeSet<String>) -> bool {
        self.names.is_empty() || !self.names.is_disjoint(names)
    }
}

fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|context| context.privileged) == Some(true)
}

/// As the driver chooses it.
fn socket(flags: &ContainerFlags<'_>) -> Result<String, String> {
    match (flags.value("admin-socket"), flags.value("data-root")) {
        (Some(off), _) if off == "0" => Err("its driver has no admin socket (--admin-socket=0)".to_owned()),
        (Some(socket), _) => Ok(socket.strip_prefix("unix://").unwrap_or(&socket).to_owned()),
        (None, Some(root)) => Ok(format!("{}/admin.sock", root.trim_end_matches('/'))),
        (None, None) => Err("its driver has no admin socket: it has neither --admin-socket nor --data-root".to_owned()),
    }
}

fn names(flags: &ContainerFlags<'_>) -> BTreeSet<String> {
    let given = ["driver-name", "plugin-name", "csi-driver-name"].into_iter().find_map(|name| flags.value(name));
    let main = given.or_else(|| flags.value("profile"));
    let also = flags.values("also-profile");
    // In the environment, several are separated by spaces.
    let also = also.iter().flat_map(|also| also.split_whitespace());
    let also = also.filter_map(|also| also.split(':').next()).map(str::to_owned);
    // Without the main name, the set is unknown.
    main.map(|main| also.chain([main]).collect()).unwrap_or_default()
}
