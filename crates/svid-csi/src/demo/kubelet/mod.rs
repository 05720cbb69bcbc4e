//! A small kubelet: enough of the real one to run through a driver's whole life over real gRPC.
//!
//! It creates folders, sends requests and cleans up like `pkg/volume/csi` of Kubernetes 1.37. It has no desired state:
//! the caller decides when to publish and unpublish.

mod error;
mod plugin;
mod registration;
mod volume;

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use svid_csi_proto::csi_v1::{NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodeUnpublishVolumeRequest};
use tokio::time::{Instant, sleep};

pub use self::error::KubeletError;
pub use self::plugin::{Capability, Plugin};
pub use self::volume::{InlineVolume, Pod};
use crate::host::fsx::{self, FsError};

/// The first pause before a publish is retried; it doubles each time. A real kubelet begins with 500 ms.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// A kubelet with its root folder, which is `/var/lib/kubelet` on a real node.
#[derive(Debug)]
pub struct Kubelet {
    root: PathBuf,
    /// Targets of the volumes whose publish has succeeded.
    mounted: Mutex<HashSet<PathBuf>>,
}

impl Kubelet {
    /// A kubelet with the root folder `root`, which is created with the folders that drivers expect.
    ///
    /// # Errors
    /// [`KubeletError`] if a folder cannot be created.
    pub fn new(root: &Path) -> Result<Self, KubeletError> {
        let kubelet = Self { root: root.to_owned(), mounted: Mutex::default() };
        for folder in [kubelet.pods_dir(), kubelet.registration_dir(), root.join("plugins")] {
            create_dir(&folder)?;
        }
        Ok(kubelet)
    }

    /// The folder with the folders of pods.
    pub fn pods_dir(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// The folder for the registration sockets of drivers.
    pub fn registration_dir(&self) -> PathBuf {
        self.root.join("plugins_registry")
    }

    /// Registers the driver `name`, whose registration socket may take up to `within` to appear.
    ///
    /// # Errors
    /// [`KubeletError`], which is also reported to the driver if it answers.
    pub async fn register(&self, name: &str, within: Duration) -> Result<Plugin, KubeletError> {
        registration::register(&self.registration_dir().join(format!("{name}-reg.sock")), within).await
    }

    /// The mount path of a volume. Its parent belongs to the kubelet, the last component to the driver.
    pub fn target(&self, volume: &InlineVolume) -> PathBuf {
        let volumes = self.pods_dir().join(&volume.pod.uid).join("volumes/kubernetes.io~csi");
        volumes.join(&volume.name).join("mount")
    }

    /// Publishes a volume once, or again. A first publish with a final error leaves no folders behind; a later one does
    /// not change existing mounts (kubelet, `SetUpAt`).
    ///
    /// # Errors
    /// [`KubeletError`] with the driver's answer.
    pub async fn publish(&self, plugin: &Plugin, volume: &InlineVolume) -> Result<PathBuf, KubeletError> {
        let target = self.target(volume);
        prepare(plugin, volume, &target)?;
        match call_publish(plugin, volume, &target).await {
            Ok(()) => {
                self.mounted().insert(target.clone());
                Ok(target)
            }
            Err(error) => {
                if !error.is_uncertain() && !self.mounted().contains(&target) {
                    remove(&target)?;
                }
                Err(error)
            }
        }
    }

    /// Publishes a volume, and retries as long as the driver's answer is not final, for up to `within`.
    ///
    /// # Errors
    /// [`KubeletError`] with the driver's last answer.
    pub async fn publish_within(
        &self,
        plugin: &Plugin,
        volume: &InlineVolume,
        within: Duration,
    ) -> Result<PathBuf, KubeletError> {
        let deadline = Instant::now() + within;
        let mut pause = FIRST_RETRY;
        loop {
            match self.publish(plugin, volume).await {
                Err(error) if error.is_uncertain() && Instant::now() + pause < deadline => sleep(pause).await,
                outcome => return outcome,
            }
            pause *= 2;
        }
    }

    /// Unpublishes a volume and removes its folders, which fails if anything is still mounted there.
    ///
    /// # Errors
    /// [`KubeletError`] with the driver's answer, or with the remaining files.
    pub async fn unpublish(&self, plugin: &Plugin, volume: &InlineVolume) -> Result<(), KubeletError> {
        let target = self.target(volume);
        let request = NodeUnpublishVolumeRequest { volume_id: volume.id().into(), target_path: text(&target) };
        let answer = plugin.node().await?.node_unpublish_volume(request).await;
        answer.map_err(KubeletError::of("NodeUnpublishVolume"))?;
        self.mounted().remove(&target);
        remove(&target)
    }

    /// The condition of a volume.
    ///
    /// # Errors
    /// [`KubeletError`] with the driver's answer.
    pub async fn stats(
        &self,
        plugin: &Plugin,
        volume: &InlineVolume,
    ) -> Result<NodeGetVolumeStatsResponse, KubeletError> {
        let volume_path = text(&self.target(volume));
        let request = NodeGetVolumeStatsRequest { volume_id: volume.id().into(), volume_path, ..Default::default() };
        let answer = plugin.node().await?.node_get_volume_stats(request).await;
        Ok(answer.map_err(KubeletError::of("NodeGetVolumeStats"))?.into_inner())
    }

    /// Removes the folders of a pod once its volumes are unpublished.
    ///
    /// # Errors
    /// [`KubeletError`] if a folder is not empty.
    pub fn forget(&self, pod: &Pod) -> Result<(), KubeletError> {
        let folder = self.pods_dir().join(&pod.uid);
        for folder in [folder.join("volumes/kubernetes.io~csi"), folder.join("volumes"), folder] {
            remove_dir(&folder)?;
        }
        Ok(())
    }

    fn mounted(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn call_publish(plugin: &Plugin, volume: &InlineVolume, target: &Path) -> Result<(), KubeletError> {
    let request = volume.publish_request(&text(target), plugin.can(Capability::VolumeMountGroup));
    let answer = plugin.node().await?.node_publish_volume(request).await;
    answer.map(drop).map_err(KubeletError::of("NodePublishVolume"))
}

/// The folder of the volume, with the file from which a restarted kubelet knows the volume's driver.
fn prepare(plugin: &Plugin, volume: &InlineVolume, target: &Path) -> Result<(), KubeletError> {
    let folder = target.parent().unwrap_or(target);
    create_dir(folder)?;
    let data = serde_json::json!({
        "driverName": plugin.name,
        "nodeName": plugin.node_id,
        "specVolID": volume.name,
        "volumeHandle": volume.id().as_str(),
        "volumeLifecycleMode": "Ephemeral",
    });
    let path = folder.join(VOLUME_DATA);
    Ok(fsx::write_atomic(&path, data.to_string().as_bytes(), 0o600)?)
}

const VOLUME_DATA: &str = "vol_data.json";

fn remove(target: &Path) -> Result<(), KubeletError> {
    let folder = target.parent().unwrap_or(target);
    remove_dir(target)?;
    fsx::remove_file(&folder.join(VOLUME_DATA))?;
    remove_dir(folder)
}

fn remove_dir(path: &Path) -> Result<(), KubeletError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FsError::of("remove", path)(error).into()),
        _ => Ok(()),
    }
}

fn create_dir(path: &Path) -> Result<(), KubeletError> {
    let created = DirBuilder::new().recursive(true).mode(0o750).create(path);
    Ok(created.map_err(FsError::of("create the folder", path))?)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
