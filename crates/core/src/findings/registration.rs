//! The kubelet and the driver's sockets.

use std::collections::BTreeMap;

use super::facts::{Answer, Facts, NameFacts};
use super::{Category, Check, Report, Severity, word};

pub(super) const CHECKS: &[&Check] =
    &[&NOT_REGISTERED, &CSI_SOCKET, &REGISTRATION_SOCKET, &REGISTRATION_PATH, &OTHER_NAME, &TWO_DRIVERS, &STALE];

static NOT_REGISTERED: Check = Check {
    id: "not-registered",
    category: Category::Registration,
    severity: Severity::Fault,
    title: "The kubelet has not accepted a driver name.",
    explanation: "New pods wait in ContainerCreating with `driver name … not found in the list of registered CSI drivers`. Check \
                  that the driver's registration folder is the kubelet's own (<root directory>/plugins_registry), and look for the \
                  kubelet's reason in its log.",
};

static CSI_SOCKET: Check = Check {
    id: "csi-socket-unreachable",
    category: Category::Registration,
    severity: Severity::Fault,
    title: "The driver does not answer on its CSI socket.",
    explanation: "The kubelet cannot publish or unpublish volumes. The driver binds a lost socket again by itself unless the folder \
                  is read-only, full or hidden by another mount.",
};

static REGISTRATION_SOCKET: Check = Check {
    id: "registration-socket-unreachable",
    category: Category::Registration,
    severity: Severity::Fault,
    title: "The driver's socket is not in the kubelet's registration folder.",
    explanation: "The kubelet finds drivers by the sockets in that folder, and forgets a driver whose socket is removed. The driver \
                  binds a lost socket again by itself unless the folder is read-only, full or hidden by another mount.",
};

static REGISTRATION_PATH: Check = Check {
    id: "registration-path-wrong",
    category: Category::Registration,
    severity: Severity::Fault,
    title: "The path that the kubelet was given leads to no driver.",
    explanation: "The kubelet connects to the path of --kubelet-registration-path, on the host. It must be the CSI socket, under its \
                  path on the host. k0s, MicroK8s and others use other root directories than /var/lib/kubelet.",
};

static OTHER_NAME: Check = Check {
    id: "registration-path-other-driver",
    category: Category::Registration,
    severity: Severity::Fault,
    title: "The path that the kubelet was given leads to another driver.",
    explanation: "The kubelet refuses the registration, because the driver behind the socket answers with another name. Two drivers \
                  share a folder below the kubelet's plugins folder: give each its own.",
};

static TWO_DRIVERS: Check = Check {
    id: "two-drivers-one-name",
    category: Category::Registration,
    severity: Severity::Fault,
    title: "Two drivers register the same name.",
    explanation: "The kubelet uses whichever registered last, so that volumes are served by one and removed by the other. This \
                  happens when a predecessor's DaemonSet still runs. Remove one of the two.",
};

static STALE: Check = Check {
    id: "registration-socket-stale",
    category: Category::Registration,
    severity: Severity::Warning,
    title: "A socket in the kubelet's registration folder belongs to no process.",
    explanation: "A driver was killed and left its socket. The kubelet retries it and fills its log. It may belong to a driver that \
                  is about to start: otherwise remove it.",
};

pub(super) fn find(facts: &Facts, report: &mut Report) {
    let Ok(driver) = &facts.driver else { return };
    for name in &driver.names {
        own_sockets(facts, name, report);
        if name.registration_socket.is_none() {
            let why = "another program registers this driver name with the kubelet";
            report.not_checked(Category::Registration, format!("registration of {}", name.name), why);
        } else if !name.registered {
            let cause = "the kubelet has not reported that it accepted this driver name";
            let fix = "journalctl -u kubelet | grep -i -e csi -e plugin | tail";
            report.find(&NOT_REGISTERED, &name.name, cause, fix);
        }
    }
    let ours: Vec<_> = driver.names.iter().filter_map(|name| name.registration_socket.as_deref()).collect();
    of_others(&facts.registrations, &ours, report);
}

fn own_sockets(facts: &Facts, name: &NameFacts, report: &mut Report) {
    let path = &name.csi_socket;
    match facts.csi_sockets.get(&name.name) {
        Some(answer @ (Answer::Missing | Answer::Refused | Answer::Wrong(_))) => {
            report.find(&CSI_SOCKET, &name.name, format!("{path}: {answer}"), format!("ls -l {path}"));
        }
        Some(Answer::Unknown(why)) => report.not_checked(Category::Registration, path, why),
        Some(Answer::Driver(_)) | None => {}
    }
    if let Some(path) = &name.registration_socket {
        match facts.registrations.get(path) {
            Some(answer @ (Answer::Missing | Answer::Refused | Answer::Wrong(_))) => {
                let cause = format!("{path}: {answer}");
                report.find(&REGISTRATION_SOCKET, &name.name, cause, format!("ls -l {path}"));
            }
            Some(Answer::Unknown(why)) => report.not_checked(Category::Registration, path, why),
            Some(Answer::Driver(_)) | None => {}
        }
    }
    let Some(path) = &name.registration_path else { return };
    match facts.registration_paths.get(&name.name) {
        Some(answer @ (Answer::Missing | Answer::Refused | Answer::Wrong(_))) => {
            report.find(
                &REGISTRATION_PATH,
                &name.name,
                format!("{path}: {answer}"),
                format!("ls -l {path} {}", name.csi_socket),
            );
        }
        Some(Answer::Driver(other)) if *other != name.name => {
            report.find(
                &OTHER_NAME,
                &name.name,
                format!("the driver on {path} is {other}"),
                format!("ls -l {path} {}", name.csi_socket),
            );
        }
        Some(Answer::Unknown(why)) => report.not_checked(Category::Registration, path, why),
        Some(Answer::Driver(_)) | None => {}
    }
}

fn of_others(registrations: &BTreeMap<String, Answer>, ours: &[&str], report: &mut Report) {
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, answer) in registrations {
        match answer {
            Answer::Driver(name) => by_name.entry(name).or_default().push(path),
            Answer::Refused if !ours.contains(&path.as_str()) => {
                report.find(&STALE, path, "no process is listening on it", format!("rm {}", word(path)));
            }
            _ => {}
        }
    }
    for (name, paths) in by_name.into_iter().filter(|(_, paths)| paths.len() > 1) {
        let is_ours = paths.iter().any(|path| ours.contains(path));
        if is_ours {
            let cause = format!("{} sockets register it: {}", paths.len(), paths.join(", "));
            report.find(&TWO_DRIVERS, name, cause, "kubectl get daemonsets -A -o wide | grep -i -e csi -e spiffe");
        }
    }
}
