//! Publish and unpublish: intent first, then the effect; unpublish is the list backwards.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::files::render;
use svid_csi_core::identity::Identity;
use svid_csi_core::state::{FileId, Phase, Record};
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::{Content, FilesSpec, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use tracing::{info, warn};

use super::Node;
use super::error::VolumeError;
use super::volume::{Held, Volume, accepted, issued};
use crate::mount::{self, Look, MountError, MountPoint, MountSource};
use crate::{clock, report};

/// How long a publish waits for its source. The kubelet gives the whole call two minutes and asks again.
const SOURCE_DEADLINE: Duration = Duration::from_secs(60);
/// A volume that never became ready is dropped when nobody has asked for it for so long.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

impl Node {
    /// Publishes a volume, or finds that it is published. A healthy volume keeps what it has if this fails.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub async fn publish(self: &Arc<Self>, driver: &str, spec: VolumeSpec) -> Result<(), VolumeError> {
        let id = spec.id.clone();
        let held = self.volumes.hold(&id).await;
        let unready = ForgottenUnlessReady { node: self, id, ready: false };
        match spec.content.clone() {
            Content::Passthrough => self.publish_passthrough(driver, spec, held).await,
            Content::Files(files) => self.publish_files(driver, spec, files, held).await,
        }
        .map(|()| unready.defuse())
    }

    async fn publish_passthrough(
        self: &Arc<Self>,
        driver: &str,
        spec: VolumeSpec,
        mut held: Held,
    ) -> Result<(), VolumeError> {
        let (node, driver) = (self.clone(), driver.to_owned());
        tokio::task::spawn_blocking(move || {
            let point = MountPoint::open(&spec.target)?;
            let source = node.socket_dir()?.source(spec.read_only)?;
            if is_published(held.as_ref(), &spec, &point, Some(source.id()))? {
                return Ok(());
            }
            let volume = node.intend(&driver, spec, &point, &mut held)?;
            node.mount(volume, &point, &source)?;
            node.ready(volume)
        })
        .await?
    }

    async fn publish_files(
        self: &Arc<Self>,
        driver: &str,
        spec: VolumeSpec,
        files: FilesSpec,
        mut held: Held,
    ) -> Result<(), VolumeError> {
        let (node, driver) = (self.clone(), driver.to_owned());
        let begun = tokio::task::spawn_blocking(move || {
            let point = MountPoint::open(&spec.target)?;
            if is_published(held.as_ref(), &spec, &point, None)? {
                let stale = held.as_mut().filter(|volume| !volume.is_kept_fresh());
                return stale.map_or(Ok(()), |volume| node.serve_again(volume)).map(|()| None);
            }
            node.files()?;
            node.intend(&driver, spec, &point, &mut held)?;
            Ok::<_, VolumeError>(Some((held, point)))
        });
        let Some((held, point)) = begun.await?? else { return Ok(()) };
        let candidate = tokio::time::timeout(SOURCE_DEADLINE, self.sources.next(&files, None)).await;
        let candidate = candidate.map_err(|_| VolumeError::Slow(SOURCE_DEADLINE.as_secs()))??;
        let identity = accepted(&files, candidate).await?;
        let node = self.clone();
        tokio::task::spawn_blocking(move || node.install_first(held, &point, &files, &identity)).await?
    }

    fn install_first(
        self: &Arc<Self>,
        mut held: Held,
        point: &MountPoint,
        files: &FilesSpec,
        identity: &Identity,
    ) -> Result<(), VolumeError> {
        let Some(volume) = held.as_mut() else { return Ok(()) };
        let id = volume.record.spec.id.clone();
        let delivery = self.files()?;
        let in_use = self.reach(volume, point)?;
        if !in_use {
            delivery.let_go(&id)?;
        }
        delivery.install(&id, &render(identity, &files.names), files.fs_group, clock::now())?;
        if in_use {
            volume.record.root = delivery.root(&id);
        } else {
            self.mount(volume, point, &delivery.source(&id)?)?;
        }
        volume.record.issued = Some(issued(identity));
        self.ready(volume)?;
        self.audit(volume, identity);
        self.keep_renewing(volume);
        Ok(())
    }

    /// Records the intent to publish, or fails when the id is taken or something foreign is at the target.
    fn intend<'a>(
        &self,
        driver: &str,
        spec: VolumeSpec,
        point: &MountPoint,
        held: &'a mut Held,
    ) -> Result<&'a mut Volume, VolumeError> {
        if let Some(volume) = held.as_ref().filter(|volume| !volume.record.spec.same_volume(&spec)) {
            let target = volume.record.spec.target.path().to_owned();
            return Err(VolumeError::Conflict { id: spec.id, target });
        }
        let known = held.as_ref().map(|volume| &volume.record);
        match point.look()? {
            Look::NotAFolder => return Err(MountError::NotAFolder(spec.target.path().to_owned()).into()),
            Look::Mounted(root) if !self.is_ours(driver, &spec.id, known, point, root) => {
                return Err(MountError::Foreign(spec.target.path().to_owned()).into());
            }
            _ => {}
        }
        let pods_dir = spec.target.place().and_then(|place| mount::file_id_of(place.pods_dir));
        let mut volume = held.take().unwrap_or_else(|| Volume::new(Record::intended(driver, spec.clone(), pods_dir)));
        volume.attempts += 1;
        if volume.record.phase != Phase::Ready {
            volume.record.phase = Phase::Intended;
        }
        volume.record.spec = spec;
        let volume = held.insert(volume);
        self.store.put(&volume.record)?;
        Ok(volume)
    }

    /// Makes the target show `source` and nothing else of ours.
    pub(super) fn mount(
        &self,
        volume: &mut Volume,
        point: &MountPoint,
        source: &MountSource,
    ) -> Result<(), VolumeError> {
        match point.look()? {
            Look::Mounted(root) if root == source.id() => {}
            look => {
                if matches!(look, Look::Mounted(_)) {
                    let record = &volume.record;
                    point.detach_while(|root| {
                        self.is_ours(&record.driver, &record.spec.id, Some(record), point, root)
                    })?;
                }
                if look == Look::Missing {
                    point.create(volume.record.spec.target_mode())?;
                }
                point.attach(source)?;
            }
        }
        volume.record.root = Some(source.id());
        Ok(())
    }

    /// Sees to it that the data behind a mounted target can be written, where the volume is a `files` volume that was
    /// published before. False when there is no such mount.
    pub(super) fn reach(&self, volume: &Volume, point: &MountPoint) -> Result<bool, VolumeError> {
        let (record, id) = (&volume.record, &volume.record.spec.id);
        let Look::Mounted(root) = point.look()? else { return Ok(false) };
        let delivery = self.files()?;
        if delivery.root(id) == Some(root) {
            return Ok(true);
        }
        if record.root != Some(root) || record.issued.is_none() {
            return Ok(false);
        }
        delivery.reach(id, point)?;
        Ok(true)
    }

    fn ready(&self, volume: &mut Volume) -> Result<(), VolumeError> {
        volume.record.phase = Phase::Ready;
        self.store.put(&volume.record)?;
        info!(
            volume = %volume.record.spec.id,
            pod = volume.record.spec.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
            plan = %volume.record.spec.plan(), "volume published"
        );
        Ok(())
    }

    /// Whether a mount at a volume's target was made by this driver, an earlier run of it, or its predecessor.
    fn is_ours(&self, driver: &str, id: &VolumeId, record: Option<&Record>, point: &MountPoint, root: FileId) -> bool {
        let recorded = record.and_then(|record| record.root) == Some(root);
        let of_folder = self.files.as_ref().and_then(|files| files.root(id)) == Some(root);
        let of_agent = self.socket_dir.as_ref().is_some_and(|socket_dir| socket_dir.is_current(root));
        recorded || of_folder || of_agent || (record.is_none() && kubelet_vouches(driver, id, point))
    }

    /// Unpublishes a volume. One that was never published is fine.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub async fn unpublish(
        self: &Arc<Self>,
        driver: &str,
        id: VolumeId,
        target: TargetPath,
    ) -> Result<(), VolumeError> {
        let held = self.volumes.hold(&id).await;
        let (node, driver) = (self.clone(), driver.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut held = held;
            let removed = node.remove(&driver, &id, &target, &mut held);
            node.volumes.release(&id, held);
            removed
        })
        .await?
    }

    /// The publish steps backwards. Blocks; the volume's lock is held.
    pub(super) fn remove(
        &self,
        driver: &str,
        id: &VolumeId,
        target: &TargetPath,
        held: &mut Held,
    ) -> Result<(), VolumeError> {
        if held.as_ref().is_some_and(|volume| volume.record.spec.target != *target) {
            return Ok(());
        }
        let point = match MountPoint::open(target) {
            Err(MountError::NoParent(_)) => None,
            opened => Some(opened?),
        };
        if let Some(volume) = held.as_mut() {
            volume.record.phase = Phase::Removing;
            self.store.put(&volume.record).unwrap_or_else(|error| {
                // A full disk must not keep a pod from ending.
                warn!(volume = %id, error = report::chain(&error), "the removal could not be recorded beforehand");
            });
        }
        if let Some(point) = &point {
            let record = held.as_ref().map(|volume| &volume.record);
            point.detach_while(|root| self.is_ours(driver, id, record, point, root))?;
        }
        if let Some(files) = &self.files {
            files.remove(id)?;
        }
        if let Some(point) = &point {
            point.remove()?;
        }
        self.store.remove(id)?;
        if held.take().is_some() {
            info!(volume = %id, "volume unpublished");
        }
        Ok(())
    }

    /// Drops a volume in the end unless it is ready by then, or asked for again: the kubelet does not unpublish what it
    /// never saw published.
    pub(super) fn forget_later(self: &Arc<Self>, id: VolumeId) {
        let node = self.clone();
        self.tasks.detached(async move {
            let attempts = node.volumes.hold(&id).await.as_ref().map(|volume| volume.attempts);
            tokio::time::sleep(FORGOTTEN_AFTER).await;
            node.forget(&id, attempts).await;
        });
    }

    async fn forget(self: Arc<Self>, id: &VolumeId, attempts: Option<u64>) {
        let held = self.volumes.hold(id).await;
        let stale =
            held.as_ref().filter(|volume| volume.record.phase != Phase::Ready && Some(volume.attempts) == attempts);
        let Some((driver, target)) =
            stale.map(|volume| (volume.record.driver.clone(), volume.record.spec.target.clone()))
        else {
            return self.volumes.release(id, held);
        };
        let (node, id) = (self.clone(), id.clone());
        let forgotten = tokio::task::spawn_blocking(move || {
            let mut held = held;
            warn!(volume = %id, "nobody asked for this volume again; it is dropped");
            if let Err(error) = node.remove(&driver, &id, &target, &mut held) {
                warn!(volume = %id, error = report::chain(&error), "the volume could not be dropped");
            }
            node.volumes.release(&id, held);
        });
        let _ = forgotten.await;
    }
}

/// Starts the clock of [`Node::forget_later`] unless the volume got ready, also when the call is gone before its end.
struct ForgottenUnlessReady<'a> {
    node: &'a Arc<Node>,
    id: VolumeId,
    ready: bool,
}

impl ForgottenUnlessReady<'_> {
    fn defuse(mut self) {
        self.ready = true;
    }
}

impl Drop for ForgottenUnlessReady<'_> {
    fn drop(&mut self) {
        if !self.ready {
            self.node.forget_later(self.id.clone());
        }
    }
}

/// Whether the volume is published as asked, so that nothing is to be done.
fn is_published(
    volume: Option<&Volume>,
    spec: &VolumeSpec,
    point: &MountPoint,
    source: Option<FileId>,
) -> Result<bool, VolumeError> {
    let Some(record) = volume.map(|volume| &volume.record).filter(|record| record.phase == Phase::Ready) else {
        return Ok(false);
    };
    let expected = source.or(record.root);
    Ok(record.spec == *spec && expected.is_some_and(|root| point.look().ok() == Some(Look::Mounted(root))))
}

/// Whether the kubelet's own note beside the target (vol_data.json) says that the volume is this driver's. Asked only
/// where there is no record, as for volumes a predecessor published.
fn kubelet_vouches(driver: &str, id: &VolumeId, point: &MountPoint) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct VolData {
        driver_name: String,
        volume_handle: String,
    }
    let note = point.read_beside("vol_data.json").and_then(|json| serde_json::from_slice::<VolData>(&json).ok());
    note.is_some_and(|note| note.driver_name == driver && note.volume_handle == id.as_str())
}
