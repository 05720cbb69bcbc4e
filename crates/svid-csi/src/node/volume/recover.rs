//! Recovers the volumes of the previous run at startup: checks each once, and re-enters the publish steps. Failures
//! are retried later.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use svid_csi_core::finding;
use svid_csi_core::state::{Observed, Phase, Pod, Record, Step, Target, recover};
use svid_csi_core::volume::Content;
use svid_csi_core::volume_id::VolumeId;
use tracing::{error, info, warn};

use super::Node;
use super::error::VolumeError;
use super::mount::may_show_agent;
use super::registry::{Held, Volume};
use super::restore::Restored;
use super::store::Unreadable;
use crate::delivery::socket_dir::SocketDirError;
use crate::host::fsx::FsError;
use crate::host::mount::{self, MountError, MountPoint, MountSource, MountState};
use crate::tasks::blocking;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;

/// The number of volumes found in each state at startup.
#[derive(Debug, Default)]
struct Tally {
    served: usize,
    awaited: usize,
    removed: usize,
    left_alone: usize,
    /// The file system of the agent's directory does not answer: no further volume waits for it.
    agent_is_silent: bool,
}

impl Tally {
    fn count(&self, metrics: &Metrics) {
        metrics.recovered("served", self.served);
        metrics.recovered("awaits_publish", self.awaited);
        metrics.recovered("removed", self.removed);
        metrics.recovered("left_alone", self.left_alone);
    }
}

impl Node {
    /// Recovers every recorded volume. Blocks.
    ///
    /// # Errors
    /// If the records cannot be read at all. A problem with one volume is reported and does not affect the others.
    pub(in crate::node) fn recover(self: &Arc<Self>) -> Result<(), FsError> {
        let mut tally = Tally::default();
        let records = self.store.load()?;
        let known: HashSet<_> = records.iter().map(|(id, _)| id).collect();
        self.remove_orphans(|id| known.contains(id))?;
        for (id, record) in records {
            match record {
                Ok(record) => self.recover_volume(&id, record, &mut tally),
                Err(unreadable) => {
                    tally.left_alone += 1;
                    self.reports.metrics.left_alone(true);
                    error!(volume = %id, error = report::chain(&unreadable), "cannot read the record of a volume; leaving the volume alone until the next publish or unpublish");
                    if matches!(unreadable, Unreadable::File(_)) {
                        self.later.again(id, 1);
                    }
                }
            }
        }
        tally.count(&self.reports.metrics);
        info!(?tally, "recovered the volumes of the previous run");
        Ok(())
    }

    /// Removes the data of volumes without a record; failures are retried.
    fn remove_orphans(&self, is_known: impl Fn(&VolumeId) -> bool) -> Result<(), FsError> {
        let left = self.deliveries.keep_only(is_known)?;
        for error in left {
            let id = error.path.file_name().and_then(|name| VolumeId::parse(name.to_str()?).ok());
            warn!(error = report::chain(&error), again = id.is_some(), "leftovers of a volume could not be removed");
            if let Some(id) = id {
                self.later.again(id, 1);
            }
        }
        Ok(())
    }

    fn recover_volume(self: &Arc<Self>, id: &VolumeId, record: Record, tally: &mut Tally) {
        let mut held = self.volumes.try_hold(id).expect("nothing else runs yet");
        let volume = held.insert(self.known(record));
        let (step, done) = match &self.deliveries.socket_dir {
            Some(socket_dir) if may_show_agent(Some(volume.record())) => {
                // Until that has ended, it is one of those left alone.
                self.is_unfinished(volume, true);
                let node = self.clone();
                let resumed = match tally.agent_is_silent {
                    true => Err(socket_dir.silent()),
                    false => socket_dir.look_blocking(move || node.resume(&mut held)),
                };
                tally.agent_is_silent = matches!(resumed, Err(SocketDirError::Silent(_)));
                resumed.unwrap_or_else(|error| (Step::LeaveAlone, Err(error.into())))
            }
            _ => self.resume(&mut held),
        };
        match step {
            _ if done.is_err() => tally.left_alone += 1,
            Step::AwaitPublish => tally.awaited += 1,
            Step::Remove => tally.removed += 1,
            Step::Serve | Step::Mount | Step::LeaveAlone => tally.served += 1,
        }
        let Err(error) = done else { return };
        error!(
            volume = %id, error = report::chain(&error), finding = finding!("volume-left-alone").id,
            "a volume could not be recovered; leaving it as it is"
        );
        // Another program's mount is not watched; the kubelet's next call checks again.
        if !matches!(error, VolumeError::Mount(MountError::Foreign(_))) {
            self.later.again(id.clone(), 1);
        }
    }

    /// Locks a volume for a call. If startup could not read its record, that is read first: otherwise the call would take the
    /// volume for a new one.
    ///
    /// # Errors
    /// [`VolumeError::Begun`] if it still cannot be read.
    pub(in crate::node) async fn hold(self: &Arc<Self>, id: &VolumeId) -> Result<Held, VolumeError> {
        let mut held = self.volumes.hold(id).await;
        if held.is_some() || !self.store.may_have_unread(id) {
            return Ok(held);
        }
        let (node, id) = (self.clone(), id.clone());
        let read = blocking(move || match node.read_unread(&id, &mut held) {
            Err(Unreadable::File(error)) => Err(VolumeError::from(error).begun()),
            // An unreadable record is replaced by a publish, and removed by an unpublish.
            Ok(()) | Err(_) => Ok(held),
        });
        read.await.map_err(|error| VolumeError::from(error).begun())?
    }

    /// Reads the record of a volume that is not known yet, if there is one. Blocks; the volume's lock is held.
    pub(super) fn read_unread(&self, id: &VolumeId, held: &mut Held) -> Result<(), Unreadable> {
        match self.store.get(id)? {
            // It is still one of those left alone.
            Some(record) => {
                held.insert(self.known(record)).unfinished = true;
                self.store.was_read(id);
            }
            None => self.is_no_longer_unread(id),
        }
        Ok(())
    }

    /// The record that could not be read was replaced or removed.
    pub(super) fn is_no_longer_unread(&self, id: &VolumeId) {
        if self.store.was_read(id) {
            self.reports.metrics.left_alone(false);
        }
    }

    /// A volume according to its record on disk.
    pub(super) fn known(&self, record: Record) -> Volume {
        let is_delivered = record.phase == Phase::Ready
            && !record.withdrawn
            && record.issued.as_ref().is_some_and(|issued| issued.digest.is_some());
        let space = self.deliveries.take_up_space(&record.spec, record.bytes, is_delivered);
        let space = space.unwrap_or_else(|error| {
            error!(volume = %record.spec.id, error = report::chain(&error), "cannot determine how much of the tmpfs a volume uses");
            None
        });
        let reservation = self.volumes.reserve(record.spec.pod.as_ref(), usize::MAX, space).expect("there is no limit");
        Volume::recorded(record, reservation)
    }

    /// Re-enters the publish steps at the recorded one. Blocks; the volume's lock is held.
    pub(super) fn resume(self: &Arc<Self>, held: &mut Held) -> (Step, Result<(), VolumeError>) {
        let Some(volume) = held.as_mut() else { return (Step::LeaveAlone, Ok(())) };
        let id = volume.record().spec.id.clone();
        let (step, done) = match self.observe(volume.record()) {
            Err(error) => (Step::LeaveAlone, Err(error.into())),
            Ok(observed) => {
                let step = recover(volume.record(), observed);
                (step, self.take(step, observed.target, held))
            }
        };
        if let Some(volume) = held.as_mut() {
            self.is_unfinished(volume, done.is_err());
            if step == Step::AwaitPublish && done.is_ok() {
                self.later.forgotten(id, volume.asked);
            }
        }
        (step, done)
    }

    /// Whether the recovery of a volume at startup succeeded.
    pub(super) fn is_unfinished(&self, volume: &mut Volume, is_unfinished: bool) {
        if std::mem::replace(&mut volume.unfinished, is_unfinished) != is_unfinished {
            self.reports.metrics.left_alone(is_unfinished);
        }
    }

    fn take(self: &Arc<Self>, step: Step, seen: Target, held: &mut Held) -> Result<(), VolumeError> {
        let Some(volume) = held.as_mut() else { return Ok(()) };
        let record = volume.record();
        let (driver, id, target) = (record.driver.clone(), record.spec.id.clone(), record.spec.target.clone());
        match step {
            Step::Serve | Step::Mount => self.serve_again(volume),
            Step::AwaitPublish => {
                let awaited = |record: &mut Record| (record.phase, record.adopted) = (Phase::Intended, None);
                Ok(self.record(volume, awaited)?)
            }
            Step::Remove => self.remove(&driver, &id, &target, held),
            Step::LeaveAlone => Err(left_alone(seen, target.path()).into()),
        }
    }

    /// Recovers a published volume: makes the data behind its mount writable, and starts its renewal. Blocks.
    pub(super) fn serve_again(self: &Arc<Self>, volume: &mut Volume) -> Result<(), VolumeError> {
        let spec = volume.record().spec.clone();
        let point = MountPoint::open(&spec.target)?;
        let missing = if spec.content == Content::Passthrough {
            self.missing_of_agent(volume, &point)?
        } else if self.deliveries.reach(volume.record(), &point)? {
            None
        } else {
            Some(self.deliveries.folders()?.source(&spec.id)?)
        };
        self.deliver_again(volume)?;
        if let Some(source) = missing {
            warn!(volume = %spec.id, "the volume was published but is not mounted; mounting it again");
            self.mount(volume, &point, &source, &spec)?;
        }
        if spec.content == Content::Passthrough {
            self.remove_former_data(volume)?;
        }
        self.keep_renewing(volume);
        self.update_bundle(Some(volume));
        self.is_unfinished(volume, false);
        Ok(())
    }

    /// Restores the content of a published volume. Without the recorded identity, it is renewed at once.
    fn deliver_again(&self, volume: &mut Volume) -> Result<(), VolumeError> {
        let record = volume.record();
        if record.withdrawn {
            // A kill may have interrupted the removal.
            return self.deliveries.take_away(record);
        }
        if record.issued.is_none() {
            return Ok(());
        }
        match self.deliveries.restore(record)? {
            Restored::Delivered => {}
            Restored::Nothing => {
                self.deliveries.holds_least(&record.spec)?;
                self.record(volume, |record| record.give(None))?;
            }
            // Not forgotten: the source may have withdrawn it since, and then the key must go.
            Restored::Changed => self.distrust(volume),
        }
        Ok(())
    }

    /// The agent's directory to mount, unless it is already mounted. If a folder of this driver is still mounted in its
    /// place, that is made accessible first, because once it is unmounted, nothing may lead to the keys in it.
    fn missing_of_agent(&self, volume: &Volume, point: &MountPoint) -> Result<Option<MountSource>, VolumeError> {
        let record = volume.record();
        match (point.look()?, &self.deliveries.folders) {
            (MountState::Mounted(root), _) if Some(root) != record.formerly => return Ok(None),
            (MountState::Mounted(root), Some(folders)) if Some(root) == record.filled() => {
                folders.reach(&record.spec.id, point)?;
            }
            _ => {}
        }
        Ok(Some(self.deliveries.socket_dir()?.source(&record.spec.id, record.spec.read_only)?))
    }

    /// Removes the former data of a passthrough volume.
    fn remove_former_data(&self, volume: &mut Volume) -> Result<(), VolumeError> {
        let record = volume.record();
        self.deliveries.remove_data(&record.spec.id, record.filled())?;
        if record.formerly.is_none() && record.issued.is_none() && !record.unsettled {
            return Ok(());
        }
        Ok(self.record(volume, Record::end_identity)?)
    }

    fn observe(&self, record: &Record) -> Result<Observed, MountError> {
        let spec = &record.spec;
        let target = match MountPoint::open(&spec.target).and_then(|point| point.look()) {
            Ok(MountState::Missing) | Err(MountError::NoParent(_)) => Target::Missing,
            Ok(MountState::Folder) => Target::Folder,
            Ok(MountState::Mounted(root)) if self.deliveries.is_recorded(record, root)? => Target::Ours,
            Ok(MountState::Mounted(_) | MountState::NotAFolder) => Target::Foreign,
            Err(error) => return Err(error),
        };
        let data = self.deliveries.folders.as_ref().map_or(Ok(None), |folders| folders.root(&spec.id))?.is_some();
        Ok(Observed { target, pod: observe_pod(record)?, data })
    }
}

fn left_alone(seen: Target, path: &Path) -> MountError {
    match seen {
        Target::Missing => MountError::NoParent(path.to_owned()),
        _ => MountError::Foreign(path.to_owned()),
    }
}

/// A pods folder that is not mounted yet must not look like a node without pods.
fn observe_pod(record: &Record) -> Result<Pod, MountError> {
    let Some(place) = record.spec.target.place() else { return Ok(Pod::Unknown) };
    if record.pods_dir.is_none() || mount::file_id_of(place.pods_dir)? != record.pods_dir {
        return Ok(Pod::Unknown);
    }
    let pod = mount::file_id_of(&place.pods_dir.join(place.pod_uid))?;
    Ok(if pod.is_some() { Pod::Present } else { Pod::Gone })
}
