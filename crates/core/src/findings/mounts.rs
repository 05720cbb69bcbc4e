//! The volumes in pods, and the agent's directory.

use super::facts::{AgentFacts, AgentSeen, DriverFacts, Facts, TargetSeen, VolumeFacts};
use super::{Category, Check, Report, Severity, word};

pub(super) const CHECKS: &[&Check] = &[
    &NOT_SHARED,
    &NOT_MOUNTED,
    &COVERED,
    &REPLACED,
    &AGENT_MISSING,
    &AGENT_EMPTY,
    &AGENT_DEAD,
    &NO_HEALING,
    &AGENT_CLOSED,
    &AGENT_LINK,
    &POD_GONE,
    &NO_VOLUME,
    &NOT_PUBLISHED,
];

pub(super) static NOT_SHARED: Check = Check {
    id: "pods-folder-not-shared",
    category: Category::Mounts,
    severity: Severity::Fault,
    title: "Mounts that the driver makes in the pods folder do not reach the host.",
    explanation: "Pods find empty folders in place of their volumes. Mount the kubelet's pods folder into the driver's container with \
                  mountPropagation: Bidirectional, at the same path as on the host.",
};

static NOT_MOUNTED: Check = Check {
    id: "volume-not-mounted",
    category: Category::Mounts,
    severity: Severity::Fault,
    title: "A published volume is not mounted.",
    explanation: "Another program unmounted it. Running containers keep what they have; a container that restarts finds an empty \
                  folder. A restart of the driver mounts it again.",
};

static COVERED: Check = Check {
    id: "volume-covered",
    category: Category::Mounts,
    severity: Severity::Fault,
    title: "Something else is mounted at the target of a volume.",
    explanation: "Containers that start now get that other mount. The driver leaves it alone, because it may be in use. Unmount it, \
                  or delete the pod.",
};

static REPLACED: Check = Check {
    id: "agent-directory-replaced",
    category: Category::Mounts,
    severity: Severity::Fault,
    title: "A pod holds a directory of the agent that no longer exists.",
    explanation: "The agent's directory was deleted and created again, and a mount in a running container cannot be changed: the \
                  pod's socket stays dead until the pod is created again. It does not happen if the driver has the parent of the \
                  agent's directory, mounted with HostToContainer.",
};

static AGENT_MISSING: Check = Check {
    id: "agent-directory-missing",
    category: Category::Mounts,
    severity: Severity::Fault,
    title: "The agent's directory does not exist.",
    explanation: "Volumes with the agent's socket cannot be published until it exists. Check that the agent runs on this node, and \
                  that --workload-api-socket-dir is the folder in which it creates its socket. In the pods of the chart, /agent is the \
                  node's folder above agent.socketDir (with agent.mount: directory, that folder itself).",
};

static AGENT_EMPTY: Check = Check {
    id: "agent-directory-empty",
    category: Category::Mounts,
    severity: Severity::Fault,
    title: "There is no socket in the agent's directory.",
    explanation: "Pods start but cannot reach the agent. Either the agent does not run on this node, or its socket is elsewhere: \
                  compare socket_path in its configuration. In the pods of the chart, /agent is the node's folder above agent.socketDir \
                  (with agent.mount: directory, that folder itself).",
};

static AGENT_DEAD: Check = Check {
    id: "agent-socket-dead",
    category: Category::Mounts,
    severity: Severity::Fault,
    title: "No process is listening on the agent's socket.",
    explanation: "The agent has ended and left its socket. Pods cannot renew their identities until it runs again.",
};

static NO_HEALING: Check = Check {
    id: "agent-directory-does-not-heal",
    category: Category::Mounts,
    severity: Severity::Warning,
    title: "Pods lose the agent's socket if its directory is created again.",
    explanation: "Pods get the agent's own directory, because its sockets cannot be linked into one of the driver's. Mount the \
                  parent of the agent's directory, as a hostPath, instead of the directory itself.",
};

static AGENT_CLOSED: Check = Check {
    id: "agent-socket-closed",
    category: Category::Mounts,
    severity: Severity::Warning,
    title: "Only some users may connect to the agent's socket.",
    explanation: "Containers that do not run as the socket's owner or in its group cannot connect. Agents create it with mode 0777, \
                  because they identify pods by other means: find out what changed it.",
};

static AGENT_LINK: Check = Check {
    id: "agent-link-dangling",
    category: Category::Mounts,
    severity: Severity::Warning,
    title: "A link in the agent's directory leads nowhere.",
    explanation: "Clients that look for the agent's socket under this name do not find it. The link was made for a socket of another \
                  name, or is left from an earlier version of the agent: correct or remove it.",
};

static POD_GONE: Check = Check {
    id: "volume-of-gone-pod",
    category: Category::Mounts,
    severity: Severity::Warning,
    title: "A volume is left whose pod is no longer on this node.",
    explanation: "The kubelet did not ask the driver to unpublish it, which happens when the pod is deleted by force. Its identity \
                  is still renewed. The driver removes it at its next start.",
};

pub(super) static NO_VOLUME: Check = Check {
    id: "pod-without-volume",
    category: Category::Mounts,
    severity: Severity::Fault,
    title: "The driver on this node has no volume of the pod.",
    explanation: "Only with --pod, --from and --to. The pod runs on another node, its volume is not a CSI volume of this driver, the \
                  driver has refused it, or the kubelet has not asked for it yet. If the driver has refused it, the finding says \
                  why; otherwise `kubectl describe pod` shows the reason.",
};

pub(super) static NOT_PUBLISHED: Check = Check {
    id: "volume-not-published",
    category: Category::Mounts,
    severity: Severity::Fault,
    title: "A volume of the pod is not published yet.",
    explanation: "Only with --pod. The kubelet has asked for it, and the driver has not completed it; the kubelet asks again. The finding \
                  has the reason for the last failure, if there was one.",
};

pub(super) fn find(facts: &Facts, report: &mut Report) {
    let Ok(driver) = &facts.driver else { return };
    match driver.pods_reach_host {
        Some(true) => {}
        Some(false) => report.find(
            &NOT_SHARED,
            &driver.pods_dir,
            "it is not on a mount that is shared with the host",
            format!("findmnt -o TARGET,PROPAGATION -T {}", driver.pods_dir),
        ),
        None => report.not_checked(Category::Mounts, &driver.pods_dir, "the driver does not see this folder"),
    }
    if let (Some(agent), Some(seen)) = (&driver.agent, &facts.agent) {
        of_agent(agent, seen, report);
    }
    for (id, volume) in driver.volumes.iter().filter(|(_, volume)| volume.is_ready()) {
        of_volume(facts, driver, id, volume, report);
    }
}

pub(super) fn of_agent(agent: &AgentFacts, seen: &AgentSeen, report: &mut Report) {
    let path = &agent.path;
    let find_agent = "kubectl get pods -A -o wide | grep -e spire-agent -e agent".to_owned();
    match seen {
        AgentSeen::Missing => report.find(&AGENT_MISSING, path, format!("{path} does not exist"), find_agent),
        AgentSeen::Directory { sockets, .. } if sockets.is_empty() => {
            report.find(&AGENT_EMPTY, path, format!("there is no socket in {path}"), format!("ls -lA {}", word(path)));
        }
        AgentSeen::Directory { sockets, .. } if !sockets.values().any(|listens| *listens) => {
            let names: Vec<_> = sockets.keys().map(String::as_str).collect();
            let cause = format!("no process is listening on {}", names.join(", "));
            report.find(&AGENT_DEAD, path, cause, find_agent);
        }
        AgentSeen::Directory { closed, dangling, .. } => {
            for socket in closed {
                report.find(
                    &AGENT_CLOSED,
                    path,
                    format!("others may not write to {socket}"),
                    format!("ls -l {}", word(socket)),
                );
            }
            for link in dangling {
                report.find(&AGENT_LINK, path, format!("{link} leads nowhere"), format!("ls -l {}", word(link)));
            }
        }
        AgentSeen::Unknown(why) => report.not_checked(Category::Mounts, path, why),
    }
    if !agent.heals && !matches!(seen, AgentSeen::Missing) {
        let cause = "its sockets cannot be linked into a directory of the driver's own";
        report.find(&NO_HEALING, path, cause, format!("findmnt -T {}", word(path)));
    }
}

fn of_volume(facts: &Facts, driver: &DriverFacts, id: &str, volume: &VolumeFacts, report: &mut Report) {
    let Some(seen) = facts.volumes.get(id) else { return };
    let (about, target) = (volume.about(id), &volume.target);
    if seen.pod == Ok(false) {
        let cause = format!("its pod has no folder in {}", driver.pods_dir);
        report.find(&POD_GONE, about, cause, format!("findmnt {}", word(target)));
        return;
    }
    let is_current = |root| match &facts.agent {
        Some(AgentSeen::Directory { ids, .. }) => Some(ids.contains(&root)),
        Some(AgentSeen::Missing) => Some(false),
        _ => None,
    };
    match &seen.target {
        TargetSeen::Mounted(root) if !volume.is_issued() && is_current(*root) == Some(true) => {}
        TargetSeen::Mounted(root) if volume.root.is_some_and(|recorded| recorded != *root) => {
            let cause = format!("the mount at {target} is not the driver's");
            report.find(&COVERED, about, cause, format!("umount {}", word(target)));
        }
        TargetSeen::Mounted(root) if !volume.is_issued() && is_current(*root) == Some(false) => {
            let cause = format!("what is mounted at {target} was deleted");
            report.find(&REPLACED, about, cause, delete(volume));
        }
        TargetSeen::Mounted(_) => {}
        TargetSeen::Folder => {
            report.find(&NOT_MOUNTED, about, format!("{target} is not a mount"), delete(volume));
        }
        TargetSeen::Missing => report.find(&NOT_MOUNTED, about, format!("{target} does not exist"), delete(volume)),
        TargetSeen::Unknown(why) => report.not_checked(Category::Mounts, target, why),
    }
}

fn delete(volume: &VolumeFacts) -> String {
    let (namespace, name) = volume.pod.as_deref().and_then(|pod| pod.split_once('/')).unwrap_or(("NAMESPACE", "POD"));
    format!("kubectl delete pod -n {} {}", word(namespace), word(name))
}
