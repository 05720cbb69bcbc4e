//! The node: containerd, a bridge-less pod network and the kubelet.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::layout::Layout;
use crate::session::{NODE, Session};
use crate::tools::{self, Tools};
use crate::{cgroup, files, images, kubectl, leftovers, process, wait};

/// The programs, in the order they start.
pub const PROGRAMS: [&str; 2] = ["containerd", "kubelet"];
const READY: Duration = Duration::from_secs(90);

/// A version of runc that runs pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// The current version, built from its module; the default of pods. Since 1.2 it clears a mount's read-only flag
    /// unless the pod requests it.
    Default,
    /// Debian's 1.1, which keeps the flag.
    Debian,
}

impl Runtime {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Default, Self::Debian];

    /// The name of its handler in containerd, and of its `RuntimeClass`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "runc",
            Self::Debian => "runc-debian",
        }
    }

    /// The program.
    pub fn program(self, tools: &Tools) -> Result<PathBuf> {
        match self {
            Self::Default => Ok(tools.program("runc")),
            Self::Debian => tools::find("runc"),
        }
    }

    /// The folder with the state of its containers, by their ids.
    #[must_use]
    pub fn containers(self, layout: &Layout) -> PathBuf {
        layout.work.join("containerd").join(self.name()).join("k8s.io")
    }
}

/// The control group of all pods of this cluster.
#[must_use]
pub fn group(layout: &Layout) -> String {
    format!("svid-csi-{}", layout.id())
}

/// The folder with the manifests of static pods.
#[must_use]
pub fn static_pods(layout: &Layout) -> PathBuf {
    layout.work.join("static-pods")
}

/// The addresses of the pods, which must differ from those of clusters on the same machine.
pub fn subnet(layout: &Layout) -> Result<String> {
    let id = u32::from_str_radix(&layout.id(), 16).context("the cluster's id is a number")?;
    Ok(format!("10.{}.{}.0/24", 64 + (id >> 8) % 64, id % 256))
}

/// Starts containerd and waits until it answers.
pub fn start_containerd(layout: &Layout, tools: &Tools) -> Result<()> {
    let folder = layout.work.join("containerd");
    fs::create_dir_all(&folder)?;
    write_network(layout)?;
    let config = folder.join("config.toml");
    files::write(&config, containerd_config(layout, tools)?)?;
    let mut command = Command::new(tools.program("containerd"));
    command.arg("--config").arg(config).env("PATH", tools.path()?);
    process::start(layout, PROGRAMS[0], &mut command)?;
    wait::until("containerd to answer", READY, || {
        process::check(layout, PROGRAMS[0])?;
        images::ctr(layout, tools, &["version"])
    })
}

/// Starts the kubelet; the API server may not be ready yet.
pub fn start_kubelet(layout: &Layout, tools: &Tools, session: &Session) -> Result<()> {
    let kubelet = layout.kubelet();
    fs::create_dir_all(&kubelet)?;
    fs::create_dir_all(static_pods(layout))?;
    cgroup::create(&group(layout))?;
    let config = layout.work.join("kubelet.json");
    serde_json::to_writer_pretty(File::create(&config)?, &kubelet_config(layout, session))?;
    let mut command = Command::new(tools.program("kubelet"));
    command
        .arg(format!("--config={}", config.display()))
        .arg(format!("--kubeconfig={}", layout.work.join("kubelet.conf").display()))
        .arg(format!("--root-dir={}", kubelet.display()))
        .arg(format!("--cert-dir={}", layout.pki().display()))
        .arg(format!("--hostname-override={NODE}"))
        .arg(format!("--node-ip={}", session.address))
        .arg("--v=2")
        .env("PATH", tools.path()?);
    process::start(layout, PROGRAMS[1], &mut command)
}

/// Waits until the node accepts pods, which also need the default service account.
pub fn wait_ready(layout: &Layout, tools: &Tools) -> Result<()> {
    wait::until("the node to be ready", READY, || {
        PROGRAMS.iter().try_for_each(|program| process::check(layout, program))?;
        ready(layout, tools)
    })
}

/// Registers the runtimes that pods may select.
pub fn announce_runtimes(layout: &Layout, tools: &Tools) -> Result<()> {
    let class = |runtime: Runtime| {
        let name = runtime.name();
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name})
    };
    kubectl::apply(layout, tools, &Runtime::ALL.map(class))
}

/// Whether the node accepts pods.
pub fn ready(layout: &Layout, tools: &Tools) -> Result<()> {
    let condition = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    let status = kubectl::ask(layout, tools, &["get", "node", NODE, "-o", condition])?;
    ensure!(status == "True", "the node's condition Ready is {status:?}");
    let taints = kubectl::ask(layout, tools, &["get", "node", NODE, "-o", "jsonpath={.spec.taints}"])?;
    ensure!(taints.is_empty(), "the node is tainted: {taints}");
    kubectl::ask(layout, tools, &["get", "serviceaccount", "default"]).map(drop)
}

/// Ends all pods, beginning with their shims, which would otherwise restart containers.
pub fn end_pods(layout: &Layout) -> Result<()> {
    let socket = layout.containerd_socket().display().to_string();
    let shims = process::find(|line| {
        line.first().is_some_and(|program| program.ends_with("containerd-shim-runc-v2")) && line.contains(&socket)
    })?;
    shims.into_iter().for_each(process::kill);
    cgroup::remove(&group(layout))?;
    leftovers::remove(&layout.work, &group(layout))
}

fn containerd_config(layout: &Layout, tools: &Tools) -> Result<String> {
    let folder = layout.work.join("containerd");
    let (folder, network) = (folder.display(), layout.work.join("cni"));
    let runtimes: Vec<_> =
        Runtime::ALL.iter().map(|runtime| runtime_config(*runtime, layout, tools)).collect::<Result<_>>()?;
    Ok(format!(
        r#"version = 3
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
{runtimes}[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{cni}"]
  conf_dir = "{network}"
  use_internal_loopback = true
"#,
        socket = layout.containerd_socket().display(),
        pause = images::BUSYBOX,
        runtimes = runtimes.concat(),
        cni = tools.folder("cni").display(),
        network = network.display(),
    ))
}

fn runtime_config(runtime: Runtime, layout: &Layout, tools: &Tools) -> Result<String> {
    let program = runtime.program(tools)?;
    let root = layout.work.join("containerd").join(runtime.name());
    Ok(format!(
        r#"[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{name}]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{name}.options]
  BinaryName = "{program}"
  Root = "{root}"
"#,
        name = runtime.name(),
        program = program.display(),
        root = root.display(),
    ))
}

/// Each pod gets a link to the host and an address, without NAT or forwarding.
fn write_network(layout: &Layout) -> Result<()> {
    let folder = layout.work.join("cni");
    fs::create_dir_all(&folder)?;
    let subnet = subnet(layout)?;
    let addresses = json!({
        "type": "host-local",
        "dataDir": folder.join("addresses"),
        "ranges": [[{"subnet": subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    let network = json!({
        "cniVersion": "1.0.0",
        "name": group(layout),
        "plugins": [{"type": "ptp", "ipMasq": false, "ipam": addresses}],
    });
    files::write(&folder.join("10-pods.conflist"), serde_json::to_vec_pretty(&network)?)
}

fn kubelet_config(layout: &Layout, session: &Session) -> serde_json::Value {
    let pki = layout.pki();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": session.address,
        "port": session.kubelet[0],
        "healthzPort": session.kubelet[1],
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": pki.join("ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": pki.join("kubelet.crt"),
        "tlsPrivateKeyFile": pki.join("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", group(layout)),
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "podLogsDir": layout.logs().join("pods"),
        "volumePluginDir": layout.work.join("flexvolume"),
        "resolvConf": "",
        "clusterDNS": ["10.0.0.10"],
        "clusterDomain": "cluster.local",
        "volumeStatsAggPeriod": "10s",
        // The interval at which volumes are republished if their driver requests that.
        "syncFrequency": "10s",
        "staticPodPath": static_pods(layout),
        "maxPods": 250,
        "featureGates": {"CSIVolumeHealth": true},
    })
}
