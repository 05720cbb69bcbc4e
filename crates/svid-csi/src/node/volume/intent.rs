//! The record of a volume during a publish: the intent at first, and that the volume is ready at the end.

use std::sync::Arc;

use svid_csi_core::files::RenderError;
use svid_csi_core::pkcs12::Password;
use svid_csi_core::secret::Secret;
use svid_csi_core::state::{FileId, Issued, Phase, Record};
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::VolumeSpec;
use svid_csi_core::volume_id::VolumeId;
use tokio::time::Instant;
use tracing::info;

use super::Node;
use super::deliver::has_own_password;
use super::error::VolumeError;
use super::registry::{Held, Volume};
use super::room::SpaceReservation;
use crate::host::mount::{self, MountError, MountPoint, MountState};

/// The maximum number of volumes per pod, so that no pod can fill the node's volume data.
const VOLUMES_A_POD: usize = 16;

impl Node {
    /// Fails if a mount of another program is at the target.
    pub(super) fn check_target(
        &self,
        driver: &str,
        spec: &VolumeSpec,
        point: &MountPoint,
        known: Option<&Volume>,
    ) -> Result<(), VolumeError> {
        let record = known.map(Volume::record);
        match point.look()? {
            MountState::NotAFolder => Err(MountError::NotAFolder(spec.target.path().to_owned()).into()),
            MountState::Mounted(root) if !self.deliveries.is_ours(driver, &spec.id, record, point, root)? => {
                Err(MountError::Foreign(spec.target.path().to_owned()).into())
            }
            _ => Ok(()),
        }
    }

    /// Records the intent to publish.
    ///
    /// The mount is recorded before it is made, so that the next startup recognises it. A ready volume keeps its
    /// recorded spec until it has changed.
    pub(super) fn intend(
        &self,
        driver: &str,
        spec: &Arc<VolumeSpec>,
        point: &MountPoint,
        root: Option<FileId>,
        space: Option<SpaceReservation>,
        held: &mut Held,
    ) -> Result<(), VolumeError> {
        let Some(volume) = held.as_mut() else {
            let new = self.new_volume(driver, spec, space, |record| record.root = root);
            held.replace(new.inspect_err(|_| self.discard(&spec.id, point))?);
            return Ok(());
        };
        volume.asked = Instant::now();
        let known = volume.record();
        if known.phase == Phase::Ready {
            return Ok(());
        }
        if known.root != root {
            // No pod uses it yet, and the record is about to be replaced.
            let is_ours = |shown| self.deliveries.is_ours(driver, &spec.id, Some(known), point, shown);
            point.detach_while(is_ours, |_| Ok(false))?;
        }
        if known.spec.plan().issuer() != spec.plan().issuer() {
            self.sources.forget(&known.spec);
        }
        let intended = |record: &mut Record| {
            record.phase = Phase::Intended;
            record.show(root, spec.clone(), None);
        };
        Ok(self.record(volume, intended)?)
    }

    /// Removes what was prepared for a volume that has no record, because the kubelet may never ask for it again. If it is
    /// mounted, its record could not be read, and a pod may use it.
    fn discard(&self, id: &VolumeId, point: &MountPoint) {
        let is_unused = matches!(point.look(), Ok(MountState::Missing | MountState::Folder));
        if is_unused && self.deliveries.remove_all(id).is_err() {
            self.later.again(id.clone(), 1);
        }
    }

    /// Adds a new volume, once its record is on disk.
    pub(super) fn new_volume(
        &self,
        driver: &str,
        spec: &Arc<VolumeSpec>,
        space: Option<SpaceReservation>,
        change: impl FnOnce(&mut Record),
    ) -> Result<Volume, VolumeError> {
        let reservation = self.volumes.reserve(spec.pod.as_ref(), VOLUMES_A_POD, space);
        let reservation = reservation.ok_or(VolumeError::TooMany(VOLUMES_A_POD))?;
        let pods_dir = spec.target.place().map_or(Ok(None), |place| mount::file_id_of(place.pods_dir))?;
        let mut record = Record::intended(driver, spec.clone(), pods_dir);
        change(&mut record);
        self.put(&record)?;
        self.is_no_longer_unread(&spec.id);
        Ok(Volume::recorded(record, reservation))
    }

    /// Records what a published volume is about to contain, if the record does not say so yet.
    pub(super) fn announce(&self, volume: &mut Volume, spec: &VolumeSpec, issued: &Issued) -> Result<(), VolumeError> {
        let record = volume.record();
        let is_recorded = record.issued.is_some() && (*record.spec == *spec || record.unsettled);
        // Until then, the files are those of csi-driver-spiffe.
        let is_adopted = record.adopted.is_some() && record.issued.is_none() && !record.withdrawn;
        if record.phase != Phase::Ready || is_recorded || is_adopted {
            return Ok(());
        }
        if record.withdrawn {
            // Its removal may have failed, and the record is about to forget it.
            self.deliveries.take_away(record)?;
        }
        Ok(self.record(volume, |record| record.announce(spec, issued.clone()))?)
    }

    /// Stores the password that the kubelet sent for the volume, if its files need it. Returns whether it is a new one.
    pub(super) fn keep_password(
        &self,
        volume: &mut Volume,
        spec: &VolumeSpec,
        brought: Option<&Secret>,
    ) -> Result<bool, VolumeError> {
        let (Some(passwords), Some(brought), true) = (&self.deliveries.passwords, brought, has_own_password(spec))
        else {
            return Ok(false);
        };
        let password = Password::new(brought.clone()).map_err(RenderError::from)?;
        if !passwords.is_new(&spec.id, &password)? {
            return Ok(false);
        }
        if volume.record().issued.is_some() {
            // Before the password is stored, so that the next identity is installed even after a kill in between.
            self.record(volume, |record| record.issued.iter_mut().for_each(|issued| issued.digest = None))?;
        }
        passwords.keep(&spec.id, &password)?;
        Ok(true)
    }

    pub(super) fn ready(
        &self,
        volume: &mut Volume,
        spec: Arc<VolumeSpec>,
        given: Option<(Option<FileId>, Issued)>,
    ) -> Result<(), VolumeError> {
        self.record(volume, |record| {
            let (root, issued) = given.map_or((record.root, None), |(root, issued)| (root, Some(issued)));
            (record.phase, record.spec, record.root) = (Phase::Ready, spec, root);
            record.settle();
            record.give(issued);
        })?;
        self.is_unfinished(volume, false);
        volume.is_emptied = false;
        let record = volume.record();
        info!(
            volume = %record.spec.id, pod = record.spec.pod.as_ref().map(ToString::to_string),
            plan = %record.spec.plan(), "volume published"
        );
        Ok(())
    }
}

/// An id belongs to one volume of one pod.
pub(super) fn check_same_volume(volume: Option<&Volume>, spec: &VolumeSpec) -> Result<(), VolumeError> {
    match volume.map(|volume| &volume.record().spec).filter(|known| !known.same_volume(spec)) {
        Some(known) => Err(VolumeError::Conflict { id: spec.id.clone(), target: known.target.path().to_owned() }),
        None => Ok(()),
    }
}

/// Whether the volume may be mounted there, with whatever spec: it is published, or its unpublish has not succeeded.
pub(super) fn may_be_mounted_at(volume: Option<&Volume>, target: &TargetPath) -> bool {
    let record = volume.map(Volume::record);
    record.is_some_and(|record| record.phase != Phase::Intended && record.spec.target == *target)
}

/// Whether the volume is published as requested, so that there is nothing to do.
pub(super) fn is_published(
    volume: Option<&Volume>,
    spec: &VolumeSpec,
    point: &MountPoint,
    source: Option<FileId>,
) -> Result<bool, VolumeError> {
    let Some(record) = volume.map(Volume::record).filter(|record| record.phase == Phase::Ready) else {
        return Ok(false);
    };
    let Some(expected) = source.or(record.root) else { return Ok(false) };
    Ok(record.is_settled() && *record.spec == *spec && point.look()? == MountState::Mounted(expected))
}
