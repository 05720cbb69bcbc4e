//! A node before the driver is installed on it.

use std::collections::BTreeMap;

use super::facts::{AgentFacts, AgentSeen, Answer, Look, Right};
use super::kernel::{self, InotifyLimits};
use super::{Category, Check, Report, Severity, mounts, word};

pub(super) const CHECKS: &[&Check] = &[
    &LACKS_FEATURE,
    &SWAP,
    &NO_KUBELET,
    &OTHER_KUBELET,
    &NAME_TAKEN,
    &TOO_LONG,
    &IS_LINK,
    &OLD_KUBERNETES,
    &OBJECT_EXISTS,
    &NO_POLICIES,
    &MAY_NOT_INSTALL,
];

/// The kubelet's root directory unless an administrator or a distribution has chosen another one.
pub const USUAL_KUBELET: &str = "/var/lib/kubelet";
/// The oldest version of Kubernetes whose objects the chart has: 1.30.
const OLDEST_MINOR: u32 = 30;

static LACKS_FEATURE: Check = Check {
    id: "kernel-lacks-feature",
    category: Category::Kernel,
    severity: Severity::Fault,
    title: "The kernel lacks something that the driver cannot do without.",
    explanation: "Only with --pre. The driver needs openat2(2), open_tree(2), move_mount(2), statx(2) with the attribute of mount \
                  roots, and tmpfs: Linux 5.8 or later. It needs no mounts with mapped users. In a pod, a seccomp profile may hide them: run \
                  this command in a privileged pod, as the driver is.",
};

static SWAP: Check = Check {
    id: "swap-not-avoidable",
    category: Category::Data,
    severity: Severity::Warning,
    title: "The node swaps, and its kernel cannot keep keys out of it.",
    explanation: "Only with --pre. Keys are on a tmpfs, whose pages Linux before 6.4 may write to a swap device. Turn swap off, or \
                  encrypt it.",
};

static NO_KUBELET: Check = Check {
    id: "kubelet-directory-missing",
    category: Category::Registration,
    severity: Severity::Fault,
    title: "There is no kubelet's root directory.",
    explanation: "Only with --pre. The driver registers in the folder plugins_registry of that directory, and mounts volumes below \
                  its folder pods. Name it with --kubelet-dir, exactly as in the kubelet's --root-dir. In a pod, this command needs hostPID and \
                  --host-pid 1 to see the node's directories.",
};

static OTHER_KUBELET: Check = Check {
    id: "kubelet-directory-other",
    category: Category::Registration,
    severity: Severity::Warning,
    title: "The kubelet's root directory is not /var/lib/kubelet.",
    explanation: "Only with --pre. Installed with its defaults, the driver would not be registered. Give the chart this directory as \
                  kubeletDir, or the driver as --kubelet-dir.",
};

static NAME_TAKEN: Check = Check {
    id: "driver-name-taken",
    category: Category::Registration,
    severity: Severity::Fault,
    title: "Another driver is registered under the same name.",
    explanation: "Only with --pre. The kubelet uses whichever registered last, so that volumes are served by one driver and removed by \
                  the other. Remove the other one first, in the order of the page about migrating from it, or choose another name.",
};

static IS_LINK: Check = Check {
    id: "agent-directory-is-link",
    category: Category::Mounts,
    severity: Severity::Warning,
    title: "The agent's directory is a symbolic link.",
    explanation: "Only with --pre. In the driver's container, the target of a link usually does not exist. Give chart and driver the \
                  target itself.",
};

static OLD_KUBERNETES: Check = Check {
    id: "kubernetes-too-old",
    category: Category::Cluster,
    severity: Severity::Fault,
    title: "The API server is older than the oldest supported version.",
    explanation: "Only with --pre. The objects of the chart are checked against Kubernetes 1.30 and later, and the request mode \
                  `node-bound` relies on what 1.30 writes into tokens.",
};

static OBJECT_EXISTS: Check = Check {
    id: "csidriver-exists",
    category: Category::Cluster,
    severity: Severity::Warning,
    title: "There is a CSIDriver object of this name already.",
    explanation: "Only with --pre. Helm refuses to take over an object of another release, and some fields cannot be changed. If it \
                  belongs to a predecessor, the page about migrating from it says in which order to proceed; otherwise delete it.",
};

static NO_POLICIES: Check = Check {
    id: "policies-not-available",
    category: Category::Cluster,
    severity: Severity::Warning,
    title: "The API server does not know mutating admission policies.",
    explanation: "Only with --pre. The chart's `injection`, which adds volumes to pods by themselves, needs \
                  MutatingAdmissionPolicy in admissionregistration.k8s.io/v1: Kubernetes 1.36. Everything else works without it.",
};

static MAY_NOT_INSTALL: Check = Check {
    id: "may-not-install",
    category: Category::Cluster,
    severity: Severity::Fault,
    title: "The user of the kubeconfig may not create what the chart consists of.",
    explanation: "Only with --pre and --kubeconfig. To install the chart, one must be able to create its cluster-wide objects and those \
                  of its namespace.",
};

static TOO_LONG: Check = Check {
    id: "socket-path-too-long",
    category: Category::Registration,
    severity: Severity::Fault,
    title: "A socket has a path on the host that is too long.",
    explanation: "Only with --pre; the driver refuses to start with such a path. The address of a Unix socket holds 107 bytes. The \
                  driver may see a shorter path in its container, but the kubelet cannot connect to the one on the host. Choose a \
                  shorter driver name, or move the kubelet's root directory.",
};

/// The longest path of a socket: see unix(7).
const LONGEST_PATH: usize = 107;

/// Whether the kubelet can connect to this path.
fn too_long(name: &str, socket: &str, report: &mut Report) {
    if socket.len() > LONGEST_PATH {
        let cause = format!("{socket} has {} bytes, {} too many", socket.len(), socket.len() - LONGEST_PATH);
        report.find(&TOO_LONG, name, cause, "ps -o args= -C kubelet | tr ' ' '\\n' | grep root-dir");
    }
}

/// The facts about a node and its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeforeFacts {
    /// The name that the driver is to have.
    pub driver_name: String,
    /// The kernel's release.
    pub kernel: String,
    /// The features of the kernel that the driver needs, and whether each exists.
    pub features: Vec<(&'static str, Look<bool>)>,
    /// Whether swap is in use.
    pub swaps: Look<bool>,
    /// Why another file cannot be watched, if so.
    pub inotify: Option<String>,
    /// The limits of inotify for one user.
    pub inotify_limits: Look<InotifyLimits>,
    /// The kubelet's root directory.
    pub kubelet: KubeletSeen,
    /// What answers on the sockets in the kubelet's registration folder, by path.
    pub registrations: BTreeMap<String, Answer>,
    /// The agent's directory, if it was named, and the target if it is a link.
    pub agent: Option<(String, AgentSeen, Option<String>)>,
    /// The API server, or why it cannot be asked.
    pub cluster: Look<BeforeCluster>,
}

/// The kubelet's root directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubeletSeen {
    /// The one to check: as named, as a running kubelet has it, or a usual one that exists.
    pub root_dir: Option<String>,
    /// The places that were looked at.
    pub looked_at: Vec<String>,
    /// Whether the administrator has named it.
    pub is_named: bool,
    /// Whether mounts below it are shared with containers; none if that cannot be determined.
    pub is_shared: Option<bool>,
}

/// What the API server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeforeCluster {
    /// Its version: `1.37`.
    pub version: Look<(u32, u32)>,
    /// Who has made the CSIDriver object of the name, if there is one.
    pub csi_driver: Look<Option<String>>,
    /// Whether it has mutating admission policies.
    pub policies: Look<bool>,
    /// What one who installs the chart must be allowed, or why that was not asked.
    pub rights: Look<Vec<Right>>,
}

impl Report {
    /// Applies the checks that make sense without a driver.
    pub fn before(facts: &BeforeFacts) -> Self {
        let mut report = Report::default();
        of_kernel(facts, &mut report);
        of_kubelet(facts, &mut report);
        if let Some((path, seen, link)) = &facts.agent {
            of_agent(path, seen, link.as_deref(), &mut report);
        }
        match &facts.cluster {
            Ok(cluster) => of_cluster(facts, cluster, &mut report),
            Err(why) => report.not_checked(Category::Cluster, "the API server", why),
        }
        report.findings.sort_by_key(|finding| finding.category);
        report
    }
}

fn of_kernel(facts: &BeforeFacts, report: &mut Report) {
    for (feature, is_there) in &facts.features {
        match is_there {
            Ok(true) => {}
            Ok(false) => {
                let cause = format!("Linux {} does not have it", facts.kernel);
                report.find(&LACKS_FEATURE, *feature, cause, "uname -r");
            }
            Err(why) => report.not_checked(Category::Kernel, *feature, why),
        }
    }
    match facts.swaps {
        Ok(true) if release(&facts.kernel).is_none_or(|release| release < (6, 4)) => {
            report.find(&SWAP, "swap", format!("swap is on, and this is Linux {}", facts.kernel), "swapoff -a");
        }
        Ok(_) => {}
        Err(ref why) => report.not_checked(Category::Data, "swap", why),
    }
    kernel::of_inotify(facts.inotify.as_deref(), report);
    match &facts.inotify_limits {
        Ok(limits) => kernel::of_inotify_limits(*limits, report),
        Err(why) => report.not_checked(Category::Kernel, "limits of inotify", why),
    }
}

/// `6.4` from `6.4.0-rc1-arch`.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn of_kubelet(facts: &BeforeFacts, report: &mut Report) {
    let kubelet = &facts.kubelet;
    let Some(root_dir) = &kubelet.root_dir else {
        let cause = format!("no kubelet has a folder in {}", kubelet.looked_at.join(" or "));
        return report.find(&NO_KUBELET, "the kubelet", cause, "ps -o args= -C kubelet | tr ' ' '\\n' | grep root-dir");
    };
    if root_dir != USUAL_KUBELET && !kubelet.is_named {
        let fix = format!("helm install svid-csi deploy/chart --set kubeletDir={}", word(root_dir));
        report.find(&OTHER_KUBELET, root_dir, "a kubelet has its folders there", fix);
    }
    match kubelet.is_shared {
        Some(true) => {}
        Some(false) => {
            let cause = "mounts there are not shared, so containers do not see those that the driver makes";
            report.find(&mounts::NOT_SHARED, root_dir, cause, "mount --make-rshared /");
        }
        None => report.not_checked(Category::Mounts, root_dir, "its mount cannot be seen from here"),
    }
    let name = &facts.driver_name;
    for socket in
        [format!("{root_dir}/plugins_registry/{name}-reg.sock"), format!("{root_dir}/plugins/{name}/csi.sock")]
    {
        too_long(name, &socket, report);
    }
    for (socket, answer) in &facts.registrations {
        if matches!(answer, Answer::Driver(other) if other == name) {
            let fix = "kubectl get daemonsets -A -o wide | grep -i -e csi -e spiffe";
            report.find(&NAME_TAKEN, name, format!("a driver of this name answers on {socket}"), fix);
        }
    }
}

fn of_agent(path: &str, seen: &AgentSeen, link: Option<&str>, report: &mut Report) {
    if let Some(target) = link {
        report.find(&IS_LINK, path, format!("it leads to {target}"), format!("readlink -f {}", word(path)));
    }
    // How the driver is to have its parent is not known yet.
    let agent = AgentFacts { path: path.to_owned(), stable: None, heals: true };
    mounts::of_agent(&agent, seen, report);
}

fn of_cluster(facts: &BeforeFacts, cluster: &BeforeCluster, report: &mut Report) {
    match &cluster.version {
        Ok(version) if *version < (1, OLDEST_MINOR) => {
            let cause =
                format!("it is version {}.{}, the oldest supported one is 1.{OLDEST_MINOR}", version.0, version.1);
            report.find(&OLD_KUBERNETES, "the API server", cause, "kubectl version");
        }
        Ok(_) => {}
        Err(why) => report.not_checked(Category::Cluster, "version of the API server", why),
    }
    let name = &facts.driver_name;
    match &cluster.csi_driver {
        Ok(None) => {}
        Ok(Some(owner)) => {
            let fix = format!("kubectl get csidriver {} -o yaml", word(name));
            report.find(&OBJECT_EXISTS, name, format!("it was made by {owner}"), fix);
        }
        Err(why) => report.not_checked(Category::Cluster, format!("CSIDriver object {name}"), why),
    }
    match &cluster.policies {
        Ok(true) => {}
        Ok(false) => {
            let fix = "kubectl api-resources --api-group=admissionregistration.k8s.io";
            report.find(&NO_POLICIES, "the API server", "it does not list mutatingadmissionpolicies in v1", fix);
        }
        Err(why) => report.not_checked(Category::Cluster, "admission policies", why),
    }
    match &cluster.rights {
        Ok(rights) => rights.iter().for_each(|right| of_right(right, report)),
        Err(why) => report.not_checked(Category::Cluster, "permissions to install", why),
    }
}

fn of_right(right: &Right, report: &mut Report) {
    let what = right.to_string();
    match &right.allowed {
        Ok(true) => {}
        Ok(false) => {
            let fix = format!("kubectl auth can-i {what} -A");
            report.find(&MAY_NOT_INSTALL, what, "the API server denies it", fix);
        }
        Err(why) => report.not_checked(Category::Cluster, format!("permission to {what}"), why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> BeforeFacts {
        let kubelet =
            KubeletSeen { root_dir: Some(USUAL_KUBELET.to_owned()), is_shared: Some(true), ..Default::default() };
        BeforeFacts {
            driver_name: "csi.spiffe.io".to_owned(),
            kernel: "6.18.5".to_owned(),
            features: vec![("openat2(2)", Ok(true))],
            swaps: Ok(false),
            inotify: None,
            inotify_limits: Ok(InotifyLimits { instances: 128, watches: 1_048_576 }),
            kubelet,
            registrations: BTreeMap::new(),
            agent: None,
            cluster: Ok(BeforeCluster {
                version: Ok((1, 37)),
                csi_driver: Ok(None),
                policies: Ok(true),
                rights: Ok(Vec::new()),
            }),
        }
    }

    fn ids(change: impl FnOnce(&mut BeforeFacts)) -> Vec<&'static str> {
        let mut facts = facts();
        change(&mut facts);
        Report::before(&facts).findings.iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn a_node_that_is_ready_shows_nothing() {
        assert_eq!(Report::before(&facts()), Report::default());
    }

    #[test]
    fn each_fact_that_is_wrong_is_found() {
        assert_eq!(ids(|facts| facts.features.push(("move_mount(2)", Ok(false)))), ["kernel-lacks-feature"]);
        assert!(ids(|facts| facts.swaps = Ok(true)).is_empty(), "this kernel has noswap");
        for (kernel, found) in [("6.3.13-generic", 1), ("6.4.0-rc1", 0), ("5.15.0", 1), ("7.0", 0), ("unknown", 1)] {
            let ids = ids(|facts| (facts.swaps, facts.kernel) = (Ok(true), kernel.to_owned()));
            assert_eq!(ids.len(), found, "{kernel}");
        }
        assert_eq!(ids(|facts| facts.kubelet.root_dir = None), ["kubelet-directory-missing"]);
        let k0s = || Some("/var/lib/k0s/kubelet".to_owned());
        assert_eq!(ids(|facts| facts.kubelet.root_dir = k0s()), ["kubelet-directory-other"]);
        assert!(ids(|facts| (facts.kubelet.root_dir, facts.kubelet.is_named) = (k0s(), true)).is_empty());
        assert_eq!(ids(|facts| facts.kubelet.is_shared = Some(false)), ["pods-folder-not-shared"]);
        let cluster = |change: fn(&mut BeforeCluster)| ids(|facts| change(facts.cluster.as_mut().expect("asked")));
        assert_eq!(cluster(|cluster| cluster.version = Ok((1, 29))), ["kubernetes-too-old"]);
        assert_eq!(cluster(|cluster| cluster.csi_driver = Ok(Some("Helm".to_owned()))), ["csidriver-exists"]);
        assert_eq!(cluster(|cluster| cluster.policies = Ok(false)), ["policies-not-available"]);
    }

    #[test]
    fn unknown_facts_are_not_faults() {
        let mut facts = facts();
        facts.features = vec![("openat2(2)", Err("EPERM".to_owned()))];
        facts.swaps = Err("no /proc".to_owned());
        facts.kubelet.is_shared = None;
        facts.cluster = Err("no kubeconfig".to_owned());
        let report = Report::before(&facts);
        assert_eq!((report.findings.len(), report.not_checked.len()), (0, 4), "{report:?}");
    }
}
