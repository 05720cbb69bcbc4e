//! The driver as the kubelet finds it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use svid_csi_core::files::{FileNames, Layout};
use svid_csi_core::plan::Plan;

/// The node, and the drivers that the kubelet finds on it.
#[derive(Debug, Clone)]
pub struct KubeletConfig {
    /// The driver names, each on a CSI socket of its own; at least one.
    pub drivers: Vec<DriverName>,
    /// The node's name, answered by NodeGetInfo.
    pub node_id: String,
    /// The kubelet's root directory. If set, targets must be in its `pods` folder.
    pub root_dir: Option<PathBuf>,
    /// The kubelet's plugin registration folder. If set, the driver registers itself.
    pub registration_dir: Option<PathBuf>,
    /// The key of the taint to remove from this node once every driver name is registered.
    pub startup_taint: Option<String>,
    /// Whether to publish volumes whose pod omits `readOnly: true`; they are mounted read-only anyway.
    pub allow_missing_read_only: bool,
}

/// One CSI driver name and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverName {
    /// The name of the CSIDriver object.
    pub name: String,
    /// The CSI socket to listen on; at most 107 bytes (unix(7)).
    pub socket: PathBuf,
    /// The path of that socket as the kubelet sees it; required to register in-process.
    pub registration_path: Option<PathBuf>,
    /// The plan of a volume that does not name one.
    pub default_plan: Plan,
    /// The plans that a volume may request; includes the default.
    pub allowed_plans: BTreeSet<Plan>,
    /// The layout of the files of a volume that names none.
    pub layout: Layout,
    /// Names of the files of layout `pem`, unless the volume names its own.
    pub file_names: FileNames,
}

impl KubeletConfig {
    /// The folder that the volumes of pods are mounted in, if the flags say where it is.
    pub fn pods_dir(&self) -> Option<PathBuf> {
        self.root_dir.as_ref().map(|root| root.join("pods"))
    }

    /// Whether some volume may request such a plan.
    pub fn allows(&self, such: impl Fn(Plan) -> bool) -> bool {
        self.drivers.iter().flat_map(|driver| &driver.allowed_plans).any(|plan| such(*plan))
    }
}

impl DriverName {
    /// The name of its socket in the kubelet's registration folder.
    pub fn registration_socket(&self) -> String {
        format!("{}-reg.sock", self.name)
    }
}
