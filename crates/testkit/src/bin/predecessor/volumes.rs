//! Where a predecessor stores a volume's data, and how it mounts it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
/// The form of the kubelet's atomic writer.
const MOMENT: &str = "..2026_01_02_03_04_05.1234567890";

/// A predecessor's layout.
pub enum Layout {
    /// A folder `<volume id>/data` on a tmpfs for each volume, mounted read-only (csi-lib, `storage`).
    Tmpfs {
        /// The tmpfs.
        root: PathBuf,
        /// The files of every volume.
        identity: PathBuf,
    },
    /// The agent's folder itself.
    Bind {
        /// That folder.
        agent: PathBuf,
    },
}

impl Layout {
    /// Mounts the tmpfs, which disappears with this mount namespace, but stays mounted in the volumes.
    pub fn tmpfs(data_root: &Path, identity: PathBuf) -> Result<Self> {
        let root = data_root.join("inmemfs");
        fs::create_dir_all(&root)?;
        mount("tmpfs", &root, "tmpfs", MountFlags::empty(), None).context("cannot mount the tmpfs")?;
        Ok(Layout::Tmpfs { root, identity })
    }

    /// Fills and mounts a volume, and gives its folder and files to the group; one that is already mounted is not
    /// changed.
    pub fn publish(&self, id: &str, target: &Path, group: Option<u32>) -> Result<()> {
        match self {
            _ if is_mounted(target)? => Ok(()),
            Layout::Tmpfs { root, identity } => {
                let data = root.join(id).join("data");
                write(&data, identity, group).context("cannot write the volume")?;
                fs::DirBuilder::new().mode(0o440).create(target)?;
                mount_bind(&data, target).context("cannot mount the volume")?;
                mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "").context("cannot make it read-only")
            }
            Layout::Bind { agent } => {
                fs::DirBuilder::new().mode(0o750).create(target)?;
                mount_bind(agent, target).context("cannot mount the agent's folder")
            }
        }
    }

    /// Unmounts and removes a volume.
    pub fn unpublish(&self, id: &str, target: &Path) -> Result<()> {
        if is_mounted(target)? {
            unmount(target, UnmountFlags::empty())?;
        }
        if let Layout::Tmpfs { root, .. } = self {
            missing_is_fine(fs::remove_dir_all(root.join(id)))?;
        }
        missing_is_fine(fs::remove_dir(target))
    }
}

fn is_mounted(target: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| Path::new(point) == target))
}

/// Like csi-lib, which leaves the folder of the moment to root's group.
fn write(data: &Path, identity: &Path, group: Option<u32>) -> Result<()> {
    let moment = data.join(MOMENT);
    fs::create_dir_all(&moment)?;
    for name in FILES {
        let file = moment.join(name);
        fs::copy(identity.join(name), &file).with_context(|| format!("{}", identity.join(name).display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440))?;
        lchown(&file, None, group)?;
        symlink(Path::new("..data").join(name), data.join(name))?;
    }
    symlink(MOMENT, data.join("..data"))?;
    lchown(data, None, group)?;
    [(moment.as_path(), 0o755), (data, 0o550)]
        .into_iter()
        .try_for_each(|(folder, mode)| Ok(fs::set_permissions(folder, fs::Permissions::from_mode(mode))?))
}

fn missing_is_fine(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
