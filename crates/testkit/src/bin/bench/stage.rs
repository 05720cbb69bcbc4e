//! A node to measure on: a tmpfs of its own, a kubelet's folders in it, and namespaces that share its mounts.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};
use svid_csi::demo::kubelet::{InlineVolume, Kubelet, Pod};

/// A folder that every system has. Its content is hidden only in this namespace, and nothing written here outlives it.
const WORK: &str = "/tmp";

/// The mounts of a node with many pods.
pub(crate) const OTHER_MOUNTS: usize = 5000;

/// The binaries to measure.
pub(crate) struct Programs {
    pub(crate) driver: PathBuf,
    /// See [`crate::stand_in`].
    pub(crate) stand_in: PathBuf,
}

/// The node.
pub(crate) struct Stage {
    pub(crate) kubelet: Kubelet,
    /// The folder of the kubelet, on a disk.
    disk: PathBuf,
    peers: Vec<Child>,
    _agent: UnixListener,
}

impl Stage {
    /// Sets it up, with one other namespace, like the host's beside the driver's container. The folders of the kubelet
    /// are in `disk`, as on a real node.
    pub(crate) fn set(programs: &Programs, disk: &Path) -> Result<Self> {
        let open = |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
        let programs = [("svid-csi", open(&programs.driver)?), ("predecessor", open(&programs.stand_in)?)];
        let disk = disk.join("kubelet-of-the-benchmark");
        clear(&disk)?;
        fs::create_dir_all(&disk)?;
        let opened_disk = open(&disk)?;
        mount("svid-csi-bench", WORK, "tmpfs", MountFlags::NODEV, c"mode=0755").context("mounting the work folder")?;
        mount_change(WORK, MountPropagationFlags::SHARED).context("sharing the work folder")?;
        for (name, binary) in &programs {
            File::create(Self::path(name))?;
            bind(binary, &Self::path(name))?;
        }
        fs::create_dir(Self::path("kubelet"))?;
        bind(&opened_disk, &Self::path("kubelet"))?;
        mount_change(Self::path("kubelet"), MountPropagationFlags::SHARED).context("sharing the kubelet's folder")?;
        fs::create_dir(Self::path("other"))?;
        mount("svid-csi-bench", Self::path("other"), "tmpfs", MountFlags::NODEV, c"")
            .context("mounting the other pods' mounts")?;
        fs::create_dir_all(Self::path("run/agent"))?;
        let agent = UnixListener::bind(Self::path("run/agent/agent.sock"))?;
        let kubelet = Kubelet::new(&Self::path("kubelet"))?;
        let mut stage = Self { kubelet, disk, peers: Vec::new(), _agent: agent };
        stage.add_peers(1)?;
        Ok(stage)
    }

    /// A path below the work folder.
    pub(crate) fn path(below: &str) -> PathBuf {
        Path::new(WORK).join(below)
    }

    /// Starts mount namespaces to which every later mount propagates.
    pub(crate) fn add_peers(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let peer = ending_with_us("unshare")
                .args(["--mount", "--propagation", "unchanged", "sleep", "infinity"])
                .stdin(Stdio::null())
                .spawn()
                .context("unshare")?;
            until_apart(&peer)?;
            self.peers.push(peer);
        }
        Ok(())
    }

    /// Volumes that are not published, with the folders that a kubelet creates before it publishes.
    pub(crate) fn volumes(&self, name: &str, count: usize) -> Result<Vec<InlineVolume>> {
        let volume = |index| {
            let pod = Pod {
                uid: format!("{name}-{index:08}-4a5b-8c7d-0123456789ab"),
                name: format!("{name}-{index}"),
                namespace: "shop".to_owned(),
                service_account: "web".to_owned(),
                fs_group: None,
            };
            let volume = InlineVolume::new(&pod, "spiffe");
            let target = self.kubelet.target(&volume);
            fs::create_dir_all(target.parent().unwrap_or(&target))?;
            Ok(volume)
        };
        (0..count).map(volume).collect()
    }

    /// Creates the mounts that other pods have on a real node, below the pods folder. As there, they come from a
    /// different file system than the pods folder: binds of the same one would all be its peers (mount_namespaces(7)),
    /// and then the cost of every mount below it would grow with their number. They are below one tmpfs, so that they can
    /// be removed in one call.
    pub(crate) fn add_other_mounts(&self, count: usize) -> Result<OtherMounts> {
        let (source, below) = (Self::path("other"), self.kubelet.pods_dir().join("others"));
        fs::create_dir_all(&below)?;
        mount("svid-csi-bench", &below, "tmpfs", MountFlags::NODEV, c"").context("mounting the other pods' folders")?;
        let others = OtherMounts(below.clone());
        for index in 0..count {
            let target = below.join(format!("{index}/volumes/kubernetes.io~projected/token"));
            fs::create_dir_all(&target)?;
            mount_bind(&source, &target).context("mounting the other pods' mounts")?;
        }
        Ok(others)
    }

    /// The type of the file system with the folders of the kubelet.
    pub(crate) fn file_system(&self) -> Result<String> {
        let (table, folder) = (fs::read_to_string("/proc/self/mountinfo")?, Self::path("kubelet"));
        let is_there = |line: &&str| line.split(' ').nth(4).is_some_and(|point| Path::new(point) == folder);
        let of_type = |line: &str| Some(line.split_once(" - ")?.1.split(' ').next()?.to_owned());
        table.lines().find(is_there).and_then(of_type).context("the kubelet's folder is not mounted")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for peer in &mut self.peers {
            let _ = peer.kill();
            let _ = peer.wait();
        }
        // The next run removes the rest.
        let _ = unmount(Self::path("kubelet"), UnmountFlags::DETACH);
        let _ = clear(&self.disk);
    }
}

/// Mounts unrelated to the driver, below one folder; removed when dropped.
pub(crate) struct OtherMounts(PathBuf);

impl Drop for OtherMounts {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn bind(opened: &File, target: &Path) -> Result<()> {
    mount_bind(format!("/proc/self/fd/{}", opened.as_raw_fd()), target)
        .with_context(|| format!("binding {}", target.display()))
}

/// Removes the folders that a run created on the disk.
fn clear(disk: &Path) -> Result<()> {
    match fs::remove_dir_all(disk) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", disk.display()))
        }
        _ => Ok(()),
    }
}

/// A command that is killed when this process ends for any reason.
pub(crate) fn ending_with_us(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn until_apart(peer: &Child) -> Result<()> {
    let namespace = |pid| fs::read_link(format!("/proc/{pid}/ns/mnt"));
    let ours = namespace(id())?;
    for _ in 0..1000 {
        if namespace(peer.id()).is_ok_and(|theirs| theirs != ours) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    ensure!(false, "a second mount namespace did not come up");
    Ok(())
}
