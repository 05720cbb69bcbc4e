//! Whether mounts made here are seen by the rest of the node.

use std::io;
use std::path::{Path, PathBuf};

/// The mounts of this process's namespace and the peer groups of those that are shared, read once (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub struct Propagation(Vec<(PathBuf, Option<String>)>);

impl Propagation {
    /// Reads /proc/self/mountinfo. Its cost grows with the mounts on the node: for the start only.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
    }

    fn parse(mountinfo: &str) -> Self {
        let mount = |line: &str| {
            let mut fields = line.split(' ').skip(4);
            let point = unescape(fields.next()?);
            let group =
                fields.skip(1).take_while(|field| *field != "-").find_map(|field| field.strip_prefix("shared:"));
            Some((PathBuf::from(point), group.map(str::to_owned)))
        };
        Propagation(mountinfo.lines().filter_map(mount).collect())
    }

    /// Whether a mount made at `path` (absolute, without links) reaches other mount namespaces.
    pub fn is_shared(&self, path: &Path) -> bool {
        self.group(path).is_some()
    }

    /// Whether a mount made at `path` is known to reach the host, which `bidirectional` does where anything does.
    ///
    /// Newer runcs make all mounts of a container shared once one of them is to be, the others in groups that have no other
    /// member: where even `/` is shared, only the group of a mount that is the host's tells.
    pub fn reaches_host(&self, path: &Path, bidirectional: &Path) -> bool {
        self.is_shared(path) && (!self.is_shared(Path::new("/")) || self.group(path) == self.group(bidirectional))
    }

    fn group(&self, path: &Path) -> Option<&str> {
        let covering = self.0.iter().filter(|(point, _)| path.starts_with(point));
        covering.max_by_key(|(point, _)| point.components().count())?.1.as_deref()
    }
}

pub(super) fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
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

    #[test]
    fn the_innermost_mount_decides() {
        let mounts = Propagation::parse(MOUNTINFO);
        for (path, shared) in [
            ("/var/lib/kubelet/pods/u/x", true),
            ("/var/lib/kubelet/podsother", false),
            ("/var/lib", false),
            ("/data root/y", true),
            ("/data root/x/y", false),
        ] {
            assert_eq!(mounts.is_shared(Path::new(path)), shared, "{path}");
        }
    }
    #[test]
    fn where_all_is_shared_the_group_of_the_pods_folder_tells() {
        let mounts = Propagation::parse(
            "\
214 110 0:48 / / ro,relatime shared:29 - overlay overlay rw
241 214 8:1 /var/lib/data /data rw,relatime shared:39 - ext4 /dev/sda1 rw
242 214 8:1 /var/lib/more /more rw,relatime shared:1 - ext4 /dev/sda1 rw
270 214 8:1 /var/lib/kubelet/pods /pods rw,relatime shared:1 - ext4 /dev/sda1 rw
",
        );
        for (path, reaches) in [("/data/x", false), ("/more", true), ("/pods/u", true), ("/elsewhere", false)] {
            assert_eq!(mounts.reaches_host(Path::new(path), Path::new("/pods")), reaches, "{path}");
        }
        let asked_for = Propagation::parse(MOUNTINFO);
        for (path, reaches) in [("/data root/y", true), ("/data root/x/y", false), ("/other", false)] {
            let pods = Path::new("/var/lib/kubelet/pods");
            assert_eq!(asked_for.reaches_host(Path::new(path), pods), reaches, "{path}");
        }
    }
}
