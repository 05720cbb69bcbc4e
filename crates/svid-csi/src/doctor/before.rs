//! `svid-csi doctor --pre`: the facts of a node that has no driver yet.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use http::Request;
use kube::Client;
use serde_json::Value;
use svid_csi_core::findings::before::{BeforeCluster, BeforeFacts, KubeletSeen, USUAL_KUBELET};
use svid_csi_core::findings::facts::{AgentFacts, AgentSeen, Look, Right};
use svid_csi_core::findings::kernel::InotifyLimits;
use svid_csi_core::findings::{Category, Report};

use super::paths::Paths;
use super::{Output, cluster, gather, sockets};
use crate::delivery::socket_dir;
use crate::host::mount::Propagation;
use crate::host::{fsx, kernel};
use crate::kube::client::{self, ClientOptions};
use crate::telemetry::report;

/// Where distributions put the kubelet's root directory.
const KUBELETS: [&str; 3] = [USUAL_KUBELET, "/var/lib/k0s/kubelet", "/var/snap/microk8s/common/var/lib/kubelet"];
/// The most processes of the name `kubelet` whose flags are read.
const MOST_KUBELETS: usize = 8;

/// The objects that an installation of the chart creates, by group and resource.
const OBJECTS: [(&str, &str); 9] = [
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("storage.k8s.io", "csidrivers"),
];

/// The options of a check before an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeforeOptions {
    /// The name that the driver is to have.
    pub driver_name: String,
    /// The kubelet's root directory, if it need not be found.
    pub kubelet_dir: Option<PathBuf>,
    /// The agent's directory, if there is to be one.
    pub agent: Option<PathBuf>,
    /// A process on the host, if this one is in a container.
    pub host_pid: Option<i32>,
    /// A kubeconfig of the user who installs.
    pub kubeconfig: Option<PathBuf>,
    /// The checks of these categories only.
    pub categories: Vec<Category>,
    /// How the result is printed.
    pub output: Output,
    /// How long to wait until there are no faults.
    pub wait: Duration,
}

pub(super) async fn examine(options: &BeforeOptions) -> Report {
    Report::before(&look(options).await).only(&options.categories)
}

async fn look(options: &BeforeOptions) -> BeforeFacts {
    let paths = Paths::of_host(options.host_pid);
    let kubelet = kubelet(options, &paths);
    let folders = kubelet.root_dir.iter().map(|root| Path::new(root).join("plugins_registry"));
    let registrations = sockets::in_folders(&folders.collect::<Vec<_>>(), &paths).await;
    BeforeFacts {
        driver_name: options.driver_name.clone(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        features: kernel::features(),
        swaps: swaps(),
        inotify: gather::inotify().err(),
        inotify_limits: inotify_limits(),
        kubelet,
        registrations,
        agent: options.agent.as_deref().map(|agent| of_agent(agent, &paths)),
        cluster: of_cluster(options).await,
    }
}

fn read(path: &str) -> Look<String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

fn swaps() -> Look<bool> {
    Ok(read("/proc/swaps")?.lines().count() > 1)
}

fn inotify_limits() -> Look<InotifyLimits> {
    let number = |name: &str| {
        let path = format!("/proc/sys/fs/inotify/{name}");
        let text = read(&path)?;
        text.trim().parse::<u64>().map_err(|_| format!("{path} is not a number"))
    };
    Ok(InotifyLimits { instances: number("max_user_instances")?, watches: number("max_user_watches")? })
}

fn kubelet(options: &BeforeOptions, paths: &Paths) -> KubeletSeen {
    let is_named = options.kubelet_dir.is_some();
    let looked_at = match &options.kubelet_dir {
        Some(named) => vec![named.display().to_string()],
        None => {
            let mut all = running_kubelets(paths);
            all.extend(KUBELETS.map(str::to_owned));
            all
        }
    };
    let has_folders = |root: &&String| {
        ["pods", "plugins_registry"]
            .iter()
            .any(|folder| matches!(fsx::exists(&paths.of_driver(root).join(folder)), Ok(true)))
    };
    let root_dir = looked_at.iter().find(has_folders).cloned();
    let is_shared = root_dir.as_ref().and_then(|root| {
        let mounts = match paths.pid {
            Some(pid) => Propagation::of_process(pid),
            None => Propagation::read(),
        };
        Some(mounts.ok()?.is_shared(Path::new(root)))
    });
    KubeletSeen { root_dir, looked_at, is_named, is_shared }
}

/// The root directories of the kubelets of this node, by their flags. The name of a process is anyone's choice, and what is
/// found here becomes part of a command to copy.
fn running_kubelets(paths: &Paths) -> Vec<String> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let host = namespace(&paths.pid.map_or_else(|| "/proc/self".into(), |pid| PathBuf::from(format!("/proc/{pid}"))));
    let is_of_host = |process: &PathBuf| {
        let is_root = || fs::metadata(process).is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw());
        host.is_some() && namespace(process) == host && is_root()
    };
    let is_kubelet = |process: &PathBuf| fs::read(process.join("comm")).is_ok_and(|name| name == b"kubelet\n");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let kubelets = processes.filter(is_kubelet).filter(is_of_host).take(MOST_KUBELETS);
    let flags = kubelets.filter_map(|process| fs::read(process.join("cmdline")).ok());
    flags.filter_map(|flags| root_dir(&String::from_utf8_lossy(&flags))).collect()
}

/// `--root-dir` in the words of a command line, which end with a zero.
fn root_dir(command: &str) -> Option<String> {
    let mut words = command.split('\0');
    let found = words.find_map(|word| {
        let flag = word.trim_start_matches('-');
        match flag.split_once('=') {
            Some(("root-dir", value)) => Some(Some(value.to_owned())),
            None if flag == "root-dir" => Some(None),
            _ => None,
        }
    })?;
    let found = found.or_else(|| words.next().map(str::to_owned))?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    (found.starts_with('/') && found.chars().all(is_plain)).then_some(found)
}

fn of_agent(agent: &Path, paths: &Paths) -> (String, AgentSeen, Option<String>) {
    let path = agent.display().to_string();
    let link = fs::read_link(paths.of_driver(&path)).ok();
    // What a link leads to is seen in its place.
    let target = match &link {
        Some(link) => agent.parent().unwrap_or(agent).join(link).display().to_string(),
        None => path.clone(),
    };
    let facts = AgentFacts { path: target, ..AgentFacts::default() };
    let seen = socket_dir::seen(&facts, |path| paths.of_driver(path));
    (path, seen, link.map(|_| facts.path))
}

async fn of_cluster(options: &BeforeOptions) -> Look<BeforeCluster> {
    let access = ClientOptions { kubeconfig: options.kubeconfig.clone(), ..ClientOptions::default() };
    let client = client::config(&access).await.and_then(|access| client::client(&access));
    let client = client.map_err(|why| report::chain(&why))?;
    let (version, csi_driver, policies, rights) = tokio::join!(
        version(&client),
        csi_driver(&client, &options.driver_name),
        policies(&client),
        rights(&client, options.kubeconfig.is_some()),
    );
    Ok(BeforeCluster { version, csi_driver, policies, rights })
}

async fn get(client: &Client, path: &str) -> Look<Option<Value>> {
    cluster::ask(client, Request::get(path).body(Vec::new())).await
}

async fn version(client: &Client) -> Look<(u32, u32)> {
    let answer = get(client, "/version").await?.ok_or("it has no page /version")?;
    let number = |field: &str| {
        let text = answer[field].as_str().unwrap_or_default();
        // Some providers write 30+.
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        digits.parse::<u32>().map_err(|_| format!("its version has no {field} number"))
    };
    Ok((number("major")?, number("minor")?))
}

/// Who has made the object: the release of Helm, or another manager.
async fn csi_driver(client: &Client, name: &str) -> Look<Option<String>> {
    let found = get(client, &format!("/apis/storage.k8s.io/v1/csidrivers/{name}")).await?;
    Ok(found.map(|object| {
        let metadata = &object["metadata"];
        let text = |of: &str, key: &str| metadata[of][key].as_str().map(str::to_owned);
        let release = text("annotations", "meta.helm.sh/release-name");
        let release = release.map(|release| {
            let namespace = text("annotations", "meta.helm.sh/release-namespace").unwrap_or_default();
            format!("the Helm release {release} in the namespace {namespace}")
        });
        let manager = || metadata["managedFields"][0]["manager"].as_str().map(str::to_owned);
        release.or_else(manager).unwrap_or_else(|| "an unknown manager".to_owned())
    }))
}

async fn policies(client: &Client) -> Look<bool> {
    let group = get(client, "/apis/admissionregistration.k8s.io/v1").await?;
    let resources = group.as_ref().and_then(|group| group["resources"].as_array());
    let is_listed = |name: &str| resources.into_iter().flatten().any(|resource| resource["name"] == name);
    Ok(is_listed("mutatingadmissionpolicies"))
}

async fn rights(client: &Client, is_of_user: bool) -> Look<Vec<Right>> {
    if !is_of_user {
        return Err("give --kubeconfig of the user who installs; this is the service account of a pod".to_owned());
    }
    let asked = OBJECTS.map(async |(group, resource)| cluster::right(client, "create", group, resource).await);
    Ok(join_all(asked).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_directory_is_found_in_a_kubelets_flags() {
        for (command, found) in [
            ("kubelet\0--root-dir=/var/lib/k0s/kubelet\0--v=2\0", Some("/var/lib/k0s/kubelet")),
            ("/usr/bin/kubelet\0-root-dir\0/data/kubelet\0", Some("/data/kubelet")),
            ("kubelet\0--config=/etc/kubelet\0", None),
            ("kubelet\0--root-dir=relative\0", None),
            ("kubelet\0--root-dir=/pods/x,image.repository=evil\0", None),
            ("kubelet\0--root-dir=/pods/x\n\0", None),
            ("kubelet\0--root-dir", None),
            ("", None),
        ] {
            assert_eq!(root_dir(command).as_deref(), found, "{command:?}");
        }
    }
}
