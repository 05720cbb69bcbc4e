//! The pods that commands are about.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use svid_csi_core::quoted::Quoted;

use crate::cluster::Cluster;
use crate::drivers::{self, DriverPod};

/// A pod as it is given: `[NAMESPACE/]POD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodName {
    namespace: Option<String>,
    name: String,
}

impl FromStr for PodName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        let is_valid = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
            !part.is_empty() && part.len() <= 253 && !part.starts_with(['-', '.']) && part.bytes().all(allowed)
        };
        if !is_valid(name) || !namespace.is_none_or(is_valid) {
            return Err(format!("{} is not a pod; write it as POD or NAMESPACE/POD", Quoted::new(text)));
        }
        Ok(Self { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }
}

/// A pod, and the drivers that serve it.
pub(crate) struct ServedPod {
    /// `namespace/name`.
    pub(crate) name: String,
    pub(crate) node: String,
    /// Usually one.
    pub(crate) drivers: Vec<DriverPod>,
}

/// Looks for a pod and for the driver of its volumes.
pub(crate) async fn find(cluster: &Cluster, pod: &PodName) -> Result<ServedPod> {
    let namespace = pod.namespace.as_ref().unwrap_or(&cluster.namespace);
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let name = format!("{namespace}/{}", pod.name);
    let found = cluster.call(async || api.get_opt(&pod.name).await).await;
    let found = found.with_context(|| format!("cannot read pod {name}"))?;
    let Some(spec) = found.with_context(|| format!("there is no pod {name}"))?.spec else {
        bail!("pod {name} has no specification");
    };
    let node = spec.node_name.with_context(|| format!("pod {name} is not on a node yet"))?;
    let requested = spec.volumes.into_iter().flatten().filter_map(|volume| Some(volume.csi?.driver));
    let requested: BTreeSet<_> = requested.collect();
    ensure!(!requested.is_empty(), "pod {name} has no volume of svid-csi: it has no CSI volume in its specification");
    let mut drivers = drivers::find(cluster, Some(&node)).await?;
    drivers.retain(|driver| driver.serves(&requested));
    ensure!(
        !drivers.is_empty(),
        "pod {name} has no volume of svid-csi: no driver pod on node {node} serves {}",
        requested.into_iter().collect::<Vec<_>>().join(", ")
    );
    Ok(ServedPod { name, node, drivers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_pod_can_have_are_refused() {
        let pod = |namespace: Option<&str>, name: &str| {
            Ok(PodName { namespace: namespace.map(str::to_owned), name: name.to_owned() })
        };
        assert_eq!("web-0".parse(), pod(None, "web-0"));
        assert_eq!("shop/web".parse(), pod(Some("shop"), "web"));
        for wrong in ["", "/web", "shop/", "shop/web/x", "--pod", "web\x1b[31m", "Web", "../web", "web?x=y"] {
            let refused = wrong.parse::<PodName>().unwrap_err();
            assert!(refused.is_ascii() && !refused.contains('\x1b'), "{refused}");
        }
    }
}
