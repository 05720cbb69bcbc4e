//! The volumes' data.

use super::facts::{DataSeen, DriverFacts, Facts};
use super::{Category, Check, Report, Severity, word};

pub(super) const CHECKS: &[&Check] =
    &[&NOT_TMPFS, &READ_ONLY, &NEARLY_FULL, &INODES, &SWAPS, &DOES_NOT_SURVIVE, &LEFT_OVER, &LEFT_ALONE];

/// Per cent. New volumes are refused once an eighth is left.
const FULL: u64 = 85;

static NOT_TMPFS: Check = Check {
    id: "data-not-on-tmpfs",
    category: Category::Data,
    severity: Severity::Fault,
    title: "The folder with the data of all volumes is not a tmpfs.",
    explanation: "The driver keeps keys on a tmpfs of its own. It was unmounted, or another mount hides it: new keys may be written \
                  to a disk, and volumes may not be renewed. Restart the driver once the other mount is gone.",
};

static READ_ONLY: Check = Check {
    id: "data-read-only",
    category: Category::Data,
    severity: Severity::Fault,
    title: "The data of all volumes can only be read.",
    explanation: "No volume can be published or renewed. The driver makes its tmpfs writable again before each write; if it stays \
                  read-only, something hides or remounts it.",
};

static NEARLY_FULL: Check = Check {
    id: "data-nearly-full",
    category: Category::Data,
    severity: Severity::Warning,
    title: "The tmpfs with the data of all volumes is nearly full.",
    explanation: "From 85 % of its space. An eighth is kept for renewals, so that running pods are served; once only that is left, new \
                  pods are refused with ResourceExhausted. A pod may use a quarter of what it leaves to others, and a namespace half: \
                  a pod that is refused because of its share has no finding here, but the reason in its events. Give the tmpfs more \
                  with --data-size-limit, or find the pods that use most of it.",
};

static INODES: Check = Check {
    id: "data-inodes-nearly-used",
    category: Category::Data,
    severity: Severity::Warning,
    title: "The tmpfs with the data of all volumes can hold few further files.",
    explanation: "From 85 %. New pods are refused once only an eighth is left. A tmpfs has one inode for each two pages of the machine's \
                  memory: find the pods with most files.",
};

static SWAPS: Check = Check {
    id: "data-may-be-swapped",
    category: Category::Data,
    severity: Severity::Warning,
    title: "Keys may be written to a swap device.",
    explanation: "The node swaps, and its kernel cannot keep this tmpfs out of swap (Linux 6.4 can). Turn swap off, or encrypt it.",
};

static DOES_NOT_SURVIVE: Check = Check {
    id: "data-ends-with-container",
    category: Category::Data,
    severity: Severity::Warning,
    title: "The data root is not on a mount that outlives the driver's container.",
    explanation: "Volumes survive behind their mounts in the pods folder, but what is not mounted, such as the local CA without \
                  --local-ca-dir, is lost with the container. Mount the data root with mountPropagation: Bidirectional.",
};

static LEFT_OVER: Check = Check {
    id: "data-left-over",
    category: Category::Data,
    severity: Severity::Warning,
    title: "There is data of volumes that the driver does not know.",
    explanation: "It takes up space of the tmpfs, and may hold keys. The driver removes such folders at its next start.",
};

static LEFT_ALONE: Check = Check {
    id: "volume-left-alone",
    category: Category::Data,
    severity: Severity::Fault,
    title: "The driver could not recover a volume at its startup.",
    explanation: "Its pod keeps what it has, but nothing is renewed. The driver retries with increasing delays, and its log says why: the \
                  record cannot be read, or something else is mounted at the volume's target. A damaged record is replaced when the \
                  kubelet publishes the volume again: delete the pod.",
};

pub(super) fn find(facts: &Facts, report: &mut Report) {
    let Ok(driver) = &facts.driver else { return };
    of_recovery(driver, report);
    let Some(root) = &driver.data_root else { return };
    let path = format!("{root}/data");
    match &facts.data {
        Some(Ok(seen)) => of_tmpfs(&path, *seen, report),
        Some(Err(why)) => report.not_checked(Category::Data, &path, why),
        None => {}
    }
    if !driver.data_survives {
        let cause = "mounts in it do not reach the host";
        report.find(&DOES_NOT_SURVIVE, root, cause, format!("findmnt -o TARGET,PROPAGATION -T {root}"));
    }
    match &facts.left_over {
        Ok(left_over) => left_over.iter().for_each(|folder| {
            report.find(&LEFT_OVER, folder, "no volume has this id", format!("ls -lA {}", word(folder)));
        }),
        Err(why) => report.not_checked(Category::Data, "left-over data", why),
    }
}

fn of_recovery(driver: &DriverFacts, report: &mut Report) {
    let fix = "kubectl logs -n NAMESPACE DRIVER-POD | grep -e recover -e record";
    for id in &driver.unread {
        report.find(&LEFT_ALONE, id, "its record could not be read", fix);
    }
    for (id, volume) in driver.volumes.iter().filter(|(_, volume)| volume.unfinished) {
        report.find(&LEFT_ALONE, volume.about(id), "it is not as its record says", fix);
    }
}

fn of_tmpfs(path: &str, seen: DataSeen, report: &mut Report) {
    if !seen.is_tmpfs {
        return report.find(&NOT_TMPFS, path, "it is another file system", format!("findmnt -T {path}"));
    }
    if seen.read_only {
        report.find(&READ_ONLY, path, "it is mounted read-only", format!("mount -o remount,rw {path}"));
    }
    let largest = |folder: &str| format!("du -x -d1 {folder}/volumes | sort -n | tail");
    if let Some(share) = share(seen.used, seen.bytes).filter(|share| *share >= FULL) {
        let cause = format!("{} of {} KiB are in use ({share} %)", seen.used / 1024, seen.bytes / 1024);
        report.find(&NEARLY_FULL, path, cause, largest(path));
    }
    if let Some(share) = share(seen.inodes_used, seen.inodes).filter(|share| *share >= FULL) {
        let cause = format!("{} of {} files are in use ({share} %)", seen.inodes_used, seen.inodes);
        report.find(&INODES, path, cause, largest(path));
    }
    if seen.swaps {
        report.find(&SWAPS, path, "it is mounted without noswap, and swap is on", "swapoff -a");
    }
}

fn share(used: u64, whole: u64) -> Option<u64> {
    used.saturating_mul(100).checked_div(whole)
}
