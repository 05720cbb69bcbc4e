//! Whether mounts of this process reach the rest of the node.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::mountinfo::{self, mounts};
use crate::host::fsx::FsError;

/// The inode of the kernel's initial PID namespace (PROC_PID_INIT_INO in its proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The mounts of this process's namespace and the peer groups of those that are shared, read once (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub struct Propagation {
    mounts: Vec<(PathBuf, Option<u64>)>,
    /// The peer groups of the host's mounts, if these are visible.
    of_host: Option<HashSet<u64>>,
}

impl Propagation {
    /// Reads /proc/self/mountinfo, and the host's if it is visible. The cost grows with the mounts on the node, so it
    /// is used only at startup.
    ///
    /// # Errors
    /// If the file of this process cannot be read.
    pub fn read() -> io::Result<Self> {
        // In any other PID namespace, process 1 belongs to a container.
        let sees_host = fs::read_link("/proc/self/ns/pid")? == Path::new(INITIAL_PID_NAMESPACE);
        let host = match sees_host.then(|| fs::read("/proc/1/mountinfo")).transpose() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            host => host?,
        };
        Ok(Self::of(&fs::read(mountinfo::OWN)?, host.as_deref()))
    }

    /// Reads those of another process, to which the same paths may lead elsewhere.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        Ok(Self::of(&fs::read(format!("/proc/{pid}/mountinfo"))?, None))
    }

    /// Whether mounts below `path` (absolute, without links) reach other mount namespaces.
    pub fn is_shared(&self, path: &Path) -> bool {
        self.group(path).is_some()
    }

    /// From the list of a process, and the host's if it is visible.
    pub fn of(mountinfo: &[u8], of_host: Option<&[u8]>) -> Self {
        let of_host = of_host.map(|host| mounts(host).filter_map(|mount| mount.group).collect());
        Propagation { mounts: mounts(mountinfo).map(|mount| (mount.point, mount.group)).collect(), of_host }
    }

    /// Whether a mount made at `path` (absolute, without links) is known to reach the host; `bidirectional` is a path
    /// that does if any does.
    ///
    /// A peer group has the same number in all namespaces, so the host's own mounts show it. Most containers cannot see
    /// them. There, newer versions of runc make all mounts shared if one of them must be, the others in groups without
    /// other members. So if even `/` is shared, only the group of a known mount of the host shows it.
    pub fn reaches_host(&self, path: &Path, bidirectional: &Path) -> bool {
        match (self.group(path), &self.of_host) {
            (None, _) => false,
            (Some(group), Some(of_host)) => of_host.contains(&group),
            (group, None) => self.group(Path::new("/")).is_none() || group == self.group(bidirectional),
        }
    }

    fn group(&self, path: &Path) -> Option<u64> {
        let covering = self.mounts.iter().filter(|(point, _)| path.starts_with(point));
        covering.max_by_key(|(point, _)| point.components().count())?.1
    }
}

/// Whether a folder of the driver is mounted anywhere in this mount namespace. A mount is recognised by the last two
/// names of its root, which is a path in its own file system.
///
/// # Errors
/// [`FsError`] if that cannot be determined.
pub fn is_mounted_somewhere(folder: &Path) -> Result<bool, FsError> {
    let mountinfo = fs::read(mountinfo::OWN).map_err(FsError::of("read", Path::new(mountinfo::OWN)))?;
    Ok(is_root_of_any(&mountinfo, folder))
}

/// The same, according to a list.
pub fn is_root_of_any(mountinfo: &[u8], folder: &Path) -> bool {
    let end = |path: &Path| Some((path.parent()?.file_name()?.to_owned(), path.file_name()?.to_owned()));
    let wanted = end(folder);
    wanted.is_some() && mounts(mountinfo).any(|mount| end(&mount.root) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 8:1 /pods /var/lib/kubelet/pods rw,relatime shared:12 - ext4 /dev/sda1 rw
31 22 8:1 /data /data\\040root rw,relatime shared:3 master:2 - ext4 /dev/sda1 rw
32 31 0:44 / /data\\040root/x rw,relatime master:9 - tmpfs svid-csi rw
";

    /// As created by newer versions of runc: /more and /pods are the host's.
    const ALL_SHARED: &str = "\
214 110 0:48 / / ro,relatime shared:29 - overlay overlay rw
241 214 8:1 /var/lib/data /data rw,relatime shared:39 - ext4 /dev/sda1 rw
242 214 8:1 /var/lib/more /more rw,relatime shared:1 - ext4 /dev/sda1 rw
270 214 8:1 /var/lib/kubelet/pods /pods rw,relatime shared:1 - ext4 /dev/sda1 rw
";

    const HOST: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:16 / /var/lib/kubelet rw,relatime shared:60 - ext4 /dev/sdb rw
31 22 0:44 / /private rw,relatime - tmpfs t rw
";

    fn reaches(mounts: &str, host: Option<&str>, pods: &str, table: &[(&str, bool)]) {
        let mounts = Propagation::of(mounts.as_bytes(), host.map(str::as_bytes));
        for (path, reaches) in table {
            assert_eq!(mounts.reaches_host(Path::new(path), Path::new(pods)), *reaches, "{path}");
        }
    }

    #[test]
    fn a_folder_that_is_the_root_of_a_mount_is_in_use() {
        let mounted =
            "40 22 0:27 /spire/.agent.svid-csi.pods/csi-1 /var/lib/kubelet/pods/u/mount ro - tmpfs tmpfs rw\n";
        let is_used = |folder: &str| is_root_of_any(mounted.as_bytes(), Path::new(folder));
        assert!(is_used("/run/spire/.agent.svid-csi.pods/csi-1") && is_used("/x/.agent.svid-csi.pods/csi-1"));
        assert!(!is_used("/run/spire/.agent.svid-csi.pods/csi-2") && !is_used("/run/other.pods/csi-1"));
        assert!(!is_used("/run/spire/.agent.svid-csi.pods"));
    }

    #[test]
    fn the_innermost_mount_decides() {
        let table = [
            ("/var/lib/kubelet/pods/u/x", true),
            ("/var/lib/kubelet/podsother", false),
            ("/var/lib", false),
            ("/data root/y", true),
            ("/data root/x/y", false),
        ];
        reaches(MOUNTINFO, None, "/var/lib/kubelet/pods", &table);
    }

    #[test]
    fn if_all_mounts_are_shared_the_group_of_the_pods_folder_decides() {
        let table = [("/data/x", false), ("/more", true), ("/pods/u", true), ("/elsewhere", false)];
        reaches(ALL_SHARED, None, "/pods", &table);
    }

    #[test]
    fn if_the_hosts_mounts_are_visible_their_groups_decide() {
        let on_host = [("/var/lib/kubelet/pods", true), ("/var/lib/svid-csi", true), ("/private/x", false)];
        reaches(HOST, Some(HOST), "/var/lib/kubelet/pods", &on_host);
        // In a container that shares the host's PID namespace.
        let contained = [("/data", false), ("/more", true), ("/pods", true), ("/elsewhere", false)];
        reaches(ALL_SHARED, Some(HOST), "/pods", &contained);
        let pods_forgotten = ALL_SHARED.replace("/pods rw,relatime shared:1 ", "/pods rw,relatime shared:40 ");
        reaches(&pods_forgotten, Some(HOST), "/pods", &[("/pods", false), ("/more", true)]);
        // A service with its own mount namespace, which receives the host's mounts and does not propagate back.
        let sandboxed = "22 1 8:1 / / rw,relatime shared:301 master:1 - ext4 /dev/sda1 rw\n";
        reaches(sandboxed, Some(HOST), "/var/lib/kubelet/pods", &[("/var/lib/kubelet/pods", false)]);
    }
}
