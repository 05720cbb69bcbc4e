//! The paths of all files. Each checkout has its own work folder, which is found by its name after a killed run.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folder that keeps built tools and images between runs; `.cache` in the checkout otherwise.
pub const CACHE_VARIABLE: &str = "SVID_CSI_CACHE";
/// The work folder of the cluster; a folder of this checkout under `/var/lib/svid-csi-cluster` otherwise.
pub const WORK_VARIABLE: &str = "SVID_CSI_CLUSTER_DIR";
/// The minor version of Kubernetes, one of [`KUBERNETES`]; the first one otherwise.
pub const KUBERNETES_VARIABLE: &str = "SVID_CSI_KUBERNETES";
/// The versions of Kubernetes that can be run, each with a module `tools/kubernetes-<version>`.
pub const KUBERNETES: [&str; 2] = ["1.37", "1.36"];

/// The folders of one checkout's cluster.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The root of the repository.
    pub repo: PathBuf,
    /// Built programs and images, kept between runs.
    pub cache: PathBuf,
    /// All files of the running cluster, which `down` removes except for the logs.
    pub work: PathBuf,
    /// The minor version of Kubernetes, one of [`KUBERNETES`].
    pub kubernetes: &'static str,
}

impl Layout {
    /// The layout of the checkout this crate was built from.
    pub fn of_this_checkout() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let repo = manifest.join("../..").canonicalize().context("the repository of this crate is gone")?;
        let cache = env::var_os(CACHE_VARIABLE).map_or_else(|| repo.join(".cache"), PathBuf::from);
        let kubernetes = version(env::var(KUBERNETES_VARIABLE).ok().as_deref())?;
        let work = env::var_os(WORK_VARIABLE).map_or_else(|| default_work(&repo, kubernetes), PathBuf::from);
        Ok(Self { repo, cache, work, kubernetes })
    }

    /// Eight characters that distinguish this cluster from those of other checkouts.
    #[must_use]
    pub fn id(&self) -> String {
        short_hash(&self.work)
    }

    /// The folder of this crate.
    #[must_use]
    pub fn sources(&self) -> PathBuf {
        self.repo.join("tests/cluster")
    }

    /// One log per program, and those of the pods; they outlive `down`.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.work.join("logs")
    }

    /// The started programs, one file per program.
    #[must_use]
    pub fn pids(&self) -> PathBuf {
        self.work.join("pids")
    }

    /// Certificates and keys of the control plane.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.work.join("pki")
    }

    /// The kubelet's root folder, which driver manifests must name.
    #[must_use]
    pub fn kubelet(&self) -> PathBuf {
        self.work.join("kubelet")
    }

    /// The socket of containerd.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.work.join("containerd/containerd.sock")
    }

    /// The kubeconfig of the administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.work.join("admin.conf")
    }

    /// Folders of the tests on the host: sockets of agents, data roots of drivers.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.work.join("tests")
    }
}

fn version(wanted: Option<&str>) -> Result<&'static str> {
    let Some(wanted) = wanted else { return Ok(KUBERNETES[0]) };
    let Some(version) = KUBERNETES.into_iter().find(|version| *version == wanted) else {
        bail!("{KUBERNETES_VARIABLE} is {wanted:?}; the versions that can be run are {}", KUBERNETES.join(", "));
    };
    Ok(version)
}

/// Clusters of two versions never share a folder, so that none is taken for the other.
fn default_work(repo: &Path, kubernetes: &str) -> PathBuf {
    Path::new("/var/lib/svid-csi-cluster").join(short_hash(&repo.join(kubernetes)))
}

/// FNV-1a, for names only.
fn short_hash(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_checkouts_nor_versions_share_a_work_folder() {
        assert_ne!(default_work(Path::new("/a"), "1.37"), default_work(Path::new("/b"), "1.37"));
        assert_ne!(default_work(Path::new("/a"), "1.37"), default_work(Path::new("/a"), "1.36"));
    }

    #[test]
    fn only_known_versions_are_run() {
        assert_eq!(version(None).unwrap(), "1.37");
        assert_eq!(version(Some("1.36")).unwrap(), "1.36");
        let refused = version(Some("1.3")).unwrap_err().to_string();
        assert_eq!(refused, "SVID_CSI_KUBERNETES is \"1.3\"; the versions that can be run are 1.37, 1.36");
    }

    #[test]
    fn the_longest_socket_of_the_kubelet_fits() {
        let kubelet = default_work(Path::new("/any"), "1.37").join("kubelet");
        let socket = kubelet.join("plugins_registry/spiffe.csi.cert-manager.io.some-test-reg.sock");
        assert!(socket.as_os_str().len() < 108, "{}", socket.display());
    }
}
