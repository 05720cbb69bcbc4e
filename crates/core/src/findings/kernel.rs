//! Limits of the node's kernel.

use super::facts::Facts;
use super::{Category, Check, Report, Severity};

pub(super) const CHECKS: &[&Check] = &[&INOTIFY, &DESCRIPTORS];

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

static DESCRIPTORS: Check = Check {
    id: "open-files-nearly-used",
    category: Category::Kernel,
    severity: Severity::Warning,
    title: "The driver may open few further files.",
    explanation: "Each volume with a socket needs one, and each connection to it another. At the limit, pods cannot connect. Raise \
                  LimitNOFILE of the container runtime or of the service.",
};

pub(super) fn find(facts: &Facts, report: &mut Report) {
    if let Some(why) = &facts.kernel.inotify {
        let fix = "sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=1048576";
        report.find(&INOTIFY, "inotify", why, fix);
    }
    match &facts.kernel.descriptors {
        Some(Ok((used, limit))) if used.saturating_mul(100) >= limit.saturating_mul(MOST) => {
            let pid = facts.driver.as_ref().map(|driver| driver.pid).unwrap_or_default();
            let cause = format!("{used} of {limit} are open");
            report.find(&DESCRIPTORS, format!("process {pid}"), cause, format!("prlimit --pid {pid} --nofile"));
        }
        Some(Err(why)) => report.not_checked("open files of the driver", why),
        _ => {}
    }
}
