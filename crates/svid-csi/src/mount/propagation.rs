//! Whether mounts made here are seen by the rest of the node.

use std::io;
use std::path::{Path, PathBuf};

/// The mounts of this process's namespace and their propagation, read once (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub struct Propagation(Vec<(PathBuf, bool)>);

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
            let shared = fields.skip(1).take_while(|field| *field != "-").any(|field| field.starts_with("shared:"));
            Some((PathBuf::from(point), shared))
        };
        Propagation(mountinfo.lines().filter_map(mount).collect())
    }

    /// Whether a mount made at `path` (absolute, without links) reaches other mount namespaces.
    pub fn is_shared(&self, path: &Path) -> bool {
        let covering = self.0.iter().filter(|(point, _)| path.starts_with(point));
        covering.max_by_key(|(point, _)| point.components().count()).is_some_and(|(_, shared)| *shared)
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
}
