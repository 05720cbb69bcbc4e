//! A node to measure on: a tmpfs of its own, a kubelet's folders in it, and namespaces that share its mounts.

use std::fs::{self, File};
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

/// The node.
pub(crate) struct Stage {
    pub(crate) kubelet: Kubelet,
    peers: Vec<Child>,
    _agent: UnixListener,
}

impl Stage {
    /// Sets it up, with one other namespace, like the host's beside the driver's container.
    pub(crate) fn set(driver: &Path) -> Result<Self> {
        let binary = File::open(driver).with_context(|| format!("cannot open the driver {}", driver.display()))?;
        mount("svid-csi-bench", WORK, "tmpfs", MountFlags::NODEV, c"mode=0755").context("mounting the work folder")?;
        mount_change(WORK, MountPropagationFlags::SHARED).context("sharing the work folder")?;
        File::create(Self::path("svid-csi"))?;
        mount_bind(format!("/proc/self/fd/{}", binary.as_raw_fd()), Self::path("svid-csi"))
            .context("binding the driver's binary")?;
        fs::create_dir(Self::path("other"))?;
        mount("svid-csi-bench", Self::path("other"), "tmpfs", MountFlags::NODEV, c"")
            .context("mounting the other pods' mounts")?;
        fs::create_dir_all(Self::path("run/agent"))?;
        let agent = UnixListener::bind(Self::path("run/agent/agent.sock"))?;
        let kubelet = Kubelet::new(&Self::path("kubelet"))?;
        let mut stage = Self { kubelet, peers: Vec::new(), _agent: agent };
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
    /// and then the cost of every mount below it would grow with their number.
    pub(crate) fn add_other_mounts(&self, count: usize) -> Result<OtherMounts> {
        let source = Self::path("other");
        let mut others = OtherMounts(Vec::with_capacity(count));
        for index in 0..count {
            let target = self.kubelet.pods_dir().join(format!("other-{index}/volumes/kubernetes.io~projected/token"));
            fs::create_dir_all(&target)?;
            mount_bind(&source, &target).context("mounting the other pods' mounts")?;
            others.0.push(target);
        }
        Ok(others)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for peer in &mut self.peers {
            let _ = peer.kill();
            let _ = peer.wait();
        }
    }
}

/// Mounts unrelated to the driver; removed when dropped.
pub(crate) struct OtherMounts(Vec<PathBuf>);

impl Drop for OtherMounts {
    fn drop(&mut self) {
        for target in &self.0 {
            let _ = unmount(target, UnmountFlags::DETACH);
        }
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
