//! The driver's process.

use super::facts::{Facts, NoDriver};
use super::{Category, Check, Report, Severity};

pub(super) const CHECKS: &[&Check] = &[&UNREACHABLE, &OTHER_VERSION, &BUSY];

static UNREACHABLE: Check = Check {
    id: "driver-unreachable",
    category: Category::Driver,
    severity: Severity::Fault,
    title: "The driver does not answer on its admin socket.",
    explanation: "Volumes that are mounted stay mounted, but no pod of this node can start, and no identity is renewed. Start the \
                  driver, or name its admin socket with --admin-socket. Nothing else about the volumes can be checked without it.",
};

static OTHER_VERSION: Check = Check {
    id: "driver-other-version",
    category: Category::Driver,
    severity: Severity::Warning,
    title: "The driver and this program have different versions.",
    explanation: "Facts that only one of the two knows are left out. Use the program in the driver's own image, such as by \
                  kubectl exec in its pod.",
};

static BUSY: Check = Check {
    id: "volumes-busy",
    category: Category::Driver,
    severity: Severity::Warning,
    title: "Volumes were busy for so long that they could not be looked at.",
    explanation: "A call holds a volume while its system calls run. If the same volumes stay busy, a file system or the node's \
                  disk hangs: look at the driver's log and at the kernel's.",
};

pub(super) fn find(facts: &Facts, report: &mut Report) {
    let socket = &facts.admin_socket;
    match &facts.driver {
        Err(NoDriver::Unreachable(why)) => {
            report.find(&UNREACHABLE, socket, why, "kubectl get pods -A -o wide -l app.kubernetes.io/component=driver");
            report.not_checked(Category::Driver, "volumes, sources and identities", "the driver does not answer");
        }
        Err(NoDriver::OtherVersion(why)) => {
            report.find(&OTHER_VERSION, socket, why, "kubectl exec -n NAMESPACE DRIVER-POD -- /bin/svid-csi doctor");
            report.not_checked(Category::Driver, "volumes, sources and identities", "the driver has another version");
        }
        Ok(driver) => {
            if driver.version != facts.program {
                let cause = format!("the driver is version {}, this program {}", driver.version, facts.program);
                let fix = "kubectl exec -n NAMESPACE DRIVER-POD -- /bin/svid-csi doctor";
                report.find(&OTHER_VERSION, socket, cause, fix);
            }
            if driver.busy > 0 {
                let cause = format!("{} volumes were busy for two seconds", driver.busy);
                report.find(&BUSY, socket, cause, "dmesg --level=err,warn | tail");
            }
        }
    }
}
