//! Limits of the node's kernel.

use super::facts::{Facts, PodDescriptors};
use super::{Category, Check, Report, Severity};

pub(super) const CHECKS: &[&Check] = &[&INOTIFY, &LOW_LIMITS, &DESCRIPTORS];

/// Per cent.
const MOST: u64 = 80;

static INOTIFY: Check = Check {
    id: "inotify-exhausted",
    category: Category::Kernel,
    severity: Severity::Warning,
    title: "No further files can be watched on this node.",
    explanation: "Programs of the same user have used up the kernel's inotify instances or watches. The driver notices changes of the \
                  agent's directory, of its sockets and of CA files only when it looks by itself. Raise the limit.",
};

static LOW_LIMITS: Check = Check {
    id: "inotify-limits-low",
    category: Category::Kernel,
    severity: Severity::Warning,
    title: "Few files can be watched on this node.",
    explanation: "Only with --pre. The kernel's limits of inotify are below the usual 128 instances and 8,192 watches, which the driver \
                  shares with all other programs of root. Raise them.",
};

static DESCRIPTORS: Check = Check {
    id: "open-files-nearly-used",
    category: Category::Kernel,
    severity: Severity::Warning,
    title: "The driver may open few further files.",
    explanation: "A volume with a socket needs two, and each connection to it another. Sockets of pods may take up a quarter of the limit \
                  and their connections another one; the rest is for the kubelet. When a quarter is used up, new pods with a socket are refused \
                  with ResourceExhausted, or pods cannot connect. Raise LimitNOFILE of the container runtime or of the service, and restart \
                  the driver.",
};

/// The limits of inotify for one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InotifyLimits {
    /// Of instances.
    pub instances: u64,
    /// Of watched files.
    pub watches: u64,
}

/// What nearly every distribution has; programs of the same user, such as the kubelet and the container runtime, share it.
const USUAL: InotifyLimits = InotifyLimits { instances: 128, watches: 8_192 };

const RAISE: &str = "sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=1048576";

pub(super) fn find(facts: &Facts, report: &mut Report) {
    of_inotify(facts.kernel.inotify.as_deref(), report);
    of_descriptors(facts, report);
}

pub(super) fn of_inotify(refused: Option<&str>, report: &mut Report) {
    if let Some(why) = refused {
        report.find(&INOTIFY, "inotify", why, RAISE);
    }
}

pub(super) fn of_inotify_limits(limits: InotifyLimits, report: &mut Report) {
    let InotifyLimits { instances, watches } = limits;
    if instances < USUAL.instances || watches < USUAL.watches {
        let cause = format!("{instances} instances and {watches} watches for one user");
        report.find(&LOW_LIMITS, "inotify", cause, RAISE);
    }
}

fn of_descriptors(facts: &Facts, report: &mut Report) {
    let driver = facts.driver.as_ref().ok();
    let is_nearly_used = |used: u64, most: u64| used.saturating_mul(100) >= most.saturating_mul(MOST);
    let mut causes = Vec::new();
    match &facts.kernel.descriptors {
        Some(Ok((used, limit))) if is_nearly_used(*used, *limit) => causes.push(format!("{used} of {limit} are open")),
        Some(Err(why)) => report.not_checked(Category::Kernel, "open files of the driver", why),
        _ => {}
    }
    if let Some(PodDescriptors { most, sockets, connections }) = driver.and_then(|driver| driver.pod_descriptors) {
        for (used, what) in [(sockets, "sockets"), (connections, "connections")] {
            if is_nearly_used(used, most) {
                causes.push(format!(
                    "{what} of pods have {used} of the {most} that they may have, a quarter of the limit"
                ));
            }
        }
    }
    let pid = driver.map(|driver| driver.pid).unwrap_or_default();
    for cause in causes {
        report.find(&DESCRIPTORS, format!("process {pid}"), cause, format!("prlimit --pid {pid} --nofile"));
    }
}
